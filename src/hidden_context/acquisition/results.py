"""The result of a choice of votes: the questions, and the expected error before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hidden_context.data.dialogue import Conversation, to_text


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
        """Return the question as a row."""
        row = vars(self) | {"responses": list(self.responses)}
        if self.cost is None:
            del row["cost"]
        return row


@dataclass(frozen=True)
class GroupSummary:
    """What the chosen votes change for one group, or for all items.

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


def label_studio_task(question: Question) -> dict[str, Any]:
    """Write a question as a task of Label Studio.

    What a labelling configuration shows stands in ``data``: ``$prompt``, and ``$response1`` and
    ``$response2`` of a pair or ``$text`` of a rated text. The rest goes along in ``meta``, where
    annotators do not see it.

    Args:
        question: The question.

    Returns:
        The task.
    """
    data: dict[str, Any] = {"prompt": to_text(question.prompt)}
    texts = [to_text(response) for response in question.responses]
    if len(texts) == 1:
        data["text"] = texts[0]
    else:
        data |= {f"response{number}": text for number, text in enumerate(texts, start=1)}
    row = question.to_dict()
    meta = {name: value for name, value in row.items() if name not in ("prompt", "responses")}
    return {"data": {**data, "item": question.item}, "meta": meta}
