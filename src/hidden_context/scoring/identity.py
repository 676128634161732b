"""What tells one scoring run from another, so that only the same one is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hidden_context.data.dialogue import Conversation, to_text
from hidden_context.scoring.config import ModelOptions

# What a model's outputs depend on; a checkpoint's folder may also hold results, which change.
_MODEL_FILES = (".safetensors", ".bin", ".pt", ".json", ".model")


def describe_file(path: Path) -> list[str | int]:
    """Describe a file by place, size and time of its last change, without reading it."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def describe_model(checkpoint: str, options: ModelOptions) -> dict[str, Any]:
    """Describe a checkpoint by its name, the options it is loaded with, and its files if local.

    An ensemble's members lie in folders of their own within it.
    """
    folders = [Path(name) for name in (checkpoint, options.base_model) if name]
    folders += [member for folder in folders for member in sorted(folder.glob("member_*"))]
    files = [
        describe_file(path)
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix in _MODEL_FILES and ".metrics." not in path.name and path.is_file()
    ]
    return {
        "checkpoint": checkpoint,
        "base_model": options.base_model,
        "tokenizer": options.tokenizer_name,
        "revision": options.revision,
        "files": files,
    }


def digest_texts(texts: Iterable[Conversation]) -> str:
    """Digest texts, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(to_text(text).encode() + b"\0")
    return digest.hexdigest()
