"""Commands in processes of their own, which die, wait or run out of disk at a chosen moment."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Imported once, by the process that all others are forked from.
IMPORTS = (
    *(f"hidden_context.cli.{verb}" for verb in ("analyze", "data", "evaluate", "figure", "report")),
    *(f"hidden_context.cli.{verb}" for verb in ("score", "synthetic", "train")),
    *("hidden_context.scoring.files", "hidden_context.scoring.evaluation"),
    *("hidden_context.training.workflow", "hidden_context.training.finetune"),
    *("hidden_context.training.lora_ensemble", "hidden_context.training.frozen.fit"),
    *("hidden_context.models.loading", "hidden_context.analysis.workflow"),
    *("hidden_context.report.workflow", "hidden_context.report.figures.workflow"),
    *("hidden_context.report.figures.panels", "hidden_context.report.figures.curves"),
    *("hidden_context.synthetic.workflow", "hidden_context.synthetic.figures"),
    *("hidden_context.contexts", "hidden_context.data.storage.download", "peft"),
    "transformers.models.gpt2.modeling_gpt2",
)
# What changes the disk. Each is announced to an audit hook before it happens.
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")


# When something happens to a process: before which change to its folder, from 0; and what.
Moment = tuple[int, Callable[[], Any]]


def kill_self() -> None:
    """Die as if the machine had gone down."""
    os.kill(os.getpid(), signal.SIGKILL)


def start(
    argv: Sequence[str], folder: Path, moment: Moment | None = None, limit: int | None = None
) -> Any:
    """Start a command in a folder; what it prints goes to ``FOLDER.log``.

    Args:
        argv: The command's arguments.
        folder: Where it runs; changes to it are noted in ``FOLDER.events``.
        moment: When something happens to it.
        limit: Most bytes of a file, beyond which writing fails as on a full disk.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTS))
    process = context.Process(target=_run, args=(list(argv), folder, moment, limit))
    process.start()
    return process


def run(
    argv: Sequence[str], folder: Path, moment: Moment | None = None, limit: int | None = None
) -> int:
    """Run a command to its end and return its exit code (see ``start``)."""
    process = start(argv, folder, moment, limit)
    process.join()
    assert process.exitcode is not None
    return int(process.exitcode)


def printed(folder: Path) -> str:
    """What the last command in a folder printed."""
    return Path(f"{folder}.log").read_text()


def _run(argv: list[str], folder: Path, moment: Moment | None, limit: int | None) -> None:
    from hidden_context.cli.main import main

    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ["HIDDEN_CONTEXT_CACHE"] = f"{folder}.cache"
    noted = os.open(f"{folder}.events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count, root, busy = 0, str(folder), False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, busy
        if busy or not _changes_disk(event, arguments, root):
            return
        if moment is not None and count == moment[0]:
            busy = True
            moment[1]()
            busy = False
        count += 1
        if limit is None:  # else the note itself might fail
            os.write(noted, f"{event} {arguments[0]}\n".encode())

    sys.addaudithook(hook)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        code = main(argv)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _changes_disk(event: str, arguments: tuple[Any, ...], root: str) -> bool:
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if mode else flags & os.O_ACCMODE
        if not writes:
            return False
    elif event not in _CHANGES:
        return False
    try:
        path = os.fsdecode(arguments[0])
    except TypeError:  # a descriptor
        return False
    return os.path.abspath(path).startswith(root + os.sep)
