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


def _correlated(size, rho, seed):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(size)
    return x, rho * x + np.sqrt(1 - rho**2) * generator.standard_normal(size)


@pytest.mark.parametrize("ties", [False, True])
def test_the_estimate_is_scipys(ties):
    x, y = _correlated(200, 0.5, 0)
    if ties:
        x, y = np.round(x), np.round(y)
    expected = stats.spearmanr(x, y).statistic
    assert spearman_interval(x, y, np.arange(200)).estimate == pytest.approx(expected)


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.6])
def test_the_interval_is_near_a_bootstrap_that_ranks_anew(rho):
    x, y = _correlated(400, rho, 1)
    found = spearman_interval(x, y, np.arange(400))
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


def test_the_influence_is_that_of_one_more_row():
    x, y = _correlated(60, 0.4, 2)
    rho = stats.spearmanr(x, y).statistic
    sums = []
    original = confounds.cluster_interval
    try:
        confounds.cluster_interval = lambda s, *a, **k: sums.append(s) or original(s, *a, **k)
        spearman_interval(x, y, np.arange(60))
    finally:
        confounds.cluster_interval = original
    jackknife = [
        rho - stats.spearmanr(np.delete(x, i), np.delete(y, i)).statistic for i in range(60)
    ]
    assert stats.pearsonr(sums[0][:, 0], jackknife).statistic > 0.995
    assert np.std(sums[0][:, 0]) == pytest.approx(59 * np.std(jackknife), rel=0.05)
    assert sums[0][:, 0].mean() == pytest.approx(rho)


@pytest.mark.slow
def test_intervals_cover_with_clusters():
    covered, truth = 0, 6 / np.pi * np.arcsin(0.5 / 2)
    for seed in range(200):
        generator = np.random.default_rng(seed)
        group = np.repeat(np.arange(60), 4)
        # a part shared by all rows of a cluster, the same correlation within and between
        shared, own = (
            generator.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], n) for n in (60, 240)
        )
        x, y = (np.sqrt(0.5) * shared[group] + np.sqrt(0.5) * own).T
        found = spearman_interval(x, y, group, seed=seed)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 200


def test_variance_that_follows_length_is_told():
    generator = np.random.default_rng(3)
    length = generator.integers(10, 1000, size=(500, 2)).astype(float)
    variance = length.sum(1) * generator.uniform(0.9, 1.1, 500)
    total, difference = length_confounds(variance, length, np.arange(500))
    assert (total.name, difference.name) == ("length", "length_difference")
    assert total.correlation.low > 0.9
    assert "rises with the pair's total length" in total.text
    assert "no sign" in difference.text
    assert total.correlation.method == "bootstrap"


def test_position_and_missing_lengths():
    generator = np.random.default_rng(4)
    length = generator.integers(10, 1000, size=(600, 2)).astype(float)
    length[:300] = np.nan
    variance = generator.exponential(size=600) * np.linspace(2, 1, 600)
    found = length_confounds(variance, length, np.arange(600), position=np.arange(600.0))
    place = found[2]
    assert place.name == "position"
    assert place.correlation.estimate == pytest.approx(
        stats.spearmanr(variance, np.arange(600)).statistic
    )
    assert place.text.startswith("Hidden variance falls with the place of the pair")
    kept = stats.spearmanr(variance[300:], length[300:].sum(1)).statistic
    assert found[0].correlation.estimate == pytest.approx(kept)


def test_what_does_not_vary_is_left_out():
    length = np.full((20, 2), 5.0)
    assert length_confounds(np.arange(20.0), length, np.arange(20)) == []
    length[:, 0] = np.arange(20)
    assert length_confounds(np.ones(20), length, np.arange(20)) == []
    assert length_confounds(np.ones(20), np.full((20, 2), np.nan), np.arange(20)) == []


def test_a_weak_correlation_and_a_single_prompt_have_their_own_sentence():
    x, y = _correlated(20_000, 0.05, 5)
    length = np.stack([y - y.min(), np.zeros(20_000)], axis=1)
    weak = length_confounds(np.exp(x), length, np.arange(20_000))[0]
    assert "but hardly" in weak.text
    assert weak.correlation.method == "delta"
    one = length_confounds(np.exp(x[:50]), length[:50], np.zeros(50, dtype=int))[0]
    assert "cannot be said of a single prompt: 5 are needed" in one.text
    four = length_confounds(np.exp(x[:50]), length[:50], np.arange(50) % 4 * 3)[0]
    assert "cannot be said of 4 prompts: 5 are needed" in four.text


def test_many_pairs_are_drawn(monkeypatch):
    monkeypatch.setattr(confounds, "MAX_PAIRS", 100)
    x, y = _correlated(500, 0.9, 6)
    length = np.stack([y - y.min(), np.zeros(500)], axis=1)
    first, again = (length_confounds(np.exp(x), length, np.arange(500), seed=s)[0] for s in (0, 0))
    other = length_confounds(np.exp(x), length, np.arange(500), seed=1)[0]
    assert first == again
    assert first.correlation.estimate != other.correlation.estimate


def test_partial_r2_is_that_of_least_squares():
    generator = np.random.default_rng(7)
    length = generator.integers(10, 1000, size=(300, 2)).astype(float)
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
    "call",
    [
        lambda: length_confounds(np.ones(3), np.ones((2, 2)), np.arange(3)),
        lambda: length_confounds(np.ones(3), np.ones((3, 2)), np.arange(2)),
        lambda: length_confounds(
            np.ones(3), np.ones((3, 2)), np.arange(3), position=np.arange(2.0)
        ),
        lambda: context_beyond_length(
            np.arange(3.0), np.ones((3, 2)), np.arange(3), np.full(3, -1)
        ),
        lambda: context_beyond_length(np.ones(3), np.ones((3, 2)), np.arange(3), np.zeros(3, int)),
    ],
)
def test_what_cannot_work_is_refused(call):
    with pytest.raises(ConfigError):
        call()
