"""PRISM: chats of rated answers, as conversations or one row for each answer; and the survey."""

import pytest

from hidden_context.data.example import Judgement, Rating
from support.published import assistant, people_of, row, user

NOT_KNOWN = "turns whose chat so far is unknown (a turn is missing, or no one answer is chosen)"


def conversation(*history, **columns):
    given = {"conversation_history": list(history)} if history else {}
    return row("prism:conversations", **given, **columns)


HISTORY = conversation()["conversation_history"]


def asked(turn, text):
    return {"turn": turn, "role": "user", "content": text}


def answer(turn, text, score, chosen):
    said = {"turn": turn, "role": "model", "content": text, "model_name": "m"}
    return {**said, "score": score, "if_chosen": chosen}


def utterances(*history):
    """The same conversation with a row for each answer."""
    texts = {said["turn"]: said["content"] for said in history if said["role"] == "user"}
    return [
        {
            "utterance_id": f"ut{number}",
            "conversation_id": "c0",
            "user_id": "u0",
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


@pytest.fixture
def both(imported, write_rows):
    """Imports a conversation in both formats, which have to give the same examples."""

    def run(*history):
        found, report = imported("prism", write_rows("long.jsonl", utterances(*history)[::-1]))
        examples, other = imported("prism", conversation(*history))
        assert (found, report.left_out) == (examples, other.left_out)
        return examples, report.left_out

    return run


def test_each_turn_is_rated_after_the_chat_so_far(both):
    (first, second), left_out = both(*HISTORY)
    assert first.prompt == [user("Is it fair?")]
    assert first.responses == ([assistant("No.")], [assistant("Yes.")], [assistant("")])
    assert first.judgements == (
        Judgement(Rating(0, 20.0), "u0"),
        Judgement(Rating(1, 100.0), "u0"),
        Judgement(Rating(2, 1.0), "u0"),
    )
    assert first.columns["models"] == ["m", "n", "o"]
    assert {name: v for name, v in second.columns.items() if name != "judgements"} == {
        "prompt": [user("Is it fair?"), assistant("Yes."), user("Why?")],
        "responses": ["So.", "It is."],
        "models": ["m", "n"],
        "turn": 1,
        "conversation_id": "c0",
        "conversation_type": "values guided",
        "included_in_balanced_subset": True,
    }
    fifty = (Judgement(Rating(0, 50.0), "u0"), Judgement(Rating(1, 50.0), "u0"))
    assert (second.judgements, left_out) == (fifty, {})


def test_the_same_answer_may_be_chosen_twice_but_not_two_different_ones(both):
    twice = [asked(0, "a"), answer(0, "b", 9, True), answer(0, "b", 9, True), *HISTORY[4:]]
    assert both(*twice)[0][1].prompt[1] == assistant("b")
    twice[2] = answer(0, "c", 9, True)
    more = [asked(2, "d"), answer(2, "e", 1, True)]
    for history, count in (([*twice, *more], 2), ([*HISTORY[:4], *more], 1)):
        examples, left_out = both(*history)
        assert [example.columns["turn"] for example in examples] == [0]
        assert left_out == {NOT_KNOWN: count}


def test_answers_without_a_score_are_left_out(both):
    history = [asked(0, "a"), answer(0, "b", None, True), answer(0, "c", 3, False)]
    (example,), left_out = both(*history, asked(1, "d"), answer(1, "e", None, True))
    assert example.responses == ([assistant("c")],)
    assert example.judgements == (Judgement(Rating(0, 3.0), "u0"),)
    assert left_out == {"answers without a score": 2}


def person(**columns):
    return {
        "user_id": "u0",
        "survey_only": False,
        "age": "25-34 years old",
        "gender": "Prefer not to say",
        "lm_familiarity": "Very familiar",
        "lm_frequency_use": None,
        "religion": {"self_described": "none", "categorised": "Agnostic", "simplified": "None"},
        "ethnicity": {"simplified": "Prefer not to say"},
        "location": {"birth_country": "Chile", "reside_country": "Chile", "special_region": "UK"},
        "stated_prefs": {"values": 54, "safety": 0.0, "fluency": None, "other": 3},
        "self_description": "I am honest.",
        **columns,
    }


def test_how_people_describe_themselves(imported, write_rows):
    survey = write_rows("survey.jsonl", [person(), person(user_id="u1", religion=None)])
    _, report = imported("prism", survey, write_rows("chats.jsonl", [conversation()]))
    assert report.annotators == {"u0"}
    known = {
        "age": "25-34 years old",
        "lm_familiarity": "Very familiar",
        "birth_country": "Chile",
        "reside_country": "Chile",
        "special_region": "UK",
        "prefers_values": 54.0,
        "prefers_safety": 0.0,
    }
    assert people_of(report) == {"u0": {**known, "religion": "None"}, "u1": known}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([person(), person()], "line 2, field 'user_id': 'u0' occurs twice"),
        ([person(stated_prefs=[1])], "field 'stated_prefs': an object is needed"),
        ([person(stated_prefs={"values": 101})], "field 'stated_prefs.values': a number from 0"),
        ([{"column_id": "user_prompt"}], "the file has column_id"),
    ],
)
def test_odd_surveys(rows, message, refused, write_rows):
    chats = write_rows("conversations.jsonl", [conversation()])
    refused(message, "prism", chats, write_rows("survey.jsonl", rows))


def test_odd_rows_and_files_that_do_not_go_together(refused, write_rows):
    rows = utterances(*HISTORY)
    refused("line 6, field 'utterance_id': 'ut1' occurs twice", "prism", *rows, *rows)
    twice = [conversation(), conversation()]
    refused("line 2, field 'conversation_id': 'c0' occurs twice", "prism", *twice)
    early = conversation(answer(0, "b", 5, True))
    field = r"field 'conversation_history\[0\].turn'"
    refused(f"{field}: an answer comes before the message of turn 0", "prism", early)
    files = [write_rows("c.jsonl", twice[:1]), write_rows("utterances.jsonl", rows)]
    refused(r"utterances.jsonl: conversations and utterances hold the same", "prism", *files)
    survey = write_rows("survey.jsonl", [person()])
    refused(r"survey.jsonl: a survey alone holds no ratings", "prism", survey)
    rows[1] |= {"user_prompt": "Is it just?"}
    refused("line 2, field 'user_id, user_prompt': an earlier row of this turn", "prism", *rows)
