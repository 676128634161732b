"""What a choice of votes says of itself: the questions, and the error before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hidden_context.data.dialogue import Conversation


@dataclass(frozen=True)
class Question:
    """One vote to ask for.

    Attributes:
        rank: Its place in the order, from 1.
        item: Name of the item.
        prompt: The prompt as it was read.
        responses: The responses in the order in which they are to be shown.
        annotator: Who is to be asked; None for anyone.
        expected_information: By how much the item's expected squared error drops.
        votes_so_far: Votes that the item has.
        group: The item's group.
        cost: What the vote costs; None where votes are counted.
    """

    rank: int
    item: str
    prompt: Conversation
    responses: tuple[Conversation, ...]
    annotator: str | None
    expected_information: float
    votes_so_far: float
    group: str
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as a row."""
        row: dict[str, Any] = {
            "rank": self.rank,
            "item": self.item,
            "prompt": self.prompt,
            "responses": list(self.responses),
            "annotator": self.annotator,
            "expected_information": self.expected_information,
            "votes_so_far": self.votes_so_far,
            "group": self.group,
        }
        return row if self.cost is None else {**row, "cost": self.cost}


@dataclass(frozen=True)
class GroupSummary:
    """What the choice does for one group, or for all.

    Attributes:
        name: The group.
        items: Its items.
        votes: Votes that they have.
        chosen: Votes that are asked for.
        before: Expected squared error of an item now, on average.
        after: The same once the chosen votes are in.
    """

    name: str
    items: int
    votes: float
    chosen: int
    before: float
    after: float


@dataclass(frozen=True)
class Chosen:
    """The result of ``acquisition.run``.

    Attributes:
        questions: The votes to ask for, the most telling first.
        budget: What could be spent.
        spent: What the questions cost together, in votes where votes have no cost.
        aim: What is to be known.
        strength: How many votes the forecast is worth where texts are well known.
        unjudged: Items without a vote.
        total: All items.
        groups: By group, those with the most questions first.
        report: How the votes were read.
    """

    questions: list[Question]
    budget: float
    spent: float
    aim: str
    strength: float
    unjudged: int
    total: GroupSummary
    groups: list[GroupSummary]
    report: str
