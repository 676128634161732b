"""Conversations of Chatbot Arena in its three spellings: messages, lists of turns, sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe, read_list
from hidden_context.data.collections.published import choice_of, entries_of, level_of, text_of
from hidden_context.data.unique_names import loads

Chat: TypeAlias = "list[dict[str, Any]]"
"""Messages of a role and a text each."""

EMPTY_QUESTION: Final = "battles with an empty question"
_NOT_TEXT = "battles with an image, or with a message that is missing"
_HALF = "battles whose texts hold half a character"
_NO_ANSWER = "battles in which a side does not end with an answer"
_UNEVEN = "battles with more questions than answers, or fewer"
_NO_CONTEXT = "later votes of a session whose earlier turns are not found"

_REMEDY = "Give the file as it is published"
_ROLES = ("user", "assistant", "system")


class NotComparableError(Exception):
    """A battle that cannot be compared; the message is the reason, in words."""


def read_chat(row: Mapping[str, Any], field: str, place: Place) -> Chat:
    """Read a conversation of messages, whose content is text or a list of parts.

    Args:
        row: The row.
        field: The column.
        place: Where it stands, for errors.

    Returns:
        The messages, role and text alone; the last is an answer.

    Raises:
        DataError: If it is no list of messages, or a role is unknown.
        NotComparableError: If it holds an image or half a character, or ends without an answer.
    """
    chat = [
        _message(choice_of(message, "role", place, _ROLES, at), message.get("content"))
        for at, message in entries_of(row, field, place)
    ]
    return _ended(chat)


def read_lists(row: Mapping[str, Any], asked: str, answered: str, place: Place) -> Chat:
    """Read a conversation whose questions and answers are two columns, each the JSON of a list.

    Args:
        row: The row.
        asked: The column of questions.
        answered: The column of answers to them.
        place: Where it stands, for errors.

    Returns:
        The messages, a question and its answer in turn.

    Raises:
        DataError: If a column is no JSON of a list.
        NotComparableError: If one is null or holds half a character, or there are more of one kind.
    """
    questions, answers = (_json_list(row, field, place) for field in (asked, answered))
    if len(questions) != len(answers):
        raise NotComparableError(_UNEVEN)
    pairs = zip(questions, answers, strict=True)
    return [
        _message(role, text)
        for question, answer in pairs
        for role, text in (("user", question), ("assistant", answer))
    ]


def with_context(sides: Sequence[Chat], row: Mapping[str, Any], place: Place) -> list[Chat]:
    """Put before the two conversations of a vote what the session held before them.

    A session goes on after a vote with two other models, which are given the earlier turns of
    their side. The row's conversations begin after the vote before; its ``full_conversation`` holds
    all turns of the session.

    Args:
        sides: The conversations that were voted on.
        row: The row, with ``evaluation_order`` and ``full_conversation``.
        place: Where it stands, for errors.

    Returns:
        The conversations with the turns before them.

    Raises:
        DataError: If a column is of another kind.
        NotComparableError: If the earlier turns of a later vote are not known.
    """
    if level_of(row, "evaluation_order", place, 1) == 1:
        return list(sides)
    if row.get("full_conversation") in (None, []):
        raise NotComparableError(_NO_CONTEXT)
    turns = [turn for _, turn in entries_of(row, "full_conversation", place)]
    whole = [_flat(turns, f"model_side_{side}") for side in "ab"]
    starts = [
        start
        for start in range(0, 2 * len(turns), 2)
        if all(
            full[start : start + len(chat)] == chat for full, chat in zip(whole, sides, strict=True)
        )
    ]
    if len(starts) != 1 or any(None in full[: starts[0]] for full in whole):
        raise NotComparableError(_NO_CONTEXT)
    return [
        [*(message for message in full[: starts[0]] if message is not None), *chat]
        for full, chat in zip(whole, sides, strict=True)
    ]


def _flat(turns: Sequence[Mapping[str, Any]], side: str) -> list[dict[str, Any] | None]:
    """List a side's messages; None for one that is missing or no text."""
    messages: list[dict[str, Any] | None] = []
    for turn in turns:
        for name, role in (("user", "user"), (side, "assistant")):
            said = turn.get(name)
            try:
                messages.append(_message(role, (said or {}).get("content")))
            except NotComparableError:
                messages.append(None)
    return messages


def _message(role: str, content: Any) -> dict[str, Any]:
    """Make a message of a text, or of parts that are all text."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [text for text in map(_text_of, parts) if text is not None]
    if not texts or len(texts) < len(parts):
        raise NotComparableError(_NOT_TEXT)
    text = "".join(texts)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotComparableError(_HALF) from None
    return {"role": role, "content": text}


def _text_of(part: Any) -> str | None:
    """Return the text of a part; None if it is anything else."""
    if not isinstance(part, dict) or part.get("type") != "text" or part.get("image"):
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _ended(chat: Chat) -> Chat:
    if chat[-1]["role"] != "assistant" or len(chat) < 2:
        raise NotComparableError(_NO_ANSWER)
    return chat


def _json_list(row: Mapping[str, Any], field: str, place: Place) -> list[Any]:
    text = text_of(row, field, place)
    try:
        value = loads(text)
    except ValueError as error:
        problem = f"the JSON of a list is needed, not {describe(text)} ({error})"
        raise place.error(problem, field, _REMEDY) from error
    return read_list(value, field, place, _REMEDY, "text")
