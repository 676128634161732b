"""The examples of a training run: where they come from, which are held out, dropped and counted."""

from __future__ import annotations

import json

import datasets
import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.splits import fold_of
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from hidden_context.training.frozen import member_folds, response_groups
from hidden_context.training.workflow import as_examples, load_run_data
from support.builders import CHAT_TEMPLATE, preference_rows, train_config
from support.runs import losses

ROWS = preference_rows(64, seed=1)
TEST = preference_rows(24, seed=2)


def prompts(examples) -> set[str]:
    return {example.prompt_key for example in examples}


def test_rows_in_memory_of_every_kind_train_alike(backbones, tmp_path):
    kinds = {
        "dictionaries": ROWS[:16],
        "dataset": datasets.Dataset.from_list(ROWS[:16]),
        "examples": [read_row(dict(row)) for row in ROWS[:16]],
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
        load_run_data(config)


def test_blank_rows_and_limits_in_memory_are_counted():
    rows = [*ROWS[:8], {"chosen": " ", "rejected": "something"}]
    config = TrainConfig(train_dataset_size=5, eval_dataset_size=3)
    splits = load_run_data(config, rows, TEST)
    report = splits.reports["train"]
    assert (report.rows, report.kept, report.empty, report.limited) == (9, 5, 1, 3)
    assert len(splits.train) == 5
    assert (splits.reports["test"].kept, splits.reports["test"].limited) == (3, 21)


def test_held_out_prompts_stand_on_one_side_only():
    rows = [row for row in ROWS for _ in range(2)]  # every prompt twice
    config = TrainConfig(validation_fraction=0.25, eval_fraction=0.25)
    splits = load_run_data(config, rows)
    sets = [prompts(part) for part in (splits.train, splits.validation, splits.test)]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 64
    assert sum(report.kept for report in splits.reports.values()) == 128
    assert {name: report.rows for name, report in splits.reports.items()} == {
        name: len(getattr(splits, name)) for name in ("train", "validation", "test")
    }
    given = load_run_data(TrainConfig(eval_fraction=0.25), rows, TEST)
    assert len(given.train) == 128  # pairs to evaluate on were given: nothing is held out
    with pytest.raises(DataError, match="without examples"):
        load_run_data(TrainConfig(validation_fraction=0.01), rows[:2])


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
    forward = -model.head.log_prob_preferred(chosen, rejected)
    backward = -model.head.log_prob_preferred(rejected, chosen)
    share = torch.tensor([row["preference"] for row in soft])
    expected = (share * forward + (1 - share) * backward).mean()
    assert results[0].metrics["loss"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("over_length", ["drop", "truncate"])
def test_long_pairs_are_counted(backbones, tmp_path, over_length):
    long = [row | {"rejected": row["rejected"] + " It is so." * 30} for row in ROWS[:3]]
    config = train_config(backbones("gpt2"), tmp_path, max_length=70, over_length=over_length)
    result = run(config, [*ROWS[3:19], *long], [*TEST[:8], *long[:1]])
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


@pytest.mark.parametrize("frozen", [False, True])
def test_rows_of_one_prompt_are_merged_and_counted(backbones, tmp_path, frozen):
    """Their long responses alone are left out; those of the evaluation set stay by themselves."""
    long = [row | {"rejected": row["rejected"] + " It is so." * 30} for row in ROWS[:3]]
    options = {"max_length": 70, "freeze_backbone": frozen, "probe_epochs": 1}
    options |= {"embed": "together", "probe_members": 1}
    config = train_config(backbones("gpt2"), tmp_path / "a", **options)
    result = run(config, [*ROWS[:16], *long], [*TEST[:8], TEST[0]])
    read = json.loads((tmp_path / "a" / "metrics.json").read_text())["read"]
    counts = ("rows", "kept", "merged", "left_out", "too_long")
    assert [read["train"][name] for name in counts] == [19, 16, 3, 3, 0]
    assert [read["test"][name] for name in counts] == [9, 9, 0, 0, 0]
    said = "16 of 16 examples kept (19 rows, those of one prompt as one example, 3 responses"
    assert said in str(result.reports["train"])
    assert "- train examples: 16" in (result.path / "README.md").read_text()
    apart = train_config(backbones("gpt2"), tmp_path / "b", merge_prompts=False, **options)
    read = run(apart, [*ROWS[:16], *long], TEST[:8]).reports["train"].to_dict()
    assert [read[name] for name in counts] == [19, 16, 0, 0, 3]


@pytest.mark.parametrize("frozen", [False, True])
def test_abstentions_are_counted_and_are_no_votes(backbones, tmp_path, frozen):
    """Two who could not tell change the counts, and nothing that is learned."""
    judged = [row | {"annotations": [{"annotator": "a", "preference": 1}]} for row in ROWS[:12]]
    asked = [
        row | {"annotations": [*row["annotations"], {"annotator": "b"}, {"annotator": "c"}]}
        for row in judged
    ]
    nobody = ROWS[20] | {"annotations": [{"annotator": "b"}]}
    options = {"freeze_backbone": frozen, "probe_epochs": 2, "probe_members": 1}
    options |= {"probe_batch_size": 8}
    results = [
        run(train_config(backbones("gpt2"), tmp_path / name, **options), rows, rows)
        for name, rows in (("a", judged), ("b", [*asked, nobody]))
    ]
    for part in ("train", "test"):
        read = json.loads((tmp_path / "b" / "metrics.json").read_text())["read"][part]
        assert (read["abstentions"], read["unjudged"]) == (25, 1)
        assert (read["rows"], read["kept"]) == (13, 12)
        read = json.loads((tmp_path / "a" / "metrics.json").read_text())["read"][part]
        assert (read["abstentions"], read["unjudged"]) == (0, 0)
    assert losses(results[0]) == losses(results[1])
    assert results[0].metrics == results[1].metrics


def test_nothing_left_is_an_error(backbones, tmp_path):
    with pytest.raises(DataError, match=r"no training examples are left.*16 dropped because"):
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
    whole = load_run_data(TrainConfig(data_path=str(path), eval_fraction=0))
    assert (len(whole.train), whole.test) == (64, [])
    tenth = load_run_data(TrainConfig(data_path=str(path)))
    assert tenth.eval_fraction == 0.1
    assert 0 < len(tenth.test) == 64 - len(tenth.train)
    assert load_run_data(TrainConfig(data_path=str(path), eval_fraction=0.1)) == tenth


def test_rows_in_memory_are_numbered_from_one():
    given = [read_row(ROWS[0]), ROWS[1], read_row(ROWS[2], line=40)]
    assert [example.source_lines for example in as_examples(given)] == [(1,), (2,), (40,)]


def test_a_column_to_divide_by_holds_for_rows_in_memory_for_merging_and_for_members():
    """One prompt, 12 annotators: no annotator on two sides, nor held out in part by a member."""
    rows = [
        {"prompt": "Tea?", "chosen": f" {n % 3}", "rejected": " no", "who": n % 12}
        for n in range(120)
    ]
    config = TrainConfig(split_by="who", eval_fraction=0.25, validation_fraction=0.25)
    splits = load_run_data(config, rows)
    sets = [{row.columns["who"] for row in part} for part in (splits.train, splits.test)]
    sets.append({row.columns["who"] for row in splits.validation})
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == 12
    merged = merge_prompts(splits.train, splits.options.keys(splits.train))
    assert sorted(example.columns["who"] for example in merged) == sorted(sets[0])
    assert {len(example.responses) for example in merged} == {2}
    folds = [fold_of(str(example.columns["who"]), 5, "probe member") for example in splits.train]
    groups = response_groups(splits.train, splits.options)
    held_out, _ = member_folds(groups, [2] * len(splits.train), 5)
    for member, mask in enumerate(held_out):
        assert mask.tolist() == [fold == member for fold in folds]
    with pytest.warns(HiddenContextWarning, match="12 values of 'who' stand in both"):
        load_run_data(TrainConfig(split_by="who"), rows, rows)
