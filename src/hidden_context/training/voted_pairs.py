"""From labels and features to the pairs that baselines and a linear start are fitted on."""

from __future__ import annotations

import torch
from torch import Tensor

from hidden_context.baselines import VotedPairs
from hidden_context.baselines.linear import distinct_rows
from hidden_context.likelihood.labels import Comparisons


def distinct_responses(features: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Find the responses that are the same in features and group.

    Args:
        features: Of shape ``(R, D)``.
        groups: Group of each response, of shape ``(R,)``.

    Returns:
        The place of one of each among the R, of shape ``(U,)``; and which of the U each response
        is, of shape ``(R,)``.
    """
    number = torch.from_numpy(distinct_rows(features.numpy())[1])
    group = torch.unique(groups, return_inverse=True)[1]
    _, place = torch.unique(number * (int(group.max()) + 1) + group, return_inverse=True)
    rows = torch.zeros(int(place.max()) + 1, dtype=torch.long)
    rows[place] = torch.arange(len(place))
    return rows, place


def voted_pairs(
    features: Tensor, lengths: Tensor, groups: Tensor, said: Comparisons, weight: Tensor
) -> VotedPairs | None:
    """Add up what comparisons say of each pair of responses, whichever stood first.

    Args:
        features: Standardised features of the responses, of shape ``(R, D)``.
        lengths: Their lengths, of shape ``(R,)``.
        groups: Their groups, of shape ``(R,)``.
        said: The C comparisons.
        weight: How many votes each counts for, of shape ``(C,)``. Those of 0 are left out, and so
            are comparisons of two responses that are the same.

    Returns:
        The pairs; None where no comparison counts.
    """
    if not len(said):
        return None
    rows, place = distinct_responses(features, groups)
    first, second = place[said.first], place[said.second]
    counts = (weight > 0) & (first != second)
    # a share that is no number stops training with a reason of its own
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
        features=features[rows].double().numpy(),
        lengths=lengths[rows].double().numpy(),
        groups=groups[rows].numpy(),
        first=(pair // len(rows)).numpy(),
        second=(pair % len(rows)).numpy(),
        share=(total.index_add(0, of, votes * share) / own).clamp(0, 1).numpy(),
        votes=own.numpy(),
        equal=(total.index_add(0, of, votes * (share == 0.5)) / own).numpy(),
    )
