"""Training runs: what is learnt, measured, written and kept."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context.data.importers import read_row
from hidden_context.data.splits import VALIDATION_SALT, split_by_prompt
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from support.builders import preference_rows, tiny_tokenizer, train_config
from support.runs import RuinWeights, losses

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)
HEADS = ("base", "mean_and_variance", "categorical")


@pytest.mark.parametrize(("tuning", "kind"), [("lora", "llama"), ("full", "gpt2")])
@pytest.mark.parametrize("head", HEADS)
def test_learnable_pairs_are_learnt(backbones, tmp_path, head, tuning, kind):
    layers = ["q_proj", "v_proj", "up_proj", "down_proj"] if kind == "llama" else []
    config = train_config(
        backbones(kind, spread=1.0),
        tmp_path,
        reward_model_type=head,
        tuning=tuning,
        learning_rate=1e-2,
        num_train_epochs=6 if tuning == "lora" else 9,
        lora_target_modules=layers,
        entropy_coeff=0.0,
    )
    words = 2 if tuning == "lora" else 6
    result = run(
        config, preference_rows(64, seed=1, words=words), preference_rows(24, seed=2, words=words)
    )
    curve = losses(result)
    assert curve[0] == pytest.approx(math.log(2), abs=0.05)
    assert sum(curve[-4:]) / 4 < 0.2 * curve[0]
    assert result.metrics["accuracy"] > 0.9
    assert result.metrics["loss"] < 0.3
    accuracies = [line["accuracy"] for line in result.history if "loss" in line]
    assert sum(accuracies[-4:]) / 4 > sum(accuracies[:2]) / 2
    if head != "base":
        last = [line for line in result.history if "loss" in line][-1]
        assert 0 <= last["r2"] <= 1
        assert last["reward_stddev"] > 0


@pytest.fixture(scope="module")
def finished(backbones, tmp_path_factory):
    """A finished mean-and-variance run on in-memory pairs, with all that it wrote."""
    folder = tmp_path_factory.mktemp("finished")
    config = train_config(
        backbones("gpt2"),
        folder / "out",
        reward_model_type="mean_and_variance",
        eval_steps=4,
        eval_first_step=True,
        per_device_eval_batch_size=5,
    )
    return config, run(config, ROWS, TEST), folder / "out"


def test_metrics_equal_a_recomputation_by_hand(finished):
    _, result, folder = finished
    model, head = result.model, result.model.head
    raw_chosen = model.raw_outputs([row["chosen"] for row in TEST])
    raw_rejected = model.raw_outputs([row["rejected"] for row in TEST])
    written = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert written == pytest.approx(result.metrics)
    groups = {"": lambda row: True}
    for column in ("data_subset", "objective"):
        for value in ("helpful", "harmless"):
            groups[f"{column}_{value}_"] = lambda row, c=column, v=value: row[c] == v
    for name, belongs in groups.items():
        mask = torch.tensor([belongs(row) for row in TEST])
        loss = -head.log_prob_preferred(raw_chosen[mask], raw_rejected[mask])
        rewards = head.distribution(torch.cat([raw_chosen[mask], raw_rejected[mask]]))
        spread = rewards.mean.var(correction=0)
        by_hand = {
            "loss": loss.mean(),
            "accuracy": (loss < math.log(2)).float().mean(),
            "reward_mean": rewards.mean.mean(),
            "reward_stddev": rewards.stddev.mean(),
            "r2": spread / (spread + rewards.variance.mean()),
        }
        for metric, value in by_hand.items():
            assert written[name + metric] == pytest.approx(float(value), abs=1e-5), name + metric
    assert len(written) == 25
    scale = model.reward_scale
    means = head.distribution(torch.cat([raw_chosen, raw_rejected])).mean
    assert scale.mean == pytest.approx(float(means.mean()), abs=1e-5)
    assert scale.stddev == pytest.approx(float(means.std(correction=0)), abs=1e-5)
    assert scale.texts == 48


def test_evaluations_along_the_way(finished):
    _, result, _ = finished
    evaluations = [line for line in result.history if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [0, 4, 8]
    assert evaluations[0]["eval_loss"] == pytest.approx(math.log(2), abs=0.05)
    assert evaluations[-1]["eval_loss"] == pytest.approx(result.metrics["loss"], abs=1e-6)
    assert "eval_data_subset_helpful_accuracy" in evaluations[-1]


def test_everything_is_written(finished):
    config, result, folder = finished
    written = yaml.safe_load((folder / "config.yaml").read_text())
    settled = dataclasses.replace(config, precision="float32")  # too small a model to measure
    assert TrainConfig(**written) == settled
    assert written == yaml.safe_load((folder / "final" / "training_config.yaml").read_text())
    report = json.loads((folder / "metrics.json").read_text())
    assert report["read"]["train"]["kept"] == 64
    assert report["read"]["test"] | {"source": ""} == result.reports["test"].to_dict() | {
        "source": ""
    }
    assert report["history"] == result.history
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    texts = [row["chosen"] for row in TEST]
    assert torch.allclose(again.raw_outputs(texts), result.model.raw_outputs(texts), atol=1e-6)
    assert again.reward_scale == result.model.reward_scale
    card = (result.path / "README.md").read_text()
    assert "- train examples: 64" in card
    assert "- source: in memory" in card
    assert f"| accuracy | {result.metrics['accuracy']:.4g} |" in card


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_best_checkpoint_by_validation_is_kept(backbones, tmp_path, tuning):
    config = train_config(
        backbones("gpt2", spread=1.0),
        tmp_path,
        tuning=tuning,
        learning_rate=5e-3 if tuning == "full" else 2e-2,
        num_train_epochs=4,
        validation_fraction=0.25,
        eval_steps=6,
        save_steps=6,
    )
    result = run(config, ROWS, TEST, callbacks=[RuinWeights(20)])
    evaluations = {
        line["step"]: line["eval_loss"] for line in result.history if "eval_loss" in line
    }
    best = min(evaluations, key=evaluations.get)
    last = max(evaluations)
    assert best < last
    assert evaluations[last] > evaluations[best] + 0.3
    checkpoint = RewardModel.from_pretrained(tmp_path / f"checkpoint-{best}", dtype="float32")
    texts = [row["chosen"] for row in TEST]
    kept = result.model.raw_outputs(texts)
    assert torch.allclose(checkpoint.raw_outputs(texts), kept, atol=1e-6)
    saved = RewardModel.from_pretrained(result.path, dtype="float32")
    assert torch.allclose(saved.raw_outputs(texts), kept, atol=1e-6)
    # validation pairs are what split_by_prompt holds out, and the test pairs were no part of it
    _, held_out = split_by_prompt([read_row(r) for r in ROWS], 0.25, VALIDATION_SALT)
    chosen = result.model.raw_outputs([example.text(0) for example in held_out])
    rejected = result.model.raw_outputs([example.text(1) for example in held_out])
    loss = -result.model.head.log_prob_preferred(chosen, rejected).mean()
    assert float(loss) == pytest.approx(evaluations[best], abs=1e-5)
    assert result.reports["validation"].kept == len(held_out)


def test_early_stopping(backbones, tmp_path):
    config = train_config(
        backbones("gpt2"),
        tmp_path,
        num_train_epochs=50,
        validation_fraction=0.25,
        eval_steps=2,
        save_steps=2,
        early_stopping_patience=2,
        save_total_limit=1,
    )
    result = run(config, ROWS, callbacks=[RuinWeights(5)])
    evaluations = [line["eval_loss"] for line in result.history if "eval_loss" in line]
    best = evaluations.index(min(evaluations))
    assert len(evaluations) == best + 3  # two without improvement, then no more
    assert result.metrics == {}


def test_push_to_hub(backbones, tmp_path, monkeypatch):
    calls = []

    class FakeApi:
        def create_repo(self, name, **options):
            calls.append(("create", name, options))
            return type("Repo", (), {"repo_id": f"someone/{name}"})()

        def upload_folder(self, **options):
            calls.append(("upload", sorted(p.name for p in Path(options["folder_path"]).iterdir())))
            calls[-1] += (options["repo_id"],)

    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    config = train_config(backbones("gpt2"), tmp_path / "my-run", push_to_hub=True)
    run(config, ROWS[:8])
    create, upload = calls
    assert create == ("create", "my-run", {"exist_ok": True, "private": True})
    assert upload[2] == "someone/my-run"
    assert {"README.md", "model.safetensors", "reward_head.json", "tokenizer.json"} <= set(
        upload[1]
    )
    calls.clear()
    named = train_config(
        backbones("gpt2"), tmp_path / "my-run", push_to_hub=True, hub_model_id="me/other"
    )
    run(named, ROWS[:8])
    assert calls[0][1] == "me/other"


def test_a_final_folder_and_tokenizer_of_ones_own(backbones, tmp_path):
    tiny_tokenizer(eos="<s>", pad="<s>").save_pretrained(tmp_path / "tokenizer")
    config = train_config(
        backbones("gpt2"),
        tmp_path / "out",
        final_dir=str(tmp_path / "elsewhere"),
        tokenizer_name=str(tmp_path / "tokenizer"),
        evaluate_at_end=False,
    )
    result = run(config, ROWS[:8], TEST)
    assert result.path == tmp_path / "elsewhere"
    assert RewardModel.from_pretrained(result.path).tokenizer.eos_token == "<s>"
    assert result.metrics == {}
