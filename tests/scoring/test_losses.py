"""Evaluation warns where more than a fifth of the rows has no part in its metrics."""

from __future__ import annotations

import warnings

import pytest

from hidden_context import scoring
from hidden_context.errors import HiddenContextWarning
from hidden_context.scoring import EvaluateConfig
from support.builders import preference_rows
from support.paper_layout import write_rows

ROWS = preference_rows(20)
LONG = " It is so." * 60


def warnings_of(checkpoint, path, **options):
    config = EvaluateConfig(
        checkpoint=checkpoint,
        data_path=str(path),
        output=f"{path}.scored.jsonl",
        max_length=100,
        disable_tqdm=True,
        **options,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scoring.evaluate(config)
    return [str(w.message) for w in caught if issubclass(w.category, HiddenContextWarning)]


def losing(count):
    return [
        row | {"rejected": row["rejected"] + LONG} if number < count else row
        for number, row in enumerate(ROWS)
    ]


@pytest.mark.parametrize("lost", [4, 5])
def test_rows_that_are_dropped(checkpoint, tmp_path, lost):
    said = warnings_of(checkpoint, write_rows(tmp_path / "pairs.jsonl", losing(lost)))
    if lost == 4:
        assert said == []
    else:
        assert len(said) == 1
        assert said[0].startswith("25% is lost of")
        assert "15 of 20 examples kept (5 dropped because a side is too long)" in said[0]


def test_rewards_that_are_null(checkpoint, tmp_path):
    path = write_rows(tmp_path / "pairs.jsonl", losing(4))
    assert warnings_of(checkpoint, path, over_length="null") == []
    path = write_rows(tmp_path / "more.jsonl", losing(5))
    (words,) = warnings_of(checkpoint, path, over_length="null")
    assert words.startswith("25% is lost of")
    assert "20 of 20 rows written; 5 texts without a reward (see the _reason columns)." in words


def test_rows_lost_before_the_division_and_before_a_limit(checkpoint, tmp_path):
    blank = [{"chosen": " ", "rejected": "text"}] * 8
    path = write_rows(tmp_path / "pairs.jsonl", [*ROWS, *blank])
    (words,) = warnings_of(checkpoint, path, eval_fraction=0.5)[:1]
    assert words.startswith("29% is lost of")
    assert "8 dropped because a side is empty" in words
    limited = write_rows(tmp_path / "limited.jsonl", losing(20)[:15] + ROWS)
    said = warnings_of(checkpoint, limited, eval_dataset_size=10, seed=3)
    assert any("is lost of" in words and "left out by the size limit" in words for words in said)
