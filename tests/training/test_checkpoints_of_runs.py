"""Checkpoints of a run: whole or not at all, and all that going on needs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from hidden_context.errors import CheckpointError
from hidden_context.training import checkpoints, run
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.resume import last_checkpoint
from support.builders import preference_rows, train_config
from support.runs import RuinWeights, StopAfter, losses

ROWS = preference_rows(24, seed=3)


def evaluations(result) -> dict[int, float]:
    return {line["step"]: line["eval_loss"] for line in result.history if "eval_loss" in line}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint*"))


@pytest.fixture
def written(backbones, tmp_path):
    """A checkpoint of two steps, and the folder that it is in."""
    config = train_config(backbones("gpt2"), tmp_path, max_steps=2, save_steps=2)
    run(config, ROWS)
    return tmp_path / "checkpoint-2"


def test_what_a_checkpoint_holds(written):
    names = {path.name for path in written.iterdir()}
    assert names >= {
        "model.safetensors", "config.json", "tokenizer.json", "reward_head.json", "optimizer.pt",
        "scheduler.pt", "rng_state.pth", "trainer_state.json",
    }  # fmt: skip
    state = json.loads((written / "trainer_state.json").read_text())
    assert (state["global_step"], state["max_steps"]) == (2, 2)
    assert [line["step"] for line in state["log_history"] if "loss" in line] == [1, 2]


def test_its_files_are_loaded_without_running_code(written):
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
def test_a_damaged_checkpoint_is_refused(backbones, written, name, content, message):
    if content is None:
        (written / name).unlink()
    else:
        (written / name).write_bytes(content)
    config = train_config(
        backbones("gpt2"), written.parent, max_steps=4, resume_from_checkpoint=str(written)
    )
    with pytest.raises((CheckpointError, FileNotFoundError), match=message):
        run(config, ROWS)


def test_weights_that_are_missing_are_named(backbones, written):
    from safetensors.torch import load_file, save_file

    weights = load_file(written / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, written / "model.safetensors", metadata={"format": "pt"})
    config = train_config(
        backbones("gpt2"), written.parent, max_steps=4, resume_from_checkpoint=str(written)
    )
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as .*c_fc\.weight"):
        run(config, ROWS)


def test_weights_that_an_adapters_checkpoint_lacks_are_named(backbones, tmp_path):
    from safetensors.torch import load_file, save_file

    options = {"tuning": "lora", "save_steps": 2}
    run(train_config(backbones("llama"), tmp_path, max_steps=2, **options), ROWS)
    path = tmp_path / "checkpoint-2" / "adapter_model.safetensors"
    lacking = next(key for key in load_file(path) if "layers.1" in key and "lora_B" in key)
    save_file({key: value for key, value in load_file(path).items() if key != lacking}, path)
    config = train_config(
        backbones("llama"), tmp_path, max_steps=4, resume_from_checkpoint="true", **options
    )
    with pytest.raises(CheckpointError, match=f"only one of them has the weight {lacking}"):
        run(config, ROWS)


@pytest.mark.parametrize("part", ["weights", "state"])
def test_a_kill_while_one_is_written_leaves_no_half_checkpoint(
    backbones, tmp_path, monkeypatch, part
):
    def config(name, **options):
        return train_config(
            backbones("gpt2"), tmp_path / name, num_train_epochs=2, save_steps=2, **options
        )

    whole = run(config("whole"), ROWS)
    save, calls = torch.save, []

    def killed(*arguments, **options):
        calls.append(arguments[1])
        if len(calls) == (4 if part == "weights" else 6):  # each checkpoint has three such files
            raise KeyboardInterrupt
        return save(*arguments, **options)

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config("broken"), ROWS)
    monkeypatch.setattr(torch, "save", save)
    assert names_in(tmp_path / "broken") == ["checkpoint-2"]
    # what a process leaves that is killed outright is no checkpoint
    (tmp_path / "broken" / "checkpoint-4.partial").mkdir()
    assert last_checkpoint(tmp_path / "broken").endswith("checkpoint-2")
    resumed = run(config("broken", resume_from_checkpoint="true"), ROWS)
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)
    assert names_in(tmp_path / "broken") == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize("limit", [1, 2])
def test_old_checkpoints_go_but_not_the_best_and_the_last(backbones, tmp_path, limit):
    config = train_config(
        backbones("gpt2"), tmp_path, num_train_epochs=6, validation_fraction=0.3, eval_steps=2,
        save_steps=2, save_total_limit=limit,
    )  # fmt: skip
    result = run(config, ROWS, callbacks=[RuinWeights(5)])
    found = evaluations(result)
    best = min(found, key=found.__getitem__)
    last = max(found)
    assert best < last
    kept = {f"checkpoint-{step}" for step in (best, last)}
    assert set(names_in(tmp_path)) == kept


def test_early_stopping_goes_on_counting_after_resuming(backbones, tmp_path):
    def config(name, **options):
        return train_config(
            backbones("gpt2"), tmp_path / name, num_train_epochs=50, validation_fraction=0.25,
            eval_steps=2, save_steps=2, early_stopping_patience=3, **options,
        )  # fmt: skip

    whole = run(config("whole"), ROWS, callbacks=[RuinWeights(3)])
    found = evaluations(whole)
    assert min(found, key=found.__getitem__) == 2
    assert list(found)[-1] == 8
    with pytest.raises(KeyboardInterrupt):
        run(config("broken"), ROWS, callbacks=[RuinWeights(3), StopAfter(7)])
    state = json.loads((tmp_path / "broken" / "checkpoint-6" / "trainer_state.json").read_text())
    stored = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    assert stored == {"early_stopping_patience_counter": 2}
    assert state["best_model_checkpoint"].endswith("checkpoint-2")
    resumed = run(config("broken", resume_from_checkpoint="true"), ROWS)
    assert evaluations(resumed) == pytest.approx(found, abs=1e-5)
    # the best checkpoint is from before the interruption
    texts = [row["chosen"] for row in ROWS]
    kept = [result.model.raw_outputs(texts) for result in (whole, resumed)]
    assert torch.allclose(*kept, atol=1e-5)


def test_a_longer_run_takes_over_where_a_short_one_ended(backbones, tmp_path):
    """The number of steps is that of the new configuration, not the stored one."""

    def config(steps, name, **options):
        return train_config(
            backbones("gpt2"), tmp_path / name, max_steps=steps, save_steps=3,
            lr_scheduler_type="constant", **options,
        )  # fmt: skip

    whole = run(config(8, "whole"), ROWS)
    run(config(5, "parts"), ROWS)
    resumed = run(config(8, "parts", resume_from_checkpoint="true"), ROWS)
    assert len(losses(resumed)) == 8
    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-5)


def test_a_finished_run_has_nothing_left_to_do(backbones, tmp_path, monkeypatch):
    config = train_config(backbones("gpt2"), tmp_path, max_steps=3, save_steps=3)
    whole = run(config, ROWS, ROWS[:4])
    steps = []
    original = TrainingLoop._step
    monkeypatch.setattr(TrainingLoop, "_step", lambda *inputs: (steps.append(1), original(*inputs)))
    again = train_config(
        backbones("gpt2"), tmp_path, max_steps=3, save_steps=3, resume_from_checkpoint="true"
    )
    resumed = run(again, ROWS, ROWS[:4])
    assert steps == []
    assert resumed.metrics == pytest.approx(whole.metrics, abs=1e-6)
