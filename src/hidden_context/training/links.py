"""Comparisons of responses that one annotator rated, drawn again for each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from hidden_context.likelihood import Comparisons, Labels, RatingLabels
from hidden_context.likelihood.labels import join_comparisons, take_rows


@dataclasses.dataclass(frozen=True)
class Links:
    """L comparisons between responses of different examples in a batch.

    Attributes:
        examples: Places of the two examples in the batch, of shape ``(L, 2)``.
        responses: Places of the two responses among their example's, of shape ``(L, 2)``.
        comparisons: The comparisons; their indices are not in use.
    """

    examples: Tensor
    responses: Tensor
    comparisons: Comparisons

    def groups(self, count: int) -> list[list[int]]:
        """Return connected groups of examples: linked examples are in one group."""
        linked = coo_array((torch.ones(len(self.examples)), self.examples.T), (count, count))
        number, group = connected_components(linked, directed=False)
        return [(group == each).nonzero()[0].tolist() for each in range(number)]

    def added_to(self, labels: Labels, places: Sequence[int]) -> Labels:
        """Add the links between some examples to the labels of these examples.

        Args:
            labels: Labels of the examples at ``places``.
            places: Places in the batch.

        Returns:
            The labels, with one more comparison for each link between two of the examples.
        """
        moved = {place: new for new, place in enumerate(places)}
        example = torch.tensor(
            [[moved.get(e, -1) for e in pair] for pair in self.examples.tolist()]
        )
        kept = (example >= 0).all(1)
        example = example[kept]
        first, second = (labels.offsets[example] + self.responses[kept]).unbind(1)
        said = dataclasses.replace(
            take_rows(self.comparisons, kept), first=first, second=second, example=example[:, 0]
        )
        return dataclasses.replace(labels, comparisons=join_comparisons([labels.comparisons, said]))


def draw_pairs(
    annotator: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Draw pairs of ratings, each pair by one annotator, with all pairs equally likely.

    Args:
        annotator: Annotator of each of D ratings, of shape ``(D,)``; −1 where not known.
        count: Most pairs to draw.
        generator: Random generator of the draw.

    Returns:
        Indices of the two ratings of each pair, two tensors of shape ``(S,)``, and the number P of
        all pairs. Every pair once where P ≤ count, else S = count with replacement.
    """
    order = annotator.argsort(stable=True)
    order = order[annotator[order] >= 0]
    _, sizes = torch.unique_consecutive(annotator[order], return_counts=True)
    pairs = sizes * (sizes - 1) // 2
    total = int(pairs.sum())
    if total > count:
        number = torch.randint(total, (count,), generator=generator)
    else:
        number = torch.arange(total)
    who = torch.searchsorted(pairs.cumsum(0), number, right=True)
    # an annotator's pairs are numbered (0, 1), (0, 2), (1, 2), (0, 3) and so on
    number = number - (pairs.cumsum(0) - pairs)[who]
    second = ((1 + (1 + 8 * number).double().sqrt()) / 2).long()
    first = number - second * (second - 1) // 2
    start = (sizes.cumsum(0) - sizes)[who]
    return order[start + first], order[start + second], total


def compare(
    ratings: RatingLabels,
    first: Tensor,
    second: Tensor,
    sizes: Tensor,
    scale: Tensor | float,
    votes: float,
) -> Comparisons:
    """Read pairs of ratings as comparisons: the higher is better, equal ones tie.

    Args:
        ratings: D ratings.
        first: Indices of one rating of each pair, of shape ``(S,)``.
        second: Indices of the other.
        sizes: Number of ratings by each annotator in the whole data set, of shape ``(U,)``. The m
            ratings of one annotator count like m − 1 comparisons, so a pair's weight is 2/m.
        scale: Number of pairs that each drawn pair stands for, one number or of shape ``(S,)``.
        votes: Votes that all of them together stand for.

    Returns:
        S comparisons whose ``first`` and ``second`` are the responses that the ratings name.
    """
    who = ratings.annotator[first]
    difference = torch.sign(ratings.value[first] - ratings.value[second])
    count = len(first)
    weight = ratings.weight[first] * ratings.weight[second] * scale * 2 / sizes[who]
    return Comparisons(
        first=ratings.response[first],
        second=ratings.response[second],
        preference=0.5 + 0.5 * difference,
        strength=torch.full((count,), torch.nan),
        margin=torch.zeros(count),
        annotator=who,
        weight=weight,
        votes=torch.full((count,), votes / max(count, 1)),
        example=ratings.example[first],
    )


class Linker:
    """Random comparisons of responses that one annotator rated, drawn for each step.

    The comparisons estimate the sum over all pairs of one annotator's ratings, with weight 2/m for
    each pair. The estimate is unbiased if the examples of a step are a random sample: a step of b
    of N examples holds a share b (b − 1) / N (N − 1) of the pairs of different examples, and b / N
    of the pairs within one example. The pairs that are drawn stand for all pairs.

    Args:
        labels: Labels of the training examples, with all their ratings.
        most: Most comparisons of a step.
        seed: Seed of the draws.
    """

    def __init__(self, labels: Labels, most: int, seed: int = 0) -> None:
        self.labels, self.most, self.seed = labels, most, seed
        ratings = labels.ratings
        self.sizes = torch.bincount(ratings.annotator[ratings.annotator >= 0], minlength=1)
        self.num_votes = float((self.sizes - 1).clamp(min=0).sum())

    def within(self, examples: Tensor) -> Linker:
        """Restrict the linker to the examples of a mask ``(E,)``; examples keep their numbers."""
        ratings = self.labels.ratings
        kept = take_rows(ratings, examples[ratings.example])
        return Linker(dataclasses.replace(self.labels, ratings=kept), self.most, self.seed)

    def links(self, rows: Sequence[int], step: int) -> Links | None:
        """Draw the links of a step.

        Args:
            rows: The step's b examples.
            step: Number of the step, which with the seed decides the draw.

        Returns:
            The links, or None where no annotator rated two of the examples.
        """
        own = self.labels.select(torch.tensor(rows))
        ratings, count = own.ratings, len(rows)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        first, second, total = draw_pairs(ratings.annotator, self.most, generator)
        differ = ratings.response[first] != ratings.response[second]
        if not bool(differ.any()):
            return None
        for_each, first, second = total / len(first), first[differ], second[differ]
        examples = torch.stack([ratings.example[first], ratings.example[second]], 1)
        # responses of one example are in a step whenever that example is
        apart = examples[:, 0] != examples[:, 1]
        scale = torch.where(apart, (len(self.labels) - 1) / max(count - 1, 1), 1.0) * for_each
        votes = self.num_votes * count / len(self.labels)
        said = compare(ratings, first, second, self.sizes, scale, votes)
        responses = torch.stack([said.first, said.second], 1) - own.offsets[examples]
        return Links(examples, responses, said)
