"""Checks of single values of a row: each returns the value, or says where it stands and why not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_context.data.dialogue import Conversation, Message, message_text
from hidden_context.data.rows import drop_nulls
from hidden_context.errors import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands.

    Attributes:
        file: The file or data set; None where not known.
        line: The line or row number, from 1; None where not known.
    """

    file: str | Path | None = None
    line: int | None = None

    def error(self, problem: str, field: str, remedy: str) -> DataError:
        """Make the error that names this place.

        Args:
            problem: What is wrong, one sentence without a final full stop.
            field: The column or key.
            remedy: What to do about it, one sentence without a final full stop.

        Returns:
            The error, to be raised.
        """
        return DataError(problem, file=self.file, line=self.line, field=field, remedy=remedy)


NOWHERE = Place()

_MESSAGE_REMEDY = 'Write messages as {"role": "user", "content": "..."}'


def describe(value: Any) -> str:
    """Name the kind of a value and show it, for an error.

    >>> describe(True), describe(None)
    ('a truth value (True)', 'null')
    """
    if value is None:
        return "null"
    text = repr(value)
    kind = {bool: "a truth value", int: "a number", float: "a number", str: "text"}
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{kind.get(type(value), f'a {type(value).__name__}')} ({shown})"


def _unknown(field: str) -> str:
    return f"Leave {field!r} out or null where it is not known"


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def read_number(
    value: Any,
    field: str,
    place: Place = NOWHERE,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    remedy: str | None = None,
) -> float | None:
    """Check that a value is null or a finite number of a range.

    Args:
        value: What stands in the column.
        field: The column's name.
        place: Where the row stands, for the error.
        low: The least value allowed.
        high: The greatest.
        remedy: What to do where it is something else.

    Returns:
        The number, or None.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return None
    if not _is_finite(value):
        problem = f"a finite number is needed, not {describe(value)}"
    elif not low <= value <= high:
        problem = f"a number from {low:g} to {high:g} is needed, not {value!r}"
    else:
        return float(value)
    raise place.error(problem, field, remedy or _unknown(field))


def read_integer(
    value: Any,
    field: str,
    place: Place = NOWHERE,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    remedy: str | None = None,
) -> int | None:
    """Check that a value is null or an integer of a range; 2.0 is one, 2.5 is none.

    Args:
        value: What stands in the column.
        field: The column's name.
        place: Where the row stands, for the error.
        low: The least value allowed.
        high: The greatest.
        remedy: What to do where it is something else.

    Returns:
        The integer, or None.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return None
    # Tables with nulls, and CSV, hold integers as floats.
    whole = not isinstance(value, float) or value.is_integer()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole:
        problem = f"an integer is needed, not {describe(value)}"
    elif not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        problem = f"an integer {bounds} is needed, not {value!r}"
    else:
        return int(value)
    raise place.error(problem, field, remedy or _unknown(field))


def read_weight(value: Any, place: Place = NOWHERE, field: str = "weight") -> float:
    """Check that a weight is a positive finite number; null is 1.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return 1.0
    if _is_finite(value) and value > 0:
        return float(value)
    raise place.error(
        f"a positive finite number is needed, not {describe(value)}",
        field,
        "'weight' is how much it counts: leave it out for 1, leave out the row or entry for 0",
    )


def read_annotator(value: Any, field: str, place: Place = NOWHERE) -> str | int | None:
    """Check that a value is text, an integer (3.0 is one) or null; empty text is null.

    Raises:
        DataError: If it is something else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():  # as tables with nulls hold integers
        return int(value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    raise place.error(
        f"text or an integer is needed, not {describe(value)}",
        field,
        "Annotators go by a name or a number; rename the column if it holds something else",
    )


def read_list(
    value: Any, field: str, place: Place, remedy: str, what: str, count: int | None = None
) -> list[Any]:
    """Check that a value is a list that holds something.

    Args:
        value: What stands in the column.
        field: The column's name.
        place: Where the row stands, for the error.
        remedy: What to do where it is something else.
        what: What the list holds, in the singular.
        count: How many responses it has to hold one for; None for any number of entries.

    Returns:
        The list.

    Raises:
        DataError: If it is missing, no list, empty, or of another length.
    """
    if value is None:
        problem = "the column is missing or null"
    elif not isinstance(value, list):
        problem = f"a list of {what}s is needed, not {describe(value)}"
    elif count is not None and len(value) != count:
        problem = f"{len(value)} {what}s are given for {count} responses"
    elif not value:
        problem = f"a list of at least one {what} is needed, not an empty list"
    else:
        return value
    raise place.error(problem, field, remedy)


def read_conversation(value: Any, field: str, place: Place = NOWHERE) -> Conversation:
    """Check that a value is text or a list of chat messages.

    Args:
        value: What stands in the column.
        field: The column's name.
        place: Where the row stands, for the error.

    Returns:
        The text itself, or the messages without the keys whose value is null, their content text.

    Raises:
        DataError: If it is something else, naming file, line and field.
    """
    if isinstance(value, str):
        _check_text(value, field, place)
        return value
    if not isinstance(value, list):
        raise place.error(
            f"text or a list of chat messages is needed, not {describe(value)}",
            field,
            'Write text, or messages as [{"role": "user", "content": "..."}]',
        )
    return read_messages(value, field, place)


def read_messages(
    messages: Sequence[Any], field: str = "messages", place: Place = NOWHERE
) -> list[Message]:
    """Check chat messages; see ``read_conversation``."""
    return [_read_message(one, f"{field}[{number}]", place) for number, one in enumerate(messages)]


def _check_text(text: str, field: str, place: Place) -> None:
    """Refuse half characters: tokenizers and UTF-8 cannot hold them."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise place.error(
            f"the text holds half a character (a lone surrogate at {error.start})",
            field,
            "Repair or leave out the row",
        ) from error


def _read_message(message: Any, field: str, place: Place) -> Message:
    """Check a chat message; without content it calls tools."""
    if not isinstance(message, dict):
        problem = f"a chat message is needed, not {describe(message)}"
        raise place.error(problem, field, _MESSAGE_REMEDY)
    content = message.get("content")
    if len(message) == 2 and isinstance(content, str) and isinstance(message.get("role"), str):
        _check_text(content, field, place)  # nearly all of them, so in a hurry
        return message
    message = drop_nulls(message)
    content, calls = message.get("content"), message.get("tool_calls", [])
    if isinstance(content, list):
        content = message["content"] = _join_parts(content, f"{field}.content", place)
    if not isinstance(message.get("role"), str):
        problem = f"the chat message's 'role' has to be text, not {describe(message.get('role'))}"
    elif not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        problem = f"the chat message's 'tool_calls' have to be a list of objects, not {calls!r:.40}"
    elif not isinstance(message.get("function_call", {}), dict):
        what = describe(message["function_call"])
        problem = f"the chat message's 'function_call' has to be an object, not {what}"
    elif (content is None and (calls or message.get("function_call"))) or isinstance(content, str):
        _check_text(message_text(message), field, place)
        return message
    else:
        problem = f"the chat message's 'content' has to be text, not {describe(content)}"
    raise place.error(problem, field, _MESSAGE_REMEDY)


def _join_parts(parts: list[Any], field: str, place: Place) -> str:
    """Put the texts of content parts together, with nothing between."""
    for number, part in enumerate(parts):
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind == "text" and isinstance(part, dict) and isinstance(part.get("text"), str):
            continue
        what = describe(part) if kind == "text" else f"a part of type {kind!r}"
        raise place.error(
            f"the models read text alone, not {what}",
            f"{field}[{number}]",
            'Write parts as {"type": "text", "text": "..."}, and leave out rows with others',
        )
    return "".join(part["text"] for part in parts)
