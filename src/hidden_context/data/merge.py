"""Merging examples of one prompt, so that the prompt and each response are stored and run once."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Example, Judgement, Ranking

MOST_RESPONSES: Final = 16


def merge_prompts(
    examples: Sequence[Example], apart: Sequence[Hashable] | None = None
) -> list[Example]:
    """Merge examples that have the same prompt.

    Args:
        examples: The examples. Those whose prompt is empty, or was guessed from what two plain
            texts share, stay as they are.
        apart: A value for each example; examples with different values stay apart.

    Returns:
        Each merged example in the place of its first, with equal responses once (unless one
        example itself has a response twice), all judgements, the columns that are equal in all, and
        the lines of all. No more than 16 responses come together; the next example begins another.
    """
    groups: list[_Group] = []
    latest: dict[Hashable, _Group] = {}
    for number, example in enumerate(examples):
        prompt = example.known_prompt
        value = None if apart is None else apart[number]
        # an example without a known prompt is a group of its own
        key = number if prompt is None else (_key(prompt), repr(example.tools), value)
        if key not in latest or not latest[key].add(example):
            latest[key] = _Group()
            latest[key].add(example)
            groups.append(latest[key])
    return [group.merged() for group in groups]


def _key(conversation: Conversation) -> Hashable:
    """Return what equal conversations alone share; messages cannot be keys themselves."""
    if isinstance(conversation, str):
        return conversation
    return (json.dumps(conversation, sort_keys=True, default=repr),)


class _Group:
    """Examples that are merged into one."""

    def __init__(self) -> None:
        self._members: list[tuple[Example, dict[int, int]]] = []
        self._slots: dict[Hashable, int] = {}
        self._responses: list[Conversation] = []

    def add(self, example: Example) -> bool:
        """Add an example, unless it brings too many responses; tell whether it was added."""
        seen: Counter[Hashable] = Counter()
        keys = []  # a response is named by its text, and by how often the same stands before it
        for text in map(_key, example.responses):
            keys.append((text, seen[text]))
            seen[text] += 1
        new = {
            key: response
            for key, response in zip(keys, example.responses, strict=True)
            if key not in self._slots
        }
        if self._members and len(self._responses) + len(new) > MOST_RESPONSES:
            return False
        self._slots |= {key: len(self._responses) + n for n, key in enumerate(new)}
        self._responses += new.values()
        self._members.append((example, {n: self._slots[key] for n, key in enumerate(keys)}))
        return True

    def merged(self) -> Example:
        """Make one example of all."""
        members = [member for member, _ in self._members]
        if len(members) == 1:
            return members[0]
        judgements = [
            self._moved(judgement, places)
            for member, places in self._members
            for judgement in member.judgements
        ]
        columns = members[0].columns
        for member in members[1:]:
            there = member.columns
            columns = {k: v for k, v in columns.items() if k in there and bool(there[k] == v)}
        return dataclasses.replace(
            members[0],
            responses=tuple(self._responses),
            judgements=tuple(judgements),
            columns=columns,
            source_lines=tuple(line for member in members for line in member.source_lines),
        )

    def _moved(self, judgement: Judgement, places: dict[int, int]) -> Judgement:
        moved = judgement.at(places)
        assert moved is not None  # every response has a place
        if isinstance(moved.answer, Ranking):
            unranked = (None,) * (len(self._responses) - len(moved.answer.ranks))
            moved = dataclasses.replace(moved, answer=Ranking((*moved.answer.ranks, *unranked)))
        return moved
