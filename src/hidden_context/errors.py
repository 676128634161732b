"""Typed errors that are also standard-library errors and say what to do next."""

from __future__ import annotations

from pathlib import Path


class HiddenContextError(Exception):
    """Base of every error that this package raises on purpose; the command line then exits 2."""


class HiddenContextWarning(UserWarning):
    """Base of every warning of this package."""


class ConfigError(HiddenContextError, ValueError):
    """An error about an option whose value cannot work, alone or with another option."""


class DataError(HiddenContextError, ValueError):
    """An error in input data; the message names file, line, field and remedy.

    Args:
        problem: What is wrong, one sentence without a final full stop.
        file: The file of the problem.
        line: The 1-based line (or row, for tables), or several lines with commas.
        field: The column or key.
        remedy: The advice, one sentence without a final full stop.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | str | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.remedy = problem, file, remedy
        self.line, self.field = line, field
        parts = (("{}", file), ("line {}", line), ("field {!r}", field))
        place = ", ".join(form.format(part) for form, part in parts if part is not None)
        message = f"{place}: {problem}." if place else f"{problem}."
        super().__init__(f"{message} {remedy}." if remedy else message)


class MissingFileError(HiddenContextError, FileNotFoundError):
    """An error about a requested file or folder that does not exist."""

    def __init__(self, path: str | Path, remedy: str | None = None) -> None:
        self.path, self.remedy = path, remedy
        super().__init__(f"{path} does not exist." + (f" {remedy}." if remedy else ""))


class CheckpointError(HiddenContextError, ValueError):
    """An unreadable checkpoint: another head, another size, or missing or damaged files."""


class MissingDependencyError(HiddenContextError, ImportError):
    """An error about an optional library that the request needs."""


class StorageError(HiddenContextError, OSError):
    """An error when writing a result; the earlier contents are unchanged."""


class DivergedError(HiddenContextError, ArithmeticError):
    """A loss or gradient in training that is not finite; the message names step, rows and cause."""


class OverOptimisedError(HiddenContextError, RuntimeError):
    """A stopped training whose responses became more contested than the data."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, for use in our message."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip() if text else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Return another library's whole error in one line; its first line alone may say nothing."""
    return " ".join(str(error).split())
