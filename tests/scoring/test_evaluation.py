"""Evaluating on pairs: the file of raw outputs, and metrics against closed forms."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context import RewardModel, heads, scoring
from hidden_context.errors import ConfigError, DataError, MissingFileError
from hidden_context.likelihood import make_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import EvaluateConfig
from hidden_context.scoring.evaluation import metrics_of_file
from support.builders import preference_rows
from support.paper_layout import (
    jailbroken_rows,
    read_rows,
    relabeled_rows,
    reward_checkpoint,
    write_relabeled,
    write_rows,
)


def evaluate(checkpoint, data, **options):
    return scoring.evaluate(
        EvaluateConfig(checkpoint=checkpoint, data_path=str(data), disable_tqdm=True, **options)
    )


@pytest.fixture
def base(tmp_path):
    return reward_checkpoint(tmp_path / "base", "base")


def test_every_column_is_kept_and_raw_outputs_are_added_in_order(checkpoint, tmp_path):
    write_relabeled(tmp_path / "data")
    result = evaluate(checkpoint, tmp_path / "data", output=str(tmp_path / "r.jsonl"))
    rows, inputs = read_rows(result.path), relabeled_rows(6, 1)
    model = RewardModel.from_pretrained(checkpoint)
    for side in ("chosen", "rejected"):
        raw = torch.tensor([row.pop(f"reward_output_{side}") for row in rows])
        expected = model.raw_outputs([row[side] for row in inputs])
        assert torch.allclose(raw, expected, atol=1e-6, rtol=0)
    assert rows == inputs


def test_results_lie_in_the_checkpoint_and_a_missing_subset_column_is_added(base, tmp_path):
    bare = [{s: row[s] for s in ("chosen", "rejected")} for row in preference_rows(4)]
    data = write_rows(tmp_path / "pairs.jsonl", bare)
    result = evaluate(base, data)
    assert result.path == Path(base) / "eval_results_both.jsonl"
    assert [row["data_subset"] for row in read_rows(result.path)] == ["both"] * 4


def test_a_subset_that_is_null_is_filled_and_a_packed_output_keeps_its_name(base, tmp_path):
    rows = [{**row, "data_subset": None} for row in preference_rows(4)]
    for row, objective in zip(rows, ("", "helpful", "", "helpful"), strict=True):
        row["objective"] = objective
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    result = evaluate(base, data, output=str(tmp_path / "ge.jsonl.gz"))
    with gzip.open(result.path, "rt") as file:
        written = [json.loads(line) for line in file]
    assert [row["data_subset"] for row in written] == ["both"] * 4
    # an empty objective is no group, and the one that is left is all there is to report
    assert not [name for name in result.metrics if name.startswith("objective")]
    assert sorted(path.name for path in tmp_path.glob("ge.*")) == [
        "ge.jsonl.gz",
        "ge.jsonl.gz.config.yaml",
        "ge.jsonl.gz.heads",
        "ge.jsonl.gz.metrics.json",
    ]


def test_metrics_are_those_of_the_raw_outputs(base, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(12))
    result = evaluate(base, data)
    rows = read_rows(result.path)
    gaps = [r["reward_output_chosen"][0] - r["reward_output_rejected"][0] for r in rows]
    losses = [math.log1p(math.exp(-gap)) for gap in gaps]
    metrics = result.metrics
    assert metrics["loss"] == pytest.approx(sum(losses) / 12, abs=1e-9)
    assert metrics["accuracy"] == pytest.approx(sum(gap > 0 for gap in gaps) / 12, abs=1e-9)
    helpful = [
        loss for loss, row in zip(losses, rows, strict=True) if row["objective"] == "helpful"
    ]
    assert metrics["objective_helpful_loss"] == pytest.approx(sum(helpful) / 6, abs=1e-9)
    stored = json.loads(Path(f"{result.path}.metrics.json").read_text())
    assert stored["metrics"] == metrics
    zeros = dict.fromkeys(("dropped", "unscored", "truncated", "refused"), 0)
    assert stored["counts"] == {"rows": 12, "written": 12, **zeros}
    config = yaml.safe_load(Path(f"{result.path}.config.yaml").read_text())
    assert EvaluateConfig(**config) == EvaluateConfig(
        checkpoint=base, data_path=data, disable_tqdm=True, precision="float32"
    )


def test_soft_labels_and_ties_count_as_what_they_are(tmp_path):
    rows = [
        {"reward_output_chosen": [1.0], "reward_output_rejected": [0.0], "preference": 0.25},
        {"reward_output_chosen": [1.0], "reward_output_rejected": [1.0]},
        {"reward_output_chosen": None, "reward_output_rejected": [0.0]},
    ]
    path = Path(write_rows(tmp_path / "r.jsonl", rows))
    metrics = metrics_of_file(path, make_likelihood(heads.make("base")))
    first = 0.25 * math.log1p(math.exp(-1)) + 0.75 * math.log1p(math.exp(1))
    assert metrics["loss"] == pytest.approx((first + math.log(2)) / 2, abs=1e-9)
    assert metrics["accuracy"] == pytest.approx((0.0 + 0.5) / 2, abs=1e-9)


def test_too_long_pairs_are_dropped_counted_and_never_scored(base, tmp_path):
    rows = preference_rows(5)
    rows[1]["rejected"] += " word" * 60
    data = write_rows(tmp_path / "pairs.jsonl", rows)
    result = evaluate(base, data, max_length=60)
    kept = read_rows(result.path)
    assert [row["chosen"] for row in kept] == [rows[i]["chosen"] for i in (0, 2, 3, 4)]
    assert (result.counts.dropped, result.report.kept, result.report.too_long) == (1, 4, 1)
    assert "1 dropped because a side is too long" in str(result.report)
    null = evaluate(base, data, max_length=60, over_length="null")
    assert read_rows(null.path)[1]["reward_output_rejected"] is None
    assert null.metrics == pytest.approx(result.metrics)


def test_nothing_left_is_an_error_with_the_remedy(base, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(3))
    with pytest.raises(DataError, match=r"none of 3 rows is left.*Raise --max_length"):
        evaluate(base, data, max_length=3, output=str(tmp_path / "results.jsonl"))
    assert not (tmp_path / "results.jsonl").exists()


def test_a_file_that_lies_beside_the_checkpoint_is_not_overwritten_by_mistake(base, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(3))
    with pytest.raises(ConfigError, match="is the input too"):
        evaluate(base, data, output=data)
    with pytest.raises(MissingFileError, match=r"org/model does not exist.*hub with --output"):
        evaluate("org/model", data)


def test_an_evaluation_goes_on_with_the_same_pairs_only(base, tmp_path, monkeypatch):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(7))
    original, calls = SequenceRewardModel.try_raw_outputs, []

    def stop_at_third(self, texts, *args, **options):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, texts, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate(base, data, window=2)
    evaluate(base, data, window=2)
    assert calls == [4, 4, 4, 4, 2]  # the third window again, then the last

    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        evaluate(base, data, window=2)
    changed = preference_rows(7)
    changed[0]["chosen"] += " Indeed."  # as many rows, another text
    write_rows(data, changed)
    result = evaluate(base, data, window=2)
    assert calls[3:] == [4, 4, 4, 2]
    assert read_rows(result.path)[0]["chosen"].endswith(" Indeed.")


def test_the_held_out_part_of_one_table(base, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(40))
    part = evaluate(base, data, eval_fraction=0.25, eval_dataset_size=4)
    assert part.counts.written == 4
    assert "held out for eval" in part.report.source


def test_rows_to_score_are_not_pairs(base, tmp_path):
    data = write_rows(tmp_path / "prompts.jsonl", jailbroken_rows())
    with pytest.raises(DataError, match="line 1, field 'chosen': the column is missing"):
        evaluate(base, data)
