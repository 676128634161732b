"""Evaluations that take in rows of the training are told, with the options that leave them out."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml

from hidden_context import scoring
from hidden_context.errors import HiddenContextWarning
from hidden_context.scoring import EvaluateConfig
from hidden_context.scoring.trained_rows import TRAINING_CONFIG, warn_of_trained_rows
from support.builders import preference_rows
from support.paper_layout import reward_checkpoint, write_rows

TRAINED = {"train_split": "train", "eval_split": "test"}


@pytest.fixture
def table(tmp_path):
    return write_rows(tmp_path / "pairs.jsonl", preference_rows(8))


def said(folder, data, trained, **options):
    """What is said of an evaluation of a checkpoint with these options of its training."""
    folder.mkdir(exist_ok=True)
    content = yaml.safe_dump(TRAINED | {"data_path": data} | trained)
    (folder / TRAINING_CONFIG).write_text(content)
    return warnings_of(folder, data, **options)


def warnings_of(folder, data, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_trained_rows(EvaluateConfig(checkpoint=str(folder), data_path=data, **options))
    assert {each.category for each in caught} <= {HiddenContextWarning}
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("trained", "given", "flags"),
    [
        ({"eval_fraction": 0.25}, {}, "--eval_fraction 0.25"),
        ({"eval_fraction": None}, {}, "--eval_fraction 0.1"),
        ({"eval_fraction": 0.25}, {"eval_fraction": 0.5}, "--eval_fraction 0.25"),
        (
            {"eval_fraction": 0.25, "split_by": "topic", "split_balance": "true"},
            {},
            "--eval_fraction 0.25 --split_by topic --split_balance",
        ),
        (
            {"eval_fraction": 0.25, "split_by": "topic"},
            {"eval_fraction": 0.25},
            "--eval_fraction 0.25 --split_by topic",
        ),
        (
            {"eval_fraction": 0.2, "split_balance": "sides.json"},
            {"eval_fraction": 0.2, "split_balance": "false"},
            "--eval_fraction 0.2 --split_balance sides.json",
        ),
    ],
)
def test_options_of_the_training_that_are_left_out_are_named(
    tmp_path, table, trained, given, flags
):
    folder = tmp_path / "final"
    assert said(folder, table, trained, **given) == [
        f"rows that {folder} was trained on are among those evaluated; {flags} takes the ones "
        "that its training held out."
    ]


@pytest.mark.parametrize(
    ("trained", "given"),
    [
        ({"eval_fraction": 0.0}, {}),
        ({"eval_fraction": 0.25}, {"eval_fraction": 0.25}),
        ({"eval_fraction": None}, {"eval_fraction": 0.1}),
        ({"eval_fraction": 0.25}, {"eval_fraction": 0.1}),  # a part of what was held out
        (
            {"eval_fraction": 0.25, "split_by": "topic", "split_balance": "true"},
            {"eval_fraction": 0.25, "split_by": "topic", "split_balance": "pairs.jsonl.splits"},
        ),
        ({"eval_fraction": 0.25, "data_path": "other.jsonl"}, {}),
    ],
)
def test_what_was_held_out_and_other_data_are_no_matter(tmp_path, table, trained, given):
    assert said(tmp_path / "final", table, trained, **given) == []


def test_a_checkpoint_that_says_nothing_is_no_matter(tmp_path, table):
    assert warnings_of(tmp_path, table) == []
    for content in ("[1]", "a: ["):
        (tmp_path / TRAINING_CONFIG).write_text(content)
        assert warnings_of(tmp_path, table) == []


def test_a_split_counts_where_training_divided_it(tmp_path):
    data = tmp_path / "data"
    write_rows(data / "train.jsonl", preference_rows(8))
    data, folder = str(data), tmp_path / "final"
    divided = {"eval_fraction": 0.25}
    assert len(said(folder, data, divided, eval_split="train")) == 1
    assert said(folder, data, divided, eval_split="validation") == []
    assert said(folder, data, {"eval_fraction": None}, eval_split="train") == []
    both = {"eval_fraction": None, "eval_split": "train"}  # one split for both is divided
    assert len(said(folder, data, both, eval_split="train")) == 1


def test_an_evaluation_says_it_and_goes_on(tmp_path, monkeypatch):
    """The data has the same path from where the training ran, or the same place."""
    folder = Path(reward_checkpoint(tmp_path / "base", "base"))
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(40))
    trained = TRAINED | {"data_path": "pairs.jsonl", "eval_fraction": 0.25}
    (folder / TRAINING_CONFIG).write_text(yaml.safe_dump(trained))
    monkeypatch.chdir(tmp_path)
    options = {"checkpoint": str(folder), "data_path": data, "disable_tqdm": True}
    with pytest.warns(HiddenContextWarning, match="--eval_fraction 0.25 takes the ones"):
        assert scoring.evaluate(EvaluateConfig(**options)).counts.written == 40
