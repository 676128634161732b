"""Reward models that run a whole sequence classifier: fine-tuned, with adapters, or ready-made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hidden_context.data.model_input import Text
from hidden_context.data.tokenize import tokenize_texts
from hidden_context.likelihood import Likelihood
from hidden_context.models.card import model_card
from hidden_context.models.engine.choose import Engine, EngineName
from hidden_context.models.engine.features import Features
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.engine.runner import Runner
from hidden_context.models.folders import replace_folder
from hidden_context.models.head_file import HeadFile, RewardScale
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.models.modules import output_layers
from hidden_context.models.reward_model import RawOutputs, RewardModel
from hidden_context.models.tokenizer import padding_id


class SequenceRewardModel(RewardModel):
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
        """Where the weights are."""
        device: torch.device = next(self.module.parameters()).device
        return device

    @property
    def engine(self) -> Engine:
        """Which way the last texts were run, and why."""
        return self.runner.choice.engine

    def try_raw_outputs(
        self,
        texts: Sequence[Text],
        batch_size: int = 16,
        over_length: Literal["truncate", "drop"] = "truncate",
        *,
        engine: EngineName = "auto",
        tokens_per_batch: int | None = None,
    ) -> RawOutputs:
        """Compute raw outputs where possible (see the base class)."""
        tokens = tokenize_texts(texts, self.tokenizer, self.max_length, over_length)
        scored = [index for index, ids in enumerate(tokens.input_ids) if ids is not None]
        raw = torch.full((len(texts), self.head.num_outputs), torch.nan)
        raw[scored] = self.raw_outputs_of_tokens(
            [ids for ids in tokens.input_ids if ids is not None],
            batch_size,
            engine=engine,
            tokens_per_batch=tokens_per_batch,
        )
        return RawOutputs(
            raw, tokens.reasons, tokens.truncated, tokens.input_ids, list(tokens.refused)
        )

    def token_ids(
        self,
        texts: Sequence[Text],
        over_length: Literal["truncate", "drop"] = "truncate",
    ) -> Sequence[Any]:
        """Tokenize texts (see the base class)."""
        return tokenize_texts(texts, self.tokenizer, self.max_length, over_length).input_ids

    def raw_outputs_of_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        batch_size: int = 16,
        *,
        engine: EngineName = "auto",
        tokens_per_batch: int | None = None,
    ) -> Tensor:
        """Compute raw outputs of token sequences.

        Args:
            sequences: B non-empty sequences of token ids.
            batch_size: Most texts of a padded forward pass.
            engine: Which way they are run (see ``raw_outputs``).
            tokens_per_batch: Most tokens of a forward pass (see ``raw_outputs``).

        Returns:
            Raw outputs in float32 of shape ``(B, K)``, on the CPU, in the order given.
        """
        return self.run_tokens(
            sequences, batch_size, engine=engine, tokens_per_batch=tokens_per_batch
        )[0]

    def run_tokens(
        self,
        sequences: Sequence[Sequence[int]],
        batch_size: int = 16,
        *,
        engine: EngineName = "auto",
        tokens_per_batch: int | None = None,
        with_features: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute raw outputs of token sequences, and what they are read from where asked for.

        Args:
            sequences: B non-empty sequences of token ids.
            batch_size: Most texts of a padded forward pass.
            engine: Which way they are run (see ``raw_outputs``).
            tokens_per_batch: Most tokens of a forward pass (see ``raw_outputs``).
            with_features: Whether the pooled hidden states are kept.

        Returns:
            Raw outputs ``(B, K)``, and features ``(B, M, D)`` of M networks (1 but for ensembles)
            or None; in float32, on the CPU, in the order given.
        """
        return self._run_network(
            sequences, self.head.num_outputs, batch_size, engine, tokens_per_batch, with_features
        )

    def _run_network(
        self,
        sequences: Sequence[Sequence[int]],
        num_outputs: int,
        batch_size: int,
        engine: EngineName,
        tokens_per_batch: int | None,
        with_features: bool,
    ) -> tuple[Tensor, Tensor | None]:
        features = None
        if with_features:
            layers = [layer for _, layer in output_layers(classifier_of(self.module))]
            features = Features(layers, len(sequences))
        raw = self.runner.raw_outputs(
            sequences,
            num_outputs,
            engine=engine,
            batch_size=batch_size,
            tokens_per_batch=tokens_per_batch,
            features=features,
        )
        return raw, None if features is None else features.vectors.unsqueeze(1)

    def readout(self) -> Tensor:
        """Return the output layer's weights (see the base class)."""
        layers = output_layers(classifier_of(self.module))
        used = [layer for name, layer in layers if ".original_module" not in name]
        return torch.cat([layer.weight.detach().float().cpu().flatten() for layer in used])

    def compile(self) -> None:
        """Let ``torch.compile`` build kernels for the backbone, for rows of any length."""
        classifier_of(self.module).base_model.compile(dynamic=True)

    def save_pretrained(self, path: str | Path) -> None:
        """Write weights, tokenizer, head and model card (see the base class)."""
        with replace_folder(path) as folder:
            self.write_weights(folder)
            (folder / "README.md").write_text(self.card_text(), encoding="utf-8")

    def write_weights(self, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write all that loading needs: weights, tokenizer, head and likelihood.

        Args:
            folder: The folder.
            state: The network's weights where they are gathered from several processes.
        """
        options: dict[str, Any] = {} if state is None else {"state_dict": dict(state)}
        self.module.save_pretrained(str(folder), **options)
        self.tokenizer.save_pretrained(str(folder))
        self.write_head_file(folder)

    def write_head_file(self, folder: str | Path) -> None:
        """Write what is not the classifier's own: the head, and what was learned beside it."""
        HeadFile(self.head, self.max_length, self.base_model, self.reward_scale).save(folder)
        save_likelihood(folder, self.likelihood)
        if self.reference is not None:
            self.reference.save(folder)

    def card_text(self) -> str:
        """Text of the model card."""
        return model_card(
            self.likelihood, base_model=self.base_model, max_length=self.max_length, **self.card
        )
