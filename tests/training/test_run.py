from __future__ import annotations

import json
import math
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from transformers import TrainerCallback

from hidden_context.data.preferences import parse_preference
from hidden_context.data.splits import VALIDATION_SALT, split_by_prompt
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, MissingFileError
from hidden_context.models import RewardModel
from hidden_context.objectives import negative_log_likelihood
from hidden_context.training import TrainConfig, run
from hidden_context.training.finetune import resume_point, training_arguments
from hidden_context.training.workflow import as_preferences, load_pairs, make_head
from support.builders import CHAT_TEMPLATE, preference_rows, tiny_tokenizer, train_config

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)
HEADS = ("base", "mean_and_variance", "categorical")


def losses(result) -> list[float]:
    return [line["loss"] for line in result.history if "loss" in line]


def prompts(preferences) -> set[str]:
    return {preference.prompt_key for preference in preferences}


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
        loss = negative_log_likelihood(head, raw_chosen[mask], raw_rejected[mask])
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
    assert TrainConfig(**written) == config
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
    assert "- train pairs: 64" in card
    assert "- source: in memory" in card
    assert f"| accuracy | {result.metrics['accuracy']:.4g} |" in card


def test_rows_in_memory_of_every_kind_train_alike(backbones, tmp_path):
    kinds = {
        "dictionaries": ROWS[:16],
        "dataset": datasets.Dataset.from_list(ROWS[:16]),
        "preferences": [parse_preference(dict(row)) for row in ROWS[:16]],
    }
    curves = [
        losses(run(train_config(backbones("gpt2"), tmp_path / name), rows))
        for name, rows in kinds.items()
    ]
    assert curves[0] == curves[1] == curves[2]
    assert len(curves[0]) == 2


def test_files_train_like_rows_in_memory(backbones, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, rows in (("train", ROWS[:16]), ("test", TEST)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_files = run(
        train_config(backbones("gpt2"), tmp_path / "a", data_path=str(data), data_subset="both")
    )
    in_memory = run(train_config(backbones("gpt2"), tmp_path / "b"), ROWS[:16], TEST)
    assert losses(from_files) == losses(in_memory)
    assert from_files.metrics == in_memory.metrics
    assert from_files.reports["train"].kept == 16


def test_prompts_on_both_sides_are_warned_of(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name, rows in (("train", ROWS[:6]), ("test", ROWS[4:9])):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TrainConfig(data_path=str(data))
    with pytest.warns(HiddenContextWarning, match="2 prompts stand in both"):
        load_pairs(config)


def test_blank_rows_and_limits_in_memory_are_counted():
    rows = [*ROWS[:8], {"chosen": " ", "rejected": "something"}]
    config = TrainConfig(train_dataset_size=5, eval_dataset_size=3)
    splits = load_pairs(config, rows, TEST)
    report = splits.reports["train"]
    assert (report.rows, report.kept, report.empty, report.limited) == (9, 5, 1, 3)
    assert len(splits.train) == 5
    assert (splits.reports["test"].kept, splits.reports["test"].limited) == (3, 21)


def test_held_out_prompts_stand_on_one_side_only():
    rows = [row for row in ROWS for _ in range(2)]  # every prompt twice
    config = TrainConfig(validation_fraction=0.25, eval_fraction=0.25)
    splits = load_pairs(config, rows)
    sets = [prompts(part) for part in (splits.train, splits.validation, splits.test)]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 64
    assert sum(report.kept for report in splits.reports.values()) == 128
    assert {name: report.rows for name, report in splits.reports.items()} == {
        name: len(getattr(splits, name)) for name in ("train", "validation", "test")
    }
    given = load_pairs(TrainConfig(eval_fraction=0.25), rows, TEST)
    assert len(given.train) == 128  # pairs to evaluate on were given: nothing is held out
    with pytest.raises(DataError, match="without pairs"):
        load_pairs(TrainConfig(validation_fraction=0.01), rows[:2])


class RuinWeights(TrainerCallback):
    """Makes the model bad from a step on, so that the best checkpoint is not the last."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, model=None, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad and "score" in name:
                        parameter.mul_(-30)


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
    _, held_out = split_by_prompt([parse_preference(r) for r in ROWS], 0.25, VALIDATION_SALT)
    chosen = result.model.raw_outputs([p.chosen for p in held_out])
    rejected = result.model.raw_outputs([p.rejected for p in held_out])
    loss = negative_log_likelihood(result.model.head, chosen, rejected).mean()
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


def test_soft_labels(backbones, tmp_path):
    """A tie's best answer is no preference; the loss of 1 - p is that of the swapped pair."""
    soft = [row | {"preference": p} for row, p in zip(ROWS[:16], [0.5, 0.0] * 8, strict=True)]
    swapped = [
        row
        if row["preference"] == 0.5
        else {"chosen": row["rejected"], "rejected": row["chosen"], "preference": 1.0}
        for row in soft
    ]
    results = [
        run(train_config(backbones("gpt2"), tmp_path / str(i)), rows, rows)
        for i, rows in enumerate((soft, swapped))
    ]
    assert losses(results[0]) == pytest.approx(losses(results[1]), abs=1e-5)
    assert results[0].metrics["accuracy"] == pytest.approx(results[1].metrics["accuracy"])
    model = results[0].model
    chosen = model.raw_outputs([row["chosen"] for row in soft])
    rejected = model.raw_outputs([row["rejected"] for row in soft])
    forward = negative_log_likelihood(model.head, chosen, rejected)
    backward = negative_log_likelihood(model.head, rejected, chosen)
    share = torch.tensor([row["preference"] for row in soft])
    expected = (share * forward + (1 - share) * backward).mean()
    assert results[0].metrics["loss"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("over_length", ["drop", "truncate"])
def test_long_pairs_are_counted(backbones, tmp_path, over_length):
    long = [row | {"rejected": row["rejected"] + " It is so." * 30} for row in ROWS[:3]]
    config = train_config(backbones("gpt2"), tmp_path, max_length=70, over_length=over_length)
    result = run(config, [*ROWS[:16], *long], [*TEST[:8], *long[:1]])
    read = json.loads((tmp_path / "metrics.json").read_text())["read"]
    if over_length == "drop":
        assert (read["train"]["kept"], read["train"]["too_long"]) == (16, 3)
        assert (read["test"]["kept"], read["test"]["too_long"]) == (8, 1)
        assert len(losses(result)) == 2
    else:
        assert (read["train"]["kept"], read["train"]["truncated"]) == (19, 3)
        assert (read["test"]["kept"], read["test"]["truncated"]) == (9, 1)
        assert len(losses(result)) == 3
    assert read["train"]["rows"] == 19


def test_nothing_left_is_an_error(backbones, tmp_path):
    with pytest.raises(DataError, match=r"no training pairs are left.*16 dropped because"):
        run(train_config(backbones("gpt2"), tmp_path, max_length=4), ROWS[:16])


def test_chat_messages_with_a_given_template(backbones, tmp_path):
    rows = preference_rows(16, seed=4, chat=True)
    with pytest.raises(ConfigError, match="--chat_template"):
        run(train_config(backbones("gpt2"), tmp_path / "none"), rows)
    template = tmp_path / "template.jinja"
    template.write_text(CHAT_TEMPLATE)
    config = train_config(backbones("gpt2"), tmp_path / "chat", chat_template=str(template))
    result = run(config, rows, rows[:4])
    rendered = [
        {
            side: "".join(f"<{m['role']}> {m['content']}</s>" for m in row[side])
            for side in ("chosen", "rejected")
        }
        for row in rows
    ]
    as_text = run(train_config(backbones("gpt2"), tmp_path / "text"), rendered, rendered[:4])
    assert losses(result) == pytest.approx(losses(as_text), abs=1e-6)
    again = RewardModel.from_pretrained(result.path, dtype="float32")
    assert torch.allclose(
        again.raw_outputs([rows[0]["chosen"]]),
        result.model.raw_outputs([rendered[0]["chosen"]]),
        atol=1e-6,
    )


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


def test_arguments_are_passed_through(tmp_path):
    config = train_config(
        "x",
        tmp_path,
        optim="adamw_hf",
        training_arguments={"warmup_steps": 7, "max_grad_norm": 0.5},
    )
    arguments = training_arguments(config, validated=False, has_eval=False)
    assert arguments.warmup_steps == 7
    assert arguments.max_grad_norm == 0.5
    assert arguments.optim == "adamw_torch"
    assert arguments.eval_strategy == "no"
    with pytest.raises(ConfigError, match="has no argument sorcery"):
        training_arguments(
            train_config("x", tmp_path, training_arguments={"sorcery": 1}),
            validated=False,
            has_eval=False,
        )
    with pytest.raises(ConfigError, match="cannot work together"):
        training_arguments(
            train_config("x", tmp_path, eval_steps=3, save_steps=4), validated=True, has_eval=True
        )


def test_where_to_resume(tmp_path):
    def config(value):
        return train_config("x", tmp_path / "out", resume_from_checkpoint=value)

    assert resume_point(config(None)) is None
    assert resume_point(config("false")) is None
    with pytest.raises(MissingFileError, match="Nothing to resume"):
        resume_point(config("true"))
    for step in (5, 40, 9):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)
    assert resume_point(config("True")) == str(tmp_path / "out" / "checkpoint-40")
    named = str(tmp_path / "out" / "checkpoint-9")
    assert resume_point(config(named)) == named
    with pytest.raises(MissingFileError):
        resume_point(config(str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_device_train_batch_size": 0}, "at least 1"),
        ({"max_length": 0}, "at least 1"),
        ({"validation_fraction": 1.0}, r"\[0, 1\)"),
        ({"eval_fraction": -0.1}, r"\[0, 1\)"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"early_stopping_patience": 2}, "needs --validation_fraction"),
        ({"early_stopping_patience": -1}, "--early_stopping_patience is -1; it cannot be negative"),
        ({"train_dataset_size": -1}, "--train_dataset_size is -1; it cannot be negative"),
        ({"eval_dataset_size": -5}, "--eval_dataset_size is -5; it cannot be negative"),
        ({"num_train_epochs": 0}, "--num_train_epochs is 0; it must be positive"),
        ({"num_train_epochs": math.nan}, "--num_train_epochs is nan; it must be positive"),
        ({"probe_learning_rate": 0.0}, "--probe_learning_rate is 0.0; it must be positive"),
        ({"probe_weight_decay": -0.1}, "--probe_weight_decay is -0.1; it cannot be negative"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


def test_sizes_that_can_work():
    assert TrainConfig(num_train_epochs=0, max_steps=3).max_steps == 3
    assert TrainConfig(probe_weight_decay=0.0).probe_weight_decay == 0


def test_a_single_file_can_be_trained_on_whole(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    whole = load_pairs(TrainConfig(data_path=str(path), eval_fraction=0))
    assert (len(whole.train), whole.test) == (64, [])
    tenth = load_pairs(TrainConfig(data_path=str(path)))
    assert tenth.eval_fraction == 0.1
    assert 0 < len(tenth.test) == 64 - len(tenth.train)
    assert load_pairs(TrainConfig(data_path=str(path), eval_fraction=0.1)) == tenth


def test_rows_in_memory_are_numbered_from_one():
    given = [parse_preference(ROWS[0]), ROWS[1], parse_preference(ROWS[2], line=40)]
    assert [pair.source_line for pair in as_preferences(given)] == [1, 2, 40]


def test_heads_take_their_own_options_only():
    config = TrainConfig(
        reward_model_type="categorical", num_atoms=7, entropy_coeff=0.5, likelihood="logistic"
    )
    assert make_head(config).to_dict() == {
        "type": "categorical",
        "num_outputs": 7,
        "num_atoms": 7,
        "entropy_coeff": 0.5,
        "version": 1,
    }
    assert make_head(TrainConfig(reward_model_type="scalar")).type == "base"
    with pytest.raises(ConfigError, match="'median' is not known"):
        make_head(TrainConfig(reward_model_type="median"))


def test_public_names_are_loaded_lazily():
    import hidden_context.models
    import hidden_context.training

    assert hidden_context.training.TrainResult.__name__ == "TrainResult"
    for module in (hidden_context.training, hidden_context.models):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing
