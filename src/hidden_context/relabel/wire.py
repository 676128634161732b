"""Responses of an endpoint: replies, and errors that count as answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from hidden_context.relabel.replies import Reply, read_letter

_CHARACTERS_ROUND_A_LETTER: Final = " \t\n*_`\"'()[].:Ġ▁"
_TOO_LONG: Final = (
    "maximum context length",
    "context_length",
    "context window",
    "prompt is too long",
)
_FILTERED: Final = ("content_filter", "content_policy", "responsibleai")


class MalformedReplyError(Exception):
    """A server sent something that is not a reply."""


def read_body(content: str) -> Reply:
    """Read the body of a chat completion.

    Args:
        content: JSON with ``choices`` and perhaps ``usage``, in the format of OpenAI's API.

    Returns:
        The first choice's text, the log-probabilities of its answer where given, and the tokens.

    Raises:
        MalformedReplyError: If the body is something else.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise MalformedReplyError(f"the response is not a reply: {content[:100]!r}") from None
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    counts = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    said = text if isinstance(text, str) else ""
    if choice.get("finish_reason") == "content_filter":
        return Reply(said, None, *counts, reason="filter")
    if isinstance(refusal, str) and refusal:
        return Reply(refusal, None, *counts, reason="refusal")
    return Reply(said, _letters(choice, said), *counts)


def _count(value: Any) -> int | None:
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if ok else None


def _letters(choice: Mapping[str, Any], text: str) -> dict[str, float] | None:
    """Add up the probabilities of both letters at the token that is the answer."""
    letter = read_letter(text)
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if letter is None or not isinstance(tokens, list):
        return None
    words = [token for token in tokens if _spells(token)]
    answers = [token for token in words if _spells(token) == letter]
    if len(answers) > 1:  # the answer is the first word, or else the last one
        answers = [token for token in (words[0], words[-1]) if _spells(token) == letter]
    return _add_up(answers[0]) if answers else None


def _add_up(token: Mapping[str, Any]) -> dict[str, float] | None:
    listed = token.get("top_logprobs")
    every = [*(listed if isinstance(listed, list) else ()), token]
    options = {one.get("token"): one for one in every if isinstance(one, Mapping)}
    sums: dict[str, float] = {}
    for one in options.values():
        letter, value = _spells(one), one.get("logprob")
        if letter in ("A", "B") and isinstance(value, (int, float)):
            sums[letter] = sums.get(letter, 0.0) + math.exp(min(value, 0.0))
    return {letter: math.log(value) for letter, value in sorted(sums.items()) if value > 0} or None


def _spells(token: Any) -> str | None:
    spelt = token.get("token") if isinstance(token, Mapping) else None
    return spelt.strip(_CHARACTERS_ROUND_A_LETTER) if isinstance(spelt, str) else None


def refused_by_rule(status: int, body: Any) -> Reply | None:
    """Read an error about one question alone as an abstention.

    Args:
        status: Status of the response.
        body: What it holds; ``message`` and ``code`` are looked at.

    Returns:
        The abstention; None for any other error.
    """
    if status not in (400, 413, 422):
        return None
    said = body if isinstance(body, Mapping) else {"message": body}
    text = str(said.get("message") or "")
    words = f"{said.get('code')} {text}".lower()
    if status == 413 or any(mark in words for mark in _TOO_LONG):
        return Reply(text, reason="too_long")
    if any(mark in words for mark in _FILTERED):
        return Reply(text, reason="filter")
    return None
