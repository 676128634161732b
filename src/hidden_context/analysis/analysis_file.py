"""Writing and reading ``analysis.json``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hidden_context.analysis.measure.records import Count
from hidden_context.analysis.results import Analysis
from hidden_context.data.storage.files import read_json, to_plain
from hidden_context.errors import DataError, HiddenContextError

_FORMAT: Final = "hidden_context.analysis"
_VERSION: Final = 3
_READABLE: Final = (2, 3)
_CAUSES_OF_VERSION_2: Final = {"disagreement": "shared_context", "epistemic": "ignorance"}


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Return the JSON form of an analysis; see ``docs/guides/analyze.md`` for its fields."""
    found = {"format": _FORMAT, "version": _VERSION, **_plain(analysis)}
    for scores in found["analyses"]:
        scores["with_objective"] = scores.pop("with_likelihood")  # the files' name for it
        if scores["votes"] is not None:
            scores["votes"] = {**scores["votes"].pop("metrics"), **scores["votes"]}
        for group in scores["groups"]:
            group |= group.pop("record")
    return found


def _plain(value: Any) -> Any:
    """Return what JSON has: fields of dataclasses, counts with their shares, null for NaN."""
    if isinstance(value, Count):
        return value.to_dict()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return to_plain(value)


def read_analysis(path: str | Path) -> dict[str, Any]:
    """Read what ``analyze --output`` wrote for score files.

    Args:
        path: The file.

    Returns:
        Its content, brought to the present version.

    Raises:
        MissingFileError: If it does not exist.
        DataError: If it is another kind of file, or of a version that is not read.
    """
    content = read_json(path)
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise DataError(
            f"this is not {_FORMAT}" + (f" but {found}" if found else ""),
            file=path,
            field="format",
            remedy="Write one with: hidden-context analyze SCORES --contexts --output FILE",
        )
    version = content.get("version")
    if version not in _READABLE:
        raise DataError(
            f"its version is {version}, but {_READABLE[0]} to {_VERSION} are read",
            file=path,
            field="version",
            remedy="Analyze the score files again with this version",
        )
    with naming_the_file(path):
        return content if version == _VERSION else _from_version_2(content)


def _from_version_2(content: Mapping[str, Any]) -> dict[str, Any]:
    """Rename causes of variance, and leave out agreement, which took "equal" for contested."""
    analyses = []
    for scores in content.get("analyses", []):
        kept = {name: value for name, value in scores.items() if name != "agreement"}
        groups = [{**group, **_renamed_causes(group)} for group in scores.get("groups", [])]
        analyses.append({**kept, "groups": groups, "votes": None})
    return {**content, "version": _VERSION, "analyses": analyses}


def _renamed_causes(group: Mapping[str, Any]) -> dict[str, Any]:
    shares = group.get("variance_shares")
    names = _CAUSES_OF_VERSION_2
    return {"variance_shares": shares and {names.get(name, name): v for name, v in shares.items()}}


@contextlib.contextmanager
def naming_the_file(path: str | Path | None) -> Iterator[None]:
    """Turn an error about an analysis's content into one that names its file.

    Args:
        path: The file; None where the analysis was just made, so that the error is a bug.

    Raises:
        DataError: If the work inside fails on the file's content.
    """
    from jinja2 import UndefinedError

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
