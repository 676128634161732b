"""Which kind of response a text is, read by the grammar that the world's texts are made by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from hidden_context.quickstart import grammar
from hidden_context.quickstart.world import Prompt


def kind_of(prompt: Prompt, text: str) -> str | None:
    """Return the kind of a response, or None where the grammar has no such text for the prompt.

    Args:
        prompt: The prompt; one kind's words may be another's at another sort of prompt.
        text: The response alone; white space around it is ignored.

    Returns:
        The kind's name.
    """
    answer = text.strip()
    task = prompt.task
    for kind in prompt.kinds:
        if _pattern(kind.name, task.owner, task.object).fullmatch(answer):
            return kind.name
    return None


@cache
def _pattern(kind: str, owner: str, thing: str) -> re.Pattern[str]:
    sentences = grammar.words()["sentences"][kind]
    first, second = (
        _any_of([_sentence(text, owner, thing) for text in sentences[part]])
        for part in ("openings", "followers")
    )
    return re.compile(f"{first}(?: {second})?")


def _sentence(template: str, owner: str, thing: str) -> str:
    """One sentence's pattern; its first letter is a capital, whichever word begins it."""
    words = grammar.words()
    choices = {
        "owner": [owner],
        "object": [thing],
        "tool": words["tools"],
        "time": words["times"],
        "noise": words["noise"],
    }
    parts = re.split(r"\{(\w+)\}", template)
    found = []
    for place, part in enumerate(parts):
        options = choices[part] if place % 2 else [part]
        if not any(parts[:place]) and options != [""]:
            options = [option[0].upper() + option[1:] for option in options]
        found.append(_any_of([re.escape(option) for option in options]))
    return "".join(found)


def _any_of(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(patterns)})"
