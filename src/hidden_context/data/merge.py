"""Merging examples of one prompt, so that the prompt and each response are stored and run once."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Final

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
        apart: A value for each example; those of different values stay apart.

    Returns:
        Each merged example in the place of its first, with equal responses once (unless one
        example itself has a response twice), all judgements, the columns that are equal in all, and
        the lines of all. No more than 16 responses come together; the next example begins another.
    """
    groups: list[_Group] = []
    latest: dict[Hashable, _Group] = {}
    for number, example in enumerate(examples):
        key: Hashable = None
        prompt = example.known_prompt
        if prompt is not None:
            key = (_key(prompt), repr(example.tools), None if apart is None else apart[number])
        group = None if key is None else latest.get(key)
        if group is None or not group.add(example):
            group = _Group(example)
            groups.append(group)
        if key is not None:
            latest[key] = group
    return [group.merged() for group in groups]


def _key(conversation: Conversation) -> Hashable:
    """Return what equal conversations alone share; messages cannot be keys themselves."""
    if isinstance(conversation, str):
        return conversation
    return (json.dumps(conversation, sort_keys=True, default=repr),)


class _Group:
    """Examples that become one."""

    def __init__(self, first: Example) -> None:
        self._members = [first]
        self._slots: dict[Hashable, int] = {}
        self._responses: list[Conversation] = []
        self._places = [self._place(first, self._keys(first))]

    @staticmethod
    def _keys(example: Example) -> list[Hashable]:
        """Name each response by its text and how often the same stands before it."""
        seen: Counter[Hashable] = Counter()
        keys: list[Hashable] = []
        for response in example.responses:
            text = _key(response)
            keys.append((text, seen[text]))
            seen[text] += 1
        return keys

    def _place(self, example: Example, keys: list[Hashable]) -> dict[int, int]:
        """Find a place among the group's responses for each of an example's."""
        for key, response in zip(keys, example.responses, strict=True):
            if key not in self._slots:
                self._slots[key] = len(self._responses)
                self._responses.append(response)
        return {place: self._slots[key] for place, key in enumerate(keys)}

    def add(self, example: Example) -> bool:
        """Add an example, unless it brings too many responses; tell whether it was added."""
        keys = self._keys(example)
        if len(self._responses) + sum(key not in self._slots for key in keys) > MOST_RESPONSES:
            return False
        self._members.append(example)
        self._places.append(self._place(example, keys))
        return True

    def merged(self) -> Example:
        """Make one example of all."""
        first, *others = self._members
        if not others:
            return first
        judgements = [
            self._moved(judgement, places)
            for member, places in zip(self._members, self._places, strict=True)
            for judgement in member.judgements
        ]
        columns = first.columns
        for member in others:
            columns = {k: v for k, v in columns.items() if _has(member.columns, k, v)}
        return dataclasses.replace(
            first,
            responses=tuple(self._responses),
            judgements=tuple(judgements),
            columns=columns,
            source_lines=tuple(line for member in self._members for line in member.source_lines),
        )

    def _moved(self, judgement: Judgement, places: dict[int, int]) -> Judgement:
        moved = judgement.at(places)
        assert moved is not None  # every response has a place
        if isinstance(moved.answer, Ranking):
            unranked = (None,) * (len(self._responses) - len(moved.answer.ranks))
            moved = dataclasses.replace(moved, answer=Ranking((*moved.answer.ranks, *unranked)))
        return moved


def _has(columns: dict[str, Any], name: str, value: Any) -> bool:
    return name in columns and bool(columns[name] == value)
