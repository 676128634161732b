"""Checkpoints of a run: whole or not at all, and all that going on needs."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from hidden_context.errors import CheckpointError
from hidden_context.training import checkpoints, run
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.resume import last_checkpoint
from support.builders import preference_rows, train_config
from support.runs import RuinWeights, StopAfter, evaluations, losses

ROWS = preference_rows(24, seed=3)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint*"))


@pytest.fixture(scope="module")
def two_steps(backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    run(train_config(backbones("gpt2"), folder, max_steps=2, save_steps=2), ROWS)
    return folder / "checkpoint-2"


@pytest.fixture
def written(two_steps, tmp_path):
    """A checkpoint of two steps, and the folder that it is in."""
    return Path(shutil.copytree(two_steps, tmp_path / "checkpoint-2"))


def test_what_a_checkpoint_holds_and_that_it_is_loaded_without_running_code(written):
    names = {path.name for path in written.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "tokenizer.json", "reward_head.json", "optimizer.pt",
        "scheduler.pt", "rng_state.pth", "trainer_state.json",
    }  # fmt: skip
    state = json.loads((written / "trainer_state.json").read_text())
    assert (state["global_step"], state["max_steps"]) == (2, 2)
    assert [line["step"] for line in state["log_history"] if "loss" in line] == [1, 2]
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert torch.load(written / name, weights_only=True)


def test_the_random_state_goes_on_exactly(written):
    """Of Python, NumPy and PyTorch, after a draw that leaves a half in store."""
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    random.gauss(0, 1), np.random.standard_normal()  # noqa: NPY002
    torch.save(checkpoints._random_state(), written / "rng_state.pth")

    def draws() -> tuple:
        return (
            [random.gauss(0, 1), random.random()],
            [np.random.standard_normal(), np.random.rand()],  # noqa: NPY002
            torch.rand(3).tolist(),
        )

    expected = draws()
    assert draws() != expected
    checkpoints.load_random_state(written, Accelerator(cpu=True))
    assert draws() == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("optimizer.pt", b"", "the optimiser's state cannot be restored"),
        ("scheduler.pt", b"broken", "the optimiser's state cannot be restored"),
        ("optimizer.pt", None, "the optimiser's state cannot be restored"),
        ("trainer_state.json", None, "holds no trainer_state.json"),
        ("rng_state.pth", b"broken", r"rng_state.pth cannot be read"),
        ("model.safetensors", b"broken", "checkpoint-2"),
        ("model.safetensors", None, "checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused(fit, written, name, content, message):
    if content is None:
        (written / name).unlink()
    else:
        (written / name).write_bytes(content)
    with pytest.raises((CheckpointError, FileNotFoundError), match=message):
        fit(ROWS, max_steps=4, resume_from_checkpoint=str(written))


def without(path: Path, *parts: str) -> str:
    """Take a weight out of a file; return its name."""
    weights = load_file(path)
    lacking = next(name for name in weights if all(part in name for part in parts))
    del weights[lacking]
    save_file(weights, path, metadata={"format": "pt"})
    return lacking


def test_weights_that_are_missing_are_named(backbones, fit, written, tmp_path):
    without(written / "model.safetensors", "h.1", "c_fc.weight")
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as .*c_fc\.weight"):
        fit(ROWS, max_steps=4, resume_from_checkpoint=str(written))
    options = {"backbone": backbones("llama"), "tuning": "lora", "save_steps": 2, "into": "lora"}
    fit(ROWS, max_steps=2, **options)
    file = tmp_path / "lora" / "checkpoint-2" / "adapter_model.safetensors"
    lacking = without(file, "layers.1", "lora_B")
    with pytest.raises(CheckpointError, match=f"only one of them has the weight {lacking}"):
        fit(ROWS, max_steps=4, resume_from_checkpoint="true", **options)


@pytest.mark.parametrize("part", ["weights", "state"])
def test_a_kill_while_one_is_written_leaves_no_half_checkpoint(fit, tmp_path, monkeypatch, part):
    options = {"num_train_epochs": 2, "save_steps": 2}
    whole = fit(ROWS, into="whole", **options)
    save, calls = torch.save, []

    def killed(*arguments, **options):
        calls.append(arguments[1])
        if len(calls) == (4 if part == "weights" else 6):  # each checkpoint has three such files
            raise KeyboardInterrupt
        return save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(ROWS, into="broken", **options)
    broken = tmp_path / "broken"
    assert names_in(broken) == ["checkpoint-2"]
    # what a process leaves that is killed outright is no checkpoint
    (broken / "checkpoint-4.partial").mkdir()
    assert last_checkpoint(broken).endswith("checkpoint-2")
    resumed = fit(ROWS, into="broken", resume_from_checkpoint="true", **options)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    assert names_in(broken) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize("limit", [1, 2])
def test_old_checkpoints_go_but_not_the_best_and_the_last(fit, tmp_path, limit):
    result = fit(
        ROWS, callbacks=[RuinWeights(5)], num_train_epochs=6, validation_fraction=0.3, eval_steps=2,
        save_steps=2, save_total_limit=limit,
    )  # fmt: skip
    found = evaluations(result)
    best, last = min(found, key=found.get), max(found)
    assert best < last
    assert set(names_in(tmp_path)) == {f"checkpoint-{step}" for step in (best, last)}


def test_early_stopping_goes_on_counting_after_resuming(fit, tmp_path):
    options = {"num_train_epochs": 50, "validation_fraction": 0.25, "eval_steps": 2}
    options |= {"save_steps": 2, "early_stopping_patience": 3}
    whole = fit(ROWS, into="whole", callbacks=[RuinWeights(3)], **options)
    found = evaluations(whole)
    assert min(found, key=found.get) == 2
    assert list(found)[-1] == 8  # three without improvement, then no more
    with pytest.raises(KeyboardInterrupt):
        fit(ROWS, into="broken", callbacks=[RuinWeights(3), StopAfter(7)], **options)
    state = json.loads((tmp_path / "broken" / "checkpoint-6" / "trainer_state.json").read_text())
    stored = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    assert stored == {"early_stopping_patience_counter": 2}
    assert state["best_model_checkpoint"].endswith("checkpoint-2")
    resumed = fit(ROWS, into="broken", resume_from_checkpoint="true", **options)
    assert evaluations(resumed) == pytest.approx(found, abs=1e-5)
    # the best checkpoint is from before the interruption
    texts = [row["chosen"] for row in ROWS]
    kept = [result.model.raw_outputs(texts) for result in (whole, resumed)]
    assert torch.allclose(*kept, atol=1e-5)


def test_a_longer_run_takes_over_where_a_short_one_ended(fit, monkeypatch):
    """The number of steps is that of the new configuration; a finished run has none left."""
    options = {"save_steps": 3, "lr_scheduler_type": "constant"}
    whole = fit(ROWS, ROWS[:4], into="whole", max_steps=8, **options)
    fit(ROWS, ROWS[:4], into="parts", max_steps=5, **options)
    steps, original = [], TrainingLoop._step
    monkeypatch.setattr(TrainingLoop, "_step", lambda *now: (steps.append(1), original(*now)))
    for left in (3, 0):
        steps.clear()
        options |= {"max_steps": 8, "resume_from_checkpoint": "true"}
        resumed = fit(ROWS, ROWS[:4], into="parts", **options)
        assert len(steps) == left
        assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
        assert resumed.metrics == pytest.approx(whole.metrics, abs=1e-5)
