from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.held_out import load_splits
from hidden_context.data.preferences import parse_preference
from hidden_context.data.rankings import expand_ranking, is_ranking, parse_preferences
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_preferences
from hidden_context.data.summary import summarize_preferences
from hidden_context.errors import DataError

WriteRows = Callable[..., Path]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def ranking(number: int = 0, **columns: Any) -> dict[str, Any]:
    return {
        "prompt": f"p{number}",
        "responses": [" a", " b", " c"],
        "ranks": [2, 1, 2],
        **columns,
    }


def test_a_ranking_becomes_all_its_pairs() -> None:
    row = ranking(annotator="ann", ratings=[3, 4.5, None], source="web")
    pairs = parse_preferences(row, line=7)
    assert [(p.chosen, p.rejected, p.preference) for p in pairs] == [
        ("p0 b", "p0 a", 1.0),
        ("p0 a", "p0 c", 0.5),
        ("p0 b", "p0 c", 1.0),
    ]
    assert [(p.rating_chosen, p.rating_rejected) for p in pairs] == [
        (4.5, 3.0),
        (3.0, None),
        (4.5, None),
    ]
    assert {(p.source_line, p.annotator, p.prompt, p.weight) for p in pairs} == {
        (7, "ann", "p0", 2 / 3)
    }
    assert pairs[0].columns == {
        "prompt": "p0", "chosen": " b", "rejected": " a", "annotator": "ann", "source": "web",
        "preference": 1.0, "weight": 2 / 3, "rating_chosen": 4.5, "rating_rejected": 3.0,
    }  # fmt: skip
    assert row == ranking(annotator="ann", ratings=[3, 4.5, None], source="web")


@pytest.mark.parametrize("count", [2, 3, 4, 9])
def test_a_ranking_of_n_counts_like_n_minus_1_comparisons(count: int) -> None:
    row = {
        "prompt": "p",
        "responses": [f" {i}" for i in range(count)],
        "ranks": [float(count - i) for i in range(count)],
    }
    pairs = expand_ranking(row)
    assert len(pairs) == count * (count - 1) // 2
    assert sum(pair["weight"] for pair in pairs) == pytest.approx(count - 1, rel=1e-12)
    assert all(int(pair["chosen"]) > int(pair["rejected"]) for pair in pairs)
    assert "rating_chosen" not in pairs[0]
    assert expand_ranking({**row, "weight": 3})[0]["weight"] == 6 / count


def test_ranks_need_not_be_consecutive() -> None:
    (pair,) = expand_ranking({"prompt": "p", "responses": ["x", "y"], "ranks": [9, 4]})
    assert (pair["chosen"], pair["rejected"], pair["preference"]) == ("y", "x", 1.0)


def test_which_rows_are_rankings() -> None:
    assert is_ranking(ranking())
    assert is_ranking(ranking(chosen=None, rejected=None))
    assert not is_ranking(ranking(chosen="a", rejected="b"))
    assert not is_ranking({"prompt": "p", "responses": ["a", "b"]})
    assert not is_ranking({"chosen": "a", "rejected": "b", "ranks": None})
    # The paper's relabelled rows have responses beside the pair made of them.
    row = ranking(chosen="a", rejected="b")
    (pair,) = parse_preferences(row)
    assert pair == parse_preference(row)
    assert pair.columns is row
    with pytest.raises(DataError, match=r"column is missing.*'prompt', 'responses' and 'ranks'"):
        parse_preferences({"prompt": "p", "responses": ["a", "b"]})


@pytest.mark.parametrize(
    ("prompt", "responses"),
    [
        ("a", ["b", "c", "d"]),
        ([user("a")], ["b", "c", "d"]),
        ("a", [[assistant("b")], [assistant("c")], [assistant("d")]]),
        ([user("a")], [[user("a"), assistant("b")], [user("a"), assistant("c")],
                       [user("a"), assistant("d")]]),
        ("a", [[user("a"), assistant("b")], [user("a"), assistant("c")],
               [user("a"), assistant("d")]]),
        ("a", [[user("a"), assistant("b")], [assistant("c")], [assistant("d")]]),
    ],
)  # fmt: skip
def test_responses_as_text_and_as_messages(prompt: Any, responses: list[Any]) -> None:
    pairs = parse_preferences({"prompt": prompt, "responses": responses, "ranks": [1, 2, 3]})
    if prompt == "a" and isinstance(responses[0], str):
        assert [(p.chosen, p.rejected) for p in pairs] == [("ab", "ac"), ("ab", "ad"), ("ac", "ad")]
    else:
        assert pairs[2].rejected == [user("a"), assistant("d")]
        assert all(p.prompt == [user("a")] for p in pairs)
    assert {p.prompt_key for p in pairs} == {"a"}


def test_a_response_is_the_same_text_in_every_pair() -> None:
    """Two responses happen to begin with the prompt: it is put before all three, or none."""
    row = {"prompt": "a", "responses": ["a cat", "a dog", "the ant"], "ranks": [1, 2, 3]}
    pairs = parse_preferences(row)
    texts = {text for p in pairs for text in (p.chosen, p.rejected)}
    assert texts == {"aa cat", "aa dog", "athe ant"}
    whole = parse_preferences({**row, "responses": ["a cat", "a dog", "an ant"]})
    assert {t for p in whole for t in (p.chosen, p.rejected)} == {"a cat", "a dog", "an ant"}


def test_all_pairs_have_one_prompt_though_some_share_more() -> None:
    start, other = "\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: x"
    row = {
        "prompt": "Human: a",
        "responses": [
            f"{start}\n\nHuman: c\n\nAssistant: d",
            f"{start}\n\nHuman: c\n\nAssistant: e",
            other,
        ],
        "ranks": [1, 2, 3],
    }
    pairs = parse_preferences(row)
    assert {p.prompt for p in pairs} == {"\n\nHuman: a\n\nAssistant:"}
    assert {p.prompt_key for p in pairs} == {"a"}
    # and still when the pairs are written and read again
    again = [parse_preference(json.loads(json.dumps(p.columns))) for p in pairs]
    assert again == pairs


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"prompt": None}, "prompt", "a ranking needs the prompt"),
        ({"prompt": " "}, "prompt", "a ranking needs the prompt"),
        ({"prompt": 3}, "prompt", "not a number"),
        ({"responses": None}, "responses", "missing or null"),
        ({"responses": "ab"}, "responses", "a list of responses is needed, not text"),
        ({"responses": [" a"]}, "responses", "at least 2 responses, not 1"),
        ({"responses": [" a", 3, " c"]}, "responses[1]", "not a number"),
        ({"responses": [" a", [user("b")], " c"]}, "responses[1]", "all text or all chat"),
        (
            {"prompt": "Human: a", "responses": ["Human: a b", "\n\nHuman: a c", "Human: a d"]},
            "responses",
            "have the prompt inside, but do not begin alike",
        ),
        ({"ranks": [1, 2]}, "ranks", "2 ranks are given for 3 responses"),
        ({"ranks": 1}, "ranks", "a list of ranks is needed, not a number"),
        ({"ranks": [1, 2, None]}, "ranks[2]", "an integer is needed, not null"),
        ({"ranks": [1, 2.5, 3]}, "ranks[1]", "an integer is needed, not a number"),
        ({"ranks": [0, 1, 2]}, "ranks[0]", "an integer of at least 1 is needed, not 0"),
        ({"ratings": [1, 2, 3, 4]}, "ratings", "4 ratings are given for 3 responses"),
        ({"ratings": [1, "good", 3]}, "ratings[1]", "a finite number is needed, not text"),
        ({"weight": 0}, "weight", "a positive finite number is needed"),
        ({"margin": 2}, "margin", "says something of one pair, but this row is a ranking"),
        ({"annotations": [{}]}, "annotations", "says something of one pair"),
        ({"annotator": 1.5}, "annotator", "text or an integer is needed"),
    ],
)
def test_malformed_rankings_name_file_line_field(
    change: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(DataError, match=text) as caught:
        parse_preferences(ranking(**change), file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_may_hold_pairs_and_rankings(write_rows: WriteRows, name: str) -> None:
    pair = {"prompt": "p", "chosen": " x", "rejected": " y", "annotator": "bob"}
    rows = [pair, ranking(1, annotator="ann"), ranking(2), ranking(3)]
    if name == "a.parquet":  # a table has all columns in every row
        names = {column: None for row in rows for column in row}
        rows = [{**names, **row} for row in rows]
    data = load_preferences(write_rows(name, rows))
    assert [p.source_line for p in data] == [1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [p.weight for p in data] == [1.0] + [2 / 3] * 9
    report = data.report
    assert (report.rows, report.kept, report.rankings) == (10, 10, 3)
    assert str(report).endswith(f"{name}: 10 of 10 pairs kept (3 rows were rankings).")
    assert report.to_dict()["rankings"] == 3
    summary = summarize_preferences(data.preferences)
    assert (summary.rows, summary.annotators, summary.prompts) == (10, 2, 4)


def test_the_report_adds_up(write_rows: WriteRows) -> None:
    rows = [
        ranking(0, responses=[" a", " ", " c"]),
        ranking(1, ranks=[1]),
        ranking(2, responses=[" a", " a", " c"]),
    ]
    path = write_rows("a.jsonl", rows)
    report = load_preferences(path, on_malformed="skip", limit=3).report
    assert (report.rows, report.kept, report.empty, report.limited) == (7, 3, 2, 1)
    assert (len(report.malformed), report.rankings) == (1, 2)
    assert report.malformed[0].startswith(f"{path}, line 2, field 'ranks': 1 ranks are given")
    assert "3 of 7 pairs kept (2 rows were rankings, 2 dropped because" in str(report)
    one = load_preferences(write_rows("b.jsonl", rows[2:])).report
    assert "3 of 3 pairs kept (1 row was a ranking, 1 kept with both sides the same)" in str(one)
    with pytest.raises(DataError, match="1 ranks are given for 3 responses"):
        load_preferences(path)


def test_subsets_and_saved_tables(write_rows: WriteRows, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [ranking(0, data_subset="a"), ranking(1, data_subset="b"), ranking(2, data_subset="b")]
    data = load_preferences(write_rows("a.jsonl", rows), "b")
    assert [p.source_line for p in data] == [2, 2, 2, 3, 3, 3]
    assert (data.report.rows, data.report.rankings) == (6, 2)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "table")
    assert load_preferences(tmp_path / "table", "b").preferences == data.preferences


def test_rankings_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([ranking(0), ranking(1)])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    data = load_preferences("org/rankings")
    assert len(data) == 6
    assert str(data.report).endswith("6 of 6 pairs kept (2 rows were rankings).")


def test_a_split_by_prompt_keeps_a_ranking_together(write_rows: WriteRows) -> None:
    path = write_rows("a.jsonl", [ranking(i) for i in range(200)])
    splits = load_splits(path, eval_fraction=0.25, validation_fraction=0.1)
    sets = [splits.train, splits.validation, splits.test]
    assert all(len(pairs) % 3 == 0 and pairs for pairs in sets)
    lines = [{pair.source_line for pair in pairs} for pairs in sets]
    assert sum(map(len, lines)) == len(set.union(*lines)) == 200
    reports = splits.reports
    assert sum(report.rows for report in reports.values()) == 600
    assert [report.rankings for report in reports.values()] == [200, 0, 0]


def test_a_ranking_is_scored_as_prompt_and_responses(write_rows: WriteRows) -> None:
    (row,) = read_scoring_rows(write_rows("a.jsonl", [ranking()]))
    assert (row.kind, row.texts) == ("responses", ("p0 a", "p0 b", "p0 c"))
