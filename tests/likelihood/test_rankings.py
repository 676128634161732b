"""Rankings: all pairs of each, which together count like n − 1 comparisons."""

import itertools

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.likelihood import Labels, make_likelihood
from hidden_context.likelihood.labels import no_ratings
from likelihood.making import comparisons

BASE, NORMAL = heads.make("base"), heads.make("mean_and_variance")
ALL = [BASE, NORMAL, heads.make("factor", num_factors=2), heads.make("ensemble", num_members=2)]


def draw(head, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, head.num_outputs, generator=generator, dtype=torch.float64)


def as_pairs(ranks):
    """Rankings as labels: all pairs of each, which count 2/n."""
    rows, count = [], ranks.shape[1]
    for example, ranking in enumerate(ranks.tolist()):
        start = example * count
        rows += [
            {
                "first": start + i,
                "second": start + j,
                "preference": float(np.heaviside(ranking[j] - ranking[i], 0.5)),
                "weight": 2 / count,
                "votes": 2 / count,
                "example": example,
            }
            for i, j in itertools.combinations(range(count), 2)
        ]
    offsets = torch.arange(0, ranks.numel() + 1, count)
    return Labels(comparisons(*rows), no_ratings(), offsets)


def loss_of_rankings(head, raw, ranks):
    """Loss of each ranking, ``(B,)``, by its labels."""
    labels = as_pairs(ranks)
    nats = make_likelihood(head).negative_log_likelihood(raw.flatten(0, 1), labels)
    return torch.zeros(len(ranks)).double().index_add(0, labels.example, labels.weight * nats)


@pytest.mark.parametrize("head", ALL, ids=lambda head: head.type)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_rankings_are_composite_pairs_of_n_minus_one_votes(head, count):
    generator = torch.Generator().manual_seed(count)
    ranks = torch.randint(1, count, (4, count), generator=generator)  # all of them have a tie
    ranks[0] = torch.randperm(count, generator=generator) + 1
    labels, likelihood = as_pairs(ranks), make_likelihood(head)
    np.testing.assert_allclose(labels.votes_by_example, [count - 1] * 4, rtol=1e-12)
    assert labels.num_judgements == 4 * count * (count - 1) // 2
    raw = draw(head, 4, count, seed=1)
    expected = torch.zeros(4).double()
    for row, ranking in enumerate(ranks.tolist()):
        for i, j in itertools.permutations(range(count), 2):
            share = np.heaviside(ranking[j] - ranking[i], 0.5)  # of votes that i beats j
            expected[row] -= share * head.log_prob_preferred(raw[row, i], raw[row, j]) * 2 / count
    np.testing.assert_allclose(loss_of_rankings(head, raw, ranks), expected, rtol=1e-12)
    # the mean over votes of equal responses is a toss
    tossed = likelihood(torch.zeros_like(raw).flatten(0, 1), labels)
    np.testing.assert_allclose(labels.mean_by_example(tossed), np.log(2), rtol=1e-9)


def test_a_sure_ranking_far_out_is_finite():
    raw = torch.tensor([[[1e4], [0.0], [-1e4]]]).double().requires_grad_()
    loss = loss_of_rankings(BASE, raw, torch.tensor([[3, 2, 1]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(4e4 * 2 / 3)
    assert raw.grad.flatten().tolist() == pytest.approx([4 / 3, 0, -4 / 3])
