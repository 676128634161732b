"""Do annotators choose differently? Against enumeration, and by level and power in simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from hidden_context.errors import ConfigError
from hidden_context.statistics.annotator_tests import answers_test
from hidden_context.statistics.votes import VoteTable


def draw(number, people=12, items=60, each=4, ready=0.0, feature_taste=0.0):
    """Votes of people who get items at random; each says ``equal`` as ready as they are."""
    rng = np.random.default_rng(number)
    who = np.argsort(rng.random((items, people)), axis=1)[:, :each].ravel()
    item = np.repeat(np.arange(items), each)
    feature = rng.normal(size=items)
    taste = feature_taste * rng.normal(size=people)
    first = 1 / (1 + np.exp(-(rng.normal(size=items)[item] + taste[who] * feature[item])))
    equal = 1 / (1 + np.exp(1 - ready * rng.normal(size=people)[who]))
    share = np.where(rng.random(len(who)) < equal, 0.5, rng.random(len(who)) < first)
    return VoteTable.of(item, who, share, shown=rng.choice((-1, 1), len(who))), feature


def rejected(trials, resamples=99, **options):
    """How many of some data sets are rejected at 5 %."""
    found = [
        answers_test(table, resamples=resamples, seed=n, **options)
        for n, (table, _) in enumerate(trials)
    ]
    return sum(test.p_value <= 0.05 for test in found)


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
    assert found.to_dict()["parts"] == {"deviation": found.p_value}


def test_it_keeps_its_level_and_finds_who_says_equal_more_often():
    null = rejected(draw(n) for n in range(150))
    assert stats.binomtest(null, 150, 0.05).pvalue > 1e-3
    across = rejected((draw(n) for n in range(150)), strata=np.zeros(60))
    assert stats.binomtest(across, 150, 0.05).pvalue > 1e-3
    assert rejected(draw(n, ready=1.5) for n in range(20)) >= 18
    table, _ = draw(3, ready=2.0)
    found = answers_test(table, resamples=199)
    assert found.parts["readiness"] == found.p_value == 1 / 200
    assert found.parts["position"] > 0.05


def test_single_votes_on_items_tell_only_where_items_came_at_random():
    table, _ = draw(0, people=8, items=200, each=1, ready=2.0)
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


def test_a_taste_is_found_along_its_feature_alone():
    sets = [draw(n, items=150, feature_taste=1.2) for n in range(12)]
    found = [
        answers_test(table, features={"feature": feature}, resamples=99, seed=n)
        for n, (table, feature) in enumerate(sets)
    ]
    assert sum(test.parts["feature"] <= 0.05 for test in found) >= 11
    assert sum(test.parts["readiness"] <= 0.05 for test in found) <= 3
    blind = rejected(sets)
    assert blind <= 9


def test_votes_of_one_ranking_move_together():
    """People alike rank three responses, whose three pairs say the same thing over and over."""

    def rankings(number):
        rng = np.random.default_rng(number)
        judged, people = 40, 6
        votes = []
        for example in range(judged):
            for who in rng.permutation(people)[:3]:
                first = float(rng.random() < 0.5)
                votes += [(3 * example + pair, who, first) for pair in range(3)]
        item, who, share = map(np.array, zip(*votes, strict=True))
        return VoteTable.of(item, who, share), None

    block = np.arange(120) // 3
    apart = rejected(rankings(n) for n in range(60))
    together = rejected((rankings(n) for n in range(60)), block=block)
    assert apart >= 12
    assert stats.binomtest(together, 60, 0.05).pvalue > 1e-3


def test_annotators_of_other_items_of_a_block_do_not_change_places():
    item, who = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 0, 1, 1, 2, 2])
    share = np.array([1, 0.5, 0.5, 0.5, 1, 1])
    found = answers_test(VoteTable.of(item, who, share), block=np.zeros(3), resamples=99)
    assert (found.votes, found.annotators) == (4, 2)


def test_what_is_refused():
    table, feature = draw(0)
    with pytest.raises(ConfigError, match="a number for each of 60 items"):
        answers_test(table, features={"length": feature[:5]})
    with pytest.raises(ConfigError, match="must lie in one stratum"):
        answers_test(table, np.arange(60) % 2, block=np.zeros(60))
    with pytest.raises(ConfigError, match="stratum numbers"):
        answers_test(table, np.zeros(3))
    with pytest.raises(ConfigError, match="block numbers"):
        answers_test(table, block=np.zeros(3))
