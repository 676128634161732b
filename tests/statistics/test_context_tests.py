"""Tests of hidden context: statistics by hand, exact nulls by enumeration, and power."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import ndtr

from hidden_context.errors import ConfigError
from hidden_context.statistics import sigma_likelihood
from hidden_context.statistics.context_tests import (
    TestResult,
    annotator_permutation_test,
    common_sigma_test,
)
from hidden_context.statistics.sigma_likelihood import common_sigma_ratios

# -- annotators ---------------------------------------------------------------------------------


def between(values, who):
    """Σ n_a ‖mean_a‖² of centred, standardised features."""
    total = 0.0
    for column in np.reshape(values, (len(who), -1)).T:
        z = (column - column.mean()) / column.std()
        total += sum((who == a).sum() * z[who == a].mean() ** 2 for a in np.unique(who))
    return total


def test_statistic_and_exact_null_by_enumeration():
    values = np.array([0.1, 2.0, -1.0, 0.7, 3.0, 1.1, 0.3])
    who = np.array([0, 1, 0, 0, 1, 1, 0])
    found = annotator_permutation_test(values, who, resamples=20_000)
    assert found.statistic == pytest.approx(between(values, who))
    reached = [
        between(values, np.isin(np.arange(7), chosen)) >= found.statistic - 1e-9
        for chosen in itertools.combinations(range(7), 3)
    ]
    assert found.p_value == pytest.approx(np.mean(reached), abs=0.01)
    assert found.resamples == 20_000
    assert found.to_dict()["name"] == "annotator_permutation"


def test_two_annotators_agree_with_the_permutation_test_of_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40), rng.normal(0.5, 1, 30)
    reference = stats.permutation_test(
        (first, second),
        lambda a, b, axis=-1: np.abs(a.mean(axis) - b.mean(axis)),
        alternative="greater",
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    found = annotator_permutation_test(
        np.concatenate([first, second]), np.repeat([4, 9], [40, 30]), resamples=9999
    )
    assert found.p_value == pytest.approx(reference.pvalue, abs=0.01)


def test_units_and_names_play_no_part():
    rng = np.random.default_rng(1)
    values, who = rng.normal(size=(80, 3)), rng.integers(0, 5, 80)
    found = annotator_permutation_test(values, who)
    other = annotator_permutation_test(values * [3, 1e6, 1e-6] + 7, 100 - 10 * who)
    assert other.statistic == pytest.approx(found.statistic)
    constant = annotator_permutation_test(np.column_stack([values, np.full(80, 0.1)]), who)
    assert constant.statistic == pytest.approx(found.statistic)
    assert annotator_permutation_test(np.ones(80), who).p_value == 1


def test_strata_keep_their_annotators():
    # within each stratum annotator 0 has the higher of two values: 2^-6 of the permutations do
    values = np.array([1.0, 0.0] * 6) + np.repeat(np.arange(6), 2) * 10
    who, strata = np.array([0, 1] * 6), np.repeat(np.arange(6), 2)
    found = annotator_permutation_test(values, who, strata, resamples=20_000)
    assert found.statistic == pytest.approx(12)
    assert found.p_value == pytest.approx(2 / 64, abs=0.005)  # all higher, or all lower
    alone = annotator_permutation_test(values, who, resamples=999)
    assert alone.p_value > 0.5
    # strata of one row or one annotator change nothing
    padded = annotator_permutation_test(
        np.append(values, [50.0, 1.0, 2.0]),
        np.append(who, [0, 1, 1]),
        np.append(strata, [6, 7, 7]),
        resamples=20_000,
    )
    assert padded == found


def test_topics_are_no_difference_between_annotators_once_they_are_strata():
    rng = np.random.default_rng(2)
    topic = rng.integers(0, 4, 400)
    who = 3 * topic + rng.integers(0, 3, 400)  # each topic has three annotators of its own
    values = topic + rng.normal(size=400)
    assert annotator_permutation_test(values, who).p_value == 0.001
    assert annotator_permutation_test(values, who, topic).p_value > 0.05


def test_pairs_as_strata_need_no_exchangeable_pairs():
    rng = np.random.default_rng(3)
    pair = np.repeat(np.arange(150), 3)
    gap = rng.normal(size=150)[pair]
    # the pair itself decides who gets it
    who = np.where(np.abs(gap) > 0.7, 0, 5) + np.tile(np.arange(3), 150)
    alike = np.where(rng.random(450) < ndtr(gap), 1, -1) * gap
    assert annotator_permutation_test(alike, who, pair).p_value > 0.05
    assert annotator_permutation_test(alike, who).p_value < 0.05  # finds the assignment
    contrary = np.where(rng.random(450) < ndtr(np.where(who % 5 == 0, -gap, gap)), 1, -1) * gap
    assert annotator_permutation_test(contrary, who, pair).p_value == 0.001


def test_rows_of_a_block_move_together():
    values, who = np.array([1.0, 1, 1, 0, 0, 0, 1, 0]), np.array([0, 0, 0, 1, 1, 1, 0, 1])
    block = np.array([0, 0, 0, 1, 1, 1, 2, 3])
    found = annotator_permutation_test(values, who, block=block, resamples=20_000)
    # four units of two annotators: the best and the worst of six assignments reach it
    assert found.p_value == pytest.approx(1 / 3, abs=0.01)
    assert annotator_permutation_test(values, who, resamples=20_000).p_value < 0.05
    means = annotator_permutation_test(
        np.array([1.0, 0, 1, 0]), np.array([0, 1, 0, 1]), resamples=20_000
    )
    assert found.statistic == pytest.approx(means.statistic)


def test_many_annotators_with_few_labels_each():
    rng = np.random.default_rng(4)
    who = np.repeat(np.arange(200), 5)
    shift = np.where(np.arange(200) < 100, 0.8, -0.8)[who]
    values = rng.normal(size=1000)
    assert annotator_permutation_test(values + shift, who).p_value == 0.001
    nothing = [
        annotator_permutation_test(rng.normal(size=1000), who, resamples=99, seed=i).p_value
        for i in range(40)
    ]
    assert np.mean(np.array(nothing) <= 0.2) == pytest.approx(0.2, abs=0.2)


def test_batches_of_permutations_are_all_counted(monkeypatch):
    rng = np.random.default_rng(5)
    values, who = rng.normal(size=100), rng.integers(0, 4, 100)
    whole = annotator_permutation_test(values, who, resamples=1000)
    monkeypatch.setattr("hidden_context.statistics.context_tests._BATCH_NUMBERS", 30_000)
    assert annotator_permutation_test(values, who, resamples=1000) == whole


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: annotator_permutation_test(np.ones(3), np.zeros(2)), "annotator numbers"),
        (lambda: annotator_permutation_test(np.ones(0), np.ones(0)), "one or more"),
        (lambda: annotator_permutation_test(np.array([1, np.nan]), np.arange(2)), "finite"),
        (lambda: annotator_permutation_test(np.ones(3), np.zeros(3)), "two annotators"),
        (
            lambda: annotator_permutation_test(np.ones(3), np.arange(3), np.arange(3)),
            "nothing to permute",
        ),
        (
            lambda: annotator_permutation_test(
                np.ones(3), np.arange(3), np.array([0, 0, 1]), block=np.zeros(3)
            ),
            "one stratum",
        ),
    ],
)
def test_annotators_that_cannot_be_permuted_are_refused(call, text):
    with pytest.raises(ConfigError, match=text):
        call()


# -- one σ or each its own -----------------------------------------------------------------------


def judged(size, seed, own, scale=1.2):
    rng = np.random.default_rng(seed)
    gap, variance = rng.normal(size=size), np.exp(0.8 * rng.normal(size=size))
    spread = np.sqrt(variance if own else variance.mean())
    return gap, variance, (rng.random(size) < ndtr(scale * gap / spread)).astype(float)


@pytest.mark.parametrize("own", [False, True])
def test_likelihood_ratio_against_an_optimiser(own):
    gap, variance, label = judged(400, 0, own)
    relative = variance / variance.mean()

    def loss(scale, share):
        z = scale * gap / np.sqrt(1 - share + share * relative)
        return -stats.norm.logcdf(np.where(label > 0, z, -z)).sum()

    def best(share):
        return optimize.minimize_scalar(lambda c: loss(c, share), bounds=(0, 10)).fun

    expected = 2 * (best(0.0) - min(best(share) for share in np.linspace(0, 1, 21) ** 2))
    found, drawn = common_sigma_ratios(gap, variance, label, 99, 0)
    assert found == pytest.approx(expected, abs=1e-4)
    assert drawn.shape == (99,)
    assert (drawn > -1e-9).all()


def test_drawn_ratios_are_those_of_drawn_labels():
    # at the end of the range half of the ratios are 0, the rest a χ² of one degree of freedom
    gap, variance, label = judged(2000, 1, False)
    _, drawn = common_sigma_ratios(gap, variance, label, 1999, 0)
    assert np.mean(drawn < 1e-6) == pytest.approx(0.5, abs=0.06)
    assert np.quantile(drawn, 0.95) == pytest.approx(stats.chi2(1).ppf(0.9), rel=0.15)
    # the same from sets of labels that are fitted one by one
    null = judged(2000, 1, False)
    p = ndtr(1.2 * null[0] / np.sqrt(null[1].mean()))
    rng = np.random.default_rng(2)
    one_by_one = [
        common_sigma_ratios(gap, variance, (rng.random(2000) < p).astype(float), 1, 0)[0]
        for _ in range(60)
    ]
    assert stats.ks_2samp(np.round(one_by_one, 6), np.round(drawn, 6)).pvalue > 0.01


def test_common_sigma_is_kept_and_own_sigma_is_found():
    p_values = [common_sigma_test(*judged(500, seed, False)).p_value for seed in range(60)]
    rejected = sum(p <= 0.05 for p in p_values)
    assert stats.binomtest(rejected, 60, 0.05).pvalue > 0.005
    found = [common_sigma_test(*judged(500, seed, True)).p_value for seed in range(20)]
    assert sum(p <= 0.05 for p in found) >= 17
    result = common_sigma_test(*judged(500, 0, True))
    assert isinstance(result, TestResult)
    assert result.resamples == 199
    assert "look alike" in result.limit


def test_orientation_and_units_play_no_part():
    gap, variance, label = judged(300, 3, True)
    found = common_sigma_test(gap, variance, label)
    flip = np.where(np.random.default_rng(0).random(300) < 0.5, -1, 1)
    turned = common_sigma_test(flip * gap, variance, np.where(flip < 0, 1 - label, label))
    assert turned == found
    chosen_first = common_sigma_test((2 * label - 1) * gap, variance, np.ones(300))
    assert chosen_first == found
    scaled = common_sigma_test(30 * gap, 900 * variance, label)
    assert scaled.statistic == pytest.approx(found.statistic)


def test_equal_variances_and_separated_labels_say_nothing():
    gap, _, label = judged(200, 4, False)
    assert common_sigma_test(gap, np.full(200, 2.0), label).p_value == 1
    separated = common_sigma_test(gap, np.exp(gap), (gap > 0).astype(float))
    assert separated.statistic == pytest.approx(0, abs=1e-3)
    assert separated.p_value > 0.05


def test_cells_of_many_pairs_lose_little(monkeypatch):
    gap, variance, label = judged(4000, 5, True, scale=0.8)
    exact = common_sigma_ratios(gap, variance, label, 199, 0)
    monkeypatch.setattr(sigma_likelihood, "_EXACT_PAIRS", 3999)
    cells = common_sigma_ratios(gap, variance, label, 199, 0)
    assert cells[0] == pytest.approx(exact[0], rel=0.05)
    assert np.quantile(cells[1], 0.9) == pytest.approx(np.quantile(exact[1], 0.9), rel=0.35)
    # batches of pairs are all drawn
    monkeypatch.setattr(sigma_likelihood, "_BATCH_NUMBERS", 199 * 700)
    small = common_sigma_ratios(gap, variance, label, 199, 0)
    assert small[0] == cells[0]
    assert np.mean(small[1]) == pytest.approx(np.mean(cells[1]), rel=0.4)


@pytest.mark.parametrize(
    ("gap", "variance", "label", "text"),
    [
        (np.ones(2), np.ones(3), np.ones(2), "equally long"),
        (np.ones(0), np.ones(0), np.ones(0), "non-empty"),
        (np.ones(2), np.array([1.0, 0.0]), np.ones(2), "above 0"),
        (np.array([1.0, np.inf]), np.ones(2), np.ones(2), "finite"),
        (np.ones(2), np.ones(2), np.array([1.0, 1.2]), "labels must lie"),
    ],
)
def test_comparisons_that_cannot_be_tested_are_refused(gap, variance, label, text):
    with pytest.raises(ConfigError, match=text):
        common_sigma_test(gap, variance, label)
