"""Every head through a whole run: what is learnt, what is written, what is read back."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.heads import EnsembleHead
from hidden_context.models import RewardModel
from hidden_context.statistics.evaluation.judgement_metrics import (
    grouped_judgement_metrics,
    judgement_metrics,
)
from support.builders import preference_rows
from support.runs import logged, losses

ROWS = preference_rows(64, seed=1, words=2)
TEST = preference_rows(24, seed=2, words=2)
LAYERS = ["q_proj", "v_proj", "up_proj", "down_proj"]
ENSEMBLE = {"ensemble": "heads", "ensemble_members": 3, "probe_members": 3}
HEADS = {
    "base": {},
    "mean_and_variance": {},
    "categorical": {"entropy_coeff": 0.0},
    "factor": {"num_factors": 2},
    "mixture": {"num_components": 2},
    "quantile": {"num_atoms": 5},
    "ensemble of base": {"reward_model_type": "base", **ENSEMBLE},
    "ensemble of factor": {"reward_model_type": "factor", **ENSEMBLE},
}
ADAPTERS = {
    "ensemble of adapters": {"reward_model_type": "base", "ensemble": "lora", "ensemble_members": 2}
}


def check_saved(result, spread: bool) -> None:
    """The reloaded model gives the same raw outputs and metrics, and the card names the head."""
    again = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    assert again.head == result.model.head
    texts = [row[side] for row in TEST for side in ("chosen", "rejected")]
    raw = again.raw_outputs(texts, engine="padded")
    assert raw.shape == (48, again.head.num_outputs)
    assert torch.equal(raw, result.model.raw_outputs(texts, engine="padded"))
    labels = labels_of([read_row(dict(row)) for row in TEST])
    groups = {name: [row[name] for row in TEST] for name in ("data_subset", "objective")}
    metrics = grouped_judgement_metrics(again.likelihood, raw, labels, groups)
    assert result.metrics == pytest.approx(metrics, abs=1e-4)
    assert ({"reward_stddev", "r2"} <= set(metrics)) == spread
    overall = judgement_metrics(again.likelihood, raw, labels)
    shares = {name: value for name, value in overall.items() if name.endswith("_share")}
    assert not shares or sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert ("ignorance_share" in shares) == isinstance(again.head, EnsembleHead)
    assert ("shared_context_share" in shares) == (again.head.member.type == "factor")
    assert again.reward_scale == result.model.reward_scale
    means = again.head.distribution(raw).mean
    scale = (float(means.mean()), float(means.std(correction=0)), 48)
    assert dataclasses.astuple(again.reward_scale) == pytest.approx(scale, abs=1e-4)
    card = (result.path / "README.md").read_text()
    title = re.search(r"^# Reward model with (.*)$", card, re.MULTILINE)
    assert title is not None
    assert again.head.type in title.group(1)
    assert again.head.member.type in card.split("## Data")[0]
    assert f"- {again.head.type}\n" in card.split("---")[1]  # a tag of the hub's header
    assert json.dumps(again.head.to_dict()) in card
    assert f"| loss | {result.metrics['loss']:.4g} |" in card


@pytest.mark.parametrize("kind", HEADS | ADAPTERS)
def test_fine_tuning_learns_and_saves_every_head(backbones, fit, kind):
    options = {"reward_model_type": kind, **(HEADS | ADAPTERS)[kind]}
    result = fit(
        ROWS, TEST, backbone=backbones("llama", spread=1.0), tuning="lora", learning_rate=2e-2,
        lora_target_modules=LAYERS, num_train_epochs=3, quiet=True, **options,
    )  # fmt: skip
    curve, accuracy = losses(result), logged(result, "accuracy")
    # members of an ensemble start apart
    assert curve[0] == pytest.approx(math.log(2), abs=0.15 if "ensemble" in kind else 0.05)
    assert sum(curve[-4:]) < 0.8 * curve[0]
    assert sum(accuracy[-4:]) / 4 > sum(accuracy[:2]) / 2
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["loss"] < 0.3
    check_saved(result, kind != "base")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder of features, computed once for all heads."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize(
    ("kind", "embed"),
    [*((kind, "apart") for kind in HEADS), ("base", "response"), ("base", "together")],
)
def test_a_frozen_probe_learns_and_saves_every_head(fit, monkeypatch, features, kind, embed):
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(features))
    options = {"reward_model_type": kind, "probe_members": 3, **HEADS[kind]}
    result = fit(
        preference_rows(160, seed=3, words=2), TEST, freeze_backbone=True, embed=embed,
        probe_learning_rate=1e-2, probe_weight_decay=0.01, probe_batch_size=32, probe_epochs=15,
        probe_dropout=0.2, quiet=True, **options,
    )  # fmt: skip
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["loss"] < 0.45
    # the outputs of members trained apart are averaged where they mean the same
    apart = kind in ("factor", "mixture") or kind.startswith("ensemble")
    assert isinstance(result.model.head, EnsembleHead) == apart
    if apart:
        assert len(result.model.head.location) == len(result.model.head.scale) == 3
    check_saved(result, kind != "base")
