"""Benchmarks as published: lists of right and wrong answers, and two responses with a label."""

import json

import pytest

from hidden_context.data.example import Comparison, Judgement
from hidden_context.data.expand import expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.merge import merge_prompts
from hidden_context.data.sources import load_examples
from support.rows import assistant, user

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
    assert example.prompt == "What is tea?"
    assert example.responses == (" A drink.", " A car.", " A cat.", " A hat.")
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
    labels = labels_of([read_row(TIES)])
    assert labels.comparisons.preference.tolist() == [1.0] * 6 + [0.5] * 3
    other = TIES | {"subset": "Math"}
    assert len(said(other)) == 6
    assert read_row(TIES | {"annotator": "ann"}).repeated == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.jsonl.gz"])
def test_rows_of_every_benchmark_may_stand_in_one_file(write_rows, name):
    pair = {"prompt": "p", "chosen": " x", "rejected": " y"}
    for rows in ([REWARD_BENCH, TIES], [RM_BENCH], [JUDGE_BENCH, JUDGE_BENCH | {"label": "A>B"}]):
        data = load_examples(write_rows(name, rows))
        assert [one.judgements for one in data] == [read_row(row).judgements for row in rows]
        assert data.report.kept == len(rows)
    names = dict.fromkeys([*REWARD_BENCH, *JUDGE_BENCH])
    mixed = [names | REWARD_BENCH, names | JUDGE_BENCH, *([names | pair] if "j" in name else [])]
    data = load_examples(write_rows("mixed.jsonl", mixed))
    assert [len(one.responses) for one in data] == [4, 2, 2][: len(mixed)]


def test_answers_may_be_chats_and_whole_conversations():
    asked = user("Tea?")
    yes, no, other = ([assistant(text)] for text in ("Yes", "No", "Hm"))
    row = {"prompt": [asked], "chosen": [yes], "rejected": [no, other]}
    assert read_row(row).responses == (yes, no, other)
    whole = read_row({"chosen": [[asked, *yes]], "rejected": [[asked, *no], [asked, *other]]})
    assert (whole.prompt, whole.responses) == ([asked], (yes, no, other))
    texts = {"prompt": "Tea?", "chosen": ["Tea? Yes"], "rejected": ["Tea? No", "Tea? Hm"]}
    assert read_row(texts).responses == (" Yes", " No", " Hm")


def test_a_label_says_which_of_two_responses_is_better():
    example = read_row(JUDGE_BENCH)
    assert (example.prompt, example.responses) == ("2 + 2?", (" 4", " 5"))
    assert example.judgements == (Judgement(Comparison(0, 1)),)
    assert example.columns == JUDGE_BENCH
    assert read_row(JUDGE_BENCH | {"label": "A>B"}).responses == (" 5", " 4")


def test_as_pairs_and_merged_they_say_the_same():
    for row in (REWARD_BENCH, TIES, RM_BENCH, JUDGE_BENCH):
        example = read_row(row)
        pairs = expand_pairs(example)
        again = [read_row(json.loads(json.dumps(pair.columns))) for pair in pairs]
        assert [one.texts for one in again] == [
            (example.text(first), example.text(second))
            for first, second in ((j.answer.first, j.answer.second) for j in example.judgements)
        ]
        weights = [one.judgements[0].weight for one in again]
        assert weights == [judgement.weight for judgement in example.judgements]
        assert len(merge_prompts([example, example])[0].responses) == len(example.responses)
    one_each = RM_BENCH | {"chosen": [" Yes."], "rejected": [" No."]}
    (pair,) = expand_pairs(read_row(one_each))
    assert (pair.columns["chosen"], pair.columns["rejected"]) == ("Tea? Yes.", "Tea? No.")


def test_blank_answers_are_left_out(write_rows):
    rows = [
        REWARD_BENCH | {"rejected": [" ", " A cat."]},
        RM_BENCH | {"chosen": [" Yes."], "rejected": [""]},
        JUDGE_BENCH | {"response_A": " "},
        RM_BENCH,
    ]
    data = load_examples(write_rows("a.jsonl", rows))
    assert [len(one.responses) for one in data] == [2, 6]
    assert (data.report.empty, data.report.left_out) == (2, 1)
