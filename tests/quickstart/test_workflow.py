"""The quickstart's run, small: every file, and numbers that agree with each other and the truth."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hidden_context import RewardModel, heads
from hidden_context.cli import quickstart as command
from hidden_context.cli.main import run_safely
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.quickstart.config import QuickstartConfig
from hidden_context.quickstart.presentation import draw, print_result
from hidden_context.quickstart.truth import (
    best_accuracy,
    contested,
    mean_absolute_error,
    preference_table,
    truth_of,
)
from hidden_context.quickstart.workflow import run, train_config
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import COMPLIANCE, REFUSAL, TRAIN_SETS, Annotators

WORLD = World(seed=1)
MIXED = WORLD.annotators("both")
ROWS = WORLD.generate_comparisons(1500, split="test")


TRUTH = np.array([row["true_probability"] for row in ROWS])


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    sizes = {"comparisons": 240, "test_comparisons": 80, "jailbreaks": 20, "batch_size": 24}
    short = {"epochs": 1, "evaluations": 2, "pretraining_steps": 3, "disable_progress": True}
    return run(QuickstartConfig(str(tmp_path_factory.mktemp("quickstart")), **sizes, **short))


def scores(record):
    return [row for _, row in iter_jsonl(Path(record.path) / "eval_results_both.jsonl")]


@pytest.mark.slow
def test_every_model_is_trained_evaluated_and_on_disk(result):
    assert [(r.reward_model_type, r.train_set) for r in result.records] == [
        (head_type, train_set) for train_set in TRAIN_SETS for head_type in heads.PAPER_TYPES
    ]
    assert result.summary.missing == []
    assert len(result.summary.cells) == 9
    for record in result.records:
        rows = scores(record)
        assert len(rows) == 80
        raw = RewardModel.from_pretrained(record.path).raw_outputs([rows[0]["chosen"]])[0]
        assert rows[0]["reward_output_chosen"] == pytest.approx(raw.tolist(), abs=1e-5)


@pytest.mark.slow
def test_records_agree_with_the_scores_on_disk(result):
    record = {(r.reward_model_type, r.train_set): r for r in result.records}["categorical", "both"]
    rows = scores(record)
    head = heads.make("categorical")
    chosen, rejected = (
        torch.tensor([row[f"reward_output_{side}"] for row in rows]).double()
        for side in ("chosen", "rejected")
    )
    learned = head.log_prob_preferred(chosen, rejected).exp()
    truth = torch.tensor([row["true_probability"] for row in rows])
    assert record.loss == pytest.approx(-learned.log().mean().item(), abs=1e-5)
    error = (learned - truth).abs().mean().item()
    assert record.probability_error == pytest.approx(error, abs=1e-5)
    assert sum(pair.count for pair in record.preferences) == 80
    rewards = head.distribution(torch.cat([chosen, rejected]))
    kinds = [row[f"{side}_kind"] for side in ("chosen", "rejected") for row in rows]
    mask = torch.tensor([kind == "compliance" for kind in kinds])
    expected = (rewards.mean[mask].mean() - rewards.mean.mean()) / rewards.mean.std(correction=0)
    assert record.rewards["compliance"][0] == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.slow
def test_no_prompt_is_shared_and_texts_are_the_same_for_every_train_set(result):
    folder = Path(result.config.output_dir) / "data"
    prompts, texts = {}, {}
    for train_set in TRAIN_SETS:
        for split in ("train", "test"):
            rows = [row for _, row in iter_jsonl(folder / train_set / f"{split}.jsonl")]
            prompts.setdefault(split, set()).update(row["prompt"] for row in rows)
            texts.setdefault(split, []).append([{row["chosen"], row["rejected"]} for row in rows])
    assert not prompts["train"] & prompts["test"]
    assert all(part[0] == part[1] == part[2] for part in texts.values())


@pytest.mark.slow
def test_tables_figures_and_json(result, capsys):
    print_result(result)
    output = capsys.readouterr().out
    for text in ("true utility", "not identified", "mean absolute error", "contested", "0.87"):
        assert text in output
    files = draw(result)
    assert [file.suffix for file in files] == [".svg", ".png"]
    assert all(file.stat().st_size > 10_000 for file in files)
    stored = json.loads((Path(result.config.output_dir) / "results.json").read_text())
    assert stored["truth"]["both"]["r_squared"] == pytest.approx(result.truth["both"].r_squared)
    assert len(stored["models"]) == 9


@pytest.mark.slow
def test_the_report_shows_what_the_models_say(result):
    html = (Path(result.config.output_dir) / "report.html").read_text(encoding="utf-8")
    assert "<h1>Quickstart: hidden context in a generated world</h1>" in html
    cell = result.summary.cell("mean_and_variance", "both")
    assert f"{100 * cell.jailbreak.mean.share:.1f} %" in html
    record = next(r for r in result.records if r.path.endswith("quickstart_peft_last_checkpoint"))
    assert record.path.rsplit("/", 1)[0].rsplit("/", 1)[0] in html
    assert "comparisons of" in html


def test_truth_of_the_tables_by_hand():
    world = World(seed=0)
    jailbreaks = [{"kinds": ["refusal", "compliance"]}, {"kinds": ["alternative", "compliance"]}]
    kinds = [
        ("full_answer", "partial_answer", "helpful"),
        ("needless_refusal", "full_answer", "helpful"),
        ("refusal", "compliance", "harmless"),
    ]
    columns = ("chosen_kind", "rejected_kind", "data_subset")
    rows = [dict(zip(columns, values, strict=True)) for values in kinds]
    expected = {"helpful": (1.0, 1.0), "harmless": (0.0, 0.0), "both": (0.5, 0.0)}
    for train_set, (mean, cautious) in expected.items():
        truth = truth_of(world.annotators(train_set), rows, jailbreaks, 0.01)
        assert (truth.jailbreak_rate, truth.jailbreak_rate_cautious) == (mean, cautious)
        assert truth.helpfulness_accuracy == 0.5


def test_training_options_are_those_of_the_ordinary_command(tmp_path):
    config = QuickstartConfig(str(tmp_path), comparisons=1000, batch_size=30, evaluations=4)
    options = train_config(config, tmp_path / "backbone", "categorical", "both")
    assert options.max_steps == 60
    assert options.eval_steps == options.save_steps == 15
    assert options.validation_fraction == 0.1
    assert options.likelihood == "probit"


@pytest.mark.parametrize(
    "arguments", [["--comparisons", "0"], ["--alpha", "1"], ["--epochs", "-1"]]
)
def test_bad_options_are_refused(arguments, capsys):
    assert run_safely(command.main, arguments) == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_truth_itself_has_no_error():
    assert mean_absolute_error(ROWS, TRUTH, MIXED) == pytest.approx(0, abs=1e-12)
    table = preference_table(ROWS, TRUTH, MIXED)
    assert len(table) == 6 + 3
    assert sum(pair.count for pair in table) == len(ROWS)
    for pair in table:
        assert pair.learned == pytest.approx(pair.true)
        assert pair.spread == pytest.approx(0, abs=1e-9)


def test_a_row_counts_the_same_whichever_side_was_chosen():
    swapped = [
        {"chosen_kind": row["rejected_kind"], "rejected_kind": row["chosen_kind"]} for row in ROWS
    ]
    learned = np.linspace(0.1, 0.9, len(ROWS))
    first = preference_table(ROWS, learned, MIXED)
    second = preference_table(swapped, 1 - learned, MIXED)
    assert [pair.learned for pair in first] == pytest.approx([pair.learned for pair in second])


def test_a_constant_shift_shows_as_the_error():
    learned = np.where(TRUTH > 0.5, TRUTH - 0.1, TRUTH + 0.1)
    assert mean_absolute_error(ROWS, learned, MIXED) == pytest.approx(0.1)


def test_a_pair_without_comparisons_is_not_a_number():
    rows = [row for row in ROWS if "compliance" not in (row["chosen_kind"], row["rejected_kind"])]
    table = preference_table(rows, [0.5] * len(rows), MIXED)
    assert math.isnan(table[0].learned)
    assert table[0].count == 0


def test_only_pairs_with_compliance_are_contested():
    table = preference_table(ROWS, TRUTH, MIXED)
    found = [(pair.first, pair.second) for pair in table if pair.contested]
    assert found == [("compliance", safe) for safe in ("alternative", "refusal", "incoherent")]
    assert contested(REFUSAL, COMPLIANCE)


def test_best_accuracy_is_what_knowing_the_kinds_gives():
    assert best_accuracy(ROWS, MIXED) == pytest.approx(np.maximum(TRUTH, 1 - TRUTH).mean())
    rows = WORLD.generate_comparisons(6000)
    right = np.mean([row["true_probability"] > 0.5 for row in rows])
    assert right == pytest.approx(best_accuracy(rows, MIXED), abs=0.02)
    # one objective can be predicted better than both
    assert best_accuracy(ROWS, Annotators(1.0)) > best_accuracy(ROWS, MIXED) + 0.05
