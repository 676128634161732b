"""Training runs: what is learnt, measured, written and kept; chats from the file to the reward."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context.data.example import ModelInput
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.splits.division import VALIDATION_SALT, split_by_prompt
from hidden_context.data.splits.held_out import Splits
from hidden_context.errors import ConfigError, DataError
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from hidden_context.training.resume import describe_run
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, tiny_backbone, tiny_tokenizer, train_config
from support.models import load
from support.paper_layout import read_rows, write_rows
from support.runs import RuinWeights, evaluations, logged, spied
from support.scoring import evaluate, score

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)


def test_everything_is_written(backbones, tmp_path):
    options = {"reward_model_type": "mean_and_variance", "per_device_eval_batch_size": 5}
    config = train_config(backbones("gpt2"), tmp_path, **options)
    result = run(config, ROWS, TEST)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    # too small a model to measure
    assert TrainConfig(**written) == dataclasses.replace(config, precision="float32")
    assert written == yaml.safe_load((tmp_path / "final" / "training_config.yaml").read_text())
    report = json.loads((tmp_path / "metrics.json").read_text())
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


ALL = {"save_steps": 2, "eval_first_step": True, "early_stopping_patience": 4}
FEWER = {"save_steps": 2, "num_train_epochs": 6}


@pytest.mark.parametrize(
    ("ruined", "options", "kept"),
    [
        (1, ALL, [2, 4, 6]),  # there is no checkpoint of the evaluation before training
        (3, {"training_arguments": {"save_strategy": "best"}}, [2]),
        (5, FEWER | {"save_total_limit": 1}, None),  # the best and the last
        (5, FEWER | {"save_total_limit": 2}, None),
    ],
)
def test_which_checkpoints_are_kept_and_which_one_is_the_model(
    fit, tmp_path, ruined, options, kept
):
    options = {"num_train_epochs": 2, "validation_fraction": 0.25, "eval_steps": 2} | options
    result = fit(FEW, callbacks=[RuinWeights(ruined, -300, 3)], **options)
    found = evaluations(result)
    assert (min(found, key=found.get) == 0) == (ruined == 1)
    best = min(kept or found, key=found.get)
    names = {f"checkpoint-{step}" for step in kept or (best, max(found))}
    assert {path.name for path in tmp_path.glob("check*")} == names
    texts = [row["chosen"] for row in NINE]
    saved = RewardModel.from_pretrained(tmp_path / f"checkpoint-{best}")
    assert torch.allclose(result.model.raw_outputs(texts), saved.raw_outputs(texts), atol=1e-5)


def test_another_metric_can_choose(fit, loops):
    options = {"eval_steps": 2, "save_steps": 2, "validation_fraction": 0.25}
    arguments = {"metric_for_best_model": "accuracy", "greater_is_better": True}
    result = fit(FEW, num_train_epochs=2, training_arguments=arguments, **options)
    assert loops[0].state.best_metric == max(logged(result, "eval_accuracy"))
    with pytest.raises(ConfigError, match="metric_for_best_model is bleu, which the evaluation"):
        fit(FEW, into="b", training_arguments={"metric_for_best_model": "bleu"}, **options)


# ---- gradients and steps


def test_log_lines_average_what_the_steps_between_have(fit):
    """Steps of ratings alone have no accuracy; norm and rate are the last step's."""
    pairs = [row | {"rating_chosen": None} for row in FEW[:8]]
    rated = [{"text": row["chosen"], "rating": number % 3} for number, row in enumerate(FEW[8:16])]
    options = {"anchor_weight": 1.0, "optim": "sgd", "per_device_train_batch_size": 1}
    histories = (
        fit([*pairs, *rated], into=str(every), logging_steps=every, **options).history
        for every in (1, 4)
    )
    lines, means = ([line for line in history if "loss" in line] for history in histories)
    assert (len(lines), len(means)) == (16, 4)
    assert sum("accuracy" in line for line in lines) == 8
    for number, mean in enumerate(means):
        own = lines[4 * number : 4 * number + 4]
        for name in ("loss", "reward_mean", "accuracy"):
            if values := logged(own, name):
                assert mean[name] == pytest.approx(sum(values) / len(values), abs=1e-6)
        assert mean["grad_norm"] == pytest.approx(own[-1]["grad_norm"])
        assert mean["learning_rate"] == own[-1]["learning_rate"]


# ---- chats: refused rows, tools, tool calls, null keys and content parts


TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ 'named' if 'name' in m }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be kind."}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"role": "assistant", "tool_calls": [TOOL]}


@pytest.fixture
def data(tmp_path):
    """Rows, of which the seventh is refused."""
    rows = preference_rows(24, seed=3, chat=True)
    for side in ("chosen", "rejected"):
        rows[6][side] = [SYSTEM, *rows[6][side]]
    return write_rows(tmp_path / "data.jsonl", rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A language model and a reward model whose chat template refuses system turns."""
    tokenizer = tiny_tokenizer(chat_template=TEMPLATE, max_length=512)
    place = tmp_path_factory.mktemp("models")
    options = {"tokenizer": tokenizer, "max_position_embeddings": 512}
    return (
        tiny_backbone(place / "lm", **options),
        tiny_backbone(place / "rm", num_labels=1, **options),
    )


@pytest.mark.parametrize(
    "way", [{}, {"freeze_backbone": True, "embed": "together", "probe_epochs": 1}]
)
def test_training_names_or_skips_a_refused_row(folders, fit, data, way):
    options = {"data_path": data, "eval_fraction": 0.2, "max_steps": 1, "max_length": 256} | way
    with pytest.raises(DataError, match=r"data\.jsonl, line 7: the chat template refuses"):
        fit(into="a", backbone=folders[0], **options)
    reports = fit(into="b", backbone=folders[0], on_malformed="skip", **options).reports
    assert sum(report.kept for report in reports.values()) == 23
    (malformed,) = [text for report in reports.values() for text in report.malformed]
    assert "line 7" in malformed
    assert "no system turn" in malformed


def test_evaluation_names_or_skips_a_refused_row(folders, tmp_path, data):
    def counts_of(path=data, **options):
        return evaluate(folders[1], path, output=str(tmp_path / "e.jsonl"), **options).counts

    with pytest.raises(DataError, match=r"data\.jsonl, line 7: the chat template refuses"):
        counts_of()
    counts = counts_of(on_malformed="skip")
    assert (counts.rows, counts.dropped) == (24, 1)
    assert "2 texts refused by the chat template" in str(counts)
    counts = counts_of(on_malformed="skip", over_length="null")
    assert (counts.written, counts.unscored) == (24, 2)
    bad = write_rows(tmp_path / "bad.jsonl", read_rows(data)[6:7])
    with pytest.raises(DataError, match=r"none of 1 rows .* the chat template \(2 refused\)"):
        counts_of(bad, on_malformed="skip")
    # scores of a refused row are null, with a reason
    counts = score(data, folders[1], tmp_path / "o.jsonl").counts
    assert (counts.unscored, counts.refused) == (2, 2)
    rows = read_rows(tmp_path / "o.jsonl")
    assert [number for number, row in enumerate(rows) if None in row.values()] == [6]
    assert "no system turn" in rows[6]["reward_output_chosen_reason"]


def test_tools_and_tool_calls_are_scored(folders):
    model = load(folders[1])
    user, text = {"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}
    chats = [[user, CALL], [user, text]]
    given = [ModelInput(chat, tools=tools) for tools in (None, [TOOL]) for chat in chats]
    raw = model.raw_outputs(given).squeeze(-1).tolist()
    assert len({round(value, 5) for value in raw}) == 4
    rewards = model.score_responses([user], [[CALL], [text]], tools=[TOOL]).mean
    assert rewards.tolist() == pytest.approx(raw[2:], abs=1e-5)


def test_other_tools_are_other_data_for_a_run_that_goes_on(folders, tmp_path):
    row = {"prompt": [SYSTEM], "chosen": [CALL], "rejected": [SYSTEM]}
    config = train_config(folders[0], tmp_path)
    one, same, other = (
        describe_run(config, Splits([read_row(row | {"tools": tools})], [], []))["data"]
        for tools in ([TOOL], json.dumps([TOOL]), None)
    )
    assert one == same != other


@pytest.mark.parametrize("embed", [None, "apart", "together"])
def test_conversations_given_by_hand_are_normalised(folders, fit, embed):
    folder = folders[1]
    if embed:
        rows = preference_rows(24, seed=1, chat=True)
        options = {"freeze_backbone": True, "embed": embed, "probe_epochs": 1}
        folder = fit(rows, rows, backbone=folders[0], **options).path
    model = load(folder)
    parts = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?", "image": None}]
    plain = [{"role": "user", "content": "Rain?"}, CALL]
    nulls = {"content": None, "name": None}
    given = [{"role": "user", "content": parts, "name": None}, CALL | nulls]
    one, other = model.raw_outputs([plain, given])
    assert torch.allclose(one, other, atol=1e-6)
    image = [{"role": "user", "content": [{"type": "image"}]}, plain[1]]
    with pytest.raises(DataError, match="not a part of type 'image'"):
        model.raw_outputs([image])
