"""Rankings: Plackett-Luce in closed form, pairs for the rest."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    Labels,
    make_likelihood,
    negative_log_likelihood,
    ranking_negative_log_likelihood,
)
from hidden_context.likelihood.labels import no_ratings
from likelihood.making import comparisons

BASE, NORMAL = heads.make("base"), heads.make("mean_and_variance")
ALL = [BASE, NORMAL, heads.make("factor", num_factors=2), heads.make("ensemble", num_members=2)]


def draw(head, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, head.num_outputs, generator=generator, dtype=torch.float64)


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3))
def test_probabilities_of_all_rankings_sum_to_one(rewards):
    ranks = torch.tensor(list(itertools.permutations([1, 2, 3])))
    raw = torch.tensor(rewards).double().reshape(1, 3, 1).expand(6, 3, 1)
    loss = ranking_negative_log_likelihood(BASE, raw, ranks)
    assert loss.neg().exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_plackett_luce_draws_the_best_first():
    raw, ranks = draw(BASE, 2, 4), torch.tensor([[2, 1, 4, 3], [1, 2, 3, 4]])
    loss = ranking_negative_log_likelihood(BASE, raw, ranks)
    for row in range(2):
        weights = np.exp(raw[row, :, 0].numpy())
        left, log_prob = set(range(4)), 0.0
        for rank in (1, 2, 3, 4):
            best = ranks[row].tolist().index(rank)
            log_prob += np.log(weights[best] / sum(weights[i] for i in left))
            left.remove(best)
        assert loss[row].item() == pytest.approx(-log_prob)


def test_plackett_luce_is_the_order_of_noisy_rewards():
    rng = np.random.default_rng(0)
    rewards = np.array([0.5, -0.2, 0.1])
    order = (-(rewards + rng.gumbel(size=(200_000, 3)))).argsort(1)
    for wanted in ((0, 1, 2), (2, 1, 0)):
        share = (order == wanted).all(1).mean()
        ranks = torch.tensor(np.argsort(wanted) + 1)[None]
        raw = torch.tensor(rewards).reshape(1, 3, 1)
        probability = ranking_negative_log_likelihood(BASE, raw, ranks).neg().exp().item()
        assert probability == pytest.approx(share, abs=0.004)


@pytest.mark.parametrize("head", ALL, ids=lambda head: head.type)
def test_two_responses_are_a_pair(head):
    raw = draw(head, 5, 2)
    forward = ranking_negative_log_likelihood(head, raw, torch.tensor([[1, 2]]).expand(5, 2))
    expected = negative_log_likelihood(head, raw[:, 0], raw[:, 1])
    np.testing.assert_allclose(forward, expected, rtol=1e-12)
    backward = ranking_negative_log_likelihood(head, raw, torch.tensor([[9, 4]]).expand(5, 2))
    np.testing.assert_allclose(backward, negative_log_likelihood(head, raw[:, 1], raw[:, 0]))
    tie = ranking_negative_log_likelihood(head, raw, torch.ones(5, 2))
    half = negative_log_likelihood(head, raw[:, 0], raw[:, 1], torch.full((5,), 0.5))
    np.testing.assert_allclose(tie, half, rtol=1e-12)


@pytest.mark.parametrize("head", ALL[1:], ids=lambda head: head.type)
def test_other_heads_take_all_pairs_weighted_like_n_minus_one(head):
    raw, ranks = draw(head, 3, 4), torch.tensor([[1, 2, 3, 4], [4, 2, 1, 3], [1, 1, 2, 1]])
    loss = ranking_negative_log_likelihood(head, raw, ranks)
    for row in range(3):
        total = 0.0
        for i, j in itertools.combinations(range(4), 2):
            share = np.heaviside((ranks[row, j] - ranks[row, i]).item(), 0.5)
            pair = raw[row, i][None], raw[row, j][None]
            total += negative_log_likelihood(head, *pair, torch.tensor([share])).item()
        assert loss[row].item() == pytest.approx(total * 2 / 4)


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


@pytest.mark.parametrize("head", ALL[:3], ids=lambda head: head.type)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_rankings_are_composite_pairs_of_n_minus_one_votes(head, count):
    generator = torch.Generator().manual_seed(count)
    ranks = torch.randint(1, count, (4, count), generator=generator)  # all of them have a tie
    if head is not BASE:
        ranks[0] = torch.randperm(count, generator=generator) + 1
    labels, likelihood = as_pairs(ranks), make_likelihood(head)
    np.testing.assert_allclose(labels.votes_by_example, [count - 1] * 4, rtol=1e-12)
    assert labels.num_judgements == 4 * count * (count - 1) // 2
    raw = draw(head, 4, count, seed=1).requires_grad_()
    loss = labels.weight * likelihood(raw.flatten(0, 1), labels)
    by_ranking = torch.zeros(4).double().index_add(0, labels.example, loss)
    expected = ranking_negative_log_likelihood(head, raw, ranks)
    np.testing.assert_allclose(by_ranking.detach(), expected.detach(), rtol=1e-12)
    ours, theirs = (torch.autograd.grad(part.sum(), raw)[0] for part in (loss, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    # the mean over votes of equal responses is a toss
    tossed = likelihood(torch.zeros_like(raw).flatten(0, 1), labels)
    np.testing.assert_allclose(labels.mean_by_example(tossed).detach(), np.log(2), rtol=1e-9)


def test_equal_responses_cost_as_much_as_n_minus_one_tosses():
    raw = torch.zeros(1, 5, 2)
    loss = ranking_negative_log_likelihood(NORMAL, raw, torch.arange(1, 6)[None])
    assert loss.item() == pytest.approx(4 * np.log(2))


def test_ties_of_a_scalar_head_take_pairs_too():
    raw = draw(BASE, 1, 3)
    tied = ranking_negative_log_likelihood(BASE, raw, torch.tensor([[1, 1, 2]])).item()
    shares = {(0, 1): 0.5, (0, 2): 1.0, (1, 2): 1.0}
    pairs = [
        negative_log_likelihood(BASE, raw[:, i], raw[:, j], torch.tensor([share])).item()
        for (i, j), share in shares.items()
    ]
    assert tied == pytest.approx(sum(pairs) * 2 / 3)


@pytest.mark.parametrize("head", ALL, ids=lambda head: head.type)
def test_gradients(head):
    raw = draw(head, 2, 3).requires_grad_()
    for ranks in ([[1, 2, 3], [3, 1, 2]], [[1, 1, 2], [1, 2, 2]]):
        assert torch.autograd.gradcheck(
            lambda x, r=ranks: ranking_negative_log_likelihood(head, x, torch.tensor(r)), raw
        )


def test_a_sure_ranking_far_out_is_finite():
    raw = torch.tensor([[[1e4], [0.0], [-1e4]]], requires_grad=True)
    loss = ranking_negative_log_likelihood(BASE, raw, torch.tensor([[3, 2, 1]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(3e4)
    assert raw.grad.flatten().tolist() == pytest.approx([2, -1, -1], rel=1e-4)


@pytest.mark.parametrize(
    ("raw", "ranks"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3)),
        (torch.zeros(2, 3, 1), torch.ones(2, 2)),
        (torch.zeros(2, 1, 1), torch.ones(2, 1)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(raw, ranks):
    with pytest.raises(ConfigError, match="n ≥ 2 responses are needed"):
        ranking_negative_log_likelihood(BASE, raw, ranks)
