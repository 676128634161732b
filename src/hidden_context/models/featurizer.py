"""Features of a frozen backbone: each text runs once, is pooled, and is cached on disk."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hidden_context.data.checks import read_conversation
from hidden_context.data.dialogue import last_turns
from hidden_context.data.example import Text, as_input
from hidden_context.data.storage.files import default_cache_dir
from hidden_context.data.tokens.cache import day_of, tokenizer_digest
from hidden_context.data.tokens.chat import encode_batch
from hidden_context.data.tokens.tokenize import pad_batch, refusal, sorted_windows, tokenize_texts
from hidden_context.errors import ConfigError, DataError, StorageError
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.models.engine.forward import last_id
from hidden_context.models.engine.pooling import last_attended
from hidden_context.models.network.tokenizer import length_limit, load_tokenizer, padding_id
from hidden_context.models.network.weights import load_backbone, load_config


@dataclasses.dataclass(frozen=True)
class FeaturizerOptions:
    """Options of a frozen backbone's features.

    Args:
        pooling: ``mean`` over attended positions, or ``last`` attended position.
        embed: ``apart``: the response that is judged and the human turn before it are embedded on
            their own, and the features are both vectors; ``response``: the response alone;
            ``together``: one embedding of the whole text.
        max_length: Longest text in tokens; longer ones lose their beginning.
        layer: Which hidden states are pooled: 0 the embeddings, 1 the first layer's, -1 the last
            layer's. None takes the states at two thirds of the depth, which tell preferences better
            than the last layer's (see docs/evidence/reproduction.md).
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


def content_key(*parts: str) -> bytes:
    """Return the SHA-256 of parts, each preceded by its length to keep the parts apart."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


class FeatureCache:
    """Cache of vectors by key in an SQLite file: no pickles, safe with several processes.

    Args:
        folder: Where the file lies; None for the default cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.path = Path(folder or default_cache_dir()) / "features.sqlite"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS features "
                    "(key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
                )
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{self.path}: the feature cache cannot be read or written ({error}). Delete the "
                "file, or point HIDDEN_CONTEXT_CACHE to a folder that can be written."
            ) from error

    def read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Read the cached vectors, as float32 of shape ``(D,)``."""
        found: dict[bytes, np.ndarray] = {}
        with self._connect() as connection:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                query = f"SELECT key, vector FROM features WHERE key IN ({marks})"
                for key, vector in connection.execute(query, part):
                    found[bytes(key)] = np.frombuffer(vector, dtype="<f4")
        return found

    def write(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Write all vectors, or none if writing fails."""
        with self._connect() as connection:
            rows = ((key, np.asarray(v, dtype="<f4").tobytes()) for key, v in vectors.items())
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)


class Featurizer:
    """Feature extractor with a frozen backbone, which is loaded only when needed.

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
        self.source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        self.cache = cache or FeatureCache()
        self.tokenizer = tokenizer or load_tokenizer(backbone, **self.source)

    @functools.cached_property
    def model(self) -> Any:
        """The backbone, loaded on first use, in evaluation mode."""
        model: Any = load_backbone(self.backbone, dtype=self.dtype, **self.source)
        return model.to(self.device)

    @functools.cached_property
    def _config(self) -> Any:
        return load_config(self.backbone, **self.source)

    @functools.cached_property
    def limit(self) -> int:
        """Longest embedded text in tokens: the wanted length, within the backbone's limit."""
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
                f"layer {wanted} was requested, but {self.backbone} has {depth} layers; choose a "
                f"layer from {-depth - 1} to {depth}."
            )
        return wanted % (depth + 1)

    @functools.cached_property
    def _fingerprint(self) -> str:
        """Identity of everything that features depend on, except the text."""
        weights = weight_digests(self.backbone, revision=self.source["revision"])
        use = (str(self.dtype), self.options.pooling, self.limit, self.layer)
        whole = self.options.embed == "together"  # parts go through no chat template
        day = day_of(self.tokenizer.chat_template) if whole else None
        return json.dumps([weights, tokenizer_digest(self.tokenizer), day, use])

    def parts(self, text: Text) -> list[Text]:
        """Return the parts of a text that are embedded (see ``FeaturizerOptions.embed``)."""
        if self.options.embed == "together":
            return [text]
        given = as_input(text)
        prompt = read_conversation(given.prompt or "", "prompt")
        turns = last_turns(read_conversation(given.conversation, "text"), prompt)
        return [turn or " " for turn in (turns if self.options.embed == "apart" else turns[1:])]

    def check(
        self,
        rows: Sequence[Sequence[Text]],
        source: str | Path | None = None,
        token_ids: Sequence[list[list[int]]] | None = None,
    ) -> None:
        """Raise an error if features cannot tell the responses of most rows apart.

        Args:
            rows: The texts of each row, one or more.
            source: Where they come from, for the error.
            token_ids: Token ids of all texts in order (see ``token_ids``), if they are known.

        Raises:
            DataError: If most rows have an empty response, or the same tokens in different texts.
        """
        if token_ids is None:
            token_ids = self.token_ids([text for row in rows for text in row])
        ids = iter(token_ids)
        (nothing,) = encode_batch([" "], self.tokenizer)
        total, empty, equal = len(rows), 0, 0
        for row in rows:
            parts = [[part[-self.limit :] for part in next(ids)] for _ in row]
            blank = self.options.embed != "together" and any(own[-1] == nothing for own in parts)
            alike = [] not in parts[0] and all(own == parts[0] for own in parts)
            texts = [as_input(text).conversation for text in row]
            empty += blank
            equal += alike and not blank and any(text != texts[0] for text in texts)
        if 2 * (empty + equal) > total:
            raise DataError(
                f"a frozen backbone cannot tell responses apart in {empty + equal} of {total} "
                f"rows ({empty} with an empty response, {equal} with equal responses)",
                file=source,
                remedy="Write dialogues with turns that begin with 'Human:' and 'Assistant:' "
                "after a blank line, put the beginning that all responses share into the column "
                "'prompt', or use --embed together",
            )

    def token_ids(self, texts: Sequence[Text]) -> list[list[list[int]]]:
        """Tokenize each text's parts before any cut; texts the template refuses have no ids."""
        parts = [self.parts(text) for text in texts]
        found = tokenize_texts([p for each in parts for p in each], self.tokenizer, None, "keep")
        ids = iter([one or [] for one in found.input_ids])
        return [[next(ids) for _ in each] for each in parts]

    def length(self, text: Text, token_ids: list[list[int]]) -> int | DataError:
        """Count the tokens of a text's longest part, or say why the template refuses it."""
        return max(map(len, token_ids)) or refusal(text, self.tokenizer) or 0

    def distinct(self, texts: Sequence[Text]) -> int:
        """Count the different parts of texts."""
        return len({_spelt(part) for text in texts for part in self.parts(text)})

    def features(self, texts: Sequence[Text], batch_size: int = 32, progress: Any = None) -> Tensor:
        """Compute the features of texts.

        Args:
            texts: N texts, each a string or chat messages, perhaps with a known prompt or tools.
            batch_size: Texts per forward pass.
            progress: Called with the number of embeddings just made or found, each part once.

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

    def _embed(self, texts: list[Text], batch_size: int, progress: Any) -> Tensor:
        keys = [content_key(self._fingerprint, _spelt(text)) for text in texts]
        known = self.cache.read(list(dict.fromkeys(keys)))
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        todo = list(missing.items())
        if progress is not None and known:
            progress(len(known))
        for start in range(0, len(todo), 512):
            part = dict(todo[start : start + 512])
            vectors = self._forward(list(part.values()), batch_size)
            fresh = dict(zip(part, vectors, strict=True))
            self.cache.write(fresh)
            known.update(fresh)
            if progress is not None:
                progress(len(part))
        if not texts:
            return torch.empty(0, int(self.model.config.hidden_size))
        return torch.from_numpy(np.stack([known[key] for key in keys]))

    def _forward(self, texts: list[Text], batch_size: int) -> np.ndarray:
        tokens = tokenize_texts(texts, self.tokenizer, self.limit, "truncate")
        for text, reason in zip(texts, tokens.reasons, strict=True):
            if reason is not None:
                raise DataError(f"the text {str(text)[:80]!r} cannot be embedded: {reason}")
        sequences = [ids for ids in tokens.input_ids if ids is not None]
        vectors: list[np.ndarray] = [np.empty(0)] * len(sequences)
        lengths = [len(ids) for ids in sequences]
        pad = min(padding_id(self.tokenizer), last_id(self.model, sequences))
        for batch in sorted_windows(lengths, len(sequences), batch_size):
            input_ids, mask = pad_batch([sequences[i] for i in batch], pad)
            input_ids, mask = input_ids.to(self.device), mask.to(self.device)
            with torch.inference_mode():
                outputs = self.model(
                    input_ids=input_ids, attention_mask=mask, output_hidden_states=True
                )
            hidden = outputs.hidden_states[self.layer].float()
            for index, vector in zip(batch, _pool(hidden, mask, self.options.pooling), strict=True):
                vectors[index] = vector.cpu().numpy()
        return np.stack(vectors)


def _spelt(text: Text) -> str:
    """Return a unique string for a part."""
    given = as_input(text)
    both = [given.conversation, given.tools]
    return json.dumps(given.conversation if given.tools is None else both)


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), last_attended(mask)]
    weight = mask.unsqueeze(-1).to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1)
