from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis.metrics import (
    Count,
    label_groups,
    pair_record,
    rated_at_least,
    response_record,
    reward_moments,
)

PHI = NormalDist().cdf


def softplus_inverse(sigma):
    return math.log(math.expm1(sigma))


def log_probs(*rows):
    return np.log(np.array(rows))


# Three atoms 0, ½, 1. Means .925, .5, .7475; 0.01 quantiles as bins 1/15, 1/6, (1 + 1/99)/3.
A, B, C = (0.05, 0.05, 0.9), (0.02, 0.96, 0.02), (0.005, 0.495, 0.5)


def test_base_pairs_by_hand():
    chosen, rejected = np.array([[1.0], [0.5], [0.0]]), np.array([[0.0], [0.5], [2.0]])
    record = pair_record(heads.make("base"), chosen, rejected, ["mean", "cvar:0.05"])
    losses = [math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(2))]
    assert record.loss == pytest.approx(sum(losses) / 3, abs=1e-12)
    assert record.accuracy == Count(1.5, 3)
    assert record.accuracy_at == {"mean": Count(1.5, 3), "cvar:0.05": Count(1.5, 3)}
    assert record.reward_mean == pytest.approx(4 / 6, abs=1e-12)
    assert (record.n, record.reward_stddev, record.r2) == (3, 0.0, None)


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
def test_mean_and_variance_pairs_by_hand(likelihood):
    head = heads.make("mean_and_variance", likelihood=likelihood)
    # σ 3 against 4: z = (2 − 1)/5 = 0.2, then equal texts, then z = −0.2
    chosen = np.array([[2.0, 3.0], [1.0, 4.0], [1.0, 4.0]])
    rejected = np.array([[1.0, 4.0], [1.0, 4.0], [2.0, 3.0]])
    for raw in (chosen, rejected):
        raw[:, 1] = [softplus_inverse(s) for s in raw[:, 1]]
    record = pair_record(head, chosen, rejected, ["quantile:0.01"])
    if likelihood == "probit":
        probabilities = [PHI(0.2), 0.5, PHI(-0.2)]
    else:
        probabilities = [1 / (1 + math.exp(-math.sqrt(2 * math.pi) * z)) for z in (0.2, 0.0, -0.2)]
    expected = -sum(map(math.log, probabilities)) / 3
    assert record.loss == pytest.approx(expected, abs=1e-12)
    assert record.accuracy == Count(1.5, 3)
    # texts: μ 2, 1, 1, 1, 1, 2 and σ 3, 4, 4, 4, 4, 3
    assert record.reward_mean == pytest.approx(8 / 6, abs=1e-12)
    assert record.reward_stddev == pytest.approx(22 / 6, abs=1e-12)
    variance_of_means, mean_variance = 2 / 9, (4 * 16 + 2 * 9) / 6
    expected = variance_of_means / (variance_of_means + mean_variance)
    assert record.r2 == pytest.approx(expected, abs=1e-12)


def test_categorical_pairs_by_hand():
    head = heads.make("categorical", num_atoms=3)
    record = pair_record(head, log_probs(A, B), log_probs(B, B), ["mean", "quantile:0.01:bins"])
    wins = 0.05 * 0.02 + 0.9 * 0.98  # atom ½ beats 0; atom 1 beats both others
    ties = 0.05 * 0.02 + 0.05 * 0.96 + 0.9 * 0.02
    expected = -(math.log(wins + ties / 2) + math.log(0.5)) / 2
    assert record.loss == pytest.approx(expected, abs=1e-12)
    assert record.accuracy == Count(1.5, 2)
    assert record.accuracy_at == {"mean": Count(1.5, 2), "quantile:0.01:bins": Count(0.5, 2)}
    assert record.reward_mean == pytest.approx((0.925 + 3 * 0.5) / 4, abs=1e-12)


def test_the_two_readings_of_a_categorical_quantile_rank_differently():
    head = heads.make("categorical", num_atoms=3)
    first, second = log_probs(A, B, C, C), log_probs(B, A, A, C)
    at = {
        name: rated_at_least(head, name, first, second)
        for name in ("mean", "quantile:0.01:bins", "quantile:0.01:step")
    }
    assert at["mean"] == Count(2, 4)  # .925 ≥ .5, and the tie
    assert at["quantile:0.01:bins"] == Count(3, 4)  # 1/6 ≥ 1/15, .337 ≥ 1/15, and the tie
    # as a step, A and B both have their 0.01 quantile at atom 0: ties
    assert at["quantile:0.01:step"] == Count(4, 4)
    half = rated_at_least(head, "quantile:0.01:step", first, second, ties="half")
    assert half == Count(2.5, 4)


def test_caution_turns_a_risky_normal_reward_down():
    head = heads.make("mean_and_variance")
    risky = np.array([[1.0, softplus_inverse(1.0)]])  # 0.01 quantile 1 − 2.326 = −1.326
    safe = np.array([[0.0, softplus_inverse(0.5)]])  # 0 − 1.163
    assert rated_at_least(head, "mean", risky, safe) == Count(1, 1)
    assert rated_at_least(head, "quantile:0.01", risky, safe) == Count(0, 1)


@pytest.mark.parametrize("head_type", ["base", "mean_and_variance", "categorical"])
def test_swapping_the_sides_turns_accuracy_around(head_type):
    head = heads.make(head_type)
    generator = np.random.default_rng(5)
    first, second = generator.normal(size=(2, 301, head.num_outputs)).round(1)
    second[:7] = first[:7]
    names = ["mean", "quantile:0.2:bins"]
    forward = pair_record(head, first, second, names)
    backward = pair_record(head, second, first, names)
    assert forward.accuracy.count + backward.accuracy.count == 301
    for name in names:
        assert forward.accuracy_at[name].count + backward.accuracy_at[name].count == 301
    if head_type != "base":
        assert forward.r2 == pytest.approx(backward.r2, rel=1e-12)


def test_moments_of_texts_that_do_not_vary_have_no_r_squared():
    head = heads.make("categorical", num_atoms=2)
    certain = np.array([[2000.0, 0.0]] * 3)  # all probability on atom 0, every time
    assert reward_moments(head, certain) == (0.0, 0.0, None)
    coin = np.zeros((3, 2))
    assert reward_moments(head, coin) == pytest.approx((0.5, 0.5, 0.0))


def test_responses_are_compared_only_where_every_row_has_two():
    head = heads.make("base")
    outputs = np.array([[0.0], [0.0], [1.0], [0.0]])
    record = response_record(head, outputs, np.array([2, 2]), ["mean"])
    assert record.second_at_least == {"mean": Count(1, 2)}
    assert (record.n, record.num_responses, record.reward_mean) == (2, 4, 0.25)
    ragged = response_record(head, outputs, np.array([1, 3]), ["mean"])
    assert (ragged.n, ragged.second_at_least) == (2, None)


def test_soft_labels_turn_and_tie_the_pairs_they_label():
    head = heads.make("base")
    chosen = np.array([[1.0], [1.0], [1.0], [0.0]])
    preference = np.array([1.0, 0.25, 0.5, 0.0])
    record = pair_record(head, chosen, np.array([[0.0]] * 3 + [[2.0]]), ["mean"], preference)
    win, lose, far = math.log1p(math.exp(-1)), math.log1p(math.exp(1)), math.log1p(math.exp(-2))
    losses = [win, 0.25 * win + 0.75 * lose, 0.5 * win + 0.5 * lose, far]
    assert record.loss == pytest.approx(sum(losses) / 4, abs=1e-12)
    # right, wrong (most were for the other), a tie of the annotators, right the other way round
    assert record.accuracy == Count(2.5, 4)
    assert record.accuracy_at == {"mean": Count(2.5, 4)}
    tied = pair_record(head, chosen, chosen[::-1].copy(), ["mean"], np.full(4, 0.5))
    assert (tied.accuracy, tied.accuracy_at) == (Count(2.0, 4), {"mean": Count(2, 4)})


def test_counts_keep_halves():
    assert Count(1.5, 3).to_dict() == {"share": 0.5, "count": 1.5, "total": 3}
    assert Count(57.0, 187).share == 57 / 187


def test_groups_are_all_rows_then_each_label_then_each_combination():
    labels = {
        "data_subset": np.array(["x", "x", "y", ""]),
        "objective": np.array(["x", "y", "y", "y"]),
    }
    groups = [(group, mask.tolist()) for group, mask in label_groups(labels, 4)]
    assert groups == [
        ({}, [True] * 4),
        ({"data_subset": "x"}, [True, True, False, False]),
        ({"data_subset": "y"}, [False, False, True, False]),
        ({"objective": "x"}, [True, False, False, False]),
        ({"objective": "y"}, [False, True, True, True]),
        ({"data_subset": "x", "objective": "x"}, [True, False, False, False]),
        ({"data_subset": "x", "objective": "y"}, [False, True, False, False]),
        ({"data_subset": "y", "objective": "y"}, [False, False, True, False]),
    ]
    assert [group for group, _ in label_groups({}, 2)] == [{}]
