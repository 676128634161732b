from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.ultrafeedback import ASPECTS, SOURCE
from hidden_context.data.example import Abstention, Comparison, Example, Judgement, Rating
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file

JUDGE = "GPT-4"


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    return examples, report.left_out


def answer(text: str, ratings: str, overall: Any, **columns: Any) -> dict[str, Any]:
    """An answer as published, with four ratings in the order of the aspects; - is N/A."""
    annotations = {
        aspect: {"Rating": "N/A" if rating == "-" else rating, "Rationale": "Because."}
        for aspect, rating in zip(ASPECTS, ratings, strict=True)
    }
    numbers = [int(rating) for rating in ratings if rating != "-"]
    return {
        "model": f"model of {text}",
        "principle": "honesty",
        "custom_system_prompt": "Be honest.",
        "response": text,
        "annotations": annotations,
        "critique": "Fine.",
        "overall_score": overall,
        "fine-grained_score": sum(numbers) / len(numbers) if numbers else None,
        **columns,
    }


def row(*answers: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {
        "source": "flan",
        "instruction": "Tea?",
        "models": [one["model"] for one in answers],
        "completions": list(answers),
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
        **columns,
    }


def first(text: str, overall: Any, **columns: Any) -> dict[str, Any]:
    """An answer of the first version, which lacks the mean of the ratings."""
    known = answer(text, "4444", overall, **columns)
    return {name: value for name, value in known.items() if name != "fine-grained_score"}


def pair(**columns: Any) -> dict[str, Any]:
    return {
        "source": "flan",
        "prompt": "Tea?",
        "chosen": [
            {"role": "user", "content": "Tea?"},
            {"role": "assistant", "content": "Yes."},
        ],
        "chosen-rating": 4.75,
        "chosen-model": "alpha",
        "rejected": [
            {"role": "user", "content": "Tea?"},
            {"role": "assistant", "content": "No."},
        ],
        "rejected-rating": 3.5,
        "rejected-model": "beta",
        **columns,
    }


def rating(place: int, value: float) -> Judgement:
    return Judgement(Rating(place, value), JUDGE)


def test_each_aspect_and_overall(tmp_path: Path) -> None:
    answers = [answer("a", "1234", 6.5), answer("b", "5432", "7")]
    examples, left_out = read([jsonl_file(tmp_path / "flan.jsonl", [row(*answers)])])
    assert [example.objective for example in examples] == [*ASPECTS, "overall"]
    assert [example.data_subset for example in examples] == [*ASPECTS, "overall"]
    assert [example.judgements for example in examples] == [
        (rating(0, 1.0), rating(1, 5.0)),
        (rating(0, 2.0), rating(1, 4.0)),
        (rating(0, 3.0), rating(1, 3.0)),
        (rating(0, 4.0), rating(1, 2.0)),
        (rating(0, 6.5), rating(1, 7.0)),
    ]
    assert examples[0].prompt == [{"role": "user", "content": "Tea?"}]
    assert examples[0].responses[1] == [{"role": "assistant", "content": "b"}]
    columns = examples[0].columns
    assert columns["models"] == ["model of a", "model of b"]
    assert (columns["principles"], columns["source"]) == (["honesty"] * 2, "flan")
    assert not left_out


def test_a_rating_that_does_not_apply_is_no_rating(tmp_path: Path) -> None:
    answers = [answer("a", "4-44", 5), answer("b", "4344", 5)]
    silent = [answer("a", "4-44", 5), answer("b", "4-44", 5)]
    rows = [row(*answers), row(*silent)]
    examples, left_out = read([jsonl_file(tmp_path / "flan.jsonl", rows)])
    honesty = [example for example in examples if example.objective == "honesty"]
    assert [example.judgements for example in honesty] == [
        (Judgement(Abstention(), JUDGE), rating(1, 3.0)),
    ]
    assert honesty[0].judgements[0].columns["said"] == "N/A"
    assert len(examples) == 9
    assert left_out == {"prompts none of whose answers is rated by honesty": 1}


def test_what_is_missing_or_off_the_scale(tmp_path: Path) -> None:
    bare = answer("a", "4444", None, annotations={"honesty": None, "truthfulness": {}})
    odd = answer("b", "4644", 0)
    rows = [row(bare, odd), row(), row(completions=None)]
    examples, left_out = read([jsonl_file(tmp_path / "flan.jsonl", rows)])
    assert [(one.objective, one.judgements) for one in examples] == [
        (aspect, (rating(1, 4.0),)) for aspect in ASPECTS if aspect != "honesty"
    ]
    assert left_out == {
        "answers without a rating by instruction_following": 1,
        "answers without a rating by honesty": 1,
        "answers without a rating by truthfulness": 1,
        "answers without a rating by helpfulness": 1,
        "answers without a rating by overall": 1,
        "ratings by honesty that are not from 1 to 5": 1,
        "ratings by overall that are not from 1 to 10": 1,
        "prompts none of whose answers is rated by honesty": 1,
        "prompts none of whose answers is rated by overall": 1,
        "prompts without answers": 2,
    }


def test_the_known_error_of_overall_ratings(tmp_path: Path) -> None:
    poor = answer("a", "22-2", 10)
    fair = answer("b", "2322", 10)  # judged again by the authors, where the mean is known
    good = answer("c", "5555", 10)
    low = answer("d", "1111", 9)
    early = [first("e", 10), first("f", 9), first("g", 10, annotations=good["annotations"])]
    unknown = first("h", 10, annotations=None)
    rows = [row(poor, fair, good, low), row(*early, unknown)]
    examples, left_out = read([jsonl_file(tmp_path / "flan.jsonl", rows)])
    overall = [example.judgements for example in examples if example.objective == "overall"]
    assert overall == [
        (rating(1, 10.0), rating(2, 10.0), rating(3, 9.0)),
        (rating(1, 9.0), rating(2, 10.0), rating(3, 10.0)),
    ]
    known = "overall ratings of 10 for answers with low ratings, a known error of the first version"
    assert left_out[known] == 2


def test_the_cleaned_pairs(tmp_path: Path) -> None:
    rows = [pair(), pair(**{"rejected-rating": 4.75})]
    examples, _ = read([jsonl_file(tmp_path / "pairs.jsonl", rows)])
    assert [example.judgements for example in examples] == [
        (Judgement(Comparison(0, 1, 1.0, margin=1.25), JUDGE),),
        (Judgement(Comparison(0, 1, 0.5, margin=0.0), JUDGE),),
    ]
    assert examples[0].prompt == [{"role": "user", "content": "Tea?"}]
    assert examples[0].responses == (
        [{"role": "assistant", "content": "Yes."}],
        [{"role": "assistant", "content": "No."}],
    )
    assert examples[0].columns["models"] == ["alpha", "beta"]
    assert (examples[0].objective, examples[0].columns["source"]) == ("mean", "flan")


@pytest.mark.parametrize("one", [row(answer("a", "12-4", 6.5), answer("b", "5432", 7.0)), pair()])
def test_parquet_and_json_lines_say_the_same(one: dict[str, Any], tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "rows.parquet", [one])
    assert read([path])[0] == read([jsonl_file(tmp_path / "rows.jsonl", [one])])[0]


def test_pairs_beside_the_ratings_that_they_are_made_of(tmp_path: Path) -> None:
    files = [
        jsonl_file(tmp_path / "flan.jsonl", [row(answer("a", "4444", 5))]),
        jsonl_file(tmp_path / "pairs.jsonl", [pair()]),
    ]
    with pytest.raises(DataError, match=r"pairs\.jsonl: the files hold the same ratings twice"):
        read(files)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            row(answer("a", "4444", "good")),
            r"line 1, field 'completions\[0\].overall_score': a fin",
        ),
        (
            row(answer("a", "4444", 5, annotations={"honesty": {"Rating": "high"}})),
            r"field 'completions\[0\].annotations.honesty.Rating': a finite number is needed",
        ),
        (
            row(answer("a", "4444", 5, annotations={"honesty": "4"})),
            r"field 'completions\[0\].annotations.honesty': an object is needed, not text",
        ),
        (
            row(answer("a", "4444", 5, response=None)),
            r"'completions\[0\].response': text is needed",
        ),
        (row(answer("a", "4444", 5), instruction=None), "field 'instruction': text is needed"),
        (row(answer("a", "4444", 5), completions="a"), "field 'completions': a list of objects"),
        (pair(**{"chosen-rating": 3.0}), "field 'chosen-rating': at least the rating of the rej"),
        (pair(**{"rejected-rating": None}), "field 'rejected-rating': a number is needed"),
        (pair(chosen="Yes."), "field 'chosen': a list of messages is needed, not text"),
    ],
)
def test_odd_rows(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "rows.jsonl", [odd])])
