"""JudgeBench against a table computed by hand, and what its rows have to hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.given_scores import estimates, metrics, scored
from hidden_context.benchmark.registry import make
from hidden_context.data.checks import Place
from hidden_context.errors import DataError


def _row(name, source, label):
    return {
        "pair_id": name,
        "original_id": f"o{name}",
        "source": source,
        "question": f"Question {name}?",
        "response_model": "a model",
        "response_A": f"A of {name}",
        "response_B": f"B of {name}",
        "label": label,
    }


# source, label, score of the right answer, score of the wrong one
GIVEN = [
    ("mmlu-pro-math", "A>B", 2.0, 1.0),  # knowledge, in spite of its name
    ("mmlu-pro-law", "B>A", 2.0, 1.0),
    ("mmlu-pro-law", "B>A", 1.0, 1.0),  # a tie is wrong
    ("livebench-reasoning", "A>B", 0.0, 1.0),
    ("livebench-math", "B>A", 0.5, 0.0),
    ("livecodebench", "A>B", 0.0, 0.0),  # a tie is wrong with this label too
]
ROWS = [_row(str(n), source, label) for n, (source, label, *_) in enumerate(GIVEN)]
SCORES = [list(scores) for _, _, *scores in GIVEN]


def test_metrics_equal_a_table_computed_by_hand():
    found, records = metrics(make("judge_bench"), ROWS, SCORES)
    table = {
        ("all", ""): (6, 1 / 2),  # of rows, not the mean of sections, which is 5/12
        ("Knowledge", ""): (3, 2 / 3),
        ("Knowledge", "mmlu-pro-math"): (1, 1.0),
        ("Knowledge", "mmlu-pro-law"): (2, 1 / 2),
        ("Reasoning", ""): (1, 0.0),
        ("Reasoning", "livebench-reasoning"): (1, 0.0),
        ("Math", ""): (1, 1.0),
        ("Math", "livebench-math"): (1, 1.0),
        ("Coding", ""): (1, 0.0),
        ("Coding", "livecodebench"): (1, 0.0),
    }
    assert {key: record.n for key, record in records.items()} == {
        k: n for k, (n, _) in table.items()
    }
    for key, (_, accuracy) in table.items():
        assert estimates(records[key]) == pytest.approx({"accuracy": accuracy}), key
    assert found.ties == 2


@pytest.mark.parametrize(
    ("label", "right", "wrong"), [("A>B", "A of 1", "B of 1"), ("B>A", "B of 1", "A of 1")]
)
def test_the_right_answer_comes_first_and_its_verdict_is_the_label(label, right, wrong):
    benchmark, row = make("judge_bench"), _row("1", "livecodebench", label)
    own = scored(benchmark, row, [1.0, 0.0])
    assert own.candidates.responses == (right, wrong)
    (turns, _) = benchmark.scoring_row(0, 1, row, Place(Path("f"), 1)).texts
    assert [turn["content"] for turn in turns] == ["Question 1?", right]
    other = {"A>B": "B>A", "B>A": "A>B"}[label]
    for scores, verdict in (([1, 0], label), ([0, 1], other), ([1, 1], "A=B")):
        assert benchmark.with_scores(row, scores)["judgments"] == [{"decision": verdict}]
    assert benchmark.with_scores(row, [None, 1.0])["judgments"] is None


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"label": "A=B"}, "label", "A>B or B>A is needed"),
        ({"response_B": None}, "response_B", "text is needed"),
        ({"question": ["x"]}, "question", "text is needed"),
        ({"source": None}, "source", "text is needed"),
    ],
)
def test_errors_name_file_line_and_field(changed, field, said):
    row = _row("1", "livecodebench", "A>B") | changed
    with pytest.raises(DataError) as raised:
        make("judge_bench").scoring_row(0, 5, row, Place(Path("pairs.jsonl"), 5))
    error = raised.value
    assert (str(error.file), error.line, error.field) == ("pairs.jsonl", 5, field)
    assert said in str(error)
