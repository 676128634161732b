from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Example, Judgement, Rating
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file, people_of


def asked(turn: int, text: str) -> dict[str, Any]:
    return {"turn": turn, "role": "user", "content": text}


def answer(turn: int, text: str, score: Any, chosen: bool, **columns: Any) -> dict[str, Any]:
    return {
        "turn": turn,
        "role": "model",
        "content": text,
        "model_name": f"model of {text}",
        "model_provider": "cohere",
        "score": score,
        "if_chosen": chosen,
        "within_turn_id": 0,
        **columns,
    }


NOT_KNOWN = "turns whose chat so far is not known (a turn is missing, or no one answer is chosen)"
HISTORY = [
    asked(0, "Is it fair?"),
    answer(0, "No.", 20, False),
    answer(0, "Yes.", 100, True),
    answer(0, "EMPTY STRING", 1, False),
    asked(1, "Why?"),
    answer(1, "So.", 50, True),
    answer(1, "It is.", 50, False),
]


def conversation(*history: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {
        "conversation_id": "c0",
        "user_id": "user0",
        "included_in_balanced_subset": True,
        "conversation_type": "values guided",
        "opening_prompt": "Is it fair?",
        "conversation_turns": 2,
        "conversation_history": list(history or HISTORY),
        "performance_attributes": {"values": 74, "fluency": None},
        "open_feedback": "Good.",
        **columns,
    }


def utterances(*history: dict[str, Any]) -> list[dict[str, Any]]:
    """The same conversation in the long format: a row for each answer."""
    texts = {said["turn"]: said["content"] for said in history if said["role"] == "user"}
    return [
        {
            "utterance_id": f"ut{number}",
            "interaction_id": f"int{said['turn']}",
            "conversation_id": "c0",
            "user_id": "user0",
            "turn": said["turn"],
            "within_turn_id": number,
            "included_in_balanced_subset": True,
            "conversation_type": "values guided",
            "user_prompt": texts[said["turn"]],
            "model_response": said["content"],
            **{name: said[name] for name in ("model_name", "score", "if_chosen")},
        }
        for number, said in enumerate(history)
        if said["role"] == "model"
    ]


def person(**columns: Any) -> dict[str, Any]:
    return {
        "user_id": "user0",
        "survey_only": False,
        "age": "25-34 years old",
        "gender": "Prefer not to say",
        "education": "Vocational",
        "lm_familiarity": "Very familiar",
        "lm_frequency_use": None,
        "religion": {"self_described": "none", "categorised": "Agnostic", "simplified": "None"},
        "ethnicity": {"simplified": "Prefer not to say"},
        "location": {"birth_country": "Chile", "reside_country": "Chile", "special_region": "UK"},
        "stated_prefs": {
            "values": 54,
            "safety": 0.0,
            "fluency": None,
            "other": 3,
            "other_text": "",
        },
        "self_description": "I am honest.",
        **columns,
    }


def contents(example: Example) -> list[str]:
    return [response[0]["content"] for response in example.responses]


def both(tmp_path: Path, *history: dict[str, Any]) -> tuple[list[Example], dict[str, int]]:
    """Import a conversation in both formats, which have to give the same examples."""
    rows = utterances(*history)
    long = jsonl_file(tmp_path / "utterances.jsonl", rows[::-1])
    found, report = import_files("prism", [long])
    short = jsonl_file(tmp_path / "conversations.jsonl", [conversation(*history)])
    examples, other = import_files("prism", [short])
    assert found == examples
    assert [example.columns for example in found] == [example.columns for example in examples]
    assert report.left_out == other.left_out
    return examples, dict(report.left_out)


def test_each_turn_is_rated_after_the_chat_so_far(tmp_path: Path) -> None:
    (first, second), left_out = both(tmp_path, *HISTORY)
    assert first.prompt == [{"role": "user", "content": "Is it fair?"}]
    assert contents(first) == ["No.", "Yes.", ""]
    assert first.judgements == (
        Judgement(Rating(0, 20.0), "user0"),
        Judgement(Rating(1, 100.0), "user0"),
        Judgement(Rating(2, 1.0), "user0"),
    )
    assert second.prompt == [
        {"role": "user", "content": "Is it fair?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    assert second.judgements == (
        Judgement(Rating(0, 50.0), "user0"),
        Judgement(Rating(1, 50.0), "user0"),
    )
    assert first.columns["models"] == ["model of No.", "model of Yes.", "model of EMPTY STRING"]
    assert [second.columns[name] for name in ("conversation_id", "turn", "conversation_type")] == [
        *("c0", 1, "values guided"),
    ]
    assert left_out == {}


def test_the_same_answer_may_be_chosen_twice_but_not_two_different_ones(tmp_path: Path) -> None:
    twice = [asked(0, "a"), answer(0, "b", 9, True), answer(0, "b", 9, True), *HISTORY[4:]]
    examples, _ = both(tmp_path, *twice)
    assert examples[1].prompt[1] == {"role": "assistant", "content": "b"}
    twice[2] = answer(0, "c", 9, True)
    more = [asked(2, "d"), answer(2, "e", 1, True)]
    examples, left_out = both(tmp_path, *twice, *more)
    assert [example.columns["turn"] for example in examples] == [0]
    assert left_out == {NOT_KNOWN: 2}
    examples, left_out = both(tmp_path, *HISTORY[:4], *more)
    assert ([example.columns["turn"] for example in examples], left_out) == ([0], {NOT_KNOWN: 1})


def test_answers_without_a_score_are_left_out(tmp_path: Path) -> None:
    history = [asked(0, "a"), answer(0, "b", None, True), answer(0, "c", 3, False)]
    history += [asked(1, "d"), answer(1, "e", None, True)]
    (example,), left_out = both(tmp_path, *history)
    assert (contents(example), example.judgements) == (["c"], (Judgement(Rating(0, 3.0), "user0"),))
    assert left_out == {"answers without a score": 2}


def test_what_people_say_of_themselves(tmp_path: Path) -> None:
    survey = jsonl_file(
        tmp_path / "survey.jsonl", [person(), person(user_id="user1", religion=None)]
    )
    chats = jsonl_file(tmp_path / "conversations.jsonl", [conversation()])
    _, report = import_files("prism", [survey, chats])
    assert len(report.annotators) == 1
    known = people_of(report)
    assert known["user0"] == {
        "age": "25-34 years old",
        "education": "Vocational",
        "lm_familiarity": "Very familiar",
        "religion": "None",
        "birth_country": "Chile",
        "reside_country": "Chile",
        "special_region": "UK",
        "prefers_values": 54.0,
        "prefers_safety": 0.0,
    }
    assert "religion" not in known["user1"]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([asked(0, "a"), answer(0, "b", 0, True)], r"history\[1\].score': a number from 1 to 100"),
        ([asked(0, "a"), answer(0, "b", 50.5, True)], r"history\[1\].score': an integer is needed"),
        (
            [answer(0, "b", 5, True)],
            r"history\[0\].turn': an answer stands before the message of turn 0",
        ),
        ([asked(0, "a"), asked(0, "b")], r"history\[1\].turn': turn 0 has two messages"),
        ([{**asked(0, "a"), "role": "system"}], r"history\[0\].role': one of user, model"),
        ([asked(0, "a"), answer(0, None, 5, True)], r"history\[1\].content': text is needed"),
        (["Hello"], r"conversation_history\[0\]': an object is needed"),
    ],
)
def test_odd_conversations(history: list[Any], message: str, tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "conversations.jsonl", [conversation(*history)])
    with pytest.raises(DataError, match=message):
        import_files("prism", [path])


def test_odd_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = utterances(*HISTORY)
    rows[1] |= {"user_prompt": "Is it just?"}
    with pytest.raises(DataError, match="line 2, field 'user_id, user_prompt': another person"):
        import_files("prism", [jsonl_file(path, rows)])
    later = [conversation(), {"conversation_id": "c1", "user_id": "user1"}]
    with pytest.raises(DataError, match="line 2, field 'conversation_history': the column is miss"):
        import_files("prism", [jsonl_file(path, later)])
    with pytest.raises(DataError, match="line 2, field 'conversation_id': 'c0' stands twice"):
        import_files("prism", [jsonl_file(path, [conversation(), conversation()])])
    with pytest.raises(DataError, match="line 6, field 'utterance_id': 'ut1' stands twice"):
        import_files("prism", [jsonl_file(path, utterances(*HISTORY) + utterances(*HISTORY))])
    with pytest.raises(DataError, match="line 1, field 'user_id': an annotator's name"):
        import_files("prism", [jsonl_file(path, [conversation(user_id=None)])])


def test_which_files_go_together(tmp_path: Path) -> None:
    chats = jsonl_file(tmp_path / "conversations.jsonl", [conversation()])
    long = jsonl_file(tmp_path / "utterances.jsonl", utterances(*HISTORY))
    survey = jsonl_file(tmp_path / "survey.jsonl", [person()])
    with pytest.raises(DataError, match=r"utterances.jsonl: conversations and utterances hold the"):
        import_files("prism", [chats, long, survey])
    with pytest.raises(DataError, match=r"survey.jsonl: a survey alone holds no ratings"):
        import_files("prism", [survey])
    metadata = jsonl_file(tmp_path / "metadata.jsonl", [{"column_id": "user_prompt"}])
    with pytest.raises(DataError, match="the file has column_id"):
        import_files("prism", [chats, metadata])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([person(), person()], "line 2, field 'user_id': 'user0' stands twice in the survey"),
        ([person(stated_prefs=[1])], "field 'stated_prefs': an object is needed"),
        ([person(stated_prefs={"values": 101})], "field 'stated_prefs.values': a number from 0"),
    ],
)
def test_odd_surveys(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    survey = jsonl_file(tmp_path / "survey.jsonl", rows)
    chats = jsonl_file(tmp_path / "conversations.jsonl", [conversation()])
    with pytest.raises(DataError, match=message):
        import_files("prism", [chats, survey])
