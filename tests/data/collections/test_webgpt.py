"""WebGPT's comparisons: rows, and the pairs of records they were first published as."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.webgpt import SOURCE
from hidden_context.data.example import Comparison, Judgement
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file

QUESTION = {"dataset": "eli5", "id": "q7", "full_text": "Why is tea brown?\n\nI always wondered."}
QUOTES = {"title": ["Tea (leaves.example)"], "extract": ["Tannins colour the water."]}


def row(score: float = 0.5, **columns: Any) -> dict[str, Any]:
    return {
        "question": QUESTION,
        "quotes_0": QUOTES,
        "answer_0": "Tannins [1].",
        "tokens_0": {"prefix": [5, 6], "completion": [7]},
        "score_0": score,
        "quotes_1": {"title": [], "extract": []},
        "answer_1": "It is dyed.",
        "tokens_1": {"prefix": [5, 6], "completion": [8]},
        "score_1": -score,
        **columns,
    }


def record(answer: str, score: Any, **columns: Any) -> dict[str, Any]:
    tokens = {"prefix": [5], "completion": [7]}
    said = {"answer": answer, "tokens": tokens, "score": score}
    return {"question": QUESTION, "quotes": QUOTES, **said, **columns}


def raw_file(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_score_is_a_margin_and_only_its_sign_is_a_vote(tmp_path: Path) -> None:
    scores = (0.5, -1.0, 0.0, -0.3333333432674408, 1)
    path = jsonl_file(tmp_path / "rows.jsonl", [row(score) for score in scores])
    examples, report = import_source(SOURCE, [path])
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, 1.0, margin=0.5)),),
        (Judgement(Comparison(0, 1, 0.0, margin=-1.0)),),
        (Judgement(Comparison(0, 1, 0.5, margin=0.0)),),
        (Judgement(Comparison(0, 1, 0.0, margin=-0.3333333432674408)),),
        (Judgement(Comparison(0, 1, 1.0, margin=1.0)),),
    ]
    first = examples[0]
    assert first.prompt == [{"role": "user", "content": QUESTION["full_text"]}]
    assert first.responses == (
        [{"role": "assistant", "content": "Tannins [1]."}],
        [{"role": "assistant", "content": "It is dyed."}],
    )
    assert (first.data_subset, first.columns["item"]) == ("eli5", "q7")
    assert first.columns["quotes_0"] == QUOTES
    assert "tokens_0" not in first.columns
    assert (report.judgements, report.abstentions, report.annotators) == (5, 0, set())
    assert report.left_out == {}


def test_parquet_says_the_same(tmp_path: Path) -> None:
    rows = [row(0.25), row(0.0, answer_1="")]
    lines, report = import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", rows)])
    table, of_table = import_source(SOURCE, [parquet_file(tmp_path / "train.parquet", rows)])
    assert table == lines
    assert of_table.judgements == report.judgements == 2


def test_pairs_of_records_say_the_same_as_rows(tmp_path: Path) -> None:
    rows, _ = import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", [row(0.5)])])
    pair = [record("Tannins [1].", 0.5), record("It is dyed.", -0.5, quotes=QUOTES)]
    path = raw_file(tmp_path / "comparisons.jsonl", pair, pair[::-1])
    pairs, _ = import_source(SOURCE, [path])
    assert pairs[0].prompt == rows[0].prompt
    assert pairs[0].responses == rows[0].responses
    assert pairs[0].judgements == rows[0].judgements
    assert pairs[0].columns["quotes_1"] == QUOTES
    assert pairs[1].responses == rows[0].responses[::-1]
    assert pairs[1].judgements == (Judgement(Comparison(0, 1, 0.0, margin=-0.5)),)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    assert import_source(SOURCE, [packed])[0] == pairs


def test_empty_and_equal_answers_stay_as_they_were_judged(tmp_path: Path) -> None:
    rows = [row(1.0, answer_1=""), row(0.0, answer_1="Tannins [1].")]
    (empty, equal), report = import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", rows)])
    assert empty.responses[1] == [{"role": "assistant", "content": ""}]
    assert equal.identical
    assert report.judgements == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score_0": 1.5, "score_1": -1.5}, "field 'score_0': a number from -1 to 1 is needed"),
        ({"score_0": None}, "field 'score_0': a number is needed, not null"),
        ({"score_1": 0.5}, "field 'score_0, score_1': the scores of a pair have to add up to 0"),
        ({"answer_1": None}, "field 'answer_1': text is needed, not null"),
        ({"question": "Why?"}, "field 'question': a question with its 'full_text' is needed"),
        ({"question": {"id": "q7"}}, r"field 'question\.full_text': text is needed, not null"),
        ({"question": {**QUESTION, "dataset": 3}}, "field 'data_subset': text is needed"),
    ],
)
def test_odd_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [row(), row(**changed)])
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2, " + message):
        import_source(SOURCE, [path])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([record("a", 1)], "a pair of records is needed, not a list"),
        ({"question": QUESTION}, "a pair of records is needed, not a dict"),
        ([record("a", 1), "b"], "a pair of records is needed"),
        ([record("a", 1), record("b", -2)], r"field '\[1\]\.score': a number from -1 to 1"),
        ([record("a", 1), record("b", 1)], r"field '\[0\]\.score, \[1\]\.score': .* not 1 and 1"),
        ([record("a", 0), record("b", 0, question={})], "are of different questions"),
        ([record("a", 0, question=None)] * 2, r"field '\[0\]\.question': a question"),
    ],
)
def test_odd_pairs_of_records(line: Any, message: str, tmp_path: Path) -> None:
    good = [record("a", 1), record("b", -1)]
    with pytest.raises(DataError, match=r"comparisons\.jsonl, line 2.*" + message):
        import_source(SOURCE, [raw_file(tmp_path / "comparisons.jsonl", good, line)])


def test_a_damaged_line_and_another_file(tmp_path: Path) -> None:
    path = tmp_path / "comparisons.jsonl"
    path.write_text(json.dumps([record("a", 1), record("b", -1)]) + "\n[{,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"comparisons\.jsonl, line 2: not valid JSON"):
        import_source(SOURCE, [path])
    other = jsonl_file(tmp_path / "other.jsonl", [{"prompt": "a", "chosen": "b"}])
    with pytest.raises(DataError, match="the columns question, answer_0, answer_1, score_0, score"):
        import_source(SOURCE, [other])
