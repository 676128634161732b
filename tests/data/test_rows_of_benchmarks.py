"""Benchmarks as published: lists of right and wrong answers, and two responses with a label."""

import pytest

from hidden_context.data.example import Comparison, Judgement
from hidden_context.data.importers import read_row
from hidden_context.data.sources import load_examples

REWARD_BENCH = {
    "id": "1",
    "prompt": "What is tea?",
    "chosen": [" A drink."],
    "rejected": [" A car.", " A cat.", " A hat."],
    "num_correct": 1,
    "num_incorrect": 3,
    "total_completions": 4,
    "models": ["a", "b", "c", "d"],
    "subset": "Factuality",
    "additional_metadata": {"category": None, "valid": 1.0},
}
TIES = REWARD_BENCH | {
    "id": "2",
    "prompt": "Name a prime.",
    "chosen": [" Two.", " Three.", " Five."],
    "rejected": [" Four.", " Six."],
    "subset": "Ties",
}
RM_BENCH = {
    "id": "a1",
    "prompt": "Tea?",
    "chosen": [" Yes.", " Yes, indeed.", " **Yes**"],
    "rejected": [" No.", " No, indeed.", " **No**"],
    "domain": "chat",
}
JUDGE_BENCH = {
    "pair_id": "1",
    "original_id": "2",
    "source": "mmlu",
    "question": "2 + 2?",
    "response_model": "m",
    "response_A": " 5",
    "response_B": " 4",
    "label": "B>A",
}


def said(row):
    """The comparisons of a row, and how much each counts."""
    judgements = read_row(row).judgements
    assert all(isinstance(judgement.answer, Comparison) for judgement in judgements)
    return [(j.answer, j.weight) for j in judgements]


def test_every_right_answer_is_better_than_every_wrong_one():
    example = read_row(REWARD_BENCH, line=3)
    assert (example.prompt, example.responses[:2]) == ("What is tea?", (" A drink.", " A car."))
    assert (example.columns, example.source_lines) == (REWARD_BENCH, (3,))
    assert said(REWARD_BENCH) == [(Comparison(0, wrong), 1.0) for wrong in (1, 2, 3)]
    styles = said(RM_BENCH)
    assert [one for one, _ in styles] == [
        Comparison(right, wrong) for right in range(3) for wrong in range(3, 6)
    ]
    # six answers count like five comparisons
    assert sum(weight for _, weight in styles) == pytest.approx(5)
    assert said(RM_BENCH | {"weight": 3})[0][1] == pytest.approx(3 * 5 / 9)


def test_right_answers_of_the_ties_subset_are_equally_good():
    found = said(TIES | {"annotator": "ann"})
    assert [one for one, _ in found] == [
        *(Comparison(right, wrong) for right in range(3) for wrong in (3, 4)),
        *(Comparison(*two, preference=0.5) for two in ((0, 1), (0, 2), (1, 2))),
    ]
    assert {weight for _, weight in found} == {4 / 9}
    other = TIES | {"subset": "Math"}
    assert len(said(other)) == 6
    assert read_row(TIES | {"annotator": "ann"}).repeated == 0


def test_a_label_says_which_of_two_responses_is_better():
    example = read_row(JUDGE_BENCH)
    assert example.judgements == (Judgement(Comparison(0, 1)),)
    assert example.columns == JUDGE_BENCH


def test_rows_of_every_benchmark_may_stand_in_one_file(write_rows):
    pair = {"prompt": "p", "chosen": " x", "rejected": " y"}
    nulls = dict.fromkeys([*REWARD_BENCH, *JUDGE_BENCH])
    rows = [REWARD_BENCH, TIES, RM_BENCH, JUDGE_BENCH, pair]
    data = load_examples(write_rows("mixed.jsonl", [nulls | row for row in rows]))
    assert [one.judgements for one in data] == [read_row(row).judgements for row in rows]
    data = load_examples(write_rows("a.parquet", rows[:2] + rows[3:4]))
    assert [len(one.responses) for one in data] == [4, 5, 2]
