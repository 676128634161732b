"""Answers as intervals, rankings as pairs: probabilities that sum to one, votes, thresholds."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hidden_context import heads
from hidden_context.distributions import RewardDifference
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    HeadLikelihood,
    Labels,
    LikelihoodOptions,
    Outcomes,
    make_likelihood,
)
from hidden_context.likelihood.labels import no_ratings
from likelihood.making import comparisons, draw, interleave, minimise, pairs

NAN = math.nan


def labels(preference, strength=None, margin=None):
    said = {"strength": strength, "margin": margin}
    return pairs(preference, **{k: v for k, v in said.items() if v is not None}).comparisons


def outcomes(levels, *thresholds):
    """Answers with the thresholds given."""
    made, gaps = Outcomes(levels), np.diff([0.0, *thresholds])
    with torch.no_grad():
        made.raw_gaps.copy_(torch.tensor(np.log(np.expm1(gaps))))
    return made


def probabilities(made, found, location, scale=1.0):
    """Probability of each label's answer where D is normal."""
    zero = torch.zeros(1, dtype=torch.float64)
    difference = RewardDifference(zero, zero + location, zero + scale)
    lower, upper, weight = made.intervals(found)
    forward = difference.log_prob_between(lower, upper).exp()
    backward = difference.log_prob_between(-upper, -lower).exp()
    assert lower.shape == upper.shape == weight.shape == (len(found),)
    return (weight * forward + (1 - weight) * backward).detach()


@given(
    st.sampled_from([3, 5, 7]),
    st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    st.floats(-6, 6),
    st.floats(0.05, 5),
)
def test_answers_are_all_there_is_and_mirror(levels, gaps, location, scale):
    made = Outcomes(levels)
    top = (levels - 1) // 2
    with torch.no_grad():
        made.raw_gaps.copy_(torch.tensor(gaps[:top]))
    assert made.thresholds.shape == (top,)
    assert bool((made.thresholds.diff(prepend=torch.zeros(1)) > 0).all())
    strengths = list(range(-top, top + 1))
    found = labels([0.5 + 0.5 * np.sign(k) for k in strengths], [float(k) for k in strengths])
    each = probabilities(made, found, location, scale)
    assert each.sum().item() == pytest.approx(1, abs=1e-9)
    assert bool((each >= 0).all())
    mirrored = probabilities(made, found, -location, scale)
    np.testing.assert_allclose(mirrored.flip(0), each, atol=1e-9)


def test_strengths_lie_between_the_thresholds():
    made = outcomes(7, 0.2, 0.9, 2.0)
    np.testing.assert_allclose(made.thresholds.detach(), [0.2, 0.9, 2.0], rtol=1e-6)
    found = labels([1.0, 1.0, 1.0, 0.5, 0.0], [3.0, 2.0, 1.0, 0.0, -2.0])
    cdf = stats.norm(0.4, 1.3).cdf
    expected = [
        1 - cdf(2.0),
        cdf(2.0) - cdf(0.9),
        cdf(0.9) - cdf(0.2),
        cdf(0.2) - cdf(-0.2),
        cdf(-0.9) - cdf(-2.0),
    ]
    np.testing.assert_allclose(probabilities(made, found, 0.4, 1.3), expected, rtol=1e-5)


def test_with_ties_a_bare_preference_is_beyond_the_threshold():
    made = outcomes(3, 0.3)
    cdf = stats.norm(0.5).cdf
    better, tie, worse = 1 - cdf(0.3), cdf(0.3) - cdf(-0.3), cdf(-0.3)
    bare = labels([1.0, 0.5, 0.0, 0.7])
    # a share of ½ is a tie; another share is that of those who decided
    expected = [better, tie, worse, 0.7 * better + 0.3 * worse]
    np.testing.assert_allclose(probabilities(made, bare, 0.5), expected, rtol=1e-5)
    said = labels([0.5, 1.0, 0.0, 0.5], [1.0, 0.0, -1.0, NAN])
    np.testing.assert_allclose(probabilities(made, said, 0.5), [better, tie, worse, tie], rtol=1e-5)


def test_with_strengths_a_bare_preference_is_above_zero():
    made = outcomes(5, 0.3, 1.0)
    found = labels([1.0, 0.0, 0.8, 1.0], [NAN, NAN, NAN, 2.0])
    cdf = stats.norm(0.5).cdf
    better = 1 - cdf(0)
    expected = [better, 1 - better, 0.8 * better + 0.2 * (1 - better), 1 - cdf(1.0)]
    np.testing.assert_allclose(probabilities(made, found, 0.5), expected, rtol=1e-5)


def test_margins_have_to_be_won_by():
    made = Outcomes(margin_scale=0.5)
    found = labels([1.0, 0.0, 1.0, 0.6], margin=[2.0, 2.0, 0.0, 1.0])
    cdf = stats.norm(0.7).cdf
    expected = [1 - cdf(1.0), cdf(-1.0), 1 - cdf(0), 0.6 * (1 - cdf(0.5)) + 0.4 * cdf(-0.5)]
    np.testing.assert_allclose(probabilities(made, found, 0.7), expected, rtol=1e-9)
    # a margin for the second side is negative, and its size is what counts
    signed = labels([0.0, 0.3], margin=[-2.0, -1.0])
    expected = [cdf(-1.0), 0.3 * (1 - cdf(0.5)) + 0.7 * cdf(-0.5)]
    np.testing.assert_allclose(probabilities(made, signed, 0.7), expected, rtol=1e-9)
    # without a scale they play no part
    plain = probabilities(Outcomes(), found, 0.7)
    assert plain[0].item() == pytest.approx(1 - cdf(0))
    assert Outcomes().thresholds.tolist() == []
    assert not list(Outcomes().parameters())
    sides = [Outcomes(), Outcomes(margin_scale=0.5), Outcomes(3), Outcomes(7)]
    assert [made.are_sides_alone for made in sides] == [True, False, False, False]


@pytest.mark.parametrize(("levels", "truth"), [(3, [0.4]), (5, [0.25, 1.1])])
def test_thresholds_are_learned_from_thurstones_data(levels, truth):
    rng = np.random.default_rng(levels)
    count = 12_000
    mean, stddev = rng.normal(size=(2, count)), rng.uniform(0.3, 1.0, (2, count))
    drawn = mean + stddev * rng.normal(size=(2, count))
    gap = drawn[0] - drawn[1]
    strength = np.sign(gap) * np.searchsorted(truth, np.abs(gap))
    head = heads.make("mean_and_variance")
    raw = interleave(*torch.tensor(np.stack([mean, np.log(np.expm1(stddev))], -1)))
    likelihood = HeadLikelihood(head, LikelihoodOptions(levels))
    found = pairs(0.5 + 0.5 * np.sign(strength), strength=strength)

    def loss():
        return likelihood(raw, found).mean()

    first = loss().item()
    last = minimise(loss, [likelihood.outcomes.raw_gaps])
    learned = likelihood.outcomes.thresholds.detach()
    np.testing.assert_allclose(learned, truth, atol=0.02)  # standard errors are below
    assert last < first - 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Outcomes(4), "2, 3, 5 or 7 levels, not 4"),
        (lambda: Outcomes(3, margin_scale=1.0), "0 with more than 2 levels"),
        (lambda: Outcomes(margin_scale=-1.0), "margin_scale is -1.0"),
        (lambda: Outcomes(margin_scale=math.inf), "margin_scale is inf"),
        (
            lambda: Outcomes(5).intervals(labels([1.0, 0.0], [2.0, -3.0])),
            "strength -3, but labels of 5 levels have strengths from -2 to 2",
        ),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


BASE, NORMAL = heads.make("base"), heads.make("mean_and_variance")
ALL = [BASE, NORMAL, heads.make("factor", num_factors=2), heads.make("ensemble", num_members=2)]


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
    raw = draw(head, 2 * count, 1).unflatten(0, (4, count))
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
