"""Language models as judges, compared with their own earlier answers and with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hidden_context.check.numbers import counted, with_ends
from hidden_context.data.example import Example
from hidden_context.data.splits.division import SplitOptions
from hidden_context.data.votes.judges import JudgeAnswers, is_by_judge, judges_of, people_of
from hidden_context.statistics.votes.judge_noise import (
    JudgeAndPeople,
    JudgeNoise,
    judge_and_people,
    judge_noise,
)
from hidden_context.terminal import percent

NO_PEOPLE: Final = (
    "Only language models judged these items, so statements about people are about models."
)


@dataclass(frozen=True)
class Judge:
    """A judge and its answers.

    Attributes:
        name: Its name in the data.
        answers: Number of its answers.
        abstentions: Answers that are no votes, such as refusals.
        alone: How often it answers otherwise when it is asked again.
        people: How it answers beside people; None where no person judged what it did.
        sentence: The finding in words.
    """

    name: str
    answers: int
    abstentions: int
    alone: JudgeNoise
    people: JudgeAndPeople | None
    sentence: str


def compare_judges(
    examples: Sequence[Example], options: SplitOptions, source: str | None = None, seed: int = 0
) -> tuple[list[Example], list[Judge], list[str]]:
    """Set judges apart from people, and compare them.

    Args:
        examples: The examples.
        options: What a group is.
        source: Where the examples came from, for errors.
        seed: Seed of the intervals.

    Returns:
        The examples with people's judgements alone, or as they are where nobody else judged
        anything; the judges; and a line about that.

    Raises:
        DataError: If an answer is malformed, or an example belongs to no group.
    """
    found = judges_of(examples, options.keys(examples, source))
    if not found:
        return list(examples), [], []
    judges = [_judge(each, seed) for each in found]
    people, _ = people_of(examples)
    alone = any(is_by_judge(said) for example in people for said in example.judgements)
    return people, judges, [NO_PEOPLE] if alone else []


def _judge(found: JudgeAnswers, seed: int) -> Judge:
    answers = int(found.answers.sum())
    if not answers:
        nothing = f"{found.name} gave {counted(found.abstentions, 'abstention')} and no answer."
        empty = judge_noise(np.zeros((1, 2, 3)))
        return Judge(found.name, 0, found.abstentions, empty, None, nothing)
    alone = judge_noise(found.answers, found.group, seed=seed)
    people = judge_and_people(
        found.answers, found.people, found.group, settled=found.settled, seed=seed
    )
    sentence = _sentence(found.name, alone, people)
    return Judge(found.name, answers, found.abstentions, alone, people, sentence)


def _sentence(name: str, alone: JudgeNoise, people: JudgeAndPeople | None) -> str:
    words = []
    if np.isfinite(alone.other_order.estimate):
        words.append(
            f"{name} changes its answer on {with_ends(alone.other_order)} of the pairs when the "
            "two responses are swapped."
        )
    elif np.isfinite(alone.same_order.estimate):
        words.append(
            f"{name} changes its answer in {with_ends(alone.same_order)} of the cases when the "
            "same question is asked again."
        )
    else:
        words.append(f"{name} was asked each question once, so its noise is unknown.")
    if people is None:
        return words[0]
    differ = f"It contradicts a person on {with_ends(people.differ)} of the pairs"
    if np.isfinite(people.people.estimate):
        differ += f", as two people contradict each other on {with_ends(people.people)}"
    if np.isfinite(people.settled.estimate):
        differ += f"; the mean of its answers does on {with_ends(people.settled)}"
    words.append(f"{differ}.")
    if np.isfinite(people.noise.estimate):
        words.append(
            f"{with_ends(people.noise)} of its disagreement with people is its own noise, and "
            f"{percent(max(people.lasting.estimate, 0.0), 0)} a lasting difference, however "
            "often everybody is asked."
        )
    return " ".join(words)
