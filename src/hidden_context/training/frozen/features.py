"""Features of responses with their labels: the data that a probe is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from hidden_context.baselines import VotedPairs
from hidden_context.baselines.linear import distinct_rows
from hidden_context.data.dialogue import to_text
from hidden_context.data.example import Example
from hidden_context.likelihood import Labels
from hidden_context.likelihood.labels import join_comparisons
from hidden_context.models.featurizer import Featurizer
from hidden_context.training.links import Linker, compare, draw_pairs

# Most comparisons of ratings to choose an epoch by: they tell the mean loss to about a hundredth.
_MOST_HELD_OUT: Final = 4096


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of responses with their labels.

    Attributes:
        features: Features of the R responses, of shape ``(R, D)``.
        labels: Labels of these responses.
        lines: Place of each example in its source: lines of a file or rows of a table.
        linker: Draws comparisons between examples; None for none.
        groups: Group of each response, of shape ``(R,)``; None where each example is its own.
        lengths: Length of each response in characters, of shape ``(R,)``; None where not known.
    """

    features: Tensor
    labels: Labels
    lines: Sequence[str] = ()
    linker: Linker | None = None
    groups: Tensor | None = None
    lengths: Tensor | None = None

    def __len__(self) -> int:
        """Return the number E of examples."""
        return len(self.labels)

    def weight(self, draws: Tensor | None) -> Tensor:
        """Return each judgement's weight, ``(J,)``, times the draws ``(E,)`` of its example."""
        weight = self.labels.weight
        return weight if draws is None else weight * draws[self.labels.example].to(weight)

    def has_votes(self, examples: Tensor) -> bool:
        """Tell whether there is a vote on the examples of a mask ``(E,)``."""
        votes = float(self.labels.votes[examples[self.labels.example]].sum())
        return votes > 0 or (self.linker is not None and self.linker.within(examples).num_votes > 0)

    def part(self, examples: Tensor, seed: int) -> FeatureSet | None:
        """Take the judgements on the examples of a mask ``(E,)``; None if there is no vote."""
        if not self.has_votes(examples):
            return None
        labels, responses = self.labels.take(examples[self.labels.example].nonzero().squeeze(-1))
        if self.linker is not None:
            linker = Linker(self.linker.within(examples).labels, _MOST_HELD_OUT)
            labels, responses = with_links(linker, labels, responses, 1.0, seed)
        return FeatureSet(self.features[responses], labels)

    def times_named(self) -> Tensor:
        """Count the judgements that name each response, ``(R,)``, however rows are merged."""
        labels = self.labels if self.linker is None else self.linker.labels
        compared, rated = labels.comparisons, labels.ratings
        named = torch.cat([compared.first, compared.second, rated.response])
        return torch.bincount(named, minlength=len(self.features))

    def response_groups(self) -> Tensor:
        """Return each response's group, ``(R,)``; without groups, the number of its example."""
        if self.groups is not None:
            return self.groups
        sizes = self.labels.offsets.diff()
        return torch.arange(len(sizes)).repeat_interleave(sizes)

    def voted_pairs(
        self, standardised: Tensor, weight: Tensor, judged: Tensor | None = None
    ) -> VotedPairs | None:
        """Add up the comparisons of each pair of responses, in either order.

        Comparisons of weight 0 are left out, and so are comparisons of two responses with the same
        features and group.

        Args:
            standardised: Standardised features, of shape ``(R, D)``.
            weight: Number of votes that each judgement counts for, of shape ``(J,)``.
            judged: Indices of the judgements to look at; None for all.

        Returns:
            The pairs; None where no comparison counts.
        """
        said = self.labels.comparisons
        count, groups, lengths = len(said), self.response_groups(), self.lengths
        if not count:
            return None
        if lengths is None:
            lengths = torch.zeros(len(standardised))
        weight = weight[:count]
        if judged is not None:
            looked_at = torch.zeros(count, dtype=torch.bool)
            looked_at[judged[judged < count]] = True
            weight = torch.where(looked_at, weight, 0.0)
        rows, place = _distinct_responses(standardised, groups)
        first, second = place[said.first], place[said.second]
        counts = (weight > 0) & (first != second)
        # training stops with its own error if a share is not a finite number
        if not bool(counts.any()) or not bool(said.preference[counts].isfinite().all()):
            return None
        first, second = first[counts], second[counts]
        votes, share = weight[counts].double(), said.preference[counts].double()
        turned = first > second
        first, second = torch.where(turned, second, first), torch.where(turned, first, second)
        share = torch.where(turned, 1 - share, share)
        pair, of = torch.unique(first * len(rows) + second, return_inverse=True)
        total = torch.zeros(len(pair), dtype=torch.float64)
        own = total.index_add(0, of, votes)
        return VotedPairs(
            features=standardised[rows].double().numpy(),
            lengths=lengths[rows].double().numpy(),
            groups=groups[rows].numpy(),
            first=(pair // len(rows)).numpy(),
            second=(pair % len(rows)).numpy(),
            share=(total.index_add(0, of, votes * share) / own).clamp(0, 1).numpy(),
            votes=own.numpy(),
            equal=(total.index_add(0, of, votes * (share == 0.5)) / own).numpy(),
        )


def _distinct_responses(features: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of one response of each distinct kind, and the kind of each response."""
    number = torch.from_numpy(distinct_rows(features.numpy())[1])
    group = torch.unique(groups, return_inverse=True)[1]
    _, place = torch.unique(number * (int(group.max()) + 1) + group, return_inverse=True)
    rows = torch.zeros(int(place.max()) + 1, dtype=torch.long)
    rows[place] = torch.arange(len(place))
    return rows, place


def feature_set(
    featurizer: Featurizer,
    examples: Sequence[Example],
    labels: Labels,
    progress: Callable[[int], None] | None = None,
    linker: Linker | None = None,
    groups: Tensor | None = None,
) -> FeatureSet:
    """Compute the features of all responses of the examples, each once."""
    texts = [text for example in examples for text in example.inputs]
    lines = [
        ", ".join(map(str, example.source_lines or (row,)))
        for row, example in enumerate(examples, start=1)
    ]
    lengths = torch.tensor(
        [float(len(to_text(said))) for example in examples for said in example.responses]
    )
    features = featurizer.features(texts, progress=progress)
    return FeatureSet(features, labels, lines, linker, groups, lengths)


def with_links(
    linker: Linker, labels: Labels, responses: Tensor, share: float, seed: int
) -> tuple[Labels, Tensor]:
    """Add comparisons of responses that one annotator rated, drawn from the linker's ratings."""
    ratings = linker.labels.ratings
    generator = torch.Generator().manual_seed(seed)
    first, second, count = draw_pairs(ratings.annotator, linker.most, generator)
    if not count:
        return labels, responses
    scale, votes = count / len(first) * share, linker.num_votes * share
    said = compare(ratings, first, second, linker.sizes, scale, votes)
    place = len(responses) + torch.arange(2 * len(first)).reshape(2, -1)
    moved = dataclasses.replace(said, first=place[0], second=place[1])
    joined = join_comparisons([labels.comparisons, moved])
    return (
        dataclasses.replace(labels, comparisons=joined),
        torch.cat([responses, said.first, said.second]),
    )
