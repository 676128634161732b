"""A cache on disk of the token ids of whole data sets, found by their content."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import secrets
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hidden_context.data.example import Text, as_input
from hidden_context.data.storage.files import PARTIAL_SUFFIX, default_cache_dir
from hidden_context.data.tokens.chat import special_tokens
from hidden_context.errors import HiddenContextWarning

MAX_BYTES = 8 * 2**30
MIN_TEXTS = 2000

# Raise this with every change to the file format or to the ids that ``tokens.chat`` returns.
_FORMAT = "hidden-context-tokens-2"
_NAME = re.compile(r"[0-9a-f]{40}\.safetensors")
_PARTIAL_NAME = re.compile(r"[0-9a-f]{40}\.\d+-[0-9a-f]+" + re.escape(PARTIAL_SUFFIX))
_ABANDONED_AFTER = 24 * 3600.0

# Tokenizer attributes that do not change the ids of a text that is neither padded nor truncated.
# The chat template has its own entry, because another template may be in use.
_WITHOUT_INFLUENCE = {
    *("chat_template", "model_max_length", "padding_side", "truncation_side", "name_or_path"),
    *("verbose", "clean_up_tokenization_spaces", "_pad_token_type_id", "_processor_class"),
}


class TokenCache:
    """A cache of token ids, with one safetensors file for each list of texts.

    The key of a file is a digest of all texts in order and of everything that decides their ids:
    the full tokenizer, its settings, the chat template and the versions of the libraries. Ids are
    neither padded nor truncated, so one file serves every ``max_length``. A problem with the cache
    gives a warning and never stops the work.

    Args:
        folder: The files lie in its folder ``tokens``; None for the default cache folder.
        min_texts: Shorter lists are tokenized every time and leave no file.
        max_bytes: Size of all files together; beyond it the files unused for longest are removed.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        min_texts: int = MIN_TEXTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = Path(folder or default_cache_dir()) / "tokens"
        self.min_texts, self.max_bytes = min_texts, max_bytes

    def get_or_make(
        self,
        texts: Sequence[Text],
        tokenizer: Any,
        chat_template: str | None,
        fresh: Iterable[list[int]],
    ) -> list[list[int]]:
        """Return the ids from the cache; if they are missing, compute and store them.

        Args:
            texts: N texts or chats.
            tokenizer: A Transformers tokenizer.
            chat_template: The template itself, in place of the tokenizer's own.
            fresh: Tokenizes the texts when, and only when, it is iterated over.

        Returns:
            The ids of each text, exactly as ``fresh`` gives them.
        """
        if len(texts) < self.min_texts or _is_random(tokenizer):
            return list(fresh)
        try:
            key = token_key(texts, tokenizer, chat_template)
        except Exception as error:  # custom tokenizer code, or messages that JSON cannot represent
            _warn(f"Token ids are not cached: {type(error).__name__}: {error}.")
            return list(fresh)
        ids = self.read(key)
        if ids is None or len(ids) != len(texts):
            ids = list(fresh)
            self.write(key, ids)
        return ids

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        return self.folder / f"{key}.safetensors"

    def read(self, key: str) -> list[list[int]] | None:
        """Return the ids kept under a key, or None where there are none or the file is damaged."""
        path = self.path(key)
        try:
            ids = _read(path, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            if not self.folder.is_dir():  # reported on writing
                return None
            _warn(f"{path} has no usable token ids ({error}); they are computed again.")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # eviction uses this time
        return ids

    def write(self, key: str, ids: list[list[int]]) -> None:
        """Store ids under a key; on failure, warn and leave no half-written file."""
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int32, count=offsets[-1])
        tensors: dict[str, Any] = {"ids": flat, "offsets": offsets}
        if sum(tensor.nbytes for tensor in tensors.values()) > self.max_bytes:
            return
        path = self.path(key)
        # A unique name: several processes may be making the same file.
        mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        partial = path.with_name(f"{key}.{mark}{PARTIAL_SUFFIX}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial, {"digest": _digest(key, tensors)})
            os.replace(partial, path)
            self._evict(path)
        except (OSError, SafetensorError) as error:
            _warn(
                f"{self.folder}: token ids could not be cached ({error}). Point "
                "HIDDEN_CONTEXT_CACHE to a folder that can be written."
            )
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _evict(self, newest: Path) -> None:
        """Remove the least recently used files beyond the limit, and what was left half-written."""
        files: list[tuple[bool, float, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # another process may be removing it too
                status = path.stat()
                if _NAME.fullmatch(path.name):
                    files.append((path == newest, status.st_mtime, status.st_size, path))
                    continue
                old = status.st_mtime < time.time() - _ABANDONED_AFTER
                if old and _PARTIAL_NAME.fullmatch(path.name):
                    path.unlink()
        total = 0
        for is_newest, _, size, path in sorted(files, reverse=True):
            total += size
            if total > self.max_bytes and not is_newest:
                with contextlib.suppress(OSError):
                    path.unlink()


def token_key(texts: Sequence[Text], tokenizer: Any, chat_template: str | None = None) -> str:
    """Return the digest of texts in order and of everything that decides their token ids.

    Args:
        texts: Texts or chats.
        tokenizer: A Transformers tokenizer.
        chat_template: The template itself, in place of the tokenizer's own.

    Returns:
        BLAKE2b of 20 bytes, in hexadecimal.

    Raises:
        TypeError: If a message holds what JSON cannot.
    """
    template = chat_template or getattr(tokenizer, "chat_template", None)
    parts = {
        "format": _FORMAT,
        "versions": [importlib.metadata.version(n) for n in ("transformers", "tokenizers")],
        "day": day_of(template),
    }
    digest = hashlib.blake2b(_digest_json(parts | _settings(tokenizer, template)), digest_size=20)
    for given in map(as_input, texts):
        if isinstance(given.conversation, str):
            kind, data = b"t", given.conversation.encode("utf-8", "surrogatepass")
        else:
            kind, data = b"m", json.dumps([given.conversation, given.tools]).encode()
        # The length in front: no text can run into the next.
        digest.update(kind + len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def day_of(chat_template: Any) -> str | None:
    """Return today's date where a template writes it into every chat, else None."""
    return str(datetime.date.today()) if "strftime_now" in str(chat_template) else None


def tokenizer_digest(tokenizer: Any) -> str:
    """Return the digest of a tokenizer and its chat template, for any date and library version.

    Args:
        tokenizer: A Transformers tokenizer.
    """
    return _digest_json(_settings(tokenizer, getattr(tokenizer, "chat_template", None))).hex()


def _digest_json(content: Any) -> bytes:
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=20).digest()


def _settings(tokenizer: Any, template: str | None) -> dict[str, Any]:
    kind = type(tokenizer)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "vocabulary": _vocabulary(tokenizer),
        "special_tokens": getattr(tokenizer, "special_tokens_map", None),
        "extra_special_tokens": getattr(tokenizer, "extra_special_tokens", None),
        "frame": special_tokens(tokenizer),
        "settings": {
            name: value
            for name, value in vars(tokenizer).items()
            if isinstance(value, (bool, int, float, str)) and name not in _WITHOUT_INFLUENCE
        },
        "chat_template": template,
        "chat_control_tokens": getattr(tokenizer, "chat_control_tokens", None),
    }


def _vocabulary(tokenizer: Any) -> Any:
    """Return all data that a tokenizer's algorithm uses."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content = json.loads(backend.to_str())
        # These settings are left over from the tokenizer's last use.
        return {k: v for k, v in content.items() if k not in ("padding", "truncation")}
    files = {}
    # Merges and SentencePiece models are not in the vocabulary but in the files saved with it.
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(NotImplementedError):
        tokenizer.save_vocabulary(folder)
        for file in Path(folder).rglob("*"):
            if file.is_file():
                files[file.name] = hashlib.blake2b(file.read_bytes()).hexdigest()
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return [tokenizer.get_vocab(), sorted((i, repr(token)) for i, token in added.items()), files]


def _is_random(tokenizer: Any) -> bool:
    """Tell whether a tokenizer splits the same text differently each time, as with BPE dropout."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    sampling = (getattr(tokenizer, "sp_model_kwargs", None) or {}).get("enable_sampling")
    return bool(getattr(model, "dropout", None) or getattr(model, "alpha", None) or sampling)


def _digest(key: str, tensors: dict[str, Any]) -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=20)
    for name in ("offsets", "ids"):
        digest.update(tensors[name])
    return digest.hexdigest()


def _read(path: Path, key: str) -> list[list[int]]:
    """Read a file of ``TokenCache.write``; raise ValueError for any other file."""
    with safe_open(path, framework="numpy") as file:
        expected = (file.metadata() or {}).get("digest")
        if expected is None or set(file.keys()) != {"ids", "offsets"}:
            raise ValueError("it is a foreign file")
        tensors = {name: file.get_tensor(name) for name in ("ids", "offsets")}
    flat, offsets = tensors["ids"], tensors["offsets"]
    # The digest covers every byte, so the offsets are known to fit the ids.
    types = (flat.dtype, offsets.dtype)
    if types != (np.int32, np.int64) or _digest(key, tensors) != expected:
        raise ValueError("it is damaged or misnamed")
    # One Python integer for each token of the vocabulary, not for each of the text: a quarter of
    # the memory and half of the time.
    numbers = np.arange(int(flat.max(initial=0)) + 1).astype(object)
    bounds = itertools.pairwise(offsets.tolist())
    return [numbers[flat[start:end]].tolist() for start, end in bounds]


def _warn(message: str) -> None:
    warnings.warn(message, HiddenContextWarning, stacklevel=3)
