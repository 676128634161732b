from __future__ import annotations

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis.evidence import blocks, pair_evidence, response_evidence
from hidden_context.analysis.intervals import Resampling, pair_moments, response_moments
from hidden_context.likelihood import Labels, make_likelihood
from hidden_context.statistics.judgement_metrics import judgement_metrics
from hidden_context.statistics.variance import explained_variance

RESAMPLING = Resampling(resamples=199)


def normals(size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, 2)), generator.normal(size=(size, 2))


def test_the_estimates_are_the_metrics_of_the_same_pairs():
    import torch

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
    near, moved = (
        pair_moments(pair_evidence(likelihood, a, b, np.ones(40)), cluster).intervals(
            rows, RESAMPLING
        )
        for a, b in ((chosen, rejected), (chosen + far, rejected + far))
    )
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
    from hidden_context.analysis import evidence as module

    head = heads.make("categorical", num_atoms=4)
    generator = np.random.default_rng(2)
    chosen, rejected = generator.normal(size=(2, 25, 4))
    likelihood = make_likelihood(head)
    whole = pair_evidence(likelihood, chosen, rejected, np.ones(25), ["cvar:0.1"])
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert [(part.start, part.stop) for part in blocks(25)] == [(0, 7), (7, 14), (14, 21), (21, 25)]
    parts = pair_evidence(likelihood, chosen, rejected, np.ones(25), ["cvar:0.1"])
    np.testing.assert_array_equal(whole.loss, parts.loss)
    np.testing.assert_array_equal(whole.right_at["cvar:0.1"], parts.right_at["cvar:0.1"])
    outputs = np.concatenate([chosen, rejected])
    counts = np.full(25, 2)
    block = response_evidence(head, outputs, counts, ["mean"])
    monkeypatch.undo()
    np.testing.assert_array_equal(
        block.second_at_least["mean"],
        response_evidence(head, outputs, counts, ["mean"]).second_at_least["mean"],
    )


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
    assert "r2_within" not in without.statistics
