"""What tells one model from another: digests of the files that it is loaded from."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

from hidden_context.data.storage.files import default_cache_dir
from hidden_context.models.checkpoint.contents import (
    CONFIGS,
    ENSEMBLE_CONFIG,
    FROZEN_CONFIG,
    adapter_base,
    existing,
    find_file,
    kind_of,
    read_checkpoint_json,
    whole_folder,
)
from hidden_context.models.checkpoint.head_file import HEAD_FILE

# Weights, code and what says how they are read; a checkpoint's folder also holds results.
_FILES: Final = (
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.index.json", "*.py"),
    *(*CONFIGS, HEAD_FILE),
)
# Smaller files are read again every time.
CACHED_FROM: Final = 1 << 20


def weight_digests(
    name: str | Path, base_model: str | None = None, revision: str | None = None
) -> dict[str, str]:
    """Digest every file that a model consists of, including its backbone's and members' files.

    The tokenizer is left out: what it does shows in the token ids.

    Args:
        name: Folder or hub id of a checkpoint or a backbone.
        base_model: Backbone, instead of the one an adapter or a frozen head names.
        revision: Branch, tag or commit of a hub repository.

    Returns:
        Digests by the files' names, those of the backbone under ``backbone/``; for a repository of
        the hub its commit by its id. The same content in another folder has the same digests.

    Raises:
        MissingFileError: If a local folder does not exist.
        CheckpointError: If files are missing or damaged.
    """
    name = existing(name)
    digests = _of_repository(name, revision)
    kind = kind_of(name, revision)
    if kind == "classifier":
        return digests
    base, base_revision, adapter = base_model, None, name
    if kind == "frozen":
        content = read_checkpoint_json(whole_folder(name, revision) / FROZEN_CONFIG)
        base, base_revision = base or str(content.get("backbone")), content.get("revision")
    elif kind == "ensemble":
        folder = whole_folder(name, revision)
        for member in read_checkpoint_json(folder / ENSEMBLE_CONFIG).get("members", ()):
            adapter = str(folder / str(member))
            digests |= _prefixed(str(member), _of_repository(adapter))
    base = existing(base or adapter_base(adapter, revision))
    return digests | _prefixed("backbone", _of_repository(base, base_revision))


def _prefixed(prefix: str, digests: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}/{name}": digest for name, digest in digests.items()}


def _of_repository(name: str, revision: str | None = None) -> dict[str, str]:
    """Digest the files of a folder, or name the commit of a hub repository."""
    if Path(name).is_dir():
        files = {file for pattern in _FILES for file in Path(name).glob(pattern) if file.is_file()}
        return {file.name: file_digest(file) for file in sorted(files)}
    found = next(filter(None, (find_file(name, each, revision) for each in CONFIGS)), None)
    return {name: found.parent.name if found else str(revision)}


def file_digest(path: Path) -> str:
    """Digest a file; the digest of a large one is kept until size or time of change differ."""
    status = path.stat()
    if status.st_size < CACHED_FROM:
        return _read(path)
    state = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    kept = default_cache_dir() / "digests" / hashlib.blake2b(repr(state).encode()).hexdigest()[:40]
    with contextlib.suppress(OSError, ValueError):
        digest = kept.read_text(encoding="ascii")
        if len(digest) == 40:
            return digest
    digest = _read(path)
    with contextlib.suppress(OSError):  # it is only read once more where it cannot be kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        own = kept.with_name(f"{kept.name}.{os.getpid()}")
        own.write_text(digest, encoding="ascii")
        os.replace(own, kept)
    return digest


def _read(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
