"""Typed errors: each is also a standard-library error, and each says what to do next."""

from __future__ import annotations

from pathlib import Path


class HiddenContextError(Exception):
    """Base of every error this package raises on purpose; the command line exits 2 on it."""


class HiddenContextWarning(UserWarning):
    """Base of every warning this package gives."""


class ConfigError(HiddenContextError, ValueError):
    """An option has a value that cannot work, alone or together with another."""


class DataError(HiddenContextError, ValueError):
    """Input data is malformed; the message names file, line and field, and the remedy.

    Args:
        problem: What is wrong, one sentence without a final full stop.
        file: The file it stands in.
        line: The 1-based line (or row, for tables) it stands on, or several with commas.
        field: The column or key.
        remedy: What to do about it, one sentence without a final full stop.
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
    """A file or folder that was asked for is not there."""

    def __init__(self, path: str | Path, remedy: str | None = None) -> None:
        self.path, self.remedy = path, remedy
        super().__init__(f"{path} does not exist." + (f" {remedy}." if remedy else ""))


class CheckpointError(HiddenContextError, ValueError):
    """A checkpoint cannot be read as asked: other head, other size, missing or damaged files."""


class MissingDependencyError(HiddenContextError, ImportError):
    """An optional library is needed for what was asked."""


class StorageError(HiddenContextError, OSError):
    """A result could not be written; what stood there before is untouched."""


class DivergedError(HiddenContextError, ArithmeticError):
    """Training produced a loss or a gradient that is not finite; names step, rows and cause."""


class OverOptimisedError(HiddenContextError, RuntimeError):
    """A guard stopped a training whose responses became more contested than the data."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, to be quoted within one of ours."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip() if text else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Return the whole of another library's error, whose first line may name nothing."""
    return " ".join(str(error).split())
