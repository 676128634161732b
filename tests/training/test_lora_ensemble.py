"""Training ensembles of adapters: members apart, one model of them, and going on after a stop."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hidden_context.errors import ConfigError, MissingFileError
from hidden_context.models import RewardModel
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.network.modules import final_linear
from hidden_context.training import finetune, run
from support.builders import preference_rows, train_config
from support.paper_layout import one_thread
from support.runs import spied

__all__ = ["one_thread"]

ROWS = preference_rows(16, seed=1, words=2)
TEST = preference_rows(12, seed=2, words=2)
STEPS = {"save_steps": 2, "weight_decay": 0.1, "num_train_epochs": 2}
RESUMED = {**STEPS, "resume_from_checkpoint": "true"}


def config(folder, out, **options):
    defaults = {"tuning": "lora", "ensemble": "lora", "ensemble_members": 2, "learning_rate": 1e-2}
    return train_config(folder, out, **(defaults | {"eval_steps": 100} | options))


def members_losses(result) -> list[tuple[int, float]]:
    return [(line["member"], line["loss"]) for line in result.history if "loss" in line]


def sides(model):
    return [model.raw_outputs([row[side] for row in TEST]) for side in ("chosen", "rejected")]


def adapters(out, count=2):
    """Weights of all members of a finished run."""
    return [
        load_file(out / "final" / f"member_{m}" / "adapter_model.safetensors") for m in range(count)
    ]


def same(first, second, **tolerance):
    return all(
        a.keys() == b.keys() and all(torch.allclose(a[k], b[k], **tolerance) for k in a)
        for a, b in zip(first, second, strict=True)
    )


class Watch(TrainerCallback):
    """Keeps each member's first head and the decay of its weights; may stop a member at a step."""

    def __init__(self, stop=(None, None)) -> None:
        self.stop, self.member, self.heads, self.decays = stop, -1, [], []

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **_):
        self.member += 1
        weight = final_linear(model.get_base_model())[1].weight
        self.heads.append(weight.detach().clone())
        groups = optimizer.param_groups
        decays = [g["weight_decay"] for g in groups if any(p is weight for p in g["params"])]
        self.decays += decays
        if self.stop == (self.member, 0):
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **_):
        if self.stop == (self.member, state.global_step):
            raise KeyboardInterrupt


def draws_seen(patch):
    """How often every member sees each example."""
    return spied(patch, finetune, "fit", lambda *_, draws=None, **options: draws)


@pytest.fixture(scope="module")
def backbone(backbones):
    return backbones("llama", spread=1.0)


@pytest.fixture(scope="module")
def finished(backbone, tmp_path_factory):
    """A finished run of two members, with all that it wrote and what was seen of it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        draws = draws_seen(patch)
        result = run(config(backbone, out, **STEPS), ROWS, TEST, callbacks=[watch])
    return result, out, watch, draws


def test_the_model_is_its_members(finished):
    result, out, _, _ = finished
    assert isinstance(result.model, AdapterEnsembleRewardModel)
    each = []
    for number in range(2):
        alone, kept = (
            sides(RewardModel.from_pretrained(folder, dtype="float32"))
            for folder in (result.path / f"member_{number}", out / f"member_{number}" / "final")
        )
        assert all(torch.equal(a, b) for a, b in zip(alone, kept, strict=True))
        each.append(alone)
    for side, here in enumerate(sides(result.model)):
        expected = torch.cat([member[side] for member in each], dim=-1)
        assert torch.allclose(here, expected, atol=1e-6)
    assert (each[0][0] - each[1][0]).abs().mean() > 0.01


def test_members_are_in_one_unit_by_the_training_pairs(finished):
    """The noise of a comparison included; ignorance is the spread of members in that unit."""
    result, out, _, _ = finished
    model = result.model
    raw = [model.raw_outputs([row[side] for row in ROWS]) for side in ("chosen", "rejected")]
    expected = model.head.in_one_unit(*raw)
    assert model.head.location == pytest.approx(expected.location, abs=1e-5)
    assert model.head.scale == pytest.approx(expected.scale, abs=1e-5)
    chosen, rejected = sides(model)
    scale = torch.tensor(model.head.scale)
    ignorance = ((chosen - rejected) / scale).var(-1, correction=0).mean()
    share = ignorance / (ignorance + (math.pi**2 / 3 / scale**2).mean())
    assert 1e-4 < result.metrics["ignorance_share"] == pytest.approx(float(share), abs=1e-5)
    assert "data_subset_helpful_ignorance_share" in result.metrics
    written = json.loads((out / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(result.metrics)


def test_members_have_their_own_seed_start_and_bootstrap(finished, backbone):
    result, _, watch, draws = finished
    count = torch.poisson(torch.ones(16, 2), torch.Generator().manual_seed(7919))
    assert [tuple(column.shape) for column in draws] == [(16, 1), (16, 1)]
    assert torch.equal(torch.cat(draws, dim=1), count)  # every prompt is another here
    assert not torch.equal(count[:, 0], count[:, 1])
    first, second = watch.heads
    assert (first - second).abs().mean() > 0.01
    assert first.std() == pytest.approx(0.02, rel=0.4)  # not shrunk, and not drawn back to zero
    assert watch.decays == [0.0, 0.0]
    curve = members_losses(result)
    assert [member for member, _ in curve] == [0] * 4 + [1] * 4
    assert curve[0][1] != curve[4][1]


def test_the_scale_of_the_start_and_no_bootstrap(backbone, tmp_path, monkeypatch):
    watch = Watch()
    options = {"ensemble_prior_scale": 0.0, "ensemble_bootstrap": False, "max_steps": 1}
    draws = draws_seen(monkeypatch)
    result = run(config(backbone, tmp_path, **options), ROWS, callbacks=[watch])
    assert draws == [None, None]
    assert watch.heads[0].std() == pytest.approx(0.0002, rel=0.4)
    assert result.metrics == {}
    assert result.model.reward_scale is None


@pytest.mark.parametrize("stop", [(0, 3), (1, 0), (1, 3)], ids=str)
def test_a_run_goes_on_where_it_stopped(finished, backbone, tmp_path, stop):
    whole, out, _, _ = finished
    with pytest.raises(KeyboardInterrupt):
        run(config(backbone, tmp_path, **STEPS), ROWS, TEST, callbacks=[Watch(stop)])
    assert not (tmp_path / "final").exists()
    watch = Watch()
    resumed = run(config(backbone, tmp_path, **RESUMED), ROWS, TEST, callbacks=[watch])
    assert len(watch.heads) == 2 - stop[0]  # what had finished is not trained again
    assert same(adapters(out), adapters(tmp_path), atol=1e-6)
    assert resumed.metrics == pytest.approx(whole.metrics, abs=1e-5)
    assert resumed.model.head.scale == pytest.approx(whole.model.head.scale, abs=1e-5)
    for one, other in zip(members_losses(whole), members_losses(resumed), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_finished_members_are_not_trained_again_and_others_are_added(finished, backbone, tmp_path):
    whole, out, _, _ = finished
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "final")
    watch = Watch()
    again = run(config(backbone, tmp_path / "out", **RESUMED), ROWS, TEST, callbacks=[watch])
    assert watch.heads == []
    assert again.metrics == pytest.approx(whole.metrics, abs=1e-6)
    assert again.history == whole.history
    assert {n: r.kept for n, r in again.reports.items()} == {"train": 16, "test": 12}
    more = {**RESUMED, "ensemble_members": 3}
    grown = run(config(backbone, tmp_path / "out", **more), ROWS, TEST, callbacks=[watch])
    assert len(watch.heads) == 1
    assert grown.model.head.num_members == 3
    assert same(adapters(out), adapters(tmp_path / "out"))
    # begun anew, finished members of an earlier run count for nothing
    stop = Watch(stop=(1, 0))
    with pytest.raises(KeyboardInterrupt):
        run(config(backbone, tmp_path / "out", seed=5, **STEPS), ROWS, callbacks=[stop])
    watch = Watch()
    run(config(backbone, tmp_path / "out", seed=5, **RESUMED), ROWS, callbacks=[watch])
    assert len(watch.heads) == 1
    assert not same(adapters(out), adapters(tmp_path / "out"), atol=1e-3)


def test_annotators_and_answers_are_learned_by_each_member(backbone, tmp_path):
    def labelled(rows):
        return [
            row | {"annotator": ("anna", "ben")[n % 2], "preference": (1.0, 0.5)[n % 3 == 2]}
            for n, row in enumerate(rows)
        ]

    options = {"reward_model_type": "factor", "annotators": "variational", "outcomes": "ties"}
    options["max_steps"] = 2
    result = run(config(backbone, tmp_path / "out", **options), labelled(ROWS), labelled(TEST))
    model = result.model
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    state = model.likelihood.state_dict()
    assert state["members.0.annotators.location"].shape == (2, 1)
    # thresholds, tastes and readiness with their scales, and the scale of readiness' prior
    assert len(state) == 2 * 6
    for name, value in again.likelihood.state_dict().items():
        assert torch.equal(value, state[name]), name
    for number in range(2):
        alone = RewardModel.from_pretrained(result.path / f"member_{number}", dtype="float32")
        own = alone.likelihood.state_dict()
        assert len(own) == 6
        for name, value in own.items():
            assert torch.equal(state[f"members.{number}.{name}"], value), name
    locations = [state[f"members.{number}.annotators.location"] for number in range(2)]
    assert (locations[0] - locations[1]).abs().max() > 0.01
    shares = [f"{cause}_share" for cause in ("shared_context", "noise", "ignorance")]
    assert sum(result.metrics[name] for name in shares) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_resumed_is_said_at_once(backbone, tmp_path):
    named = str(tmp_path / "member_0" / "checkpoint-2")
    for point, error, message in (
        ("true", MissingFileError, r"members\.json does not exist\. Nothing to resume"),
        (named, ConfigError, "names one checkpoint, but the members"),
    ):
        with pytest.raises(error, match=message):
            run(config(backbone, tmp_path, resume_from_checkpoint=point), ROWS)
    assert not Path(tmp_path / "member_0").exists()
