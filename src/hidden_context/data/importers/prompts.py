"""Division of conversations into a shared prompt, stored once, and the responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hidden_context.data.checks import Place, read_conversation, read_list
from hidden_context.data.dialogue import (
    Conversation,
    begins_with,
    canonical_prompt,
    is_blank,
    join,
    join_texts,
    shared_prompt,
)


def without_start(text: Conversation, start: Conversation) -> Conversation:
    """Return the rest of a text after a given start, or the whole text if it begins otherwise."""
    if isinstance(text, str):
        return text[len(start) :] if isinstance(start, str) and text.startswith(start) else text
    return text[len(start) :] if text[: len(start)] == start else text


def divide(
    prompt: Conversation, sides: Sequence[Conversation], deciding: Sequence[Conversation]
) -> tuple[Conversation, tuple[Conversation, ...]]:
    r"""Divide the sides of an example into one prompt and the responses.

    The prompt is put before every side, unless all deciding sides already begin with it. The
    decision is the same for all sides, so a response reads the same whatever it is compared with.
    Words in between, such as ``"\n\nAssistant: "``, belong to the prompt.

    Args:
        prompt: The prompt as the row gives it. If it is blank, the shared start of all sides
            replaces it.
        sides: One or more sides, all text or all messages; two or more where the prompt is blank.
        deciding: The sides that decide; one or more.

    Returns:
        The prompt and the responses; joined, they are the whole texts. The prompt is empty if all
        sides contain it but do not begin alike.
    """
    if is_blank(prompt):
        start, texts = shared_by_all(sides), list(sides)
    elif not all(begins_with(side, prompt) for side in deciding):
        start, texts = _put_before(prompt, sides)
    else:
        start, texts = _found_inside(prompt, deciding), list(sides)
    return start, tuple(without_start(text, start) for text in texts)


def _put_before(
    prompt: Conversation, sides: Sequence[Conversation]
) -> tuple[Conversation, list[Conversation]]:
    """Join a prompt with each side, and find the common start of the joined texts."""
    texts = [join(prompt, side) for side in sides]
    if not isinstance(prompt, str):
        return prompt, texts
    if not isinstance(sides[0], str):
        return join(prompt, []), texts
    words = join_texts(prompt, "x")[len(prompt) : -1]
    if words == " " and any(str(side)[:1].isspace() for side in sides):
        words = ""  # some sides begin with their own space
    for start in (prompt + words, prompt + words.rstrip(" ")):
        alike = all(str(text).startswith(start) for text in texts)
        if alike and canonical_prompt(start) == canonical_prompt(prompt):
            return start, texts
    return prompt, texts


def _found_inside(prompt: Conversation, texts: Sequence[Conversation]) -> Conversation:
    """Find the common start of texts that already contain a prompt."""
    if all(without_start(text, prompt) is not text for text in texts):
        return prompt  # literally, white space included, and not only as the first user's turn
    if len(texts) > 1:
        return shared_by_all(texts)
    (text,) = texts
    if isinstance(text, str):
        return text[: len(text) - len(text.lstrip()) + len(str(prompt).strip())]
    first = next(place for place, m in enumerate(text) if m["role"] in ("user", "human"))
    return text[: first + 1]


def shared_by_all(texts: Sequence[Conversation]) -> Conversation:
    """Find the prompt that two or more whole texts begin with (see ``dialogue.shared_prompt``)."""
    first, *others = texts
    return min((shared_prompt(first, other) for other in others), key=len)


def read_sides(row: dict[str, Any], place: Place, least: int, remedy: str) -> list[Conversation]:
    """Read the column ``responses``: texts, or lists of chat messages.

    Args:
        row: The columns.
        place: Where the row stands, for errors.
        least: The smallest number of responses.
        remedy: The advice in errors if the column holds something else.

    Returns:
        The responses as they are given.

    Raises:
        DataError: If there are too few responses, or they are not all of one kind.
    """
    values = read_list(row.get("responses"), "responses", place, remedy, "response")
    if len(values) < least:
        problem = f"a ranking has at least {least} responses, not {len(values)}"
        raise place.error(problem, "responses", remedy)
    sides = [read_conversation(v, f"responses[{n}]", place) for n, v in enumerate(values)]
    check_alike({f"responses[{number}]": side for number, side in enumerate(sides)}, place, remedy)
    return sides


def check_alike(sides: Mapping[str, Conversation], place: Place, remedy: str) -> None:
    """Check that the sides of a row, given by field, are all text or all chat messages.

    Raises:
        DataError: If a side is of another kind than the first.
    """
    first = next(iter(sides.values()))
    for field, side in sides.items():
        if isinstance(side, str) != isinstance(first, str):
            problem = "the responses have to be all text or all chat messages"
            raise place.error(problem, field, remedy)


def divide_given(
    prompt: Conversation, sides: Sequence[Conversation], place: Place
) -> tuple[Conversation, tuple[Conversation, ...]]:
    """Divide the sides of a row that has a prompt; blank sides have no say in the division.

    Args:
        prompt: The prompt as the row gives it, not blank.
        sides: One or more sides, all text or all messages.
        place: Where the row stands, for the error.

    Returns:
        The prompt and the responses.

    Raises:
        DataError: If all sides contain the prompt but do not begin alike.
    """
    told = [side for side in sides if not is_blank(side)] or list(sides)
    start, responses = divide(prompt, sides, told)
    if is_blank(start):
        raise place.error(
            "all responses contain the prompt, but their beginnings differ",
            "responses",
            "Remove the prompt from the responses, or use the same text before the prompt",
        )
    kind = str if isinstance(start, str) else list
    return start, tuple(
        side if isinstance(side, kind) and is_blank(side) else response  # whatever is put between
        for side, response in zip(sides, responses, strict=True)
    )
