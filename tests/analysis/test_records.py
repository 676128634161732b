import math

import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads
from hidden_context.analysis.measure import evidence
from hidden_context.analysis.measure.evidence import blocks, pair_evidence, response_evidence
from hidden_context.analysis.measure.intervals import label_groups, pair_moments, response_moments
from hidden_context.analysis.measure.records import Count, record_of_pairs, record_of_responses
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics.evaluation.judgement_metrics import (
    explained_variance,
    judgement_metrics,
)
from hidden_context.statistics.interval import Resampling
from support.score_rows import softplus_inverse

PHI = stats.norm.cdf


def pair_record(model, chosen, rejected, risk_names=(), preference=None, labels=None):
    """The record of pairs by a head, or by a likelihood."""
    likelihood = model if hasattr(model, "head") else make_likelihood(model)
    if preference is None:
        preference = np.ones(len(chosen))
    found = pair_evidence(likelihood, chosen, rejected, preference, risk_names, labels)
    return record_of_pairs(found, np.ones(len(chosen), dtype=bool))


def response_record(head, outputs, num_responses, risk_names=()):
    found = response_evidence(head, outputs, num_responses, risk_names)
    return record_of_responses(found, np.ones(len(num_responses), dtype=bool))


def variance_shares(head, raw):
    return response_record(head, raw, np.ones(len(raw), dtype=int)).variance_shares


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
def test_mean_and_variance_pairs_by_hand(likelihood):
    head = heads.make("mean_and_variance", likelihood=likelihood)
    # σ 3 against 4: z = (2 − 1)/5 = 0.2, then equal texts, then z = −0.2
    chosen = np.array([[2.0, 3.0], [1.0, 4.0], [1.0, 4.0]])
    rejected = np.array([[1.0, 4.0], [1.0, 4.0], [2.0, 3.0]])
    for raw in (chosen, rejected):
        raw[:, 1] = [softplus_inverse(s) for s in raw[:, 1]]
    record = pair_record(head, chosen, rejected, ["quantile:0.01"])
    z = np.array([0.2, 0.0, -0.2])
    logistic = 1 / (1 + np.exp(-math.sqrt(2 * math.pi) * z))
    probabilities = logistic if likelihood == "logistic" else PHI(z)
    expected = -np.log(probabilities).mean()
    assert record.loss == pytest.approx(expected, abs=1e-12)
    assert record.accuracy == Count(1.5, 3)
    # texts: μ 2, 1, 1, 1, 1, 2 and σ 3, 4, 4, 4, 4, 3
    assert record.reward_mean == pytest.approx(8 / 6, abs=1e-12)
    assert record.reward_stddev == pytest.approx(22 / 6, abs=1e-12)
    variance_of_means, mean_variance = 2 / 9, (4 * 16 + 2 * 9) / 6
    expected = variance_of_means / (variance_of_means + mean_variance)
    assert record.r2 == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", heads.types())
def test_swapping_the_sides_turns_accuracy_around(kind):
    head = heads.make(kind)
    generator = np.random.default_rng(5)
    first, second = generator.normal(size=(2, 301, head.num_outputs)).round(1)
    second[:7] = first[:7]
    names = ["mean", "quantile:0.2:bins", "cvar:0.1"]
    forward, backward = (
        pair_record(head, *sides, names) for sides in ((first, second), (second, first))
    )
    assert forward.accuracy.count + backward.accuracy.count == 301
    for name in names:
        assert forward.accuracy_at[name].count + backward.accuracy_at[name].count == 301
    if kind == "base":
        assert forward.r2 is backward.r2 is None
    else:
        assert forward.r2 == pytest.approx(backward.r2, rel=1e-9)
    assert forward.variance_shares == pytest.approx(backward.variance_shares)


def test_moments_of_texts_that_do_not_vary_have_no_r_squared():
    head = heads.make("categorical", num_atoms=2)
    certain = np.array([[2000.0, 0.0]] * 3)  # all probability on atom 0, every time
    ones = np.ones(3, dtype=int)
    record = response_record(head, certain, ones)
    assert (record.reward_mean, record.reward_stddev, record.r2) == (0.0, 0.0, None)
    coin = response_record(head, np.zeros((3, 2)), ones)
    assert (coin.reward_mean, coin.reward_stddev, coin.r2) == pytest.approx((0.5, 0.5, 0.0))


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


def raw_factor(*rows):
    return np.array([[mean, load, softplus_inverse(s)] for mean, load, s in rows])


def test_factor_pairs_by_hand():
    head = heads.make("factor", num_factors=1)
    chosen = raw_factor((1.0, 2.0, 1.0), (0.0, 1.0, 2.0), (3.0, 0.0, 1.0))
    rejected = raw_factor((0.0, -1.0, 2.0), (0.0, 1.0, 2.0), (1.0, 4.0, 1.0))
    measure = "relative_quantile:0.1"
    record = pair_record(head, chosen, rejected, ["mean", measure])
    # shared context 9, 0, 16; noise 5, 8, 2
    z = [1 / math.sqrt(14), 0.0, 2 / math.sqrt(18)]
    assert record.loss == pytest.approx(-sum(math.log(PHI(x)) for x in z) / 3, abs=1e-12)
    assert record.variance_shares == {
        "shared_context": pytest.approx(25 / 40, abs=1e-12),
        "noise": pytest.approx(15 / 40, abs=1e-12),
    }
    assert record.accuracy == Count(2.5, 3)
    # the tenth served worst: half the difference of means less 1.28 halves of that of loadings,
    # which is the same for both sides
    assert record.accuracy_at == {"mean": Count(2.5, 3), measure: Count(2.5, 3)}


def test_a_relative_measure_weighs_the_two_texts_of_a_row_against_each_other():
    head = heads.make("factor", num_factors=1)
    first = raw_factor((0.1, 3.0, 1.0), (-0.1, -3.0, 1.0), (0.0, 2.0, 1.0))
    second = raw_factor((0.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 2.0, 1.0))
    # alone, the spread of the second text makes its low quantile the lower one; against each other
    # both sides spread alike, and the mean decides
    texts, relative = np.stack([second, first], axis=1).reshape(6, 3), "relative_quantile:0.1"
    record = response_record(head, texts, np.full(3, 2), ["quantile:0.1", relative])
    assert record.second_at_least == {"quantile:0.1": Count(1, 3), relative: Count(2, 3)}
    with pytest.raises(ConfigError, match="no shared context"):
        response_record(heads.make("base"), texts[:, :1], np.full(3, 2), [relative])


def test_causes_of_the_variance_of_responses():
    head = heads.make("factor", num_factors=1)
    outputs = raw_factor((0.0, 1.0, 2.0), (5.0, 3.0, 4.0))
    record = response_record(head, outputs, np.array([1, 1]))
    # shared context (1 + 9)/2, noise (4 + 16)/2
    assert record.variance_shares == {
        "shared_context": pytest.approx(1 / 3, abs=1e-12),
        "noise": pytest.approx(2 / 3, abs=1e-12),
    }
    normals = heads.make("ensemble", member=heads.make("mean_and_variance"), num_members=2)
    raw = np.array([[0.0, softplus_inverse(1.0), 2.0, softplus_inverse(1.0)]])
    assert variance_shares(normals, raw) == pytest.approx({"unsplit": 0.5, "ignorance": 0.5})
    for kind in ("base", "mean_and_variance", "categorical", "mixture", "quantile"):
        plain = heads.make(kind)
        assert variance_shares(plain, np.zeros((2, plain.num_outputs))) is None


def test_a_known_annotator_counts_as_such():
    head = heads.make("factor", num_factors=1)
    likelihood = make_likelihood(head, LikelihoodOptions(inference="map", names=("ann", "bob")))
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[1.0], [-1.0]]))
    raw = raw_factor((0.5, 1.0, 1.0)), raw_factor((0.0, 0.0, 1.0))
    said = {"annotations": [{"annotator": who, "preference": 1} for who in ("ann", "bob", "bob")]}
    labels = labels_of([read_row({"chosen": "", "rejected": "", **said})], likelihood.names.index)
    record = pair_record(likelihood, *raw, ["mean"], labels=labels)
    root = math.sqrt(2)
    losses = [-math.log(PHI(1.5 / root)), *[-math.log(PHI(-0.5 / root))] * 2]
    assert record.loss == pytest.approx(sum(losses) / 3, abs=1e-6)
    assert record.accuracy.share == pytest.approx(1 / 3)
    assert record.accuracy_at == {"mean": Count(1, 1)}  # the population's


def test_groups_are_all_rows_then_each_label_then_each_combination():
    labels = {
        "data_subset": np.array(["x", "x", "y", ""]),
        "objective": np.array(["x", "y", "y", "y"]),
    }
    pairs = [("x", "x"), ("x", "y"), ("y", "y")]  # and none of the empty label
    groups = label_groups(labels, 4)
    assert [group for group, _ in groups] == [
        *({}, {"data_subset": "x"}, {"data_subset": "y"}, {"objective": "x"}, {"objective": "y"}),
        *(dict(zip(labels, values, strict=True)) for values in pairs),
    ]
    for group, mask in groups:
        own = [all(labels[name][n] == value for name, value in group.items()) for n in range(4)]
        assert mask.tolist() == own
    assert [group for group, _ in label_groups({}, 2)] == [{}]


RESAMPLING = Resampling(resamples=199)


def normals(size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, 2)), generator.normal(size=(size, 2))


def test_the_estimates_are_the_metrics_of_the_same_pairs():
    likelihood = make_likelihood(heads.make("mean_and_variance"))
    chosen, rejected = normals(60)
    preference = np.r_[np.ones(50), np.zeros(5), np.full(5, 0.25)]
    evidence = pair_evidence(likelihood, chosen, rejected, preference, ["mean", "quantile:0.01"])
    rows = np.ones(60, dtype=bool)
    found = pair_moments(evidence, np.repeat(np.arange(20), 3)).intervals(rows, RESAMPLING)
    raw = torch.from_numpy(np.stack([chosen, rejected], axis=1)).flatten(0, 1)
    metrics = judgement_metrics(likelihood, raw, Labels.of_pairs(torch.from_numpy(preference)))
    for name in ("loss", "accuracy", "r2"):
        assert found[name].estimate == pytest.approx(metrics[name], abs=1e-12)
        assert found[name].low < found[name].estimate < found[name].high
    brier = np.mean((evidence.probability - preference) ** 2)
    assert found["brier"].estimate == pytest.approx(brier)
    gap, spread = evidence.difference**2, evidence.variance.sum(1)
    assert found["r2_within"].estimate == pytest.approx(gap.sum() / (gap.sum() + spread.sum()))
    assert found["accuracy_at"]["mean"].estimate == found["accuracy"].estimate
    assert set(found["accuracy_at"]) == {"mean", "quantile:0.01"}


def test_a_level_common_to_all_texts_changes_nothing():
    likelihood = make_likelihood(heads.make("mean_and_variance"))
    chosen, rejected = normals(40, 1)
    far = np.array([1e6, 0.0])
    rows, cluster = np.ones(40, dtype=bool), np.arange(40)
    both = (pair_evidence(likelihood, chosen + x, rejected + x, np.ones(40)) for x in (0, far))
    near, moved = (pair_moments(each, cluster).intervals(rows, RESAMPLING) for each in both)
    for name in ("r2", "r2_within"):
        assert moved[name].estimate == pytest.approx(near[name].estimate, abs=1e-6)
        assert moved[name].low == pytest.approx(near[name].low, abs=1e-5)


def test_rewards_without_variance_have_no_share_of_it():
    evidence = pair_evidence(
        make_likelihood(heads.make("base")), np.ones((6, 1)), np.zeros((6, 1)), np.ones(6)
    )
    found = pair_moments(evidence, np.arange(6)).intervals(np.ones(6, dtype=bool), RESAMPLING)
    assert set(found) == {"accuracy", "loss", "brier"}
    assert (found["accuracy"].method, found["accuracy"].high) == ("wilson", 1.0)


def test_blocks_cover_every_row_and_change_no_number(monkeypatch):
    head = heads.make("categorical", num_atoms=4)
    chosen, rejected = np.random.default_rng(2).normal(size=(2, 25, 4))
    likelihood, outputs = make_likelihood(head), np.concatenate([chosen, rejected])

    def found():
        pairs = pair_evidence(likelihood, chosen, rejected, np.ones(25), ["cvar:0.1"])
        rated = response_evidence(head, outputs, np.full(25, 2), ["mean"])
        return pairs.loss, pairs.right_at["cvar:0.1"], rated.second_at_least["mean"]

    whole = found()
    monkeypatch.setattr(evidence, "_BLOCK", 7)
    assert [(part.start, part.stop) for part in blocks(25)] == [(0, 7), (7, 14), (14, 21), (21, 25)]
    np.testing.assert_array_equal(found(), whole)


def test_within_rows_of_any_number_of_responses():
    head = heads.make("mean_and_variance")
    generator = np.random.default_rng(3)
    counts = generator.integers(1, 6, size=4000)
    level = generator.normal(scale=5, size=4000)
    means = np.repeat(level, counts) + generator.normal(scale=1.5, size=counts.sum())
    raw = np.stack([means, np.full(len(means), np.log(np.expm1(1.0)))], axis=1)
    evidence = response_evidence(head, raw, counts)
    assert evidence.second_at_least is None
    moments = response_moments(evidence, np.arange(4000))
    found = moments.intervals(np.ones(4000, dtype=bool), RESAMPLING)
    assert found["r2"].estimate == pytest.approx(explained_variance(means, np.ones(len(means))))
    assert found["r2_within"].estimate == pytest.approx(2.25 / 3.25, abs=0.02)
    assert found["r2_within"].low < 2.25 / 3.25 < found["r2_within"].high
    without = response_moments(evidence, np.arange(4000), within=False)
    assert "r2_within" not in without.metrics
