"""Evaluation along the way and at the end: what is run, and what is chosen by it."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerCallback

from hidden_context.errors import ConfigError, DataError
from hidden_context.training import run
from hidden_context.training.loop import TrainingLoop
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, train_config
from support.runs import RuinWeights

ROWS, TEST = preference_rows(24, seed=3), preference_rows(9, seed=4)


@pytest.fixture
def runs(monkeypatch):
    """How many examples each evaluation ran through the model."""
    sizes = []
    original = StepRunner.raw_outputs_of

    def counted(runner, data, size):
        sizes.append(len(data))
        return original(runner, data, size)

    monkeypatch.setattr(StepRunner, "raw_outputs_of", counted)
    return sizes


def evaluations(result) -> list[dict[str, float]]:
    return [line for line in result.history if "eval_loss" in line]


def test_the_last_evaluation_is_not_run_twice(backbones, tmp_path, runs):
    config = train_config(
        backbones("gpt2"), tmp_path, num_train_epochs=2, eval_steps=2, eval_first_step=True,
        reward_model_type="mean_and_variance",
    )  # fmt: skip
    result = run(config, ROWS, TEST)
    lines = evaluations(result)
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert runs == [9] * 4  # none more for the metrics at the end, nor for the scale of rewards
    along = {
        name.removeprefix("eval_"): value
        for name, value in lines[-1].items()
        if name.startswith("eval_") and name != "eval_runtime"
    }
    assert along == result.metrics


def test_where_the_last_step_is_not_evaluated_it_is_at_the_end(backbones, tmp_path, runs):
    config = train_config(
        backbones("gpt2"), tmp_path, max_steps=3, training_arguments={"eval_strategy": "no"}
    )
    result = run(config, ROWS, TEST)
    assert evaluations(result) == []
    assert runs == [9]
    assert result.metrics["loss"] > 0


def test_test_examples_are_run_once_where_others_choose(backbones, tmp_path, runs):
    config = train_config(
        backbones("gpt2"), tmp_path, num_train_epochs=2, eval_steps=3, save_steps=3,
        validation_fraction=0.25,
    )  # fmt: skip
    run(config, ROWS, TEST)
    assert runs[-1] == 9
    assert len(runs) == 2 + 1
    assert len(set(runs[:2])) == 1


class MuchWorse(TrainerCallback):
    """Makes the model worse than the untrained one, which is best then."""

    def on_step_end(self, args, state, control, model=None, **_):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "score" in name:
                    parameter.fill_(20 * (-1) ** state.global_step)
                    parameter[..., ::2] *= 1 + state.global_step


def test_the_evaluation_before_training_chooses_nothing(backbones, tmp_path):
    """There is no checkpoint of it, so the best of the others is kept."""
    config = train_config(
        backbones("gpt2"), tmp_path, num_train_epochs=2, eval_steps=2, save_steps=2,
        eval_first_step=True, validation_fraction=0.25, early_stopping_patience=4,
    )  # fmt: skip
    result = run(config, ROWS, callbacks=[MuchWorse()])
    found = {line["step"]: line["eval_loss"] for line in evaluations(result)}
    assert min(found, key=found.__getitem__) == 0
    del found[0]
    best = min(found, key=found.__getitem__)
    from hidden_context.models import RewardModel

    texts = [row["chosen"] for row in TEST]
    kept = RewardModel.from_pretrained(tmp_path / f"checkpoint-{best}").raw_outputs(texts)
    assert torch.allclose(result.model.raw_outputs(texts), kept, atol=1e-5)


def test_checkpoints_of_the_best_alone(backbones, tmp_path):
    config = train_config(
        backbones("gpt2"), tmp_path, num_train_epochs=2, eval_steps=2, validation_fraction=0.25,
        training_arguments={"save_strategy": "best"},
    )  # fmt: skip
    result = run(config, ROWS, callbacks=[RuinWeights(3, -300, 3)])
    found = {line["step"]: line["eval_loss"] for line in evaluations(result)}
    assert min(found, key=found.__getitem__) == 2
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_another_metric_can_choose(backbones, tmp_path):
    options = {"eval_steps": 2, "save_steps": 2, "validation_fraction": 0.25}
    arguments = {"metric_for_best_model": "accuracy", "greater_is_better": True}
    config = train_config(
        backbones("gpt2"), tmp_path / "a", num_train_epochs=2, training_arguments=arguments,
        **options,
    )  # fmt: skip
    loops = []
    with pytest.MonkeyPatch.context() as patch:
        original = TrainingLoop.train
        patch.setattr(
            TrainingLoop, "train", lambda loop, *rest: (loops.append(loop), original(loop, *rest))
        )
        result = run(config, ROWS)
    accuracies = [line["eval_accuracy"] for line in evaluations(result)]
    assert loops[0].state.best_metric == max(accuracies)
    config = train_config(
        backbones("gpt2"), tmp_path / "b", training_arguments={"metric_for_best_model": "bleu"},
        **options,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="the best model is chosen by bleu"):
        run(config, ROWS)


def test_a_set_that_says_nothing_of_the_model_cannot_choose(backbones, tmp_path):
    """Ratings that are not read, but compared in training, give no loss."""
    rows = [
        {
            "text": f"Human: what is {number}? {row['chosen']}",
            "rating": number % 5,
            "annotator": "ab"[number % 2],
        }
        for number, row in enumerate(ROWS)
    ]
    config = train_config(
        backbones("gpt2"), tmp_path, anchor_weight=0.0, max_comparisons=8, validation_fraction=0.3
    )
    with pytest.raises(DataError, match="validation"):
        run(config, rows)


# ---- gradients and steps


def test_gradients_of_network_and_likelihood_are_clipped_together(backbones, tmp_path):
    """A step of plain descent with one rate is as long as the rate times the largest norm."""
    rows = [row | {"annotator": "abc"[n % 3], "strength": n % 3} for n, row in enumerate(ROWS)]
    moved, norms = {}, {}
    for limit in (0, 0.01, 1000):
        config = train_config(
            backbones("gpt2"), tmp_path / str(limit), optim="sgd", learning_rate=0.1, max_steps=1,
            objective_learning_rate=0.1, outcomes="five_levels", reward_model_type="factor",
            annotators="map", training_arguments={"max_grad_norm": limit}, seed=0,
        )  # fmt: skip
        before = {}

        class Remember(TrainerCallback):
            def on_train_begin(self, args, state, control, model=None, found=before, **_):
                found |= {n: p.detach().clone() for n, p in model.named_parameters()}

        loops = []
        with pytest.MonkeyPatch.context() as patch:
            original = TrainingLoop.train

            def train(loop, *rest, loops=loops, before=before, original=original):
                loops.append(loop)
                before |= {n: p.detach().clone() for n, p in loop.runner.module.named_parameters()}
                return original(loop, *rest)

            patch.setattr(TrainingLoop, "train", train)
            result = run(config, rows)
        after = dict(loops[0].runner.module.named_parameters())
        parts = {
            part: sum(
                float((after[n].detach() - values).double().square().sum())
                for n, values in before.items()
                if n.startswith(part)
            )
            for part in ("network", "likelihood")
        }
        assert min(parts.values()) > 0
        moved[limit] = sum(parts.values()) ** 0.5
        norms[limit] = next(line["grad_norm"] for line in result.history if "loss" in line)
    assert norms[0] == pytest.approx(norms[0.01]) == pytest.approx(norms[1000])
    assert norms[0] > 0.01  # the norm that is told is the one before
    assert moved[0.01] == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert moved[0] == pytest.approx(0.1 * norms[0], rel=1e-3)
    assert moved[1000] == pytest.approx(moved[0], rel=1e-6)


def test_log_lines_average_what_the_steps_between_have(backbones, tmp_path):
    """Steps of ratings alone have no accuracy; norm and rate are the last step's."""
    pairs = [row | {"rating_chosen": None} for row in ROWS[:8]]
    rated = [{"text": row["chosen"], "rating": number % 3} for number, row in enumerate(ROWS[8:16])]
    results = [
        run(
            train_config(
                backbones("gpt2"), tmp_path / str(every), anchor_weight=1.0, optim="sgd",
                per_device_train_batch_size=1, logging_steps=every, learning_rate=1e-3,
            ),
            [*pairs, *rated],
        )
        for every in (1, 4)
    ]  # fmt: skip
    lines, means = ([line for line in r.history if "loss" in line] for r in results)
    assert (len(lines), len(means)) == (16, 4)
    assert sum("accuracy" in line for line in lines) == 8
    for number, mean in enumerate(means):
        own = lines[4 * number : 4 * number + 4]
        for name in ("loss", "reward_mean", "accuracy"):
            values = [line[name] for line in own if name in line]
            if values:
                assert mean[name] == pytest.approx(sum(values) / len(values), abs=1e-6)
        assert mean["grad_norm"] == pytest.approx(own[-1]["grad_norm"])
        assert mean["learning_rate"] == own[-1]["learning_rate"]
