from functools import partial

import numpy as np
import pytest
from scipy import stats

from hidden_context.contexts import confounds
from hidden_context.contexts.confounds import (
    context_beyond_length,
    length_confounds,
    spearman_interval,
)
from hidden_context.errors import ConfigError

ONES = np.ones((3, 2))
PAIRS = (np.ones(3), ONES, np.arange(3))


def _correlated(size, rho, seed):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(size)
    return x, rho * x + np.sqrt(1 - rho**2) * generator.standard_normal(size)


def _lengths(size, seed):
    generator = np.random.default_rng(seed)
    return generator, generator.integers(10, 1000, size=(size, 2)).astype(float)


@pytest.mark.parametrize(("rho", "decimals"), [(-0.9, 9), (0.0, 9), (0.6, 9), (0.6, 0)])
def test_the_interval_is_near_a_bootstrap_that_ranks_anew(rho, decimals):
    x, y = (values.round(decimals) for values in _correlated(400, rho, 1))  # with ties, or without
    found = spearman_interval(x, y, np.arange(400))
    assert found.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    again = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = again.high - again.low
    assert found.low == pytest.approx(again.low, abs=0.15 * width)
    assert found.high == pytest.approx(again.high, abs=0.15 * width)


def test_variance_that_follows_length_is_told():
    generator, length = _lengths(500, 3)
    variance = length.sum(1) * generator.uniform(0.9, 1.1, 500)
    total, difference = length_confounds(variance, length, np.arange(500))
    assert (total.name, difference.name) == ("length", "length_difference")
    assert (total.correlation.low > 0.9, total.correlation.method) == (True, "bootstrap")
    assert "rises with the pair's total length" in total.text
    assert "no sign" in difference.text


def test_position_and_missing_lengths():
    (generator, length), number = _lengths(600, 4), np.arange(600)
    length[:300] = np.nan
    variance = generator.exponential(size=600) * np.linspace(2, 1, 600)
    total, _, place = length_confounds(variance, length, number, position=number)
    assert place.name == "position"
    assert place.correlation.estimate == pytest.approx(stats.spearmanr(variance, number)[0])
    assert place.text.startswith("Hidden variance falls with the place of the pair")
    kept = stats.spearmanr(variance[300:], length[300:].sum(1)).statistic
    assert total.correlation.estimate == pytest.approx(kept)


@pytest.mark.parametrize(
    ("variance", "length"),
    [
        (np.arange(20.0), np.full((20, 2), 5.0)),
        (np.ones(20), np.arange(40.0).reshape(20, 2)),
        (np.arange(20.0), np.full((20, 2), np.nan)),
    ],
)
def test_what_does_not_vary_is_left_out(variance, length):
    assert length_confounds(variance, length, np.arange(20)) == []


@pytest.mark.parametrize(
    ("pairs", "prompts", "text", "method"),
    [
        (20_000, 20_000, "only slightly", "delta"),
        (50, 1, "A single prompt is too few to tell whether hidden variance follows", "none"),
        (50, 4, "4 prompts are too few to tell whether hidden variance follows", "none"),
    ],
)
def test_weak_correlations_and_few_prompts_have_their_own_sentence(pairs, prompts, text, method):
    x, y = (values[:pairs] for values in _correlated(20_000, 0.05, 5))
    length = np.stack([y - y.min(), np.zeros(pairs)], axis=1)
    found = length_confounds(np.exp(x), length, np.arange(pairs) % prompts * 3)[0]
    assert text in found.text
    assert found.correlation.method == method


def test_many_pairs_are_drawn(monkeypatch):
    monkeypatch.setattr(confounds, "MAX_PAIRS", 100)
    x, y = _correlated(500, 0.9, 6)
    length = np.stack([y - y.min(), np.zeros(500)], axis=1)
    first, again, other = (
        length_confounds(np.exp(x), length, np.arange(500), seed=seed)[0] for seed in (0, 0, 1)
    )
    assert first == again
    assert first.correlation.estimate != other.correlation.estimate


def test_partial_r2_is_that_of_least_squares():
    generator, length = _lengths(300, 7)
    context = generator.integers(0, 3, 300)
    variance = np.exp(context + length.sum(1) / 1000 + generator.standard_normal(300))
    found = context_beyond_length(variance, length, np.arange(300), context)
    ranks = [stats.rankdata(v) for v in (length.sum(1), np.abs(length @ [1, -1]), variance)]
    small = np.stack([np.ones(300), ranks[0], ranks[1]], axis=1)
    large = np.concatenate([small, np.eye(3)[context][:, :2]], axis=1)
    left = [np.linalg.lstsq(X, ranks[2], rcond=None)[1][0] for X in (small, large)]
    assert found.estimate == pytest.approx(1 - left[1] / left[0])
    assert 0 < found.low < found.estimate < found.high < 1
    nothing = context_beyond_length(
        generator.exponential(size=300), length, np.arange(300), generator.integers(0, 3, 300)
    )
    assert nothing.estimate < 0.03


@pytest.mark.parametrize(
    ("call", "values", "text"),
    [
        (length_confounds, (np.ones(3), np.ones((2, 2)), np.arange(3)), "3 variances need lengths"),
        (length_confounds, (np.ones(3), ONES, np.arange(2)), "as many prompt numbers"),
        (partial(length_confounds, position=np.arange(2.0)), PAIRS, "as many positions"),
        (context_beyond_length, (np.arange(3), ONES, np.arange(3), np.full(3, -1)), "no pair"),
        (context_beyond_length, (np.ones(3), ONES, np.arange(3), np.zeros(3, int)), "are equal"),
    ],
)
def test_what_cannot_work_is_refused(call, values, text):
    with pytest.raises(ConfigError, match=text):
        call(*values)
