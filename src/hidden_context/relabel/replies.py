"""Replies of a language model, and what they say about the two responses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Reason: TypeAlias = Literal["refusal", "unparseable", "filter", "too_long"]
"""Why there is no answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it is kept in the cache.

    Attributes:
        text: What the model wrote; of a local model the most likely first token.
        letters: Log-probability of A and of B as the answer, in nats; None where not offered. A
            letter beyond the most likely tokens that a server lists is missing.
        input_tokens: Tokens of the question, by the server's count; None where it gives none.
        output_tokens: Tokens of the reply likewise.
        reason: Why there is no answer, where that is known without reading the text.
    """

    text: str
    letters: Mapping[str, float] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reason: Reason | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without unknown fields."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reply:
        """Read what ``to_dict`` wrote."""
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply says.

    Attributes:
        first: Probability that the response shown as A is better; None for an abstention.
        reason: Why the model abstains.
        text: What it wrote instead of an answer.
    """

    first: float | None
    reason: Reason | None = None
    text: str = field(default="")


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
