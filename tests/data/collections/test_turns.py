"""Chats that go on with the answer that was chosen: PRISM, and Community Alignment."""

import pytest

from hidden_context.data.collections.community_alignment import _votes
from hidden_context.data.example import Comparison, Ranking, Rating
from hidden_context.data.reshape import comparisons_of
from support.published import passed, people_of, row, told
from support.rows import assistant, user

NOT_KNOWN = "turns whose chat so far is unknown (a turn is missing, or no one answer is chosen)"


def conversation(*history, **columns):
    given = {"conversation_history": list(history)} if history else {}
    return row("prism:conversations", **given, **columns)


HISTORY = conversation()["conversation_history"]


def asked(turn, text):
    return {**HISTORY[0], "turn": turn, "content": text}


def answer(turn, text, score, chosen):
    return {**HISTORY[1], "turn": turn, "content": text, "score": score, "if_chosen": chosen}


def utterances(*history):
    """The same conversation with a row for each answer."""
    texts = {said["turn"]: said["content"] for said in history if said["role"] == "user"}
    return [
        {
            "utterance_id": f"ut{number}",
            **{
                name: value
                for name, value in conversation().items()
                if isinstance(value, (str, bool))
            },
            "turn": said["turn"],
            "within_turn_id": number,
            "user_prompt": texts[said["turn"]],
            "model_response": said["content"],
            **{name: said[name] for name in ("model_name", "score", "if_chosen")},
        }
        for number, said in enumerate(history)
        if said["role"] == "model"
    ]


@pytest.fixture
def both(imported):
    """Imports a conversation in both formats, which have to give the same examples."""

    def run(*history):
        found, report = imported("prism", *utterances(*history)[::-1])
        examples, other = imported("prism", conversation(*history))
        assert (found, report.left_out) == (examples, other.left_out)
        return examples, report.left_out

    return run


def test_prism_each_turn_is_rated_after_the_chat_so_far(both):
    (first, second), left_out = both(*HISTORY)
    assert first.prompt == [user("Is it fair?")]
    assert first.responses == ([assistant("No.")], [assistant("Yes.")], [assistant("")])
    assert first.judgements == told("u0", Rating(0, 20.0), Rating(1, 100.0), Rating(2, 1.0))
    assert first.columns["models"] == ["m", "n", "o"]
    assert {name: v for name, v in second.columns.items() if name != "judgements"} == {
        "prompt": [user("Is it fair?"), assistant("Yes."), user("Why?")],
        "responses": ["So.", "It is."],
        "models": ["m", "n"],
        "turn": 1,
        **passed("prism:conversations", "conversation_id", "conversation_type"),
        **passed("prism:conversations", "included_in_balanced_subset"),
    }
    assert second.judgements == told("u0", Rating(0, 50.0), Rating(1, 50.0))
    assert left_out == {}


def test_prism_the_same_answer_may_be_chosen_twice_but_not_two_different_ones(both):
    twice = [asked(0, "a"), answer(0, "b", 9, True), answer(0, "b", 9, True), *HISTORY[4:]]
    assert both(*twice)[0][1].prompt[1] == assistant("b")
    twice[2] = answer(0, "c", 9, True)
    more = [asked(2, "d"), answer(2, "e", 1, True)]
    for history, count in (([*twice, *more], 2), ([*HISTORY[:4], *more], 1)):
        examples, left_out = both(*history)
        assert [example.columns["turn"] for example in examples] == [0]
        assert left_out == {NOT_KNOWN: count}


def test_prism_answers_without_a_score_are_left_out(both):
    history = [asked(0, "a"), answer(0, "b", None, True), answer(0, "c", 3, False)]
    (example,), left_out = both(*history, asked(1, "d"), answer(1, "e", None, True))
    assert example.responses == ([assistant("c")],)
    assert example.judgements == told("u0", Rating(0, 3.0))
    assert left_out == {"answers without a score": 2}


def person(**columns):
    return row("prism:survey", **columns)


def test_prism_how_people_describe_themselves(imported):
    survey = [person(), person(user_id="u1", religion=None)]
    files = {"survey.jsonl": survey, "chats.jsonl": [conversation()]}
    _, report = imported("prism", files=files)
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


ROWS = utterances(*HISTORY)
CHANGED = [ROWS[0], {**ROWS[1], "user_prompt": "Is it just?"}]


@pytest.mark.parametrize(
    ("chats", "survey", "message"),
    [
        ([conversation()], [person()] * 2, "line 2, field 'user_id': 'u0' occurs twice"),
        ([conversation()], [person(stated_prefs=[1])], "field 'stated_prefs': an object is needed"),
        ([conversation()], [person(stated_prefs={"values": 101})], "'stated_prefs.values': a num"),
        ([conversation()], [{"column_id": "user_prompt"}], "the file has column_id"),
        ([conversation()], ROWS, "s.jsonl: conversations and utterances hold the same ratings"),
        ([person()], [person(user_id="v")], "c.jsonl: the files hold a survey but no"),
        (ROWS * 2, [person()], "line 6, field 'utterance_id': 'ut1' occurs twice"),
        ([conversation()] * 2, [person()], "line 2, field 'conversation_id': 'c0' occurs twice"),
        (CHANGED, [person()], "2, field 'user_id, user_prompt': an earlier row of this turn has"),
    ],
)
def test_prism_odd_files(chats, survey, message, refused):
    refused(message, "prism", files={"c.jsonl": chats, "s.jsonl": survey})


COMMUNITY = "community_alignment"


def turn(name, best, answers="wxyz", **columns):
    """A turn of the answers w, x, y and z to the question of its name."""
    told = {
        "prompt": f"{name}?",
        **{f"response_{a}": t for a, t in zip("abcd", answers, strict=True)},
        "preferred_response": best and f"response_{best}",
        **columns,
    }
    return {f"{name}_turn_{key}": value for key, value in told.items()}


def chosen(*turns, **columns):
    return row(COMMUNITY, **{key: v for one in turns for key, v in one.items()}, **columns)


def votes(best, who="ann"):
    """The choice of one of four."""
    pairs = [(min(best, n), max(best, n), float(best < n)) for n in range(4) if n != best]
    return told(who, *(Comparison(*pair) for pair in pairs), weight=0.5)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_community_a_pair_of_a_choice_weighs_as_much_as_in_a_ranking(count):
    ranking = Ranking(tuple(range(1, count + 1)))
    (weight,) = {votes for _, votes in comparisons_of(ranking)}
    assert [entry["weight"] for entry in _votes(count, count - 1)] == [weight] * (count - 1)


def test_community_a_choice_is_three_comparisons_and_the_chat_goes_on_with_it(imported):
    more = turn("second", "a", feedback="Short.")
    (second, first), _ = imported(COMMUNITY, chosen(more))  # first turns come last
    assert first.prompt == [user("first?")]
    assert first.responses == tuple([assistant(text)] for text in "wxyz")
    best = (Comparison(0, 2, 0.0), Comparison(1, 2, 0.0), Comparison(2, 3, 1.0))
    assert first.judgements == told("ann", *best, weight=0.5)
    flags = ("is_pregenerated_first_prompt", "in_balanced_subset")
    kept = {"turn": 1, **passed(COMMUNITY, "assigned_lang", "wave", *flags)}
    assert first.columns.items() >= kept.items()
    assert second.prompt == [user("first?"), assistant("y"), user("second?")]
    assert second.judgements == votes(0)
    assert [vote.columns["feedback"] for vote in second.judgements] == ["Short."] * 3
    assert "feedback" not in first.judgements[0].columns


def test_community_people_who_judge_the_same_first_turn_in_any_order(imported):
    other = {"conversation_id": 2, "assigned_lang": "en"}
    rows = [
        chosen(turn("first", "a")),
        chosen(turn("first", "a", "zyxw"), annotator_id=7, **other),
        chosen(turn("first", "b", "wxyv"), annotator_id="cat", conversation_id=3),
    ]
    (both, third), _ = imported(COMMUNITY, *rows)
    assert both.judgements == (
        *votes(0),
        *told("7", *(Comparison(3, other) for other in (2, 1, 0)), weight=0.5),  # z stood before y
    )
    assert not {"conversation_id", "assigned_lang"} & set(both.columns)
    assert both.columns["wave"] == "1"
    assert (third.columns["conversation_id"], third.judgements) == (3, votes(1, "cat"))


def test_community_end_tokens_are_no_text(imported):
    texts = [
        *("w <|end_of_text|> ", "x\n<|end_of_text|><|end_of_text|>"),
        *("<|end_of_text|> is a token", "w"),
    ]
    (example,), report = imported(COMMUNITY, chosen(turn("first", "a", texts)))
    kept = ("w", "x", "<|end_of_text|> is a token")
    assert example.responses == tuple([assistant(text)] for text in kept)
    assert report.left_out == {"answers with the same text as another of the turn": 1}
    assert example.judgements == told("ann", Comparison(0, 1), Comparison(0, 2), weight=2 / 3)


def test_community_what_is_missing(imported):
    nothing, second = turn("first", None, [None] * 4, prompt=None), turn("second", "d")
    rows = [
        chosen(turn("first", "a", response_b=None)),
        chosen(turn("first", "a", "wwww"), second, conversation_id=2),
        chosen(turn("first", None), second, turn("third", "d"), conversation_id=3),
        chosen(turn("first", "b", response_b=None), conversation_id=4),
        chosen(nothing, second, conversation_id=5),
        chosen(turn("first", "b", prompt=None), conversation_id=6),
        chosen(nothing, conversation_id=7),
        chosen(turn("first", "a")),
    ]
    (later, first), report = imported(COMMUNITY, *rows)
    assert later.prompt == [user("first?"), assistant("w"), user("second?")]
    assert [vote.answer for vote in first.judgements] == [Comparison(0, 1), Comparison(0, 2)]
    assert first.judgements[0].weight == 2 / 3
    assert report.left_out == {
        "answers that are missing beside a choice": 1,
        "answers with the same text as another of the turn": 3,
        "choices among answers that are all the same": 1,
        "turns without a choice, or whose chosen answer is missing": 4,
        "turns whose chat so far is unknown, as an earlier turn is missing": 3,
        "conversations that occur twice, by their id": 1,
    }


def test_community_how_people_describe_themselves(imported):
    bob = {"annotator_id": "bob", "annotator_age": None}
    rows = [
        row(COMMUNITY),
        row(COMMUNITY, conversation_id="2", **bob),
        row(COMMUNITY, conversation_id="3", assigned_lang="en", **bob),
    ]
    _, report = imported(COMMUNITY, *rows)
    assert people_of(report) == {
        "ann": {"age": "18-34", "country": "france", "assigned_lang": "fr"},
        "bob": {"country": "france", "assigned_lang": "en and fr"},
    }
