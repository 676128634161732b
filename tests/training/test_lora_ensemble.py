"""Training ensembles of adapters: members apart, one model of them, and going on after a stop."""

from __future__ import annotations

import json
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
from support.runs import largest_difference, losses, spied

ROWS = preference_rows(16, seed=1, words=2)
TEST = preference_rows(12, seed=2, words=2)
STEPS = {"save_steps": 2, "weight_decay": 0.1, "num_train_epochs": 2}
RESUMED = {**STEPS, "resume_from_checkpoint": "true"}


def config(folder, out, **options):
    defaults = {"tuning": "lora", "ensemble": "lora", "ensemble_members": 2, "learning_rate": 1e-2}
    return train_config(folder, out, **(defaults | {"eval_steps": 100} | options))


def sides(model):
    return [model.raw_outputs([row[side] for row in TEST]) for side in ("chosen", "rejected")]


def moved(first, second) -> float:
    """The largest difference between the adapters of two finished runs' first two members."""
    files = [f"final/member_{number}/adapter_model.safetensors" for number in range(2)]
    return max(largest_difference(load_file(first / f), load_file(second / f)) for f in files)


class Watch(TrainerCallback):
    """Keeps each member's first head and the decay of its weights; may stop a member at a step."""

    def __init__(self, stop=(None, None)) -> None:
        self.stop, self.member, self.heads, self.decays = stop, -1, [], []

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **_):
        self.member += 1
        weight = final_linear(model.get_base_model())[1].weight
        self.heads.append(weight.detach().clone())
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                self.decays.append(group["weight_decay"])
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
        assert torch.allclose(here, torch.cat([own[side] for own in each], dim=-1), atol=1e-6)
    assert (each[0][0] - each[1][0]).abs().mean() > 0.01
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
    assert [line["member"] for line in result.history if "loss" in line] == [0] * 4 + [1] * 4
    assert losses(result)[0] != losses(result)[4]


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
    assert moved(out, tmp_path) < 1e-6
    assert resumed.metrics == pytest.approx(whole.metrics, abs=1e-5)
    assert resumed.model.head.scale == pytest.approx(whole.model.head.scale, abs=1e-5)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)


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
    assert moved(out, tmp_path / "out") == 0
    # begun anew, finished members of an earlier run count for nothing
    stop = Watch(stop=(1, 0))
    with pytest.raises(KeyboardInterrupt):
        run(config(backbone, tmp_path / "out", seed=5, **STEPS), ROWS, callbacks=[stop])
    watch = Watch()
    run(config(backbone, tmp_path / "out", seed=5, **RESUMED), ROWS, callbacks=[watch])
    assert len(watch.heads) == 1
    assert moved(out, tmp_path / "out") > 1e-3


def test_annotators_and_answers_are_learned_by_each_member(backbone, tmp_path):
    labelled = [
        row | {"annotator": ("anna", "ben")[n % 2], "preference": (1.0, 0.5)[n % 3 == 2]}
        for n, row in enumerate(ROWS)
    ]
    options = {"reward_model_type": "factor", "annotators": "variational", "outcomes": "ties"}
    result = run(config(backbone, tmp_path, max_steps=2, **options), labelled, labelled[:12])
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    state = result.model.likelihood.state_dict()
    # thresholds, tastes and readiness with their scales, and the scale of readiness' prior
    assert len(state) == 2 * 6
    for name, value in again.likelihood.state_dict().items():
        assert torch.equal(value, state[name]), name
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
