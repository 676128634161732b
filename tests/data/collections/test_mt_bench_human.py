from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hidden_context.data.example import Abstention, Comparison, Judgement
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def chat(model: str, question: int = 81) -> list[dict[str, str]]:
    return [
        user(f"Question {question}?"),
        assistant(f"{model} first"),
        user("And now?"),
        assistant(f"{model} second"),
    ]


def vote(
    judge: Any, winner: str, a: str = "m", b: str = "n", turn: int = 1, **columns: Any
) -> dict[str, Any]:
    return {
        "question_id": 81,
        "model_a": a,
        "model_b": b,
        "winner": winner,
        "judge": judge,
        "conversation_a": chat(a),
        "conversation_b": chat(b),
        "turn": turn,
        **columns,
    }


VOTES = [
    vote("expert_1", "model_a"),
    vote("author_2", "model_a", "n", "m"),  # the same pair, shown in the other order
    vote("expert_1", "tie", turn=2),
    vote("expert_3", "tie"),
    vote("expert_4", "tie (bothbad)"),
    vote("expert_1", "model_b", "m", "o"),
]


def test_a_pair_is_one_item_whichever_answer_was_shown_first(tmp_path: Path) -> None:
    path = tmp_path / "human.parquet"
    pq.write_table(pa.Table.from_pylist(VOTES), path)
    examples, report = import_files("mt_bench_human", [path])
    first, second_turn, other = examples
    assert first.prompt == [user("Question 81?")]
    assert first.responses == ([assistant("m first")], [assistant("n first")])
    assert first.judgements == (
        Judgement(Comparison(0, 1, 1.0), "expert_1"),
        Judgement(Comparison(1, 0, 1.0), "author_2"),
        Judgement(Comparison(0, 1, 0.5), "expert_3"),
        Judgement(Abstention(), "expert_4"),
    )
    assert second_turn.prompt == [user("Question 81?")]
    assert second_turn.responses == (
        [assistant("m first"), user("And now?"), assistant("m second")],
        [assistant("n first"), user("And now?"), assistant("n second")],
    )
    assert second_turn.judgements == (Judgement(Comparison(0, 1, 0.5), "expert_1"),)
    assert second_turn.columns["turn"] == 2
    assert other.columns["models"] == ["m", "o"]
    assert other.judgements == (Judgement(Comparison(0, 1, 0.0), "expert_1"),)
    assert (report.judgements, report.abstentions, len(report.annotators)) == (5, 1, 4)


def test_votes_by_models_are_left_out(tmp_path: Path) -> None:
    rows = [
        vote("expert_1", "model_a"),
        vote(["gpt-4", "pair-v2"], "tie (inconsistent)"),
        vote("gpt4_pair", "model_b"),
    ]
    (example,), report = import_files("mt_bench_human", [jsonl_file(tmp_path / "v.jsonl", rows)])
    assert len(example.judgements) == 1
    assert report.left_out == {"votes by a language model": 2}


def bare(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("conversation")}


def answer(model: str, *turns: str, question: int = 81) -> dict[str, Any]:
    choices = [{"index": 0, "turns": list(turns)}]
    return {"question_id": question, "answer_id": "x", "model_id": model, "choices": choices}


QUESTION = {"question_id": 81, "category": "writing", "turns": ["Question 81?", "And now?"]}


def test_votes_and_answers_in_files_of_their_own(tmp_path: Path) -> None:
    files = [
        jsonl_file(tmp_path / "human_judgments.json", [bare(row) for row in VOTES]),
        jsonl_file(tmp_path / "m.jsonl", [answer("m", "m first", "m second")]),
        jsonl_file(tmp_path / "question.jsonl", [QUESTION]),
        jsonl_file(tmp_path / "n.jsonl", [answer("n", "n first", "n second")]),
    ]
    examples, report = import_files("mt_bench_human", files)
    whole, _ = import_files("mt_bench_human", [jsonl_file(tmp_path / "votes.jsonl", VOTES)])
    assert [e.judgements for e in examples] == [e.judgements for e in whole[:2]]
    assert [e.texts for e in examples] == [e.texts for e in whole[:2]]
    assert examples[0].columns["category"] == "writing"
    assert report.left_out == {"votes on answers that were not given": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"winner": "tie (inconsistent)"}, "field 'winner': one of model_a, tie, model_b, tie"),
        ({"model_b": "m"}, "field 'model_b': two different models are needed, not 'm' twice"),
        ({"turn": 3}, "field 'turn': a number from 1 to 2 is needed"),
        ({"judge": None}, "field 'judge': an annotator's name is needed"),
        ({"conversation_b": chat("n")[:2], "turn": 2}, "field 'conversation_b': the question and"),
        ({"conversation_b": chat("n", 82)}, "field 'conversation_b': .* the same question"),
        ({"conversation_a": "text"}, "field 'conversation_a': a list of messages is needed"),
    ],
)
def test_odd_votes(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "votes.jsonl", [{**vote("expert_1", "model_a"), **changed}])
    with pytest.raises(DataError, match="line 1, " + message):
        import_files("mt_bench_human", [path])


def test_odd_answers(tmp_path: Path) -> None:
    votes = jsonl_file(tmp_path / "votes.jsonl", [bare(VOTES[0])])
    answers = jsonl_file(tmp_path / "m.jsonl", [answer("m", "m first")])
    with pytest.raises(DataError, match="answers are given without their questions"):
        import_files("mt_bench_human", [votes, answers])
    with pytest.raises(DataError, match=r"nothing was found to import \(1 votes on answers that"):
        import_files("mt_bench_human", [votes])
    questions = jsonl_file(tmp_path / "question.jsonl", [{**QUESTION, "turns": ["One?", 2]}])
    with pytest.raises(DataError, match=r"field 'turns\[1\]': text is needed, not a number"):
        import_files("mt_bench_human", [votes, answers, questions])
    jsonl_file(questions, [QUESTION])
    jsonl_file(answers, [{**answer("m"), "choices": ["m first"]}])
    with pytest.raises(DataError, match=r"field 'choices\[0\].turns': the column is missing"):
        import_files("mt_bench_human", [votes, answers, questions])
