"""Training ensembles of adapters: members apart, one model of them, and going on after a stop."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from hidden_context.cli.main import main
from hidden_context.data.importers import read_row
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.models import RewardModel
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from hidden_context.models.modules import final_linear
from hidden_context.training import finetune, run
from hidden_context.training.labels import training_labels
from support.builders import preference_rows, train_config
from support.paper_layout import one_thread, read_rows, write_rows

__all__ = ["one_thread"]

ROWS = preference_rows(16, seed=1, words=2)
TEST = preference_rows(12, seed=2, words=2)
STEPS = {"save_steps": 2, "weight_decay": 0.1, "num_train_epochs": 2}
RESUMED = {**STEPS, "resume_from_checkpoint": "true"}


def config(folder, out, **options):
    defaults = {"tuning": "lora", "ensemble": "lora", "ensemble_members": 2, "learning_rate": 1e-2}
    return train_config(folder, out, **(defaults | {"eval_steps": 100} | options))


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


@contextmanager
def draws_seen():
    """Collect how often every member sees each example."""
    found = []
    original = finetune.fit

    def seen(*args, draws=None, **options):
        found.append(draws)
        return original(*args, draws=draws, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "fit", seen)
        yield found


@pytest.fixture(scope="module")
def backbone(backbones):
    return backbones("llama", spread=1.0)


@pytest.fixture(scope="module")
def finished(backbone, tmp_path_factory):
    """A finished run of two members, with all that it wrote and what was seen of it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    watch = Watch()
    with draws_seen() as draws:
        result = run(config(backbone, out, **STEPS), ROWS, TEST, callbacks=[watch])
    return result, out, watch, draws


def test_the_model_is_its_members(finished):
    result, out, _, _ = finished
    assert isinstance(result.model, AdapterEnsembleRewardModel)
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    each = []
    for number in range(2):
        alone = RewardModel.from_pretrained(result.path / f"member_{number}", dtype="float32")
        kept = RewardModel.from_pretrained(out / f"member_{number}" / "final", dtype="float32")
        each.append(sides(alone))
        for a, b in zip(sides(kept), each[-1], strict=True):
            assert torch.equal(a, b)
    for side, (here, loaded) in enumerate(zip(sides(result.model), sides(again), strict=True)):
        expected = torch.cat([member[side] for member in each], dim=-1)
        assert torch.allclose(here, expected, atol=1e-6)
        assert torch.allclose(loaded, expected, atol=1e-6)
    assert again.head == result.model.head
    assert again.reward_scale == result.model.reward_scale
    assert (each[0][0] - each[1][0]).abs().mean() > 0.01


def test_metrics_equal_a_recomputation_by_hand(finished):
    result, out, _, _ = finished
    model = result.model
    chosen, rejected = sides(model)
    probability = torch.sigmoid(chosen - rejected).mean(-1)
    assert result.metrics["loss"] == pytest.approx(float(-probability.log().mean()), abs=1e-5)
    accuracy = (probability > 0.5).float().mean()
    assert result.metrics["accuracy"] == pytest.approx(float(accuracy))
    location, scale = (torch.tensor(v) for v in (model.head.location, model.head.scale))
    noise = (math.pi**2 / 3 / scale**2).mean()
    ignorance = ((chosen - rejected) / scale).var(-1, correction=0)
    share = ignorance.mean() / (ignorance.mean() + noise)
    assert 1e-4 < result.metrics["ignorance_share"] == pytest.approx(float(share), abs=1e-5)
    means = (torch.cat([chosen, rejected]) - location) / scale
    assert result.metrics["reward_mean"] == pytest.approx(float(means.mean()), abs=1e-5)
    assert model.reward_scale.mean == pytest.approx(float(means.mean()), abs=1e-5)
    assert model.reward_scale.stddev == pytest.approx(float(means.mean(-1).std(correction=0)))
    assert "data_subset_helpful_ignorance_share" in result.metrics
    written = json.loads((out / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(result.metrics)
    assert written["read"]["train"]["kept"] == 16
    # one unit, by the training pairs, the noise of a comparison included
    raw = [model.raw_outputs([row[side] for row in ROWS]) for side in ("chosen", "rejected")]
    expected = model.head.in_one_unit(*raw)
    assert model.head.location == pytest.approx(expected.location, abs=1e-5)
    assert model.head.scale == pytest.approx(expected.scale, abs=1e-5)


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
    lines = [line for line in result.history if "loss" in line]
    assert [line["member"] for line in lines] == [0] * 4 + [1] * 4
    assert lines[0]["loss"] != lines[4]["loss"]


def test_the_scale_of_the_start_and_no_bootstrap(backbone, tmp_path):
    watch = Watch()
    options = {"ensemble_prior_scale": 0.0, "ensemble_bootstrap": False, "max_steps": 1}
    with draws_seen() as draws:
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
    curves = [
        [(line["member"], line["loss"]) for line in result.history if "loss" in line]
        for result in (whole, resumed)
    ]
    assert [m for m, _ in curves[0]] == [m for m, _ in curves[1]]
    assert [x for _, x in curves[0]] == pytest.approx([x for _, x in curves[1]], abs=1e-5)


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
    with pytest.raises(CheckpointError, match=r"--reward_model_type was base, is mean_and"):
        run(
            config(backbone, tmp_path / "out", **RESUMED, reward_model_type="mean_and_variance"),
            ROWS,
        )
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
    examples = [read_row(row) for row in labelled(TEST)]
    labels = training_labels(config(backbone, tmp_path, **options), model.likelihood, examples)
    raw = torch.stack(sides(model), 1).flatten(0, 1)
    with torch.no_grad():
        loss = model.likelihood.negative_log_likelihood(raw, labels).mean()
    assert result.metrics["loss"] == pytest.approx(float(loss), abs=1e-5)
    shares = [f"{cause}_share" for cause in ("shared_context", "noise", "ignorance")]
    assert sum(result.metrics[name] for name in shares) == pytest.approx(1, abs=1e-5)


def test_other_commands_take_the_trained_ensemble(finished, tmp_path, monkeypatch):
    result, out, _, _ = finished
    monkeypatch.chdir(tmp_path)
    data = write_rows("pairs.jsonl", TEST)
    for folder in (result.path, out):
        flags = ["--data_path", data, "--output", "scored.jsonl", "--disable_tqdm"]
        code = main(["evaluate", str(folder), *flags, "--precision=float32"])
        assert code == (0 if folder == result.path else 2)
    rows = read_rows("scored.jsonl")
    chosen, _ = sides(result.model)
    found = torch.tensor([row["reward_output_chosen"] for row in rows])
    assert torch.allclose(found, chosen, atol=1e-5)


def test_what_cannot_work_is_said_at_once(backbone, tmp_path):
    with pytest.raises(ConfigError, match=r"--tuning full does not fit.*--tuning lora or qlora"):
        config(backbone, tmp_path, tuning="full")
    with pytest.raises(ConfigError, match="networks of their own already: take --ensemble heads"):
        config(backbone, tmp_path, freeze_backbone=True)
    with pytest.raises(MissingFileError, match=r"members\.json does not exist\. Nothing to resume"):
        run(config(backbone, tmp_path, resume_from_checkpoint="true"), ROWS)
    named = str(tmp_path / "member_0" / "checkpoint-2")
    with pytest.raises(ConfigError, match="names one checkpoint, but the members"):
        run(config(backbone, tmp_path, resume_from_checkpoint=named), ROWS)
    head = {"member": {"type": "base"}}
    nested = config(backbone, tmp_path, reward_model_type="ensemble", head_options=head)
    with pytest.raises(ConfigError, match="members cannot be ensembles"):
        run(nested, ROWS)
    assert not Path(tmp_path / "member_0").exists()
