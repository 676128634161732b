"""The pairs of a training run: where they come from, which are held out, dropped and counted."""

from __future__ import annotations

import json

import datasets
import pytest
import torch

from hidden_context.data.preferences import parse_preference
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.models import RewardModel
from hidden_context.objectives import negative_log_likelihood
from hidden_context.training import TrainConfig, run
from hidden_context.training.workflow import as_preferences, load_pairs
from support.builders import CHAT_TEMPLATE, preference_rows, train_config

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)


def losses(result) -> list[float]:
    return [line["loss"] for line in result.history if "loss" in line]


def prompts(preferences) -> set[str]:
    return {preference.prompt_key for preference in preferences}


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
