"""Files on remote storage: the input is copied here first, the output is put there at the end.

Scoring reads the input three times and appends to the record, and object stores suit neither. So
both files lie on this machine during scoring, in the cache folder under their address. The same
command, run again on this machine or with the same cache folder, goes on from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hidden_context.data.storage.files import default_cache_dir
from hidden_context.errors import (
    ConfigError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
    in_one_line,
)
from hidden_context.scoring.config import ScoreConfig


def is_remote(path: str) -> bool:
    """Tell whether a path is an fsspec address, such as ``s3://bucket/file.jsonl``.

    >>> is_remote("s3://bucket/file.jsonl"), is_remote("folder/file.jsonl")
    (True, False)
    """
    return "://" in path


@contextlib.contextmanager
def local_files(config: ScoreConfig) -> Iterator[ScoreConfig]:
    """Copy the input here, and put the output in its place at the end of the block.

    Args:
        config: The options; ``input`` and ``output`` may be addresses.

    Yields:
        The options with local paths.

    Raises:
        MissingFileError: If there is no file at the input's address.
        MissingDependencyError: If the file system needs a library that is not installed.
        ConfigError: If a file system is not known.
        StorageError: If the output could not be put there; it stays here, and the message says
            where.
    """
    paths: dict[str, Any] = {}
    if is_remote(config.output):
        _file_system(config.output)  # found out before anything is scored
        if config.input == config.output:
            raise ConfigError(f"{config.output} is the input too; name another with --output.")
        paths["output"] = str(_folder(config.output) / _name(config.output))
    if is_remote(config.input):
        paths["input"] = str(fetch(config.input))
    yield dataclasses.replace(config, **paths) if paths else config
    if "output" in paths:
        put(Path(paths["output"]), config.output)
        shutil.rmtree(Path(paths["output"]).parent)
    if "input" in paths:
        shutil.rmtree(Path(paths["input"]).parent)


def fetch(address: str) -> Path:
    """Copy a remote file here, unless an unchanged copy is here already.

    Returns:
        The copy, which has the file's own name.

    Raises:
        MissingFileError: If there is no file.
        StorageError: If it could not be copied.
    """
    files, path = _file_system(address)
    try:
        if not files.isfile(path):
            raise MissingFileError(address, "Check the address")
        copy = _folder(address, str(files.ukey(path))) / _name(address)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f"{copy.name}.{os.getpid()}.partial")
            files.get_file(path, str(partial))
            os.replace(partial, copy)
    except (MissingFileError, StorageError):
        raise
    except Exception as error:  # whatever a file system's client raises
        raise StorageError(
            f"{address} could not be copied here: {in_one_line(error)} Check the address and your "
            "access rights."
        ) from error
    return copy


def put(output: Path, address: str) -> None:
    """Copy a result and the files beside it to remote storage; the result comes last, whole.

    Raises:
        StorageError: If that failed; what is here is kept.
    """
    files, path = _file_system(address)
    own = [each for each in sorted(output.parent.rglob("*")) if each.is_file() and each != output]
    try:
        for file in [*own, output]:
            place = path + str(file.relative_to(output.parent)).removeprefix(output.name)
            files.makedirs(place.rpartition("/")[0], exist_ok=True)
            # in a transaction, a file appears only once it is whole, if the file system can
            with files.transaction, files.open(place, "wb") as sink, file.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
    except Exception as error:  # whatever a file system's client raises
        raise StorageError(
            f"{address} could not be written: {in_one_line(error)} The result is kept in {output}."
        ) from error


def _file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path on it."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise MissingDependencyError(
            f"{address} needs a library that is not installed: {in_one_line(error)}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{address}: {in_one_line(error)}.") from error
    return files, path


def _name(address: str) -> str:
    name = address.rstrip("/").rpartition("/")[2]
    if not name or address.endswith("/"):
        raise ConfigError(f"{address} names no file; add its name.")
    return name


def _folder(*about: str) -> Path:
    digest = hashlib.blake2b("\n".join(about).encode(), digest_size=12).hexdigest()
    return default_cache_dir() / "remote" / digest
