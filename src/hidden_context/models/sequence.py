"""Reward models that run a whole sequence classifier: fine-tuned, with adapters, or ready-made."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hidden_context.data.example import Text
from hidden_context.data.tokens.tokenize import tokenize_texts
from hidden_context.likelihood import Likelihood
from hidden_context.models.checkpoint.contents import replace_folder
from hidden_context.models.checkpoint.head_file import RewardScale
from hidden_context.models.engine.choose import Engine, Run
from hidden_context.models.engine.forward import classifier_of, device_of
from hidden_context.models.engine.runner import Features, Runner
from hidden_context.models.network.modules import output_layers
from hidden_context.models.network.tokenizer import padding_id
from hidden_context.models.reward_model import OverLength, RawOutputs, RewardModel

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TokenRewardModel(RewardModel):
    """A reward model whose raw outputs depend only on a text's token ids."""

    @abc.abstractmethod
    def raw_outputs_of_tokens(
        self, sequences: Sequence[Sequence[int]], batch_size: int = 16, **run: Unpack[Run]
    ) -> Tensor:
        """Compute raw outputs of token sequences.

        Args:
            sequences: B non-empty sequences of token ids.
            batch_size: Most texts of a padded forward pass.
            **run: How texts are run (see ``Run``).

        Returns:
            Raw outputs in float32 of shape ``(B, K)``, on the CPU, in the order given.
        """

    def token_ids(
        self, texts: Sequence[Text], over_length: OverLength = "truncate"
    ) -> Sequence[Any]:
        """Tokenize texts (see the base class)."""
        return tokenize_texts(texts, self.tokenizer, self.max_length, over_length).input_ids

    def try_raw_outputs(
        self,
        texts: Sequence[Text],
        batch_size: int = 16,
        over_length: OverLength = "truncate",
        **run: Unpack[Run],
    ) -> RawOutputs:
        """Compute raw outputs where possible (see the base class)."""
        tokens = tokenize_texts(texts, self.tokenizer, self.max_length, over_length)
        scored = {place: ids for place, ids in enumerate(tokens.input_ids) if ids is not None}
        raw = torch.full((len(texts), self.head.num_outputs), torch.nan)
        if scored:
            raw[list(scored)] = self.raw_outputs_of_tokens([*scored.values()], batch_size, **run)
        return RawOutputs(
            raw, tokens.reasons, tokens.truncated, tokens.input_ids, list(tokens.refused)
        )


class SequenceRewardModel(TokenRewardModel):
    """A sequence classifier, plain or wrapped by PEFT, whose logits are the raw outputs.

    Args:
        module: The classifier, specialised for rewards.
        tokenizer: Its tokenizer.
        likelihood: How its logits are read, and what was learned beside the network.
        max_length: Longest text in tokens.
        base_model: Id or path of the backbone, for the records.
        reward_scale: Location and scale of rewards on the evaluation set.
        card: Facts for the model card (data, metrics).
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        likelihood: Likelihood,
        max_length: int,
        *,
        base_model: str | None = None,
        reward_scale: RewardScale | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.module, self.tokenizer, self.likelihood = module, tokenizer, likelihood
        self.max_length, self.base_model = max_length, base_model
        self.reward_scale, self.card = reward_scale, card or {}
        self.runner = Runner(module, padding_id(tokenizer))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return device_of(self.module)

    @property
    def network_outputs(self) -> int:
        """Number of raw outputs of one pass through the network."""
        return self.head.num_outputs

    @property
    def engine(self) -> Engine:
        """The engine that ran the last texts, and the reason for it."""
        return self.runner.choice.engine

    def raw_outputs_of_tokens(
        self, sequences: Sequence[Sequence[int]], batch_size: int = 16, **run: Unpack[Run]
    ) -> Tensor:
        """Compute raw outputs of token sequences (see the base class)."""
        return self.run_tokens(sequences, batch_size, **run)[0]

    def run_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        batch_size: int = 16,
        *,
        with_features: bool = False,
        **run: Unpack[Run],
    ) -> tuple[Tensor, Tensor | None]:
        """Compute raw outputs of token sequences and, if asked, the features they are read from.

        Args:
            sequences: B non-empty sequences of token ids.
            batch_size: Most texts of a padded forward pass.
            with_features: Whether the pooled hidden states are kept.
            **run: How texts are run (see ``Run``).

        Returns:
            Raw outputs ``(B, K)``, and features ``(B, M, D)`` of M networks (1 but for ensembles)
            or None; in float32, on the CPU, in the order given.
        """
        features = None
        if with_features:
            layers = [layer for _, layer in output_layers(classifier_of(self.module))]
            features = Features(layers, len(sequences))
        raw = self.runner.raw_outputs(
            sequences, self.network_outputs, batch_size=batch_size, features=features, **run
        )
        return raw, None if features is None else features.vectors.unsqueeze(1)

    def readout(self) -> Tensor:
        """Return the output layer's weights (see the base class)."""
        layers = output_layers(classifier_of(self.module))
        used = [layer for name, layer in layers if ".original_module" not in name]
        return torch.cat([layer.weight.detach().float().cpu().flatten() for layer in used])

    def compile(self) -> None:
        """Compile the backbone with ``torch.compile``, for rows of any length."""
        classifier_of(self.module).base_model.compile(dynamic=True)

    def save_pretrained(self, path: str | Path) -> None:
        """Write weights, tokenizer, head and model card (see the base class)."""
        with replace_folder(path) as folder:
            self.write_weights(folder)
            self.write_card(folder)

    def write_weights(self, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write everything that loading needs: weights, tokenizer, head and likelihood.

        Args:
            folder: The folder.
            state: The network's weights where they are gathered from several processes.
        """
        options: dict[str, Any] = {} if state is None else {"state_dict": dict(state)}
        self.module.save_pretrained(str(folder), **options)
        self.write_beside(folder)
