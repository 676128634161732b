"""Rows to score: pairs, prompts with responses, or single texts, read one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hidden_context.data.checks import Place, read_conversation, read_list
from hidden_context.data.dialogue import (
    ASSISTANT_TURN,
    Conversation,
    begins_with,
    is_blank,
    join,
)
from hidden_context.data.example import Example, Text, Tools, read_tools, with_context
from hidden_context.data.importers import pairs
from hidden_context.data.published import has_lists, plain_row
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.errors import ConfigError, DataError

Kind = Literal["pair", "responses", "text"]

_NEEDS = {
    "pair": "the columns 'chosen' and 'rejected'",
    "responses": "the columns 'prompt' and 'responses' (a list), or lists 'chosen' and 'rejected'",
    "text": "a column 'text' or 'messages'",
}

_KINDS: Final[tuple[tuple[Kind, set[str]], ...]] = (
    ("pair", {"chosen", "rejected"}),
    ("responses", {"prompt", "responses"}),
    ("text", {"text"}),
    ("text", {"messages"}),
)


@dataclass(frozen=True, slots=True)
class ScoringRow:
    """One row to score.

    Attributes:
        index: Its place among the rows, from 0.
        line: Its line in the file (for parquet and CSV its row), from 1.
        columns: The row as it was read.
        texts: The texts that get one reward each: (chosen, rejected); every response after its
            prompt (in lists, chosen responses before rejected responses); or one text.
        kind: ``pair``, ``responses`` or ``text``.
        blank: Places among ``texts`` of texts that say nothing after the prompt.
        prompt: The shared start of the texts; None if not known.
        tools: The tools that the chat template is told of; None for none.
        file: The file or data set it was read from; None where not known.
    """

    index: int
    line: int
    columns: dict[str, Any]
    texts: tuple[Conversation, ...]
    kind: Kind
    blank: frozenset[int] = frozenset()
    prompt: Conversation | None = None
    tools: Tools | None = None
    file: str | None = None

    @property
    def inputs(self) -> tuple[Text, ...]:
        """The input of a model for each text."""
        return tuple(with_context(text, self.prompt, self.tools) for text in self.texts)


def _find_kind(columns: dict[str, Any], place: Place) -> Kind | None:
    """Return how to score a row, from its columns: first pair, then responses, then text.

    Lists of chosen and rejected responses count as responses, and a row of JudgeBench is a pair.
    Null columns count only if the other columns fit no kind: a table gives every row all columns.
    """
    if has_lists(columns):
        return "responses"
    columns = plain_row(columns, place)
    given = {name for name, value in columns.items() if value is not None}
    found = (kind for there in (given, columns.keys()) for kind, names in _KINDS if names <= there)
    return next(found, None)


def read_scoring_rows(
    path: str | Path, kind: Kind | None = None, *, prompt_from_first_human: bool = False
) -> Iterator[ScoringRow]:
    """Read a file to score, one row at a time.

    Args:
        path: A file in JSON Lines (plain or gzip), parquet or CSV.
        kind: How every row is to be scored; by default what the first row's columns say. All rows
            of a file are of one kind.
        prompt_from_first_human: Leave out all before the first ``"Human: "`` of a prompt
            in text, as the paper does, whose models were trained without system texts; otherwise
            responses follow the whole prompt.

    Yields:
        The rows, in file order.

    Raises:
        MissingFileError: If the file does not exist.
        DataError: If a row is malformed, naming file, line and field, or there is none.
        ConfigError: If ``kind`` is not one of the three.
    """
    if kind is not None and kind not in _NEEDS:
        raise ConfigError(f"The kind of rows has to be pair, responses or text, not {kind!r}.")
    index = -1
    for index, (line, row) in enumerate(iter_rows(path)):
        columns, place = require_row(row), Place(path, line)
        if kind is None:
            kind = _find_kind(columns, place)
            if kind is None:
                raise DataError(
                    "the row has nothing to score (columns: "
                    f"{', '.join(map(repr, columns)) or 'none'})",
                    file=path,
                    line=line,
                    remedy="Give " + "; or ".join(_NEEDS.values()),
                )
        texts, blank, prompt = _texts(columns, kind, place, prompt_from_first_human)
        places = frozenset(number for number, nothing in enumerate(blank) if nothing)
        tools = read_tools(columns, texts[0], place)
        yield ScoringRow(index, line, columns, texts, kind, places, prompt, tools, str(path))
    if index < 0:
        raise DataError("the file holds no rows", file=path)


def _texts(
    columns: dict[str, Any], kind: Kind, place: Place, from_first_human: bool
) -> tuple[tuple[Conversation, ...], list[bool], Conversation | None]:
    """Return the texts of a row, whether each has a blank response, and the prompt.

    The prompt is None where it is not known.
    """
    if kind != "pair" or not has_lists(columns):
        columns = plain_row(columns, place)
    if kind == "pair":
        pair = pairs.read(columns, place)
        return pair.texts, [_says_nothing(pair, side) for side in range(2)], pair.known_prompt
    if kind == "responses":
        return _response_texts(columns, place, from_first_human)
    field = "messages" if columns.get("messages") is not None else "text"
    _require(columns, field, kind, place)
    text = read_conversation(columns[field], field, place)
    return (text,), [is_blank(text)], None


def _says_nothing(pair: Example, side: int) -> bool:
    """Tell whether nothing but white space follows the prompt.

    A prompt that was guessed from the shared start of two texts counts only if it ends a turn of a
    dialogue: other texts may differ only in white space.
    """
    response = pair.responses[side]
    if not isinstance(pair.prompt, str) or not isinstance(response, str):
        return is_blank(response)
    if pair.known_prompt is None:
        return is_blank(pair.text(side))
    return is_blank(response.strip().removeprefix(ASSISTANT_TURN.strip()))


def _require(columns: dict[str, Any], field: str, kind: Kind, place: Place) -> None:
    if columns.get(field) is None:
        remedy = f"Each row of this file needs {_NEEDS[kind]}"
        raise place.error("the column is missing or null", field, remedy)


def _response_texts(
    columns: dict[str, Any], place: Place, from_first_human: bool
) -> tuple[tuple[Conversation, ...], list[bool], Conversation | None]:
    for field in ("prompt", "responses"):
        _require(columns, field, "responses", place)
    prompt = read_conversation(columns["prompt"], "prompt", place)
    remedy = 'Write {"prompt": "...", "responses": ["...", "..."]}'
    listed = read_list(columns["responses"], "responses", place, remedy, "response")
    responses = [read_conversation(r, f"responses[{n}]", place) for n, r in enumerate(listed)]
    whole = [isinstance(r, list) and begins_with(r, prompt) for r in responses if not is_blank(r)]
    inside = bool(whole) and all(whole)
    blank = [is_blank(response) for response in responses]
    if from_first_human and isinstance(prompt, str):
        prompt = prompt[max(prompt.find("Human: "), 0) :]
    texts = tuple(
        response if inside and not nothing else join(prompt, response)
        for response, nothing in zip(responses, blank, strict=True)
    )
    if isinstance(prompt, str) and not isinstance(texts[0], str):
        prompt = join(prompt, [])
    return texts, blank, prompt
