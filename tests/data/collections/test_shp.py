from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.shp import SOURCE
from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    assert not report.annotators  # a vote count is not an annotator
    return examples, report.left_out


def pair(**columns: Any) -> dict[str, Any]:
    return {
        "post_id": "p1",
        "domain": "askbaking_train",
        "upvote_ratio": 0.98,
        "history": "Why does bread rise? I would like to know.",
        "c_root_id_A": "a",
        "c_root_id_B": "b",
        "created_at_utc_A": 1636822112,
        "created_at_utc_B": 1636822110,
        "score_A": 34,
        "score_B": 17,
        "human_ref_A": "Yeast makes gas.",
        "human_ref_B": "Magic.",
        "labels": 1,
        "seconds_difference": 2.0,
        "score_ratio": 2.0,
        **columns,
    }


B_WINS = {"labels": 0, "score_A": 3, "score_B": 340}


def test_the_label_says_which_comment_is_preferred(tmp_path: Path) -> None:
    rows = [pair(), pair(post_id="p2", **B_WINS)]
    examples, left_out = read([jsonl_file(tmp_path / "train.json", rows)])
    # one judgement each, however many votes are behind the scores
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, 1.0)),),
        (Judgement(Comparison(0, 1, 0.0)),),
    ]
    first = examples[0]
    assert first.prompt == [
        {"role": "user", "content": "Why does bread rise? I would like to know."}
    ]
    assert first.responses[1] == [{"role": "assistant", "content": "Magic."}]
    assert first.columns["scores"] == [34.0, 17.0]
    assert (first.columns["post_id"], first.columns["score_ratio"]) == ("p1", 2.0)
    assert not left_out


@pytest.mark.parametrize(
    ("domain", "subreddit", "split"),
    [
        ("askbaking_train", "askbaking", "train"),
        ("ask_hr_validation", "ask_hr", "validation"),
        ("legaladvice_test", "legaladvice", "test"),
        ("ask_hr", "ask_hr", None),
        (None, None, None),
    ],
)
def test_subreddit_and_split(
    domain: str | None, subreddit: str | None, split: str | None, tmp_path: Path
) -> None:
    ((example,), _) = read([jsonl_file(tmp_path / "train.json", [pair(domain=domain)])])
    assert (example.data_subset, example.columns.get("split")) == (subreddit, split)


def test_a_label_against_the_scores_is_left_out(tmp_path: Path) -> None:
    rows = [
        pair(labels=0),
        pair(post_id="p2", labels=1, score_A=1, score_B=2),
        pair(post_id="p3", labels=0, score_A=2, score_B=2),
        pair(post_id="p4", labels=1, score_A=2, score_B=2),
    ]
    examples, left_out = read([jsonl_file(tmp_path / "train.json", rows)])
    assert [example.columns["post_id"] for example in examples] == ["p3", "p4"]
    assert left_out == {"pairs whose label is for the comment with the lower score": 2}


def test_a_pair_that_stands_twice_counts_once(tmp_path: Path) -> None:
    swapped = pair(c_root_id_A="b", c_root_id_B="a", **B_WINS)
    files = [
        jsonl_file(tmp_path / "train.json", [pair(), pair(c_root_id_B="c")]),
        jsonl_file(tmp_path / "again.json", [swapped, pair(post_id=None), pair(post_id=None)]),
    ]
    examples, left_out = read(files)
    assert len(examples) == 4
    assert left_out == {"pairs of comments that stand twice": 1}


def test_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [pair(), pair(post_id="p2", **B_WINS)]
    path = parquet_file(tmp_path / "train.parquet", rows)
    assert read([path])[0] == read([jsonl_file(tmp_path / "train.json", rows)])[0]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (pair(labels=2), "line 1, field 'labels': a number from 0 to 1 is needed, not 2"),
        (pair(labels=None), "field 'labels': a number is needed, not null"),
        (pair(score_B="many"), "field 'score_B': a finite number is needed, not text"),
        (pair(human_ref_A=None), "field 'human_ref_A': text is needed, not null"),
        (pair(history=7), "field 'history': text is needed, not a number"),
    ],
)
def test_odd_rows(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "train.json", [odd])])


def test_another_file_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(DataError, match=r"the columns history, human_ref_A, .* Give train\.json"):
        read([jsonl_file(tmp_path / "rows.jsonl", [row])])
