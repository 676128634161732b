"""Tests of hidden context: statistics by hand, exact nulls by enumeration, and power."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import ndtr

from hidden_context.statistics import checks
from hidden_context.statistics.significance import common_sigma
from hidden_context.statistics.significance.answers import answers_test
from hidden_context.statistics.significance.common_sigma import (
    common_sigma_ratios,
    common_sigma_test,
)
from hidden_context.statistics.significance.permutation import annotator_permutation_test
from hidden_context.statistics.votes.table import VoteTable

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
    assert found.name == "annotator_permutation"


def test_units_and_names_play_no_part_and_batches_are_all_counted(monkeypatch):
    rng = np.random.default_rng(1)
    values, who = rng.normal(size=(80, 3)), rng.integers(0, 5, 80)
    found = annotator_permutation_test(values, who)
    other = annotator_permutation_test(values * [3, 1e6, 1e-6] + 7, 100 - 10 * who)
    assert other.statistic == pytest.approx(found.statistic)
    constant = annotator_permutation_test(np.column_stack([values, np.full(80, 0.1)]), who)
    assert constant.statistic == pytest.approx(found.statistic)
    assert annotator_permutation_test(np.ones(80), who).p_value == 1
    monkeypatch.setattr(checks, "BATCH_NUMBERS", 30_000)
    assert annotator_permutation_test(values, who) == found


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


def test_own_sigma_is_found():
    found = [common_sigma_test(*judged(500, seed, True)) for seed in range(20)]
    assert sum(each.p_value <= 0.05 for each in found) >= 17
    assert found[0].resamples == 199
    assert "look alike" in found[0].limit


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
    assert common_sigma_test(gap, np.exp(gap), (gap > 0).astype(float)).p_value > 0.05


def test_cells_of_many_pairs_lose_little(monkeypatch):
    gap, variance, label = judged(4000, 5, True, scale=0.8)
    exact = common_sigma_ratios(gap, variance, label, 199, 0)
    monkeypatch.setattr(common_sigma, "_EXACT_PAIRS", 3999)
    cells = common_sigma_ratios(gap, variance, label, 199, 0)
    assert cells[0] == pytest.approx(exact[0], rel=0.05)
    assert np.quantile(cells[1], 0.9) == pytest.approx(np.quantile(exact[1], 0.9), rel=0.35)
    # batches of pairs are all drawn
    monkeypatch.setattr(checks, "BATCH_NUMBERS", 199 * 700)
    small = common_sigma_ratios(gap, variance, label, 199, 0)
    assert small[0] == cells[0]
    assert np.mean(small[1]) == pytest.approx(np.mean(cells[1]), rel=0.4)


def draw(number, people=12, items=60, each=4):
    """Votes of people who get items at random; each says ``equal`` as ready as they are."""
    rng = np.random.default_rng(number)
    who = np.argsort(rng.random((items, people)), axis=1)[:, :each].ravel()
    first = 1 / (1 + np.exp(-np.repeat(rng.normal(size=items), each)))
    equal = 1 / (1 + np.exp(1 - 2.0 * rng.normal(size=people)[who]))
    share = np.where(rng.random(len(who)) < equal, 0.5, rng.random(len(who)) < first)
    shown = rng.choice((-1, 1), len(who))
    return VoteTable.of(np.repeat(np.arange(items), each), who, share, shown=shown)


def test_p_value_against_all_permutations():
    # sides only, nobody's position known: the one part is how far people deviate
    item = np.repeat(np.arange(4), 3)
    who = np.array([0, 1, 2, 0, 1, 3, 0, 2, 3, 1, 2, 3])
    share = np.array([1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1])
    found = answers_test(VoteTable.of(item, who, share), resamples=20_000)
    assert found is not None
    assert list(found.parts) == ["deviation"]
    assert (found.votes, found.annotators) == (9, 4)  # all agree on the last item
    # t: the lone vote differs from both others, the others from one of two
    values = np.array([1, 0.5, 0.5] * 3) - 2 / 3
    variance = np.bincount(who[:9], np.full(9, np.square(values).mean()))
    scale = variance + variance.mean()

    def statistic(order):
        return (np.bincount(who[:9], values[list(order)]) ** 2 / scale).sum()

    orders = [
        tuple(3 * block + place for block, moved in enumerate(moves) for place in moved)
        for moves in itertools.product(itertools.permutations(range(3)), repeat=3)
    ]
    drawn = np.array([statistic(order) for order in orders])
    exact = (drawn >= statistic(range(9)) - 1e-9).mean()
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.statistic == pytest.approx(
        (statistic(range(9)) - drawn.mean()) / drawn.std(), abs=0.05
    )
    assert found.parts == {"deviation": found.p_value}


def test_who_says_equal_more_often_is_found_by_single_votes_only_across_items():
    found = answers_test(draw(3), resamples=199)
    assert found.parts["readiness"] == found.p_value == 1 / 200
    assert found.parts["position"] > 0.05
    table = draw(0, people=8, items=200, each=1)
    assert answers_test(table, resamples=99) is None
    found = answers_test(table, np.zeros(200), resamples=99)
    assert found.name == "answers_across_items"
    assert found.parts["readiness"] == 0.01
    assert "at random" in found.limit
    # each person got items of one kind, on which everybody would answer so
    kind = np.arange(200) % 2
    who = 2 * (np.arange(200) % 4) + kind
    sorted_out = VoteTable.of(np.arange(200), who, np.where(kind, 0.5, np.arange(200) % 4 < 2))
    assert answers_test(sorted_out, np.zeros(200), resamples=99).p_value == 0.01
    assert answers_test(sorted_out, kind, resamples=99) is None


def test_votes_on_a_block_move_together():
    table = draw(3)
    item, who, share = (np.repeat(each, 3) for each in (table.item, table.annotator, table.share))
    copies = 3 * item + np.tile(np.arange(3), len(table))  # such as the pairs of a ranking
    copied = VoteTable.of(copies, who, share, shown=np.repeat(table.shown, 3))
    found = answers_test(copied, block=np.arange(180) // 3, resamples=199)
    once = answers_test(table, resamples=199)
    assert found.statistic == pytest.approx(once.statistic)
    assert found.parts == once.parts
    assert answers_test(copied, resamples=199).statistic > 1.5 * once.statistic


def test_annotators_of_other_items_of_a_block_do_not_change_places():
    item, who = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 0, 1, 1, 2, 2])
    share = np.array([1, 0.5, 0.5, 0.5, 1, 1])
    found = answers_test(VoteTable.of(item, who, share), block=np.zeros(3), resamples=99)
    assert (found.votes, found.annotators) == (4, 2)


def test_a_taste_is_found_along_its_feature():
    feature = np.random.default_rng(0).normal(size=40)
    item, who = np.divmod(np.arange(80), 2)
    share = (feature[item] > 0) ^ (who == 1)  # two people of opposite tastes
    found = answers_test(VoteTable.of(item, who, share), features={"x": feature}, resamples=99)
    assert found.parts["x"] == found.p_value == 0.01


def test_large_files_are_sampled_in_order():
    assert checks.sample_rows(100, 0).tolist() == list(range(100))
    assert len(checks.sample_rows(1_000_000, 3)) == 20_000
    rows = checks.sample_rows(1000, 1, most=50)
    assert len(rows) == 50
    assert (np.diff(rows) > 0).all()
    again, other = (checks.sample_rows(1000, seed, 50).tolist() for seed in (1, 2))
    assert rows.tolist() == again != other
