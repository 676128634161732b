"""Writing a folder as a whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from hidden_context.data.files import storage_error
from hidden_context.errors import first_line


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder to write into; at the end it takes the place of ``path``.

    Args:
        path: The folder to make or replace.

    Yields:
        The temporary folder, beside it.

    Raises:
        StorageError: If writing failed; what stood at ``path`` is untouched.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    previous = target.with_name(target.name + ".previous")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            shutil.rmtree(previous, ignore_errors=True)
            target.rename(previous)
        partial.rename(target)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if previous.exists() and not target.exists():
            previous.rename(target)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        if isinstance(error, SafetensorError):  # a full disk, in safetensors' words
            raise storage_error(path, OSError(first_line(error))) from error
        raise
