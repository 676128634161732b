"""Nectar: rankings by GPT-4, prompts written as turns, answers that were repeated to make seven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.nectar import SOURCE
from hidden_context.data.example import Judgement, Ranking
from hidden_context.errors import DataError
from support.published import jsonl_file
from support.source_files import import_source, parquet_file

PROMPT = "\n\nHuman: Is tea\nhealthy?\n\nAssistant: "


def row(*answers: tuple[str, Any], **columns: Any) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "answers": [
            {"answer": text, "model": f"model-{place}", "rank": rank}
            for place, (text, rank) in enumerate(answers)
        ],
        "turns": 1,
        "num_responses": len(answers),
        "source": ["sharegpt"],
        "good_natured": True,
        **columns,
    }


THREE = (("Yes, in moderation.", 1.0), ("Yes.", 2.0), ("No.", 3.0))


def import_rows(path: Path, *rows: dict[str, Any]) -> Any:
    return import_source(SOURCE, [jsonl_file(path / "rlaif.jsonl", rows)])


def test_a_ranking_by_a_model(tmp_path: Path) -> None:
    (example,), report = import_rows(tmp_path, row(*THREE))
    assert example.prompt == [{"role": "user", "content": "Is tea\nhealthy?"}]
    assert example.responses == tuple([{"role": "assistant", "content": text}] for text, _ in THREE)
    assert example.judgements == (Judgement(Ranking((1, 2, 3)), "GPT-4"),)
    assert example.columns["models"] == ["model-0", "model-1", "model-2"]
    assert example.columns["source"] == ["sharegpt"]
    assert (example.columns["good_natured"], example.columns["turns"]) == (True, 1)
    assert (report.judgements, report.annotators, report.left_out) == (1, {"GPT-4"}, {})


def test_the_order_of_the_answers_is_as_published_and_says_nothing(tmp_path: Path) -> None:
    (example,), _ = import_rows(tmp_path, row(("B", 2.0), ("C", 3.0), ("A", 1.0)))
    assert example.judgements[0].answer == Ranking((2, 3, 1))
    assert [response[0]["content"] for response in example.responses] == ["B", "C", "A"]


def test_equal_ranks_are_ties_and_no_rank_is_no_last_place(tmp_path: Path) -> None:
    (example,), _ = import_rows(tmp_path, row(("A", 1.0), ("B", 1.0), ("C", None), ("D", 4.0)))
    assert example.judgements[0].answer == Ranking((1, 1, None, 4))


def test_both_copies_of_a_repeated_answer_are_left_out(tmp_path: Path) -> None:
    refusal = "I apologize, but I can't assist with that request."
    rows = [
        row(("A", 1.0), (refusal, 2.0), ("B", 3.0), (refusal, 4.0)),
        row((refusal, 1.0), ("A", 2.0), (refusal, 3.0)),
        row(("A", 1.0), ("B", None)),
    ]
    (example,), report = import_rows(tmp_path, *rows)
    assert example.judgements[0].answer == Ranking((1, 3))
    assert example.columns["models"] == ["model-0", "model-2"]
    assert report.left_out == {
        "answers that stand twice for one prompt, at two ranks": 4,
        "prompts with fewer than two ranked answers": 2,
    }


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        (PROMPT.rstrip(" "), ["Is tea\nhealthy?"]),
        (
            "\n\nHuman: Tea?\n\nAssistant: Which kind?\n\nHuman: Green: a lot\n\nAssistant: ",
            ["Tea?", "Which kind?", "Green: a lot"],
        ),
        ("\n\nHuman: A\n\nand B\nHuman: no mark\n\nAssistant: ", ["A\n\nand B\nHuman: no mark"]),
        ("\n\nHuman:  x \n\nAssistant: ", [" x "]),
        ("\n\nHuman: A\n\nHuman:no mark\n\nAssistant: ", ["A\n\nHuman:no mark"]),
    ],
)
def test_turns_of_a_prompt(prompt: str, turns: list[str], tmp_path: Path) -> None:
    (example,), _ = import_rows(tmp_path, row(*THREE, prompt=prompt))
    assert [message["content"] for message in example.prompt] == turns
    roles = ["user", "assistant"] * len(turns)
    assert [message["role"] for message in example.prompt] == roles[: len(turns)]


@pytest.mark.parametrize(
    "prompt",
    [
        "\n\nHuman: Tea?",
        "Tea?",
        "\n\nHuman: Tea?\n\nHuman: Coffee?\n\nAssistant: ",
        "\n\nHuman: Write on\n\nAssistant: Yes\n\nAssistant: ",
        "\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant: ",
        "You are kind.\n\nHuman: Tea?\n\nAssistant: ",
        "\n\nHuman: Tea?\n\nAssistant: Yes",
        "\n\nHuman: \n\nAssistant: ",
    ],
)
def test_prompts_that_are_no_chat_are_counted(prompt: str, tmp_path: Path) -> None:
    (example,), report = import_rows(tmp_path, row(*THREE), row(*THREE, prompt=prompt))
    assert example.source_lines == (1,)
    reason = "prompts that are not turns of Human and Assistant, one after the other"
    assert report.left_out == {reason: 1}


def test_parquet_says_the_same(tmp_path: Path) -> None:
    rows = [row(*THREE), row(("A", 2.0), ("B", 1.0), ("C", None), good_natured=False)]
    lines, _ = import_rows(tmp_path, *rows)
    table, report = import_source(SOURCE, [parquet_file(tmp_path / "rlaif.parquet", rows)])
    assert table == lines
    assert [example.judgements[0].answer for example in table] == [
        Ranking((1, 2, 3)),
        Ranking((2, 1, None)),
    ]
    assert report.judgements == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answers": []}, "field 'answers': a list of at least one object is needed"),
        ({"answers": "A"}, "field 'answers': a list of objects is needed"),
        ({"num_responses": 7}, "field 'answers': 3 answers are given, not 7 as 'num_responses'"),
        ({"num_responses": None}, "field 'num_responses': a number is needed, not null"),
        ({"prompt": None}, "field 'prompt': text is needed, not null"),
    ],
)
def test_odd_rows(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rlaif\.jsonl, line 2, " + message):
        import_rows(tmp_path, row(*THREE), row(*THREE, **changed))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("C", 0.0), r"field 'answers\[2\]\.rank': a number from 1 to 3 is needed, not 0"),
        (("C", 8.0), r"field 'answers\[2\]\.rank': a number from 1 to 3"),
        (("C", 1.5), r"field 'answers\[2\]\.rank': an integer is needed, not 1.5"),
        (("C", "best"), r"field 'answers\[2\]\.rank': a finite number is needed"),
        ((None, 3.0), r"field 'answers\[2\]\.answer': text is needed, not null"),
    ],
)
def test_odd_answers(answer: tuple[Any, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_rows(tmp_path, row(("A", 1.0), ("B", 2.0), answer))


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the columns prompt, answers, .* has prompt, chosen"):
        import_rows(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"})
