"""Replies of a language model: how they arrive, and what they say about the two responses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Reason: TypeAlias = Literal["refusal", "unparseable", "filter", "too_long"]
"""Why there is no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it is kept in the cache.

    Attributes:
        text: What the model wrote; for a local model the most likely first token.
        letters: The log-probabilities of A and of B as the answer, in nats; None if not available.
            A letter that is not among the server's most likely tokens is missing.
        input_tokens: The tokens of the question, as counted by the server; None if not counted.
        output_tokens: The tokens of the reply, as counted by the server; None if not counted.
        reason: Why there is no answer, if that is known without reading the text.
    """

    text: str
    letters: Mapping[str, float] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without unknown fields; ``Reply(**values)`` reads it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply says.

    Attributes:
        first: The probability that the response shown as A is better; None for an abstention.
        reason: The reason of an abstention.
        text: What the model wrote instead of an answer.
    """

    first: float | None
    reason: Reason | None = None
    text: str = ""


_LETTER: Final = r"[*_`\"'(\[]*([AB])[*_`\"')\]]*"
_LABEL: Final = r"(?i:the\s+)?(?i:final\s+)?(?i:answer|reply|response|option|choice)"
# A line that is the letter alone, or behind a label.
_ALONE: Final = re.compile(rf"\W*(?:{_LABEL}(?i:\s+is)?\s*:?\s*)?{_LETTER}\s*[.:!]?\W*")
_STATED: Final = (
    re.compile(rf"(?i:\banswer(?:\s+is)?\s*:?)\s*(?i:reply\s+|response\s+)?{_LETTER}(?!\w)"),
    re.compile(rf"(?i:\b(?:reply|response))\s+{_LETTER}\s+(?i:is|was)\s+(?i:the\s+)?(?i:better)"),
)
_THOUGHTS: Final = re.compile(r"<think>.*?</think>", re.S)
_REFUSALS: Final = re.compile(
    r"(?i)^\W*(?:i['’]?m\s+(?:very\s+|really\s+)?sorry|sorry|i\s+apologi[sz]e|as\s+an\s+ai\b|"
    r"i\s+(?:cannot|can['’]?t|can\s+not|won['’]?t|will\s+not|am\s+unable|am\s+not\s+able)\b|"
    r"i['’]m\s+(?:unable|not\s+able)\b|i\s+(?:must|have\s+to)\s+decline\b|unfortunately\b)"
)


def read_letter(text: str) -> str | None:
    """Find the letter that a text gives as its answer.

    Returns:
        ``A`` or ``B``; None where the text names neither, or both, as its answer.

    >>> read_letter("**B**."), read_letter("The answer is A"), read_letter("A good reply is short.")
    ('B', 'A', None)
    """
    lines = _THOUGHTS.sub("", text).strip().split("\n")
    # A reason may follow the answer, or go before it.
    alone = {found[1] for line in (lines[0], lines[-1]) if (found := _ALONE.fullmatch(line))}
    stated = {found for pattern in _STATED for line in lines for found in pattern.findall(line)}
    answers = alone or stated
    return answers.pop() if len(answers) == 1 else None


def read_reply(reply: Reply) -> Verdict:
    """Read which of the two responses shown is better.

    Returns:
        The probability of A, ``exp(a) / (exp(a) + exp(b))`` of the log-probabilities a and b where
        there are any, with 0 for a letter that is missing; else 1 or 0 by the text. An abstention
        where the text says neither.
    """
    if reply.reason is not None:
        return Verdict(None, reply.reason, reply.text)
    if reply.letters:
        first, second = (reply.letters.get(letter, -math.inf) for letter in "AB")
        lead = second - first
        return Verdict(0.0 if lead > 700 else 1 / (1 + math.exp(lead)))
    letter = read_letter(reply.text)
    if letter is None:
        refused = _REFUSALS.match(_THOUGHTS.sub("", reply.text).strip())
        return Verdict(None, "refusal" if refused else "unparseable", reply.text)
    return Verdict(1.0 if letter == "A" else 0.0)


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
