"""HelpSteer2, its preferences, and HelpSteer3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Abstention, Comparison, Judgement, Rating
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file


def preference(*strengths: Any, **columns: Any) -> dict[str, Any]:
    return {
        "split": "train",
        "prompt": "c#",
        "response_1": "It is a language.",
        "response_2": "A note.",
        "preference_strength": -2,
        "preference_statement": "@Response 1 is better than @Response 2.",
        "preference_elaboration": "",
        "three_most_similar_preferences": [{"statement": "", "elaboration": "", "strength": -2}],
        "all_preferences_unprocessed": [
            {"strength": strength, "justification": f"because {strength}"} for strength in strengths
        ],
        **columns,
    }


def rated(helpfulness: Any, **columns: Any) -> dict[str, Any]:
    return {
        "prompt": "c#",
        "response": "It is a language.",
        "helpfulness": helpfulness,
        "correctness": [4, 4] if isinstance(helpfulness, list) else 4,
        "coherence": 4,
        "complexity": 2,
        "verbosity": 1,
        **columns,
    }


def import_rows(name: str, path: Path, *rows: dict[str, Any]) -> Any:
    return import_files(name, [jsonl_file(path / "rows.jsonl", rows)])


def test_a_negative_strength_is_for_the_first_response(tmp_path: Path) -> None:
    (example,), report = import_rows("helpsteer2", tmp_path, preference(-3, 1, 0, -100))
    assert example.prompt == [{"role": "user", "content": "c#"}]
    assert [text[-1]["content"] for text in example.texts] == ["It is a language.", "A note."]
    assert example.judgements == (
        Judgement(Comparison(0, 1, 1.0, strength=3)),
        Judgement(Comparison(0, 1, 0.0, strength=-1)),
        Judgement(Comparison(0, 1, 0.5, strength=0)),
        Judgement(Abstention()),
    )
    assert example.judgements[1].columns["justification"] == "because 1"
    assert (example.data_subset, example.columns["split"]) == ("preference", "train")
    assert example.columns["preference_strength"] == -2  # as published
    assert (report.judgements, report.abstentions, report.annotators) == (3, 1, set())
    assert "annotators not named" in str(report)


def test_the_overall_preference_where_single_ones_are_not_published(tmp_path: Path) -> None:
    row = preference()
    del row["all_preferences_unprocessed"]
    (example, neither), _ = import_rows(
        "helpsteer2", tmp_path, row, preference(preference_strength=-100)
    )
    assert example.judgements == (Judgement(Comparison(0, 1, 1.0, strength=2)),)
    assert neither.judgements == (Judgement(Abstention()),)


def test_turns_of_a_prompt(tmp_path: Path) -> None:
    prompt = "Hi\n\nyou\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nWhat is\n<b>?"
    (example,), _ = import_rows("helpsteer2", tmp_path, preference(1, prompt=prompt))
    assert example.prompt == [
        {"role": "user", "content": "Hi\n\nyou"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is\n<b>?"},
    ]


def test_ratings_stay_ratings(tmp_path: Path) -> None:
    (mean,), _ = import_rows("helpsteer2", tmp_path, rated(3))
    assert mean.judgements == (Judgement(Rating(0, 3.0)),)
    assert (mean.objective, mean.data_subset) == ("helpfulness", "ratings")
    assert mean.columns["verbosity"] == 1
    (single,), _ = import_rows("helpsteer2", tmp_path, rated([3, 0]))
    assert single.judgements == (Judgement(Rating(0, 3.0)), Judgement(Rating(0, 0.0)))
    assert single.columns["correctness"] == [4, 4]


def test_preferences_and_ratings_together(tmp_path: Path) -> None:
    means = jsonl_file(tmp_path / "train.jsonl", [rated(3)])
    pairs = jsonl_file(tmp_path / "preference.jsonl", [preference(1)])
    examples, _ = import_files("helpsteer2", [means, pairs])
    assert [example.data_subset for example in examples] == ["preference", "ratings"]
    single = jsonl_file(tmp_path / "disagreements.jsonl", [rated([3, 4, 4])])
    with pytest.raises(DataError, match="the files hold the same ratings twice"):
        import_files("helpsteer2", [means, single])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (preference(4), r"'all_preferences_unprocessed\[0\].strength': a number from -3 to 3"),
        (preference(1, -99), r"'all_preferences_unprocessed\[1\].strength': a number from"),
        (preference(0.5), r"unprocessed\[0\].strength': an integer is needed, not 0.5"),
        (preference(None), r"unprocessed\[0\].strength': a number is needed, not null"),
        (preference(all_preferences_unprocessed="[]"), "a list of objects is needed"),
        (preference(all_preferences_unprocessed={}), "a list of objects is needed"),
        (preference(1, preference_strength="x"), "'preference_strength': a finite number"),
        (preference(1, response_2=None), "'response_2': text is needed, not null"),
        (rated(5), "'helpfulness': a number from 0 to 4 is needed"),
        (rated([]), "'helpfulness': a list of at least one rating is needed"),
    ],
)
def test_odd_rows(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rows.jsonl, line 1, field .*" + message):
        import_rows("helpsteer2", tmp_path, row)


CONTEXT = [
    {"role": "user", "content": "Hola"},
    {"role": "assistant", "content": "Buenas"},
    {"role": "user", "content": "¿Qué tal?"},
]


def third(*scores: Any, **columns: Any) -> dict[str, Any]:
    return {
        "domain": "multilingual",
        "language": "spanish",
        "context": CONTEXT,
        "response1": "Bien.",
        "response2": "Mal.",
        "overall_preference": -2,
        "individual_preference": [{"score": score, "reasoning": "porque"} for score in scores],
        **columns,
    }


def test_helpsteer3_has_several_unnamed_annotators(tmp_path: Path) -> None:
    (example,), report = import_rows("helpsteer3", tmp_path, third(-1, 0, 3), third())
    assert example.prompt == CONTEXT
    assert example.responses == (
        [{"role": "assistant", "content": "Bien."}],
        [{"role": "assistant", "content": "Mal."}],
    )
    assert example.judgements == (
        Judgement(Comparison(0, 1, 1.0, strength=1)),
        Judgement(Comparison(0, 1, 0.5, strength=0)),
        Judgement(Comparison(0, 1, 0.0, strength=-3)),
    )
    assert example.columns["language"] == "spanish"
    assert example.columns["overall_preference"] == -2
    assert report.left_out == {"rows without the preference of a single person": 1}
    assert report.judgements == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (third(-4), r"field 'individual_preference\[0\].score': a number from -3 to 3"),
        (third(1, context=[]), "field 'context': a list of at least one message is needed"),
        (third(1, context=["Hola"]), r"field 'prompt\[0\]': a chat message is needed"),
        (third(individual_preference=[3]), r"field 'individual_preference\[0\]': an object"),
        ({"domain": "code", "context": CONTEXT, "feedback1": []}, "the columns context, response1"),
    ],
)
def test_odd_rows_of_helpsteer3(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_rows("helpsteer3", tmp_path, row)
