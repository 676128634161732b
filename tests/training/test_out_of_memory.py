"""Training where memory runs out: smaller passes, the same losses and weights."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import torch

from hidden_context.cli.main import main
from hidden_context.errors import HiddenContextError
from hidden_context.training import run
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.module import PreferenceModule
from hidden_context.training.passes import Pass, tokens_too_many
from support.builders import preference_rows, train_config
from support.paper_layout import write_rows
from support.runs import SmallMemory, largest_difference, losses, trained_parameters

ROWS = preference_rows(22, seed=3)


@pytest.fixture
def loops(monkeypatch):
    """The loops made, to look at their budgets."""
    made = []
    original = TrainingLoop.__init__

    def remembered(self, *args, **options):
        original(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(TrainingLoop, "__init__", remembered)
    return made


def config(backbones, folder, **options):
    options = {"engine": "tree", "reward_model_type": "mean_and_variance"} | options
    return train_config(
        backbones("gpt2"),
        folder,
        optim="sgd",
        learning_rate=1e-2,
        variance_penalty=0.3,
        num_train_epochs=2,
        **options,
    )


@pytest.mark.parametrize("engine", ["tree", "padded"])
@pytest.mark.parametrize("backward", [False, True])
def test_nothing_changes_but_the_passes(
    backbones, tmp_path, monkeypatch, caplog, loops, engine, backward
):
    """Steps of 8 pairs of which 3 fit: the budget is halved twice, in the first step."""
    expected = run(config(backbones, tmp_path / "large", engine=engine), ROWS, ROWS[:3])
    memory = SmallMemory(monkeypatch, most=3, backward=backward)
    with caplog.at_level(logging.WARNING, logger="hidden_context"):
        result = run(config(backbones, tmp_path / "small", engine=engine), ROWS, ROWS[:3])
    assert losses(result) == pytest.approx(losses(expected), abs=1e-6)
    assert largest_difference(trained_parameters(result), trained_parameters(expected)) < 1e-6
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-5)
    said = [r.getMessage() for r in caplog.records if r.name.startswith("hidden_context")]
    assert memory.failed == len(said) >= 2
    assert all(line.startswith("out of memory with ") for line in said)
    budgets = [int(line.split()[-1]) for line in said]
    assert "tokens_per_batch goes from 1024 to" in said[0]
    for before, after in pairwise(budgets):
        assert after <= before // 2
    assert loops[-1].runner.budget.tokens == budgets[-1]
    assert loops[0].runner.budget.tokens == 1024


def test_passes_that_had_run_do_not_count_twice(backbones, tmp_path, monkeypatch, loops):
    """Memory runs out in the second pass of a step, and in a later one of another."""
    options = {"tokens_per_batch": 200}
    expected = run(config(backbones, tmp_path / "large", **options), ROWS)
    memory = SmallMemory(monkeypatch, failing_calls=(2, 9), backward=True)
    result = run(config(backbones, tmp_path / "small", **options), ROWS)
    assert memory.failed == 2
    assert losses(result) == pytest.approx(losses(expected), abs=1e-6)
    assert largest_difference(trained_parameters(result), trained_parameters(expected)) < 1e-6
    for key in ("accuracy", "reward_mean", "reward_stddev"):
        first, second = (
            [line[key] for line in r.history if "loss" in line] for r in (result, expected)
        )
        assert first == pytest.approx(second, abs=0.2 if key == "accuracy" else 1e-3)
    assert loops[-1].runner.budget.tokens <= 50
    # tokens are counted for steps that were finished
    assert loops[-1].state.total_flos == loops[0].state.total_flos > 0


def test_evaluation_takes_smaller_passes_too(backbones, tmp_path, monkeypatch, loops):
    """Before the first step nothing is known of the memory yet."""
    options = {"eval_first_step": True, "eval_steps": 3}
    expected = run(config(backbones, tmp_path / "large", **options), ROWS, ROWS[:9])
    memory = SmallMemory(monkeypatch, most=4)
    result = run(config(backbones, tmp_path / "small", **options), ROWS, ROWS[:9])
    assert memory.failed >= 1
    found, wanted = (
        [line for line in r.history if "eval_loss" in line] for r in (result, expected)
    )
    assert len(found) == len(wanted) == 3
    for line, other in zip(found, wanted, strict=True):
        assert line["eval_loss"] == pytest.approx(other["eval_loss"], abs=1e-6)
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-5)


def test_an_example_too_large_by_itself_is_an_error(backbones, tmp_path, monkeypatch, capsys):
    memory = SmallMemory(monkeypatch, most=0)
    with pytest.raises(HiddenContextError, match=r"no memory for one example of \d+ tokens"):
        run(config(backbones, tmp_path / "a"), ROWS)
    assert memory.finished == 0
    assert memory.failed == 4  # 8 pairs, 4, 2, at last one
    data = write_rows(tmp_path / "pairs.jsonl", ROWS)
    flags = ["--model_name", backbones("gpt2"), "--data_path", data, "--disable_tqdm"]
    flags += ["--tokens_per_batch=1", "--output_dir", str(tmp_path / "b"), "--tuning=full"]
    flags += ["--min_judgements=0"]
    assert main(["train", *flags]) == 2
    error = capsys.readouterr().err
    assert "error: there is no memory for one example of" in error
    assert "Take a smaller --max_length" in error
    assert not (tmp_path / "b" / "final").exists()


def test_other_errors_are_left_alone(backbones, tmp_path, monkeypatch, loops):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(PreferenceModule, "raw_outputs", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(config(backbones, tmp_path), ROWS)
    assert loops[0].runner.budget.tokens == 1024


def test_one_of_several_processes_says_what_to_change():
    error = torch.OutOfMemoryError("CUDA out of memory")
    passes = [Pass([0, 1], 60), Pass([2], 50)]
    assert tokens_too_many(error, passes, alone=True) == 60
    with pytest.raises(HiddenContextError, match=r"pass of 2 examples.*smaller --tokens_per_batch"):
        tokens_too_many(error, passes, alone=False)


def test_examples_that_are_compared_cannot_be_parted():
    error, passes = torch.OutOfMemoryError("CUDA out of memory"), [Pass([0, 1], 60), Pass([2], 50)]
    assert tokens_too_many(error, passes, alone=True, together=[[0], [1], [2]]) == 60
    with pytest.raises(HiddenContextError, match=r"2 examples of 60 tokens.*--max_comparisons"):
        tokens_too_many(error, passes, alone=True, together=[[0, 1], [2]])
