"""The texts of a score file's rows: prompt and responses, cut to a length, each kept once."""

from __future__ import annotations

import json
from typing import Any, Final

MISSING: Final = -1
"""Number of a text that the file does not have."""

_GAP: Final = "\n\n[…]\n\n"


def clean(text: str) -> str:
    """Replace half characters (lone surrogates), which UTF-8 cannot hold.

    >>> clean("a" + chr(0xD800) + "b") == "a" + chr(0xFFFD) + "b"
    True
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def plain(value: Any) -> str:
    """Write a text, chat messages or anything else as a text.

    >>> plain([{"role": "user", "content": "Tea?"}])
    'user: Tea?'
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "\n\n".join(
            f"{plain(item.get('role'))}: {plain(item.get('content'))}" for item in value
        )
    return json.dumps(value, ensure_ascii=False)


def row_texts(row: dict[str, Any]) -> tuple[str, list[str]]:
    r"""Split a row into its prompt and its responses without the prompt.

    Args:
        row: A row with ``chosen`` and ``rejected``, or with ``responses``, and perhaps ``prompt``.

    Returns:
        The prompt, empty where there is none, and two or more responses, or none.

    >>> row_texts({"chosen": "Human: Tea?\n\nAssistant: Yes.", "rejected": "Human: Tea?\n\nAssistant: No."})
    ('Human: Tea?\n\nAssistant:', ['Yes.', 'No.'])
    """
    from hidden_context.data.dialogue import shared_prompt

    prompt = row.get("prompt")
    sides = [row.get("chosen"), row.get("rejected")]
    if any(side is None for side in sides):
        responses = row.get("responses")
        known = responses if isinstance(responses, list) else []
        return plain(prompt), [plain(response) for response in known]
    if all(isinstance(side, list) for side in sides):
        count = len(shared_prompt(sides[0], sides[1]))
        before = plain(sides[0][:count]) if count else ""
        return before or plain(prompt), [plain(side[count:]) for side in sides]
    texts = [plain(side) for side in sides]
    before = plain(prompt) or plain(shared_prompt(texts[0], texts[1]))
    return before, [_without(before, text) for text in texts]


def _without(prompt: str, text: str) -> str:
    """Return what follows the prompt; all of a text that does not begin with it."""
    for start in (prompt, prompt.strip()):
        if start and text.lstrip().startswith(start.lstrip()):
            return text.lstrip()[len(start.lstrip()) :].lstrip(" ")
    return text


class TextStore:
    """Texts by number, each kept once; prompts that many comparisons share take no more room.

    Args:
        max_text: Most characters of a text.
    """

    def __init__(self, max_text: int) -> None:
        self._max = max_text
        self._numbers: dict[tuple[str, bool], int] = {}
        self.strings: list[str] = []
        self.left_out: dict[int, int] = {}

    def add(self, text: str, *, keep_end: bool = False) -> int:
        """Store a text, cut if it is too long.

        Args:
            text: The text.
            keep_end: Whether to cut from the middle, as the last turn of a prompt says most.

        Returns:
            Its number.
        """
        key = (text, keep_end and len(text) > self._max)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.strings)
            excess = len(text) - self._max
            if excess > 0:
                self.left_out[number] = excess
                text = self._cut(text, keep_end)
            self.strings.append(clean(text))
        return number

    def _cut(self, text: str, keep_end: bool) -> str:
        if not keep_end:
            return text[: self._max]
        start = self._max // 2
        return text[:start] + _GAP + text[len(text) - (self._max - start) :]

    def to_dict(self) -> dict[str, Any]:
        """Return what the page reads: texts, and how many characters are missing from some."""
        return {"strings": self.strings, "left_out": self.left_out}
