"""Features of a frozen backbone: each text once through the model, pooled, and cached on disk."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from hidden_context.data.chat import encode_batch
from hidden_context.data.dialogue import Conversation, last_turns
from hidden_context.data.tokenize import pad_batch, sorted_windows, tokenize_texts
from hidden_context.errors import CheckpointError, ConfigError, DataError, first_line
from hidden_context.models.backbone import LOADING_ERRORS
from hidden_context.models.engine.pooling import last_attended
from hidden_context.models.feature_cache import FeatureCache, content_key
from hidden_context.models.quiet import quiet_loading
from hidden_context.models.repository import find_file
from hidden_context.models.tokenizer import length_limit, load_tokenizer, padding_id

_WRITE_EVERY = 512


@dataclasses.dataclass(frozen=True)
class FeaturizerOptions:
    """What a frozen backbone's features are.

    Args:
        pooling: ``mean`` over attended positions, or ``last`` attended position.
        embed: ``apart``: the last human turn and the response are embedded on their own, and the
            features are both vectors; ``response``: the response alone; ``together``: one
            embedding of the whole text.
        max_length: Longest text in tokens; longer ones lose their beginning.
        layer: Which hidden states are pooled: 0 the embeddings, 1 the first layer's, -1 the last
            layer's. None takes those at two thirds of the depth, which tell preferences better
            than the last layer's (see docs/reproduction.md).
    """

    pooling: str = "mean"
    embed: str = "apart"
    max_length: int = 512
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "last"):
            raise ConfigError(f"pooling {self.pooling!r} is not known; choose mean or last.")
        if self.embed not in ("apart", "response", "together"):
            raise ConfigError(
                f"embed {self.embed!r} is not known; choose apart, response or together."
            )
        if self.max_length < 1:
            raise ConfigError(f"max_length is {self.max_length}; it must be at least 1.")


class Featurizer:
    """Computes features of texts with a frozen backbone, which is loaded only when needed.

    Args:
        backbone: Hub id or folder of any model that ``AutoModel`` loads.
        options: Pooling and layout of the features.
        dtype: Precision of the backbone.
        device: Where it runs.
        revision: Branch, tag or commit.
        trust_remote_code: Whether code from the repository may run.
        cache: Where features are kept; None for the default place.
        tokenizer: A tokenizer to use instead of the backbone's own.
    """

    def __init__(
        self,
        backbone: str,
        options: FeaturizerOptions | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        cache: FeatureCache | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.backbone, self.options = backbone, options or FeaturizerOptions()
        self.dtype, self.device = dtype, device or torch.device("cpu")
        self.revision, self.trust_remote_code = revision, trust_remote_code
        self.cache = cache or FeatureCache()
        self.tokenizer = tokenizer or load_tokenizer(
            backbone, revision=revision, trust_remote_code=trust_remote_code
        )
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The backbone, loaded on first use, in evaluation mode."""
        if self._model is None:
            try:
                with quiet_loading():
                    model = AutoModel.from_pretrained(
                        self.backbone,
                        dtype=self.dtype,
                        revision=self.revision,
                        trust_remote_code=self.trust_remote_code,
                    )
            except LOADING_ERRORS as error:
                raise self._unreadable(error) from error
            if self._config.is_encoder_decoder:
                model = model.get_encoder()
            self._model = model.to(self.device).eval()
        return self._model

    def _unreadable(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"the backbone {self.backbone!r} could not be loaded ({first_line(error)}). "
            "Check the id or path; offline, only local folders and cached models load."
        )

    @functools.cached_property
    def _config(self) -> Any:
        try:
            return AutoConfig.from_pretrained(
                self.backbone, revision=self.revision, trust_remote_code=self.trust_remote_code
            )
        except LOADING_ERRORS as error:
            raise self._unreadable(error) from error

    @functools.cached_property
    def limit(self) -> int:
        """Longest embedded text in tokens: what is wanted, within what the backbone can take."""
        return length_limit(self.tokenizer, self._config, self.options.max_length)

    @functools.cached_property
    def layer(self) -> int:
        """Index of the hidden states that are pooled, from 0 (the embeddings).

        Raises:
            ConfigError: If the backbone is not that deep.
        """
        depth = int(self._config.get_text_config().num_hidden_layers)
        wanted = self.options.layer
        if wanted is None:
            return round(2 * depth / 3)
        if not -depth - 1 <= wanted <= depth:
            raise ConfigError(
                f"layer {wanted} was asked for, but {self.backbone} has {depth} layers."
            )
        return wanted % (depth + 1)

    @functools.cached_property
    def _weights(self) -> list[Any]:
        """What tells the backbone's weights from others: files of a folder, commit of a hub id."""
        folder = Path(self.backbone)
        if not folder.is_dir():
            config = find_file(self.backbone, "config.json", self.revision)
            return [self.backbone, config.parent.name if config else self.revision]
        files = sorted(
            file
            for pattern in ("*.safetensors", "*.bin", "config.json")
            for file in folder.glob(pattern)
        )
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return [str(folder.resolve()), stats]

    @functools.cached_property
    def _vocabulary(self) -> str:
        """What tells the tokenizer from others."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend else json.dumps(self.tokenizer.get_vocab())
        return content_key(content).hex()

    def _fingerprint(self) -> str:
        """Identify all that features depend on besides the text."""
        template = self.tokenizer.chat_template
        use = (str(self.dtype), self.options.pooling, self.options.max_length, self.layer)
        return json.dumps([self._weights, self._vocabulary, template, use])

    def parts(self, text: Conversation) -> list[Conversation]:
        """Return what is embedded of a text: the whole, the response, or its prompt's turn too."""
        if self.options.embed == "together":
            return [text]
        human, response = last_turns(text)
        if self.options.embed == "response":
            return [response or " "]
        return [human or " ", response or " "]

    def token_counts(self, texts: Sequence[Conversation]) -> list[int]:
        """Count the tokens of each text's longest part; more than ``limit`` are cut."""
        parts = [self.parts(text) for text in texts]
        flat = [part for text in parts for part in text]
        lengths = iter([len(ids) for ids in encode_batch(flat, self.tokenizer)])
        return [max(next(lengths) for _ in text) for text in parts]

    def features(
        self, texts: Sequence[Conversation], batch_size: int = 32, progress: Any = None
    ) -> Tensor:
        """Compute the features of texts.

        Args:
            texts: N texts, each a string or chat messages.
            batch_size: Texts per forward pass.
            progress: Called with the number of embeddings just made, for progress bars.

        Returns:
            Features in float32 of shape ``(N, D)``, D the width of the backbone, or ``(N, 2 D)``
            with ``embed="apart"``.

        Raises:
            DataError: If a text has no tokens.
        """
        flat = [part for text in texts for part in self.parts(text)]
        embedded = self._embed(flat, batch_size, progress)
        if self.options.embed != "apart":
            return embedded
        return torch.cat([embedded[0::2], embedded[1::2]], dim=1)

    def _embed(self, texts: list[Conversation], batch_size: int, progress: Any) -> Tensor:
        fingerprint = self._fingerprint()
        keys = [content_key(fingerprint, json.dumps(text)) for text in texts]
        known = self.cache.read(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        todo = list(missing.items())
        for start in range(0, len(todo), _WRITE_EVERY):
            part = dict(todo[start : start + _WRITE_EVERY])
            vectors = self._forward(list(part.values()), batch_size)
            fresh = dict(zip(part, vectors, strict=True))
            self.cache.write(fresh)
            known.update(fresh)
            if progress is not None:
                progress(len(part))
        if not texts:
            return torch.empty(0, int(self.model.config.hidden_size))
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    def _forward(self, texts: list[Conversation], batch_size: int) -> np.ndarray:
        tokens = tokenize_texts(texts, self.tokenizer, self.limit, "truncate")
        for text, reason in zip(texts, tokens.reasons, strict=True):
            if reason is not None:
                raise DataError(f"the text {str(text)[:80]!r} cannot be embedded: {reason}")
        sequences = [ids for ids in tokens.input_ids if ids is not None]
        vectors: list[np.ndarray] = [np.empty(0)] * len(sequences)
        lengths = [len(ids) for ids in sequences]
        for batch in sorted_windows(lengths, len(sequences), batch_size):
            input_ids, mask = pad_batch([sequences[i] for i in batch], padding_id(self.tokenizer))
            input_ids, mask = input_ids.to(self.device), mask.to(self.device)
            with torch.inference_mode():
                outputs = self.model(
                    input_ids=input_ids, attention_mask=mask, output_hidden_states=True
                )
            hidden = outputs.hidden_states[self.layer].float()
            for index, vector in zip(batch, _pool(hidden, mask, self.options.pooling), strict=True):
                vectors[index] = vector.cpu().numpy()
        return np.stack(vectors)


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), last_attended(mask)]
    weight = mask.unsqueeze(-1).to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1)
