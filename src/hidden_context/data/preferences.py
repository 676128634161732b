"""The one schema of preference data: a prompt and two full texts, one of them preferred."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hidden_context.data.annotations import Annotation, annotations_of, read_annotations
from hidden_context.data.checks import describe, read_number, read_weight
from hidden_context.data.dialogue import (
    Conversation,
    Message,
    begins_with,
    canonical_prompt,
    is_blank,
    join,
    shared_prompt,
)
from hidden_context.errors import DataError

_COLUMNS_REMEDY = (
    "Preference data needs the columns 'chosen' and 'rejected' (and may have 'prompt'), each "
    "text or a list of chat messages; or, for a ranking, 'prompt', 'responses' and 'ranks'"
)


@dataclass(frozen=True, slots=True)
class Preference:
    """One comparison of two responses to a prompt.

    Attributes:
        prompt: What both sides begin with, as text or chat messages.
        chosen: The preferred conversation in full, the prompt in it exactly once.
        rejected: The other one.
        columns: The row as it was read.
        source_line: The line of its file, or row of its table, from 1; None where it was made by
            hand. Of no account when two preferences are compared.
    """

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    columns: dict[str, Any]
    source_line: int | None = dataclasses.field(default=None, compare=False)

    @property
    def data_subset(self) -> str | None:
        """The data set the pair comes from, such as ``helpful``."""
        return self.columns.get("data_subset") or None

    @property
    def objective(self) -> str | None:
        """The criterion the pair was judged by, where it is known."""
        value = self.columns.get("objective")
        return None if value in (None, "") else str(value)

    @property
    def annotator(self) -> str | int | None:
        """Who judged the pair, where it is known."""
        value = self.columns.get("annotator")
        return None if value == "" else value

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """What each annotator said of the pair; one made of the row's own columns without a list.

        ``annotations.annotations_of`` takes the annotators from another column.
        """
        return annotations_of(self)

    @property
    def margin(self) -> float | None:
        """By how much the chosen side is better, in units of the data set."""
        return self._number("margin")

    @property
    def strength(self) -> int | None:
        """By how many levels the chosen side is better: 0 a tie, negative the other side is."""
        value = self.columns.get("strength")
        return None if value is None else int(value)

    @property
    def preference(self) -> float:
        """Share of annotators for the chosen side: 1 all, 0.5 a tie.

        The mean over ``annotations`` where there are some, else the column ``preference``; without
        either 1, 0.5 or 0 by the sign of ``strength``; else 1.
        """
        if self.columns.get("annotations") is None:
            value = self.columns.get("preference")
            if value is not None or self.columns.get("strength") is None:
                return 1.0 if value is None else float(value)  # as of most data: ask no further
        return fmean(annotation.preference for annotation in self.annotations)

    @property
    def rating_chosen(self) -> float | None:
        """An absolute rating of the chosen side, where there is one."""
        return self._number("rating_chosen")

    @property
    def rating_rejected(self) -> float | None:
        """An absolute rating of the rejected side, where there is one."""
        return self._number("rating_rejected")

    @property
    def weight(self) -> float:
        """How much the pair counts, 1 where not given."""
        value = self._number("weight")
        return 1.0 if value is None else value

    def _number(self, column: str) -> float | None:
        value = self.columns.get(column)
        return None if value is None else float(value)

    @property
    def identical(self) -> bool:
        """Whether both sides are the same."""
        return self.chosen == self.rejected

    @property
    def prompt_key(self) -> str:
        """The prompt, spelt the same whatever format it came in: what splits hash.

        Pairs that share no beginning have their two sides, in sorted order, as the key.
        """
        key = canonical_prompt(self.prompt)
        if key:
            return key
        return "\0".join(sorted((canonical_prompt(self.chosen), canonical_prompt(self.rejected))))


def _check_text(text: str, field: str, file: Path | str | None, line: int | None) -> None:
    """Refuse half characters: tokenizers and UTF-8 cannot hold them."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text holds half a character (a lone surrogate at {error.start})",
            file=file,
            line=line,
            field=field,
            remedy="Repair or leave out the row",
        ) from error


def check_conversation(
    value: Any, field: str, file: Path | str | None = None, line: int | None = None
) -> Conversation:
    """Check that a value is text or a list of chat messages.

    Args:
        value: What stands in the column.
        field: The column's name.
        file: Where the row stands, for the error.
        line: Its line or row number.

    Returns:
        The value itself.

    Raises:
        DataError: If it is something else, naming file, line and field.
    """
    if isinstance(value, str):
        _check_text(value, field, file, line)
        return value
    if not isinstance(value, list):
        raise DataError(
            f"text or a list of chat messages is needed, not {describe(value)}",
            file=file,
            line=line,
            field=field,
            remedy=_COLUMNS_REMEDY,
        )
    for number, message in enumerate(value):
        _check_message(message, f"{field}[{number}]", file, line)
    return value


def _check_message(message: Any, field: str, file: Path | str | None, line: int | None) -> Message:
    if not isinstance(message, dict):
        problem = f"a chat message is needed, not {describe(message)}"
    elif not isinstance(message.get("role"), str):
        problem = f"the chat message's 'role' has to be text, not {describe(message.get('role'))}"
    elif not isinstance(message.get("content"), str):
        problem = (
            f"the chat message's 'content' has to be text, not {describe(message.get('content'))}"
        )
    else:
        _check_text(message["content"], field, file, line)
        return message
    raise DataError(
        problem,
        file=file,
        line=line,
        field=field,
        remedy='Write messages as {"role": "user", "content": "..."}',
    )


def _check_labels(row: Mapping[str, Any], file: Path | str | None, line: int | None) -> None:
    read_annotations(row, file=file, line=line)
    read_number(row.get("rating_chosen"), "rating_chosen", file, line)
    read_number(row.get("rating_rejected"), "rating_rejected", file, line)
    read_weight(row.get("weight"), file, line)
    for field, kinds, wanted in (
        ("data_subset", (str,), "text"),
        ("objective", (str, int), "text or an integer"),
    ):
        value = row.get(field)
        if value is not None and not isinstance(value, kinds):
            raise DataError(
                f"{wanted} is needed, not {describe(value)}",
                file=file,
                line=line,
                field=field,
                remedy=f"Rename the column if {field!r} means something else there",
            )


def parse_preference(
    row: dict[str, Any], *, file: str | Path | None = None, line: int | None = None
) -> Preference:
    """Read one row of preference data.

    With a ``prompt`` column the prompt is put before each side, unless both sides already begin
    with it. Without one it is what both sides share (see ``dialogue.shared_prompt``).

    Args:
        row: The columns; those this package does not know pass through untouched.
        file: Where the row stands, for errors.
        line: Its line or row number; kept as ``source_line``.

    Returns:
        The preference.

    Raises:
        DataError: If a column is missing or of the wrong kind, naming file, line and field.
    """
    for field in ("chosen", "rejected"):
        if row.get(field) is None:
            found = ", ".join(map(repr, row)) or "none"
            problem = "the value is null" if field in row else f"the column is missing ({found})"
            raise DataError(problem, file=file, line=line, field=field, remedy=_COLUMNS_REMEDY)
    chosen = check_conversation(row["chosen"], "chosen", file, line)
    rejected = check_conversation(row["rejected"], "rejected", file, line)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise DataError(
            "'chosen' and 'rejected' have to be both text or both chat messages",
            file=file,
            line=line,
            field="rejected",
            remedy=_COLUMNS_REMEDY,
        )
    _check_labels(row, file, line)
    prompt = check_conversation(row.get("prompt") or "", "prompt", file, line)
    if is_blank(prompt):
        return Preference(shared_prompt(chosen, rejected), chosen, rejected, row, line)
    if not (begins_with(chosen, prompt) and begins_with(rejected, prompt)):
        chosen, rejected = join(prompt, chosen), join(prompt, rejected)
    if isinstance(prompt, str) and not (isinstance(chosen, str) and chosen.startswith(prompt)):
        prompt = shared_prompt(chosen, rejected)
    return Preference(prompt, chosen, rejected, row, line)


def has_blank_side(row: Mapping[str, Any]) -> bool:
    """Tell whether a row that has passed ``parse_preference`` has a side without any text."""
    return is_blank(row["chosen"]) or is_blank(row["rejected"])
