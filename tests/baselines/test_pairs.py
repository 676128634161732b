from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hidden_context.baselines import (
    VotedPairs,
    baseline_metrics,
    contested_auroc,
    fit_baselines,
    vote_metrics,
)
from hidden_context.baselines.pairs import group_folds
from hidden_context.errors import ConfigError

PAIRS = VotedPairs(
    features=np.array([[1.0], [0.0], [2.0]]),
    lengths=np.array([5.0, 3.0, 9.0]),
    groups=np.array([0, 0, 1]),
    first=np.array([0, 1]),
    second=np.array([1, 2]),
    share=np.array([0.75, 0.0]),
    votes=np.array([4.0, 1.0]),
)


def test_parts_that_do_not_fit_are_refused():
    for name in ("lengths", "first", "share", "votes", "features"):
        short = {name: getattr(PAIRS, name)[:1]}
        with pytest.raises(ConfigError, match="do not fit"):
            dataclasses.replace(PAIRS, **short)
    with pytest.raises(ConfigError, match="do not fit"):
        PAIRS.take(np.zeros(2, dtype=bool))
    with pytest.raises(ConfigError, match="above 0"):
        dataclasses.replace(PAIRS, votes=np.array([1.0, 0.0]))
    with pytest.raises(ConfigError, match=r"in \[0, 1\]"):
        dataclasses.replace(PAIRS, share=np.array([1.5, 0.0]))


def test_pairs_are_taken_and_swapped():
    assert PAIRS.length_difference.tolist() == [2, -6]
    swapped = PAIRS.swapped()
    assert swapped.share.tolist() == [0.25, 1.0]
    assert swapped.length_difference.tolist() == [-2, 6]
    assert len(PAIRS.take(np.array([1]))) == 1


def test_no_group_is_on_two_sides():
    groups = np.repeat(np.arange(10), 3)[:, None].repeat(2, 1)
    folds = list(group_folds(groups, 4))
    assert len(folds) == 4
    assert sum(held_out.astype(int) for _, held_out in folds).tolist() == [1] * 30
    for learn, held_out in folds:
        assert np.array_equal(learn, ~held_out)
        assert not set(groups[learn, 0]) & set(groups[held_out, 0])
    assert [h.tolist() for _, h in group_folds(groups, 4)] == [h.tolist() for _, h in folds]


def test_pairs_of_two_groups_are_in_neither_part():
    groups = np.array([(a, b) for a in range(12) for b in range(a)])
    for learn, held_out in group_folds(groups, 4):
        assert (int(learn.sum()), int(held_out.sum())) == (9 * 8 / 2, 3 * 2 / 2)
        assert not set(groups[learn].flat) & set(groups[held_out].flat)


def test_few_groups_make_few_folds():
    assert len(list(group_folds(np.array([[0, 0], [1, 1], [1, 1]]), 4))) == 2
    # one group alone: each pair is its own
    assert len(list(group_folds(np.zeros((3, 2), dtype=int), 4))) == 3
    assert list(group_folds(np.zeros((1, 2), dtype=int), 4)) == []
    # one pair between two groups can be divided nowhere
    assert list(group_folds(np.array([[0, 1]]), 4)) == []


def test_metrics_by_hand():
    first = np.log([0.6, 0.5])
    second = np.log([0.4, 0.5])
    found = vote_metrics(first, second, PAIRS)
    nats = -(3 * math.log(0.6) + math.log(0.4) + math.log(0.5)) / 5
    assert found["loss"] == pytest.approx(nats)
    assert found["accuracy"] == pytest.approx((3 + 0.5) / 5)
    assert found["brier"] == pytest.approx((4 * 0.15**2 + 0.5**2) / 5)
    assert "contested_auroc" not in found  # one pair alone has two votes


def test_a_side_without_votes_costs_nothing_even_at_probability_zero():
    certain = vote_metrics(np.array([-math.inf]), np.zeros(1), PAIRS.take(np.array([1])))
    assert certain == {"loss": 0.0, "accuracy": 1.0, "brier": 0.0}


def test_contested_pairs_are_told_from_others():
    many = PAIRS.take(np.array([0, 0, 1, 0, 0]))
    many = dataclasses.replace(
        many, share=np.array([0.5, 0.4, 0.5, 1.0, 0.0]), votes=np.array([2.0, 5, 1, 3, 4])
    )
    score = np.array([3.0, 1.0, 0.0, 2.0, 0.5])  # the third has one vote
    assert contested_auroc(score, many) == pytest.approx(3 / 4)
    assert math.isnan(contested_auroc(score[2:3], many.take(np.array([2]))))


def test_baselines_are_measured_by_name():
    fitted = fit_baselines(PAIRS)
    found = baseline_metrics(fitted, PAIRS)
    assert set(found) == {"constant", "length", "logistic", "ridge"}
    assert found["constant"]["loss"] == pytest.approx(math.log(2))
    assert found["constant"]["accuracy"] == 0.5


def test_a_pair_that_everybody_finds_equal_is_not_contested():
    many = PAIRS.take(np.array([0, 0, 0]))
    many = dataclasses.replace(
        many,
        share=np.array([0.5, 0.5, 1.0]),
        votes=np.array([4.0, 4.0, 4.0]),
        equal=np.array([1.0, 0.5, 0.0]),
    )
    score = np.array([2.0, 1.0, 0.0])  # the second alone is contested
    assert contested_auroc(score, many) == pytest.approx(1 / 2)
    kept = many.take(np.array([1, 2]))
    assert kept.equal is not None
    assert kept.equal.tolist() == [0.5, 0.0]
