"""What people judged, as items with texts and votes: pairs of responses, or rated texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from hidden_context.data.dialogue import canonical_prompt, to_text
from hidden_context.data.example import Example, Text
from hidden_context.data.splits.division import BY_FIRST_TURN, SplitOptions
from hidden_context.data.votes.items import ItemVotes, votes_of
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Booleans, Codes, Floats

NOBODY: Final = -1
FEWEST_FOR_SHARES: Final = 4
"""Votes of an item, below which a split cannot be told from one dissenter by its share."""


@dataclass(frozen=True)
class Response:
    """One text that people judged.

    Attributes:
        input: What an embedding model is given.
        words: What is read word by word: the response of a pair, the whole of a rated text.
        shown: The response alone.
    """

    input: Text
    words: str
    shown: str


@dataclass(frozen=True, eq=False)
class Items:
    """I items with their texts and votes.

    An item is two responses to a prompt, or one rated text. The three answers are *first*, *equal*
    and *second*; of a rating *high*, *in the middle* and *low*, by the middle of the scale.

    Attributes:
        votes: The votes; an annotator's later votes on an item are left out.
        responses: The R distinct responses.
        first: Index of the first response, or of the rated text, of shape ``(I,)``.
        second: Index of the second response, of shape ``(I,)``; −1 for ratings.
        prompts: The P distinct prompts; a text without a prompt is its own.
        prompt: Index of each item's prompt, of shape ``(I,)``.
        places: Where each item stands in the data.
        ratings_left_out: Ratings left out because the data hold comparisons.
        abstentions: Judgements that are no votes.
    """

    votes: ItemVotes
    responses: list[Response]
    first: Codes
    second: Codes
    prompts: list[str]
    prompt: Codes
    places: list[str]
    ratings_left_out: int = 0
    abstentions: int = 0

    def __len__(self) -> int:
        """Number I of items."""
        return len(self.first)

    @property
    def are_pairs(self) -> bool:
        """Whether an item is two responses, rather than one rated text."""
        return self.votes.kind == "comparisons"

    @property
    def group(self) -> Codes:
        """Index of each item's group, of shape ``(I,)``."""
        return self.votes.group

    @cached_property
    def sides(self) -> tuple[Codes, Codes]:
        """Index of each side's response, ``(I,)``; R, one past the last response, means none."""
        return self.first, np.where(self.second == NOBODY, len(self.responses), self.second)

    @cached_property
    def counts(self) -> Floats:
        """Votes for first, equal and second, of shape ``(I, 3)``."""
        return self.votes.table.counts.answers

    @cached_property
    def has_few_votes(self) -> bool:
        """Whether most items have too few votes for a share to tell a split from one dissenter."""
        counts = self.votes.table.counts
        votes = counts.votes[counts.judged]
        shared = counts.shared.sum() > 0  # shares of several people tell it with one entry
        return bool(len(votes) and np.median(votes) < FEWEST_FOR_SHARES and not shared)

    @cached_property
    def split(self) -> Booleans:
        """Which items are split, of shape ``(I,)``.

        Each side has 35 to 65 % of the votes, ``equal`` counted half, and not all say ``equal``.
        Where there are few votes, items on which not all say the same.
        """
        counts = self.votes.table.counts
        return counts.split if self.has_few_votes else counts.contested

    @cached_property
    def value(self) -> Floats:
        """What each vote says, from 0 to 1, of shape ``(V,)``: its share, or the rating itself."""
        rating = self.votes.rating
        if rating is None:
            return self.votes.table.share
        spread = np.ptp(rating)
        return np.asarray((rating - rating.min()) / (spread if spread > 0 else 1.0))

    @cached_property
    def length(self) -> Floats:
        """ln(1 + characters) of each response, of shape ``(R,)``."""
        return np.log1p([len(response.shown) for response in self.responses])


def read_items(
    examples: Sequence[Example],
    options: SplitOptions = BY_FIRST_TURN,
    source: str | None = None,
) -> Items:
    """Read examples as items; ratings are items only where the data hold no comparison.

    Args:
        examples: The examples, one or more.
        options: What a group is.
        source: Where the examples came from, for errors.

    Returns:
        The items, in the order in which they first occur.

    Raises:
        DataError: If no example has a vote, or one belongs to no group.
    """
    groups = options.keys(examples, source)
    compared = votes_of(examples, groups)
    rated = votes_of(examples, groups, kind="ratings")
    found = rated if compared is None else compared
    if found is None:
        raise DataError(
            "nobody judged any example",
            file=source,
            remedy='Write each vote with its annotator, such as "annotations": [{"annotator": '
            '"a", "preference": 1}, {"annotator": "b", "preference": 0}]',
        )
    kept = found.table.is_first_answer
    rating = None if found.rating is None else found.rating[kept]
    found = dataclasses.replace(found, table=found.table.select(kept), rating=rating)
    left_out = 0 if compared is None or rated is None else len(rated.table)
    return _with_texts(found, examples, left_out)


def _with_texts(found: ItemVotes, examples: Sequence[Example], ratings_left_out: int) -> Items:
    known: dict[str, int] = {}
    responses: list[Response] = []
    prompts: dict[str, int] = {}
    sides = np.full((len(found.example), 2), NOBODY)
    prompt = np.zeros(len(found.example), np.int64)
    rows = [examples[row] for row in found.example.tolist()]
    for number, (example, places) in enumerate(zip(rows, found.places.tolist(), strict=True)):
        for side, place in enumerate(places):
            if place == NOBODY:
                continue
            key = canonical_prompt(example.text(place))
            sides[number, side] = known.setdefault(key, len(responses))
            if len(known) > len(responses):
                shown = to_text(example.responses[place])
                words = to_text(example.text(place)) if len(example.responses) == 1 else shown
                responses.append(Response(example.inputs[place], words, shown))
        text = to_text(example.prompt)
        text = text if text.strip() else to_text(example.responses[places[0]])
        prompt[number] = prompts.setdefault(text, len(prompts))
    return Items(
        votes=found,
        responses=responses,
        first=sides[:, 0],
        second=sides[:, 1],
        prompts=list(prompts),
        prompt=prompt,
        places=[f"line {row.source_lines[0]}" if row.source_lines else "" for row in rows],
        ratings_left_out=ratings_left_out,
    )
