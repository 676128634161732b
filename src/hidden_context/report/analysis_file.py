"""Reading ``analysis.json`` back: the one place that knows whether a file is such a one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from hidden_context.analysis.earlier import upgraded
from hidden_context.analysis.results import FORMAT, FORMAT_VERSION, READABLE
from hidden_context.data.files import read_json
from hidden_context.errors import DataError, HiddenContextError


def read_analysis(path: str | Path) -> dict[str, Any]:
    """Read what ``analyze --output`` wrote for score files.

    Args:
        path: The file.

    Returns:
        Its content, brought to the present version.

    Raises:
        MissingFileError: If it does not exist.
        DataError: If it is not such a file, or one of another version.
    """
    content = read_json(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise DataError(
            f"this is not {FORMAT}" + (f" but {found}" if found else ""),
            file=path,
            field="format",
            remedy="Write one with: hidden-context analyze SCORES --contexts --output FILE",
        )
    version = content.get("version")
    if version not in READABLE:
        raise DataError(
            f"its version is {version}, but {READABLE[0]} to {FORMAT_VERSION} are read",
            file=path,
            field="version",
            remedy="Analyze the score files again with this version",
        )
    with as_it_was_written(path):
        return upgraded(content)


@contextlib.contextmanager
def as_it_was_written(path: str | Path | None) -> Iterator[None]:
    """Let what is missing in a file, or of another kind, be an error that names the file.

    Args:
        path: The file; None where the analysis was just made, and an error is one of this program.

    Raises:
        DataError: If the work inside fails on the file's content.
    """
    try:
        yield
    except HiddenContextError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        if path is None:
            raise
        raise DataError(
            f"something in it is missing or of another kind ({type(error).__name__} {error})",
            file=path,
            remedy="Was the file changed by hand? Analyze the score files again",
        ) from error
