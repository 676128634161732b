"""Training runs: what is learnt, measured, written and kept."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from transformers import TrainerCallback

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.splits.division import VALIDATION_SALT, split_by_prompt
from hidden_context.errors import ConfigError, DataError
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_tokenizer, train_config
from support.runs import RuinWeights, copied, evaluations, logged, spied

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)


@pytest.fixture(scope="module")
def finished(backbones, tmp_path_factory):
    """A finished mean-and-variance run on in-memory pairs, with all that it wrote."""
    folder = tmp_path_factory.mktemp("finished")
    config = train_config(
        backbones("gpt2"), folder / "out", reward_model_type="mean_and_variance",
        per_device_eval_batch_size=5,
    )  # fmt: skip
    return config, run(config, ROWS, TEST), folder / "out"


def test_everything_is_written(finished):
    config, result, folder = finished
    written = yaml.safe_load((folder / "config.yaml").read_text())
    settled = dataclasses.replace(config, precision="float32")  # too small a model to measure
    assert TrainConfig(**written) == settled
    assert written == yaml.safe_load((folder / "final" / "training_config.yaml").read_text())
    report = json.loads((folder / "metrics.json").read_text())
    assert report["read"]["train"]["kept"] == 64
    assert report["read"]["test"] == result.reports["test"].to_dict()
    assert report["history"] == result.history
    assert report["metrics"] == pytest.approx(result.metrics)
    assert len(result.metrics) == 25  # five, and for two values of two columns
    card = (result.path / "README.md").read_text()
    assert "- train examples: 64" in card
    assert "- source: in memory" in card


@pytest.mark.parametrize(("tuning", "outcomes"), [("lora", "ties"), ("full", "preference")])
def test_the_best_checkpoint_by_validation_is_kept(backbones, fit, tmp_path, tuning, outcomes):
    result = fit(
        ROWS, TEST, backbone=backbones("gpt2", spread=1.0), callbacks=[RuinWeights(20)],
        tuning=tuning, learning_rate=5e-3 if tuning == "full" else 2e-2, num_train_epochs=4,
        validation_fraction=0.25, eval_steps=6, save_steps=6, outcomes=outcomes,
    )  # fmt: skip
    found = evaluations(result)
    best, last = min(found, key=found.get), max(found)
    assert best < last
    assert found[last] > found[best] + 0.3
    texts = [row["chosen"] for row in TEST]
    kept = result.model.raw_outputs(texts)
    for folder in (tmp_path / f"checkpoint-{best}", result.path):
        saved = RewardModel.from_pretrained(folder, dtype="float32")
        assert torch.allclose(saved.raw_outputs(texts), kept, atol=1e-6)
        for name, value in saved.likelihood.state_dict().items():
            assert torch.equal(value, result.model.likelihood.state_dict()[name])
    # validation pairs are what split_by_prompt holds out, and the test pairs were no part of it
    _, held_out = split_by_prompt([read_row(r) for r in ROWS], 0.25, VALIDATION_SALT)
    raw = result.model.raw_outputs([text for each in held_out for text in each.texts])
    loss = result.model.likelihood.negative_log_likelihood(raw, labels_of(held_out)).mean()
    assert float(loss) == pytest.approx(found[best], abs=1e-5)
    assert result.reports["validation"].kept == len(held_out)


@pytest.mark.parametrize(("options", "name"), [({}, "my-run"), ({"hub_model_id": "a/b"}, "a/b")])
def test_push_to_hub(fit, monkeypatch, options, name):
    calls = []

    class FakeApi:
        def create_repo(self, name, **options):
            calls.append((name, options))
            return type("Repo", (), {"repo_id": f"someone/{name}"})()

        def upload_folder(self, repo_id, folder_path):
            calls.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))

    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    fit(ROWS[:8], into="my-run", push_to_hub=True, **options)
    create, (repo, files) = calls
    assert create == (name, {"exist_ok": True, "private": True})
    assert repo == f"someone/{name}"
    assert files >= {"README.md", "model.safetensors", "reward_head.json", "tokenizer.json"}


def test_the_final_folder_and_the_tokenizer_can_be_named(fit, tmp_path):
    tiny_tokenizer(eos="<s>", pad="<s>").save_pretrained(tmp_path / "tokenizer")
    names = {"final_dir": str(tmp_path / "final"), "tokenizer_name": str(tmp_path / "tokenizer")}
    result = fit(ROWS[:8], TEST, into="out", evaluate_at_end=False, **names)
    assert result.path == tmp_path / "final"
    assert RewardModel.from_pretrained(result.path).tokenizer.eos_token == "<s>"
    assert result.metrics == {}


# ---- Evaluation along the way and at the end: what is run, and what is chosen by it


FEW, NINE = preference_rows(24, seed=3), preference_rows(9, seed=4)


@pytest.fixture
def runs(monkeypatch):
    """How many examples each evaluation ran through the model."""
    return spied(monkeypatch, StepRunner, "raw_outputs_of", lambda _, data, size: len(data))


@pytest.mark.parametrize(
    ("options", "steps", "sizes"),
    [
        # no run more for the metrics at the end, nor for the scale of rewards
        ({"num_train_epochs": 2, "eval_steps": 2, "eval_first_step": True}, [0, 2, 4, 6], [9] * 4),
        ({"max_steps": 3, "training_arguments": {"eval_strategy": "no"}}, [], [9]),
        # other examples choose, and the test examples are run once
        ({"eval_steps": 3, "save_steps": 3, "validation_fraction": 0.25}, [3], [4, 9]),
    ],
)
def test_no_evaluation_is_run_twice(fit, runs, options, steps, sizes):
    result = fit(FEW, NINE, reward_model_type="mean_and_variance", **options)
    assert (list(evaluations(result)), runs) == (steps, sizes)
    assert result.metrics["loss"] > 0
    if sizes[0] == 9 and steps:
        assert evaluations(result)[0] == pytest.approx(math.log(2), abs=0.05)
        last = [line for line in result.history if "eval_loss" in line][-1]
        told = {f"eval_{name}": value for name, value in result.metrics.items()}
        assert {name: last[name] for name in told} == told


class MuchWorse(TrainerCallback):
    """Makes the model worse than the untrained one, which is best then."""

    def on_step_end(self, args, state, control, model=None, **_):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "score" in name:
                    parameter.fill_(20 * (-1) ** state.global_step)
                    parameter[..., ::2] *= 1 + state.global_step


def test_the_evaluation_before_training_chooses_nothing(fit, tmp_path):
    """There is no checkpoint of it, so the best of the others is kept."""
    result = fit(
        FEW, callbacks=[MuchWorse()], num_train_epochs=2, eval_steps=2, save_steps=2,
        eval_first_step=True, validation_fraction=0.25, early_stopping_patience=4,
    )  # fmt: skip
    found = evaluations(result)
    assert min(found, key=found.get) == 0
    del found[0]
    texts = [row["chosen"] for row in NINE]
    kept = RewardModel.from_pretrained(tmp_path / f"checkpoint-{min(found, key=found.get)}")
    assert torch.allclose(result.model.raw_outputs(texts), kept.raw_outputs(texts), atol=1e-5)


def test_checkpoints_of_the_best_alone(fit, tmp_path):
    result = fit(
        FEW, callbacks=[RuinWeights(3, -300, 3)], num_train_epochs=2, eval_steps=2,
        validation_fraction=0.25, training_arguments={"save_strategy": "best"},
    )  # fmt: skip
    found = evaluations(result)
    assert min(found, key=found.get) == 2
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_another_metric_can_choose(fit, loops):
    options = {"eval_steps": 2, "save_steps": 2, "validation_fraction": 0.25}
    arguments = {"metric_for_best_model": "accuracy", "greater_is_better": True}
    result = fit(FEW, num_train_epochs=2, training_arguments=arguments, **options)
    assert loops[0].state.best_metric == max(logged(result, "eval_accuracy"))
    with pytest.raises(ConfigError, match="the best model is chosen by bleu"):
        fit(FEW, into="b", training_arguments={"metric_for_best_model": "bleu"}, **options)


def test_a_set_that_says_nothing_of_the_model_cannot_choose(fit):
    """Ratings that are not read, but compared in training, give no loss."""
    rows = [
        {"text": row["chosen"], "rating": number % 5, "annotator": "ab"[number % 2]}
        for number, row in enumerate(FEW)
    ]
    with pytest.raises(DataError, match="validation"):
        fit(rows, anchor_weight=0.0, max_comparisons=8, validation_fraction=0.3)


# ---- gradients and steps


def test_gradients_of_network_and_likelihood_are_clipped_together(fit, loops):
    """A step of plain descent with one rate is as long as the rate times the largest norm."""
    rows = [row | {"annotator": "abc"[n % 3], "strength": n % 3} for n, row in enumerate(FEW)]
    moved, norms = {}, {}
    for limit in (0, 0.01, 1000):
        result = fit(
            rows, into=str(limit), optim="sgd", learning_rate=0.1, objective_learning_rate=0.1,
            max_steps=1, outcomes="five_levels", reward_model_type="factor", annotators="map",
            training_arguments={"max_grad_norm": limit},
        )  # fmt: skip
        after, parts = copied(loops[-1].runner.module), {"network": 0.0, "likelihood": 0.0}
        for name, values in loops[-1].start.items():
            parts[name.split(".")[0]] += float((after[name] - values).double().square().sum())
        assert min(parts.values()) > 0
        moved[limit] = sum(parts.values()) ** 0.5
        norms[limit] = logged(result, "grad_norm")[0]
    assert norms[0] == pytest.approx(norms[0.01]) == pytest.approx(norms[1000])
    assert norms[0] > 0.01  # the norm that is told is the one before
    assert moved[0.01] == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert moved[0] == pytest.approx(0.1 * norms[0], rel=1e-3)
    assert moved[1000] == pytest.approx(moved[0], rel=1e-6)


def test_log_lines_average_what_the_steps_between_have(fit):
    """Steps of ratings alone have no accuracy; norm and rate are the last step's."""
    pairs = [row | {"rating_chosen": None} for row in FEW[:8]]
    rated = [{"text": row["chosen"], "rating": number % 3} for number, row in enumerate(FEW[8:16])]
    options = {"anchor_weight": 1.0, "optim": "sgd", "learning_rate": 1e-3}
    options |= {"per_device_train_batch_size": 1}
    lines, means = (
        [
            line
            for line in fit(
                [*pairs, *rated], into=str(every), logging_steps=every, **options
            ).history
            if "loss" in line
        ]
        for every in (1, 4)
    )
    assert (len(lines), len(means)) == (16, 4)
    assert sum("accuracy" in line for line in lines) == 8
    for number, mean in enumerate(means):
        own = lines[4 * number : 4 * number + 4]
        for name in ("loss", "reward_mean", "accuracy"):
            if values := logged(own, name):
                assert mean[name] == pytest.approx(sum(values) / len(values), abs=1e-6)
        assert mean["grad_norm"] == pytest.approx(own[-1]["grad_norm"])
        assert mean["learning_rate"] == own[-1]["learning_rate"]
