"""Locks that allow one writer at a time; a lock ends with the process that holds it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hidden_context.data.storage.files import storage_error
from hidden_context.errors import StorageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_SUFFIX: Final = ".lock"

# Errors of file systems without locks of the kernel.
_NO_LOCKS: Final = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def exclusive(
    result: str | Path | None, lock: str | Path | None = None, *, wait: bool = False
) -> Iterator[None]:
    """Let no other process write a result while this one does.

    The lock is the file ``RESULT.lock``, which is removed at the end. The kernel frees the lock
    when its process ends for any reason. On a file system without kernel locks, the existence of
    the file is the lock. A file left by a killed process is harmless: the next writer takes it
    over.

    Args:
        result: The file or folder to write; None if nothing is written.
        lock: The file to lock instead, such as one within a folder.
        wait: Wait for another process that writes the result, for results that take a moment.

    Raises:
        StorageError: If another process writes the result, naming it, or the lock cannot be made.
    """
    from filelock import SoftFileLock, Timeout

    if result is None:
        yield
        return
    path = Path(f"{result}{LOCK_SUFFIX}" if lock is None else lock)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(path, wait)
    except Timeout:
        raise StorageError(
            f"{result} is being written by {_holder(path)}. Wait until that has ended, or name "
            "another output."
        ) from None
    except OSError as error:
        raise storage_error(result, error) from error
    try:
        yield
    finally:
        if not isinstance(held, SoftFileLock):  # a SoftFileLock removes its own file
            with contextlib.suppress(OSError):
                path.unlink()  # while held, so no other process has it
        held.release()


def exclusive_folder(folder: str | Path) -> contextlib.AbstractContextManager[None]:
    """Let no other process write into a folder while this one does; see ``exclusive``."""
    return exclusive(folder, Path(folder) / f"run{LOCK_SUFFIX}")


def _acquire(path: Path, wait: bool) -> BaseFileLock:
    from filelock import FileLock, SoftFileLock

    held: BaseFileLock = FileLock(path, thread_local=False)
    try:
        held.acquire(blocking=wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if not path.stat().st_size:  # from this attempt: a holder writes its process
            path.unlink()
        held = SoftFileLock(path, thread_local=False)
        held.acquire(blocking=wait)
    if not isinstance(held, SoftFileLock):
        with contextlib.suppress(OSError):  # optional: the disk may be full
            path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    return held


def _holder(path: Path) -> str:
    try:
        process, host = path.read_text(encoding="utf-8").splitlines()[:2]
        since = datetime.datetime.fromtimestamp(path.stat().st_mtime)
    except (OSError, ValueError):  # the holder has just ended, or the disk was full
        return "another process"
    return f"process {process} on {host} since {since:%Y-%m-%d %H:%M:%S}"
