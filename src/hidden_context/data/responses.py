"""Reading what is to be scored, row by row: pairs, prompts with responses, or single texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hidden_context.data.dialogue import Conversation, assistant_text, join
from hidden_context.data.preferences import check_conversation, parse_preference
from hidden_context.data.rows import iter_rows, require_row
from hidden_context.errors import ConfigError, DataError

Kind = Literal["pair", "responses", "text"]

_NEEDS = {
    "pair": "the columns 'chosen' and 'rejected'",
    "responses": "the columns 'prompt' and 'responses' (a list)",
    "text": "a column 'text' or 'messages'",
}


@dataclass(frozen=True, slots=True)
class ScoringRow:
    """One row to score.

    Attributes:
        index: Its place among the rows, from 0.
        line: Its line in the file (for parquet and CSV its row), from 1.
        columns: The row as it was read.
        texts: What gets a reward each: (chosen, rejected), every response after its prompt, or
            one text.
        kind: ``pair``, ``responses`` or ``text``.
    """

    index: int
    line: int
    columns: dict[str, Any]
    texts: tuple[Conversation, ...]
    kind: Kind


def find_kind(columns: dict[str, Any]) -> Kind | None:
    """Tell from a row's columns how it is to be scored; pairs go before responses before texts."""
    if "chosen" in columns and "rejected" in columns:
        return "pair"
    if "prompt" in columns and "responses" in columns:
        return "responses"
    if "text" in columns or "messages" in columns:
        return "text"
    return None


def read_scoring_rows(path: str | Path, kind: Kind | None = None) -> Iterator[ScoringRow]:
    """Read a file to score, one row at a time.

    Args:
        path: A file in JSON Lines (plain or gzip), parquet or CSV.
        kind: How every row is to be scored; by default what the first row's columns say. All rows
            of a file are of one kind.

    Yields:
        The rows, in file order.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If a row is malformed, naming file, line and field, or there is none.
        ConfigError: If ``kind`` is none of the three.
    """
    if kind is not None and kind not in _NEEDS:
        raise ConfigError(f"Rows are scored as pair, responses or text, not as {kind!r}.")
    index = -1
    for index, (line, row) in enumerate(iter_rows(path)):
        columns = require_row(row)
        if kind is None:
            kind = find_kind(columns)
            if kind is None:
                raise _unknown_columns(columns, path, line)
        yield ScoringRow(index, line, columns, _texts(columns, kind, path, line), kind)
    if index < 0:
        raise DataError("the file holds no rows", file=path)


def _unknown_columns(columns: dict[str, Any], path: str | Path, line: int) -> DataError:
    found = ", ".join(map(repr, columns)) or "none"
    return DataError(
        f"nothing to score is found in the columns {found}",
        file=path,
        line=line,
        remedy="Give " + "; or ".join(_NEEDS.values()),
    )


def _texts(
    columns: dict[str, Any], kind: Kind, path: str | Path, line: int
) -> tuple[Conversation, ...]:
    if kind == "pair":
        preference = parse_preference(columns, file=path, line=line)
        return (preference.chosen, preference.rejected)
    if kind == "responses":
        return _response_texts(columns, path, line)
    field = "messages" if columns.get("messages") is not None else "text"
    _require(columns, field, kind, path, line)
    return (check_conversation(columns[field], field, path, line),)


def _require(columns: dict[str, Any], field: str, kind: Kind, path: str | Path, line: int) -> None:
    if columns.get(field) is None:
        raise DataError(
            "the column is missing or null",
            file=path,
            line=line,
            field=field,
            remedy=f"Each row of this file needs {_NEEDS[kind]}",
        )


def _response_texts(
    columns: dict[str, Any], path: str | Path, line: int
) -> tuple[Conversation, ...]:
    for field in ("prompt", "responses"):
        _require(columns, field, "responses", path, line)
    prompt = check_conversation(columns["prompt"], "prompt", path, line)
    responses = columns["responses"]
    if not isinstance(responses, list) or not responses:
        raise DataError(
            "a list of at least one response is needed",
            file=path,
            line=line,
            field="responses",
            remedy='Write {"prompt": "...", "responses": ["...", "..."]}',
        )
    texts: list[Conversation] = []
    for number, response in enumerate(responses):
        response = check_conversation(response, f"responses[{number}]", path, line)
        if isinstance(prompt, str) and isinstance(response, str):
            texts.append(assistant_text(prompt, response))
        else:
            texts.append(join(prompt, response))
    return tuple(texts)
