"""The one schema of preference data: a prompt and two full texts, one of them preferred."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_context.data.dialogue import (
    Conversation,
    Message,
    canonical_prompt,
    is_blank,
    is_dialogue,
    join,
    shared_prompt,
)
from hidden_context.errors import DataError

_COLUMNS_REMEDY = (
    "Preference data needs the columns 'chosen' and 'rejected' (and may have 'prompt'), each "
    "text or a list of chat messages"
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
        return self.columns.get("annotator")

    @property
    def margin(self) -> float | None:
        """By how much the chosen side is better, in units of the data set."""
        value = self.columns.get("margin")
        return None if value is None else float(value)

    @property
    def preference(self) -> float:
        """Share of annotators for the chosen side: 1 all, 0.5 a tie (1 where not given)."""
        value = self.columns.get("preference")
        return 1.0 if value is None else float(value)

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


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(value)
    kind = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{kind.get(type(value), f'a {type(value).__name__}')} ({shown})"


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
            f"text or a list of chat messages is needed, not {_describe(value)}",
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
        problem = f"a chat message is needed, not {_describe(message)}"
    elif not isinstance(message.get("role"), str):
        problem = f"the chat message's 'role' has to be text, not {_describe(message.get('role'))}"
    elif not isinstance(message.get("content"), str):
        problem = (
            f"the chat message's 'content' has to be text, not {_describe(message.get('content'))}"
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


def _check_number(
    row: Mapping[str, Any], field: str, low: float, high: float, file: Any, line: int | None
) -> None:
    value = row.get(field)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        problem = f"a finite number is needed, not {_describe(value)}"
    elif not low <= value <= high:
        problem = f"a number from {low:g} to {high:g} is needed, not {value!r}"
    else:
        return
    remedy = (
        "'preference' is the share of annotators for the chosen side: 1 all, 0.5 a tie"
        if field == "preference"
        else f"Leave {field!r} out or null where it is not known"
    )
    raise DataError(problem, file=file, line=line, field=field, remedy=remedy)


def _check_labels(row: Mapping[str, Any], file: Any, line: int | None) -> None:
    for field, kinds, wanted in (
        ("data_subset", (str,), "text"),
        ("objective", (str, int), "text or an integer"),
        ("annotator", (str, int), "text or an integer"),
    ):
        value = row.get(field)
        if value is not None and not isinstance(value, kinds):
            raise DataError(
                f"{wanted} is needed, not {_describe(value)}",
                file=file,
                line=line,
                field=field,
                remedy=f"Rename the column if {field!r} means something else there",
            )


def _begins_with(conversation: Conversation, prompt: Conversation) -> bool:
    """Tell whether a side already has the prompt inside."""
    if isinstance(conversation, str):
        if not isinstance(prompt, str):
            return False
        # HH-RLHF's texts begin with a blank line that a prompt column may lack, or have.
        return conversation.startswith(prompt) or (
            is_dialogue(prompt) and conversation.lstrip().startswith(prompt.strip())
        )
    if isinstance(prompt, str):
        # A prompt in text beside sides in messages: the text of the first user turn.
        users = [m["content"] for m in conversation if m["role"] in ("user", "human")]
        return bool(users) and users[0].strip() == prompt.strip()
    return len(conversation) >= len(prompt) and conversation[: len(prompt)] == prompt


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
    _check_number(row, "preference", 0.0, 1.0, file, line)
    _check_number(row, "margin", -math.inf, math.inf, file, line)
    _check_labels(row, file, line)
    prompt = check_conversation(row.get("prompt") or "", "prompt", file, line)
    if is_blank(prompt):
        return Preference(shared_prompt(chosen, rejected), chosen, rejected, row, line)
    if not (_begins_with(chosen, prompt) and _begins_with(rejected, prompt)):
        chosen, rejected = join(prompt, chosen), join(prompt, rejected)
    if isinstance(prompt, str) and not (isinstance(chosen, str) and chosen.startswith(prompt)):
        prompt = shared_prompt(chosen, rejected)
    return Preference(prompt, chosen, rejected, row, line)


def has_blank_side(row: Mapping[str, Any]) -> bool:
    """Tell whether a row that has passed ``parse_preference`` has a side without any text."""
    return is_blank(row["chosen"]) or is_blank(row["rejected"])
