"""Identity of a model: digests of the files that it is loaded from."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Final

from hidden_context.data.storage.files import atomic_write, default_cache_dir
from hidden_context.models.checkpoint import contents
from hidden_context.models.checkpoint.head_file import HEAD_FILE

# Weights, code and configuration; a checkpoint's folder also holds results.
_FILES: Final = (
    *("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.index.json", "*.py"),
    *(*contents.CONFIGS, HEAD_FILE),
)
# Smaller files are read again every time.
CACHED_FROM: Final = 1 << 20


def weight_digests(
    name: str | Path, base_model: str | None = None, revision: str | None = None
) -> dict[str, str]:
    """Compute digests of all files of a model, including its backbone and members.

    The tokenizer is left out, because its effect shows in the token ids.

    Args:
        name: Folder or hub id of a checkpoint or a backbone.
        base_model: Backbone, instead of the one an adapter or a frozen head names.
        revision: Branch, tag or commit of a hub repository.

    Returns:
        Digests by the files' names, the backbone's under ``backbone/``; for a repository of
        the hub its commit by its id. The same content in another folder has the same digests.

    Raises:
        MissingFileError: If a local folder does not exist.
        CheckpointError: If files are missing or damaged.
    """
    name = contents.existing(name)
    digests = _of_repository(name, revision)
    kind = contents.kind_of(name, revision)
    if kind == "classifier":
        return digests
    base, base_revision, adapter = base_model, None, name
    if kind == "frozen":
        folder = contents.whole_folder(name, revision)
        content = contents.read_checkpoint_json(folder / contents.FROZEN_CONFIG)
        base, base_revision = base or str(content.get("backbone")), content.get("revision")
    elif kind == "ensemble":
        folder = contents.whole_folder(name, revision)
        content = contents.read_checkpoint_json(folder / contents.ENSEMBLE_CONFIG)
        for member in content.get("members", ()):
            adapter = str(folder / str(member))
            digests |= _prefixed(str(member), _of_repository(adapter))
    base = contents.existing(base or contents.adapter_base(adapter, revision))
    return digests | _prefixed("backbone", _of_repository(base, base_revision))


def _prefixed(prefix: str, digests: dict[str, str]) -> dict[str, str]:
    return {f"{prefix}/{name}": digest for name, digest in digests.items()}


def _of_repository(name: str, revision: str | None = None) -> dict[str, str]:
    """Compute digests of a folder's files, or return the commit of a hub repository."""
    if Path(name).is_dir():
        files = {file for pattern in _FILES for file in Path(name).glob(pattern) if file.is_file()}
        return {file.name: file_digest(file) for file in sorted(files)}
    files_there = (contents.find_file(name, each, revision) for each in contents.CONFIGS)
    found = next(filter(None, files_there), None)
    return {name: found.parent.name if found else str(revision)}


def file_digest(path: Path) -> str:
    """Compute a file's digest; a large file is read again only after its size or times change."""
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
    # If the digest cannot be stored, or another process is storing it, the file is read again.
    with contextlib.suppress(OSError), atomic_write(kept) as file:
        file.write(digest)
    return digest


def _read(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
