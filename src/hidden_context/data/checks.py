"""Checks of single values: each returns the value or raises an error that names file and line."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hidden_context.data.dialogue import Conversation, Message, message_text
from hidden_context.data.storage.rows import drop_nulls
from hidden_context.errors import DataError


@dataclass(frozen=True, slots=True)
class Place:
    """The file and line of a row.

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


def is_finite(value: Any) -> bool:
    """Tell whether a value is a finite number; a truth value is not."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # an integer may be too large for a float
    return is_number and abs(value) <= sys.float_info.max


def read_number(
    value: Any,
    field: str,
    place: Place = NOWHERE,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    remedy: str | None = None,
    kind: str = "a number",
) -> float | None:
    """Check that a value is null or a finite number from ``low`` to ``high``.

    Args:
        value: The value of the column.
        field: The column's name.
        place: Where the row stands, for the error.
        low: The least value allowed.
        high: The greatest.
        remedy: What to do where the value is something else.
        kind: ``an integer`` allows only whole numbers.

    Raises:
        DataError: If the value is something else.
    """
    if value is None:
        return None
    # Tables with nulls, and CSV, hold integers as floats.
    if not is_finite(value) or (kind == "an integer" and not float(value).is_integer()):
        needed = kind.replace("a number", "a finite number")
        problem = f"{needed} is needed, not {describe(value)}"
    elif not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        problem = f"{kind} {bounds} is needed, not {value!r}"
    else:
        return float(value)
    unknown = f"Leave {field!r} out or null where it is not known"
    raise place.error(problem, field, remedy or unknown)


def read_integer(value: Any, field: str, place: Place = NOWHERE, **limits: Any) -> int | None:
    """Check that a value is null or an integer; 2.0 is one. See ``read_number`` for the limits.

    Raises:
        DataError: If it is something else.
    """
    number = read_number(value, field, place, kind="an integer", **limits)
    return None if number is None else int(value)


def read_weight(value: Any, place: Place = NOWHERE, field: str = "weight") -> float:
    """Check that a weight is a positive finite number; null is 1.

    Raises:
        DataError: If it is something else.
    """
    if value is None:
        return 1.0
    if is_finite(value) and value > 0:
        return float(value)
    remedy = "'weight' is how much it counts: leave it out for 1, leave out the row or entry for 0"
    raise place.error(f"a positive finite number is needed, not {describe(value)}", field, remedy)


def read_annotator(value: Any, field: str, place: Place = NOWHERE) -> str | int | None:
    """Check that a value is text, an integer (3.0 is one) or null; empty text is null.

    Raises:
        DataError: If it is something else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():  # as in tables with nulls
        return int(value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    problem = f"text or an integer is needed, not {describe(value)}"
    remedy = "Annotators go by a name or a number; rename the column if it holds something else"
    raise place.error(problem, field, remedy)


def read_list(
    value: Any, field: str, place: Place, remedy: str, what: str, count: int | None = None
) -> list[Any]:
    """Check that a value is a list with at least one entry.

    Args:
        value: The value of the column.
        field: The column's name.
        place: Where the row stands, for the error.
        remedy: What to do where the value is something else.
        what: What the list holds, in the singular.
        count: The number of entries, one for each response; None for any number.

    Raises:
        DataError: If it is missing, no list, empty, or of another length.
    """
    if value is None:
        problem = "the column is missing or null"
    elif not isinstance(value, list):
        problem = f"a list of {what}s is needed, not {describe(value)}"
    elif count is not None and len(value) != count:
        problem = f"one {what} for each response is needed: {count}, not {len(value)}"
    elif not value:
        problem = f"a list of at least one {what} is needed, not an empty list"
    else:
        return value
    raise place.error(problem, field, remedy)


def read_conversation(value: Any, field: str, place: Place = NOWHERE) -> Conversation:
    """Check that a value is text or a list of chat messages.

    Returns:
        The text, or the messages without null keys and with their content as text.

    Raises:
        DataError: If it is something else, naming file, line and field.
    """
    if isinstance(value, str):
        _check_text(value, field, place)
        return value
    if not isinstance(value, list):
        problem = f"text or a list of chat messages is needed, not {describe(value)}"
        remedy = 'Write text, or messages as [{"role": "user", "content": "..."}]'
        raise place.error(problem, field, remedy)
    return read_messages(value, field, place)


def read_messages(
    messages: Sequence[Any], field: str = "messages", place: Place = NOWHERE
) -> list[Message]:
    """Check chat messages; see ``read_conversation``."""
    return [_read_message(one, f"{field}[{number}]", place) for number, one in enumerate(messages)]


def _check_text(text: str, field: str, place: Place) -> None:
    """Check for lone surrogates, which tokenizers and UTF-8 cannot represent."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"the text contains half a character (a lone surrogate at position {error.start})"
        raise place.error(problem, field, "Repair or leave out the row") from error


def _read_message(message: Any, field: str, place: Place) -> Message:
    """Check a chat message, which needs either content or tool calls."""
    if not isinstance(message, dict):
        problem = f"a chat message is needed, not {describe(message)}"
        raise place.error(problem, field, _MESSAGE_REMEDY)
    content = message.get("content")
    if len(message) == 2 and isinstance(content, str) and isinstance(message.get("role"), str):
        _check_text(content, field, place)  # the fast path, for nearly all messages
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
        known = part if isinstance(part, dict) else {}
        kind = known.get("type", "text")
        if kind != "text" or not isinstance(known.get("text"), str):
            what = describe(part) if kind == "text" else f"a part of type {kind!r}"
            remedy = (
                'Write parts as {"type": "text", "text": "..."}, and leave out rows with others'
            )
            problem = f"the models read only text, not {what}"
            raise place.error(problem, f"{field}[{number}]", remedy)
    return "".join(part["text"] for part in parts)
