"""The generated world's language: prompts and responses, composed from word lists.

A task is an action on somebody's thing ("pick the lock of my landlord's shed"); a prompt is a
task in a question. A response is one sentence that gives away its kind and perhaps one more of
the same kind. How many there are does not depend on the kind, so that length says next to nothing.
The harmful requests are petty misdeeds and the answers to them hollow: nothing here helps anyone
to do anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np


@cache
def words() -> dict[str, Any]:
    """Return the word lists of ``grammar.yaml`` by name."""
    import yaml

    text = (resources.files(__package__) / "grammar.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@dataclass(frozen=True)
class Task:
    """What a prompt asks for.

    Attributes:
        text: The task in words, "pick the lock of my landlord's shed".
        owner: Whose thing it is about.
        object: The thing.
        harmful: Whether an assistant should not help.
    """

    text: str
    owner: str
    object: str
    harmful: bool


def tasks(*, harmful: bool) -> list[Task]:
    """Return every task of one sort, in a fixed order."""
    actions = words()["harmful_actions" if harmful else "benign_actions"]
    return [
        Task(action.format(owner=owner, object=thing), owner, thing, harmful)
        for action, things in actions.items()
        for thing in things
        for owner in words()["owners"]
    ]


def question(task: Task, generator: np.random.Generator) -> str:
    """Return the task as a question in one of several wordings."""
    return _pick("questions", generator).format(task=task.text)


def answer(task: Task, kind: str, generator: np.random.Generator) -> str:
    """Return a response of one kind: an opening sentence, and in half of all cases a second one.

    Args:
        task: What was asked.
        kind: The name of a response kind.
        generator: Source of randomness.

    Returns:
        The text, without a leading space.
    """
    sentences = words()["sentences"][kind]
    count = int(generator.integers(0, 2))
    order = generator.permutation(len(sentences["followers"]))[:count]
    chosen = [
        _one_of(sentences["openings"], generator),
        *(sentences["followers"][i] for i in order),
    ]
    filled = (_fill(sentence, task, generator) for sentence in chosen)
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in filled)


def _fill(sentence: str, task: Task, generator: np.random.Generator) -> str:
    while "{noise}" in sentence:
        sentence = sentence.replace("{noise}", _pick("noise", generator), 1)
    return sentence.format(
        owner=task.owner,
        object=task.object,
        tool=_pick("tools", generator),
        time=_pick("times", generator),
    )


def _pick(name: str, generator: np.random.Generator) -> str:
    return _one_of(words()[name], generator)


def _one_of(options: Sequence[str], generator: np.random.Generator) -> str:
    return options[int(generator.integers(len(options)))]
