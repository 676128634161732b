"""Rows of every kind in one file, and the report of what was read."""

import pytest

from hidden_context.data.example import Judgement, Ranking, Rating
from hidden_context.data.sources import load_examples
from hidden_context.data.summary import summarize_examples
from hidden_context.errors import DataError
from support.rows import assistant, ranking, user

CHAT = [user("abc"), assistant("d")]

JUDGED = {
    "prompt": "p4",
    "responses": [" a", " b"],
    "judgements": [
        {"annotator": "ann", "comparison": [0, 1], "strength": -1},
        {"annotator": "bob", "response": 0, "rating": 3},
        {"annotator": "cat", "ranks": [1, 2]},
        {"annotator": "cat", "abstains": True},
    ],
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_may_hold_rows_of_every_kind(write_rows, name):
    pair = {"prompt": "p", "chosen": " x", "rejected": " y", "annotator": "bob"}
    rated = {"prompt": "p5", "response": " x", "rating": 2.5}
    rows = [pair, ranking(1, annotator="ann"), ranking(2), ranking(3), JUDGED, rated]
    data = load_examples(write_rows(name, rows))
    assert [example.source_lines for example in data] == [(n,) for n in range(1, 7)]
    kinds = [[type(j.answer).__name__ for j in example.judgements] for example in data]
    of_judged = ["Comparison", "Rating", "Ranking", "Abstention"]
    assert kinds == [["Comparison"], *[["Ranking"]] * 3, of_judged, ["Rating"]]
    report = data.report
    assert (report.rows, report.kept, report.rankings, report.abstentions) == (6, 6, 4, 1)
    assert str(report).endswith(
        f"{name}: 6 of 6 examples kept (4 rows of the source were rankings, 1 abstention, which "
        "is no vote, 1 judgement by an annotator who judged the same before in its row)."
    )
    assert report.to_dict()["rankings"] == 4
    summary = summarize_examples(data.examples)
    assert (summary.rows, summary.annotators, summary.prompts) == (6, 3, 6)
    assert (summary.responses, summary.judgements, summary.abstentions) == (14, 8, 1)
    assert (summary.lengths["prompt"].maximum, summary.lengths["text"].maximum) == (2, 4)
    (chat,) = load_examples(write_rows("b.jsonl", [{"messages": CHAT, "rating": 1}])).examples
    lengths = summarize_examples([chat]).lengths
    assert (lengths["prompt"].median, lengths["text"].mean) == (9, len("user: abc\n\nassistant: d"))


def test_csv_ratings_are_numbers_unless_they_are_another_s(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,rating\np, x,3.5\np, y,\np,,1\n")
    data = load_examples(path, on_malformed="skip")
    assert [example.judgements for example in data] == [(Judgement(Rating(0, 3.5)),)]
    assert (data.report.empty, len(data.report.malformed)) == (1, 1)
    path.write_text("chosen,rejected,rating\na,b,good\n")
    assert load_examples(path).examples[0].columns["rating"] == "good"
    path.write_text("text,rating\na,good\n")
    with pytest.raises(DataError, match="a number is needed, not 'good'"):
        load_examples(path)


def test_the_report_adds_up(write_rows):
    rows = [
        ranking(0, responses=[" a", " ", " c"]),
        ranking(1, ranks=[1]),
        ranking(2, responses=[" a", " a", " a"]),
        ranking(3, responses=[" ", " ", " c"]),
        ranking(4),
        {"chosen": "a", "rejected": "b", "annotations": [{"annotator": "ann"}, {}]},
    ]
    path = write_rows("a.jsonl", rows)
    data = load_examples(path, on_malformed="skip", limit=2)
    report = data.report
    counts = {"rows": 6, "kept": 2, "empty": 1, "limited": 1, "unjudged": 1}
    counts |= {"rankings": 4, "left_out": 1, "abstentions": 2}
    assert {name: getattr(report, name) for name in counts} == counts
    (malformed,) = report.malformed
    assert malformed.startswith(f"{path}, line 2, field 'ranks': 1 ranks are given")
    text = "2 of 6 examples kept (4 rows of the source were rankings, 2 abstentions, which are no "
    assert text in str(report)
    assert "1 dropped because a side is empty, 1 dropped because nobody judged them" in str(report)
    assert "1 response left out, empty or too long" in str(report)
    first = load_examples(path, on_malformed="skip").examples[0]
    assert (first.responses, first.judgements) == ((" a", " c"), (Judgement(Ranking((2, 2))),))
    one = str(load_examples(write_rows("b.jsonl", rows[2:3])).report)
    assert "(1 row of the source was a ranking, 1 kept with all responses the same)" in one
    with pytest.raises(DataError, match="1 ranks are given for 3 responses"):
        load_examples(path)


def test_blank_responses_leave_what_is_said_of_the_others(write_rows):
    rows = [
        ranking(0, responses=[" ", " ", " c"], ratings=[2, 3, 1]),
        {"text": " ", "rating": 1},
        {**ranking(1), "responses": [" ", " b"], "ranks": [1, 2], "ratings": [2, 1]},
        {"text": "a", "rating": 1},
    ]
    data = load_examples(write_rows("a.jsonl", rows))
    assert [example.texts for example in data] == [("p0 c",), ("a",)]
    assert data.examples[0].judgements == (Judgement(Rating(0, 1.0)),)
    assert (data.report.empty, data.report.left_out) == (2, 2)
    assert "2 responses left out, empty or too long" in str(data.report)


def test_annotators_twice_and_keys_that_are_not_read_are_told_once(write_rows):
    votes = [
        {"annotator": "ann", "preference": 1, "comment": "x"},
        {"annotator": "ann", "preference": 0, "label": 1},
        {"annotator": "bob", "preference": None, "comment": "unsure"},
    ]
    pair = {"chosen": "a", "rejected": "b", "annotations": votes}
    data = load_examples(write_rows("a.jsonl", [pair, pair, {"chosen": "a", "rejected": "b"}]))
    report = data.report
    assert (report.abstentions, report.repeated) == (2, 2)
    assert report.unread == ["annotations.comment", "annotations.label"]
    assert str(report).endswith(
        "a.jsonl: 3 of 3 examples kept (2 abstentions, which are no votes, 2 judgements by "
        "annotators who judged the same before in their row). Keys that are not read: "
        "annotations.comment, annotations.label."
    )
    assert report.to_dict()["unread"] == report.unread
