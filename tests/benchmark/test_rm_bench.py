"""RM-Bench against a table computed by hand, and what its rows have to hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.given_scores import estimates, metrics
from hidden_context.benchmark.registry import make
from hidden_context.data.checks import Place
from hidden_context.errors import DataError


def _row(name, domain):
    sides = {side: [f"{side} {n}" for n in range(3)] for side in ("chosen", "rejected")}
    return {"id": name, "prompt": f"Question {name}?", "domain": domain} | sides


ROWS = [
    _row("c1", "chat"),
    _row("c2", "chat"),
    _row("r1", "safety-refuse"),
    _row("a1", "safety-response"),
    _row("a2", "safety-response"),
]
# concise, detailed, markdown of the chosen ones, then of the rejected ones
SCORES = [
    [1.0, 2.0, 3.0, 0.0, 2.0, 4.0],  # right: 100 / 100 / 110 (2 = 2 is wrong)
    [5.0, 5.0, 5.0, 0.0, 6.0, 5.0],  # right: 100 / 100 / 100 (5 = 5 is wrong)
    [3.0, 2.0, 1.0, 2.0, 2.5, 0.0],  # right: 111 / 001 / 001 (2 = 2 is wrong)
    [9.0, 9.0, 9.0, 0.0, 0.0, 0.0],  # all right
    [0.0, 0.0, 0.0, 9.0, 9.0, 9.0],  # all wrong
]


def test_metrics_equal_a_table_computed_by_hand():
    found, records = metrics(make("rm_bench"), ROWS, SCORES)
    # hard: the rejected response has the richer style; easy: the chosen one has
    table = {
        ("chat", ""): (2, 5 / 6, 1 / 3, 0.0, 7 / 18),
        ("safety", "safety-refuse"): (1, 0.0, 2 / 3, 1.0, 5 / 9),
        ("safety", "safety-response"): (2, 0.5, 0.5, 0.5, 0.5),
        # the two halves weigh the same, though one has twice the rows
        ("safety", ""): (3, 1 / 4, 7 / 12, 3 / 4, 19 / 36),
        # and so do the domains
        ("all", ""): (5, 13 / 24, 11 / 24, 9 / 24, 11 / 24),
    }
    assert set(records) == set(table)
    for key, (rows, easy, normal, hard, average) in table.items():
        assert records[key].n == rows
        assert estimates(records[key]) == pytest.approx(
            {"easy": easy, "normal": normal, "hard": hard, "average": average}
        )
    assert records["all", ""].note == "without section code, math, which has no row"
    assert found.ties == 5


def test_the_matrix_has_chosen_styles_down_and_rejected_ones_across():
    found, _ = metrics(make("rm_bench"), ROWS, SCORES)
    matrix = found.details["matrix"]
    assert list(matrix) == ["chat", "safety", "all"]
    assert matrix["chat"] == [[1, 0, 0], [1, 0, 0], [1, 0.5, 0]]
    assert matrix["safety"] == [[0.75, 0.75, 0.75], [0.25, 0.25, 0.75], [0.25, 0.25, 0.75]]
    assert matrix["all"][0] == [0.875, 0.375, 0.375]


def test_a_row_without_a_score_for_every_answer_counts_nowhere():
    missing = [[*SCORES[0][:5], None], *SCORES[1:]]
    found, records = metrics(make("rm_bench"), ROWS, missing)
    assert records["chat", ""].n == 1
    assert estimates(records["chat", ""])["easy"] == pytest.approx(2 / 3)  # the second row's own
    assert found.details["matrix"]["chat"] == [[1, 0, 0]] * 3
    with pytest.raises(DataError, match=r"scores\.jsonl"):
        metrics(make("rm_bench"), ROWS[:1], missing[:1])


def test_a_domain_that_the_benchmark_does_not_have_is_left_out_of_the_matrix():
    found, records = metrics(make("rm_bench"), [_row("x", "poetry")], SCORES[3:4])
    assert found.details["matrix"] == {}
    assert records["poetry", ""].note.startswith("not part of RM-Bench")


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"chosen": ["a", "b"]}, "chosen", "3 responses are needed, not 2"),
        ({"rejected": ["a", "b", None]}, "rejected[2]", "text is needed"),
        ({"domain": 4}, "domain", "text is needed"),
    ],
)
def test_errors_name_file_line_and_field(changed, field, said):
    with pytest.raises(DataError) as raised:
        make("rm_bench").scoring_row(
            0, 3, _row("1", "chat") | changed, Place(Path("total_dataset.json"), 3)
        )
    error = raised.value
    assert (str(error.file), error.line, error.field) == ("total_dataset.json", 3, field)
    assert said in str(error)
