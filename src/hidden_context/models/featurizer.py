"""Features of a frozen backbone: each text once through the model, pooled, and cached on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from hidden_context.data.dialogue import Conversation, last_turns
from hidden_context.data.tokenize import pad_batch, sorted_windows, tokenize_texts
from hidden_context.errors import CheckpointError, ConfigError, DataError, first_line
from hidden_context.models.backbone import quiet_loading
from hidden_context.models.feature_cache import FeatureCache, content_key
from hidden_context.models.modules import last_attended
from hidden_context.models.tokenizer import length_limit, load_tokenizer, padding_id

_WRITE_EVERY = 512


@dataclasses.dataclass(frozen=True)
class FeaturizerOptions:
    """What a frozen backbone's features are.

    Args:
        pooling: ``mean`` over attended positions, or ``last`` attended position.
        embed: ``apart``: the last human turn and the response are embedded on their own, and the
            features are both vectors and their elementwise product; ``together``: one embedding of
            the whole text.
        max_length: Longest text in tokens; longer ones lose their beginning.
    """

    pooling: str = "mean"
    embed: str = "apart"
    max_length: int = 512

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "last"):
            raise ConfigError(f"pooling {self.pooling!r} is not known; choose mean or last.")
        if self.embed not in ("apart", "together"):
            raise ConfigError(f"embed {self.embed!r} is not known; choose apart or together.")
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
            except (OSError, ValueError, KeyError) as error:
                raise CheckpointError(
                    f"the backbone {self.backbone!r} could not be loaded ({first_line(error)}). "
                    "Check the id or path; offline, only local folders and cached models load."
                ) from error
            self._model = model.to(self.device).eval()
        return self._model

    def _fingerprint(self) -> str:
        """Identify the backbone's weights and how they are used."""
        folder = Path(self.backbone)
        files: list[tuple[str, int, int]] = []
        if folder.is_dir():
            self_described = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
            self_described += [*folder.glob("config.json"), *folder.glob("tokenizer*.json")]
            for file in sorted(self_described):
                status = file.stat()
                files.append((file.name, status.st_size, status.st_mtime_ns))
        name = str(folder.resolve()) if folder.is_dir() else self.backbone
        limit = (self.options.pooling, self.options.max_length)
        return json.dumps([name, self.revision, str(self.dtype), limit, files])

    def features(
        self, texts: Sequence[Conversation], batch_size: int = 32, progress: Any = None
    ) -> Tensor:
        """Compute the features of texts.

        Args:
            texts: N texts, each a string or chat messages.
            batch_size: Texts per forward pass.
            progress: Called with the number of embeddings just made, for progress bars.

        Returns:
            Features in float32 of shape ``(N, D)`` with ``embed="together"`` and ``(N, 3 D)`` with
            ``"apart"``, D the width of the backbone.

        Raises:
            DataError: If a text has no tokens.
        """
        if self.options.embed == "together":
            return self._embed(list(texts), batch_size, progress)
        turns = [last_turns(text) for text in texts]
        flat: list[Conversation] = [part or " " for turn in turns for part in turn]
        embedded = self._embed(flat, batch_size, progress).unflatten(0, (len(turns), 2))
        human, response = embedded.unbind(1)
        return torch.cat([human, response, human * response], dim=1)

    def _embed(self, texts: list[Conversation], batch_size: int, progress: Any) -> Tensor:
        fingerprint = self._fingerprint()
        keys = [
            content_key(fingerprint, text if isinstance(text, str) else json.dumps(text))
            for text in texts
        ]
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
        limit = length_limit(self.tokenizer, self.model.config, self.options.max_length)
        tokens = tokenize_texts(texts, self.tokenizer, limit, "truncate")
        for index, ids in enumerate(tokens.input_ids):
            if not ids:
                raise DataError(f"text {index} cannot be embedded: {tokens.reasons[index]}")
        sequences = [ids for ids in tokens.input_ids if ids is not None]
        vectors: list[np.ndarray] = [np.empty(0)] * len(sequences)
        lengths = [len(ids) for ids in sequences]
        for batch in sorted_windows(lengths, len(sequences), batch_size):
            input_ids, mask = pad_batch([sequences[i] for i in batch], padding_id(self.tokenizer))
            input_ids, mask = input_ids.to(self.device), mask.to(self.device)
            with torch.inference_mode():
                hidden = self.model(input_ids=input_ids, attention_mask=mask)[0].float()
            for index, vector in zip(batch, _pool(hidden, mask, self.options.pooling), strict=True):
                vectors[index] = vector.cpu().numpy()
        return np.stack(vectors)


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), last_attended(mask)]
    weight = mask.unsqueeze(-1).to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1)
