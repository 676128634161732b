"""Items with votes, from examples: pairs of responses that were compared, or rated responses."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, TypeAlias

import numpy as np

from hidden_context.data.dialogue import canonical_prompt
from hidden_context.data.example import Comparison, Example, Ranking, Rating
from hidden_context.data.importers.pairs import is_pair
from hidden_context.data.reshape import comparisons_of
from hidden_context.data.splits.division import BY_FIRST_TURN
from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.votes.table import VoteTable
from hidden_context.statistics.votes.tilts import sides_were_chosen

Kind = Literal["comparisons", "ratings"]
_Vote: TypeAlias = "tuple[int, int, float, float, int]"
"""Item, annotator, share or rating, weight, and which side stood first."""
_Item: TypeAlias = "tuple[int, ...]"
"""Example, two places, block, order of the sides, and number of the texts."""
_FACING: Final = 4


@dataclass(frozen=True, eq=False)
class ItemVotes:
    """Votes on I items, and where each item comes from.

    Attributes:
        kind: ``comparisons`` (an item is a pair of responses) or ``ratings`` (one response).
        table: The votes. Of ratings, ``first`` is high, ``second`` low.
        names: Each annotator's name, by number.
        example: ``(I,)``, the place of each item's first example among the examples given.
        places: ``(I, 2)``, its two responses there; the second is −1 for ratings.
        group: ``(I,)``, number of each item's group.
        group_names: The groups as given, by number.
        part: ``(I,)``, number of each item's ``data_subset``.
        block: ``(I,)``, the pairs of one ranking have the same number.
        rating: ``(V,)``, the ratings themselves; None for comparisons.
        middle: Ratings above it are high, below it low; None for comparisons.
        texts: ``(I,)``, items with the same prompt, responses and objective have the same number.
        facing: ``(I,)``, 1 or −1: of the items with the same number in ``texts``, the same sign
            means the same order of the sides.
        order_by_votes: Whether the first response of a pair comes first because it won; positions
            are then unknown.
    """

    kind: Kind
    table: VoteTable
    names: tuple[str, ...]
    example: Codes
    places: Codes
    group: Codes
    group_names: tuple[Hashable, ...]
    part: Codes
    block: Codes
    texts: Codes
    facing: Codes
    rating: Floats | None = None
    middle: float | None = None
    order_by_votes: bool = False

    @cached_property
    def by_texts(self) -> VoteTable:
        """The votes with items of the same texts merged; the text that sorts first is ``first``."""
        table = self.table
        share = 0.5 + self.facing[table.item] * (table.share - 0.5)
        texts, count = self.texts[table.item], int(self.texts.max()) + 1
        return dataclasses.replace(table, item=texts, share=share, items=count)


@dataclass
class _Items:
    """Items in the order of their first votes."""

    numbers: dict[Hashable, int] = field(default_factory=dict)
    texts: dict[Hashable, int] = field(default_factory=dict)
    found: list[_Item] = field(default_factory=list)
    people: dict[str, int] = field(default_factory=dict)

    def number(self, key: Hashable, own: Hashable, places: tuple[int, ...]) -> int:
        """Return an item's number; a new item gets the next number.

        Args:
            key: What items of the same texts share.
            own: What tells an item from others of the same texts.
            places: Its example, its responses there, the block it belongs to, and whether the side
                whose text sorts first is its first.
        """
        number = self.numbers.setdefault((key, own), len(self.numbers))
        if number == len(self.found):
            self.found.append((*places, self.texts.setdefault(key, len(self.texts))))
        return number

    def person(self, name: object) -> int:
        """Return an annotator's number; −1 if the annotator is unknown."""
        return -1 if name is None else self.people.setdefault(str(name), len(self.people))


def votes_of(
    examples: Sequence[Example],
    groups: Sequence[Hashable] | None = None,
    *,
    kind: Kind = "comparisons",
    middle: float | None = None,
) -> ItemVotes | None:
    """Collect the votes on each item.

    Comparisons: an item is a pair of responses of an example. A ranking of n responses votes on all
    n(n − 1)/2 pairs, with a weight of 2/n each. Ratings: an item is a rated response. A rating
    above the middle is a vote for ``high``, and a rating below is a vote for ``low``. Abstentions
    are not votes. Examples with one vote each are merged into one item if prompt, responses and
    objective are the same, in either order of the responses. The order of two responses is known,
    unless the row names them chosen and rejected by its only vote.

    Args:
        examples: The examples.
        groups: Group of each example; its first user turn if not given.
        kind: Which judgements to collect.
        middle: Middle of the ratings; half-way between the lowest and highest if not given.

    Returns:
        The votes; None where there are none of this kind.

    Raises:
        ConfigError: If there is not one group for each example.
    """
    keys = BY_FIRST_TURN.keys(examples) if groups is None else list(groups)
    if len(keys) != (count := len(examples)):
        raise ConfigError(f"a group is needed for each of {count} examples, not {len(keys)}.")
    items = _Items()
    collect = _compared if kind == "comparisons" else _rated
    votes = [vote for n, example in enumerate(examples) for vote in collect(items, n, example)]
    if not votes:
        return None
    item, who, said, weight, shown = (np.array(column) for column in zip(*votes, strict=True))
    rating = None if kind == "comparisons" else said
    if rating is not None:
        middle = float((rating.min() + rating.max()) / 2) if middle is None else middle
        said = 0.5 + 0.5 * np.sign(rating - middle)
    people = len(items.people)
    table = VoteTable.of(item, who, said, weight=weight, shown=shown, annotators=people)
    by_votes = rating is None and sides_were_chosen(table)
    if by_votes:
        table = VoteTable.of(item, who, said, weight=weight, annotators=people)
    first = np.array(items.found)
    group, group_names = _numbered(keys[place] for place in first[:, 0])
    part, _ = _numbered(examples[place].data_subset for place in first[:, 0])
    return ItemVotes(
        kind,
        table,
        tuple(items.people),
        first[:, 0],
        first[:, 1:3],
        group,
        group_names,
        part,
        np.unique(first[:, 3], return_inverse=True)[1],
        first[:, 5],
        first[:, 4],
        rating,
        middle if rating is not None else None,
        by_votes or not table.shown.any(),
    )


def _compared(items: _Items, number: int, example: Example) -> Iterator[_Vote]:
    """Yield an example's votes on pairs of its responses."""
    said = [each for each in example.judgements if isinstance(each.answer, (Comparison, Ranking))]
    if not said:
        return
    prompt = canonical_prompt(example.prompt)
    texts = [canonical_prompt(response) for response in example.responses]
    own = None if len(said) == 1 else number
    by_one_vote = is_pair(example.columns) and example.columns.get("annotations") is None
    for judgement in said:
        who = items.person(judgement.annotator)
        for pair, votes in comparisons_of(judgement.answer):
            one, other = sorted((pair.first, pair.second))
            share = pair.preference if pair.first == one else 1 - pair.preference
            block = -1 - number if isinstance(judgement.answer, Ranking) else len(items.found)
            key = (example.objective, prompt, *sorted((texts[one], texts[other])))
            facing = 1 if texts[one] <= texts[other] else -1
            item = items.number(key, own, (number, one, other, block, facing))
            turned = items.found[item][_FACING] != facing
            shown = 0 if by_one_vote else -1 if turned else 1
            yield item, who, 1 - share if turned else share, votes, shown


def _rated(items: _Items, number: int, example: Example) -> Iterator[_Vote]:
    """Yield an example's ratings; ``high`` stands for the first side of a pair."""
    prompt = canonical_prompt(example.prompt)
    said = ((judgement, judgement.answer) for judgement in example.judgements)
    ratings = [(by, answer) for by, answer in said if isinstance(answer, Rating)]
    own = None if len({answer.response for _, answer in ratings}) == len(ratings) else number
    for by, answer in ratings:
        text = canonical_prompt(example.responses[answer.response])
        places = (number, answer.response, -1, len(items.found), 1)
        item = items.number((example.objective, prompt, text), own, places)
        yield item, items.person(by.annotator), answer.value, 1.0, 1


def _numbered(values: Iterable[Hashable]) -> tuple[Codes, tuple[Hashable, ...]]:
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
    return codes, tuple(numbers)
