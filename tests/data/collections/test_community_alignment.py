"""Community Alignment: the best of four answers, in chats that go on with it."""

import pytest

from hidden_context.data.collections.community_alignment import _votes
from hidden_context.data.example import Comparison, Judgement, Ranking
from hidden_context.data.expand import comparisons_of
from support.published import assistant, people_of, row, user

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
    return tuple(
        Judgement(Comparison(min(best, n), max(best, n), float(best < n)), who, weight=0.5)
        for n in range(4)
        if n != best
    )


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_pair_of_a_choice_weighs_as_much_as_in_a_ranking(count):
    ranking = Ranking(tuple(range(1, count + 1)))
    (weight,) = {votes for _, votes in comparisons_of(ranking)}
    assert [entry["weight"] for entry in _votes(count, count - 1)] == [weight] * (count - 1)


def test_community_a_choice_is_three_comparisons_and_the_chat_goes_on_with_it(imported):
    more = turn("second", "a", feedback="Short.")
    (second, first), report = imported(COMMUNITY, chosen(more))  # first turns come last
    assert first.prompt == [user("first?")]
    assert first.responses == tuple([assistant(text)] for text in "wxyz")
    assert first.judgements == (
        Judgement(Comparison(0, 2, 0.0), "ann", weight=0.5),
        Judgement(Comparison(1, 2, 0.0), "ann", weight=0.5),
        Judgement(Comparison(2, 3, 1.0), "ann", weight=0.5),
    )
    passed = {"turn": 1, "assigned_lang": "fr", "wave": "1"}
    passed |= {"is_pregenerated_first_prompt": True, "in_balanced_subset": False}
    assert first.columns.items() >= passed.items()
    assert second.prompt == [user("first?"), assistant("y"), user("second?")]
    assert second.judgements == votes(0)
    assert [vote.columns["feedback"] for vote in second.judgements] == ["Short."] * 3
    assert "feedback" not in first.judgements[0].columns
    assert report.left_out == {}


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
        Judgement(Comparison(3, 2, 1.0), "7", weight=0.5),  # z stood before y
        Judgement(Comparison(3, 1, 1.0), "7", weight=0.5),
        Judgement(Comparison(3, 0, 1.0), "7", weight=0.5),
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
    assert example.judgements == (
        Judgement(Comparison(0, 1, 1.0), "ann", weight=2 / 3),
        Judgement(Comparison(0, 2, 1.0), "ann", weight=2 / 3),
    )


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
