from __future__ import annotations

import pytest

from hidden_context.report.answer import answer_of
from report.people_found import analysis, span, votes


def test_the_first_sentence_is_of_votes():
    found = answer_of(analysis(votes()))
    assert found.headline == "People disagree: they are split on 30 % of 1,000 pairs."
    assert found.sentences == [
        "They split most on “fathers” (37 %), least on “bottles” (20 %).",
        "The model expects a split on 27 %.",
        "On 60 % of what is split, people lean apart; on 10 % most find both sides equal.",
        "Two people answer the same pair differently 42 % of the time; the model expects 39 %.",
        "Some people choose differently from others, more than chance explains.",
        "Knowing who votes makes the model’s predictions better.",
    ]
    assert found.annotator_tests == ["Do annotators choose differently? Yes (p = 0.002)."]
    assert [topic["name"] for topic in found.picture.topics] == ["fathers", "bottles"]
    assert found.picture.has_predicted
    assert "Diamonds: the share that the model expects." in found.picture.topics_note
    assert found.picture.split_means == (
        "Split: each side has 35 to 65 % of the votes, “equal” counting half."
    )
    assert [(part.label, part.share) for part in found.picture.kinds][:3] == [
        ("people lean apart", 0.18),
        ("some apart, some undecided", 0.09),
        ("most find both equal", 0.03),
    ]


def test_kinds_that_no_item_has_are_not_missed():
    part = votes()
    whole = part["kinds"]
    part["kinds"] = [kind for kind in whole if kind["name"] != "indifference"]
    split = sum(kind["share"] for kind in part["kinds"] if kind["is_split"])
    apart = next(kind["share"] for kind in whole if kind["name"] == "conflict") / split
    said = f"On {100 * apart:.0f} % of what is split, people lean apart; on 0 % most find"
    assert any(one.startswith(said) for one in answer_of(analysis(part)).sentences)
    part["kinds"] = [kind for kind in whole if kind["name"] in ("unanimous", "mixed")]
    assert not any("lean apart" in one for one in answer_of(analysis(part)).sentences)


@pytest.mark.parametrize(
    ("half", "words"),
    [(0.1, "No topic is clearly more split than another."), (None, "They split most on “fathers”")],
)
def test_topics_that_may_be_alike_are_not_ranked(half, words):
    part = votes()
    for topic in part["topics"]:
        topic["observed"] = span(topic["observed"]["estimate"], half)
    assert answer_of(analysis(part)).sentences[0].startswith(words)


def test_topics_of_several_columns_are_named_by_column_too():
    part = votes()
    part["topics"][1] |= {"column": "stance"}
    assert [topic["name"] for topic in answer_of(analysis(part)).picture.topics] == [
        "topic: fathers",
        "stance: bottles",
    ]


@pytest.mark.parametrize(
    ("question", "p", "words"),
    [
        ("Do annotators choose differently?", 0.2, "There is no sign that some people choose"),
        ("Are annotators alike?", 0.2, "Are annotators alike? No sign of it (p = 0.200)."),
    ],
)
def test_a_test_is_said_in_plain_words_where_it_is_known(question, p, words):
    test = {"name": "x", "question": question, "p_value": p, "limit": ""}
    found = answer_of(analysis(votes(), tests=[test]))
    assert any(line.startswith(words) for line in found.sentences)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.2, "People disagree: they are split on 20 %"),
        (0.05, "People disagree in part: they are split on 5 %"),
        (0.04, "People mostly agree: they are split on 4 %"),
    ],
)
def test_the_verdict_goes_by_the_share_that_is_split(share, words):
    part = votes()
    part["contested"]["share"] = span(share)
    assert answer_of(analysis(part)).headline.startswith(words)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (span(0.02, 0.01), "makes the model’s predictions worse"),
        (span(0.001, 0.01), "does not clearly help"),
        (span(-0.01), "does not clearly help"),
    ],
)
def test_a_difference_is_called_clear_only_beyond_its_interval(difference, words):
    part = votes()
    part["annotators_known"]["three_way"] = None
    part["annotators_known"]["two_way"]["difference"] = difference
    assert words in answer_of(analysis(part)).sentences[-1]


def test_little_is_said_of_little():
    part = votes()
    part |= {"annotators_known": None, "disagreement": None, "topics": [], "kinds": []}
    part["contested"]["expected"] = span(None)
    found = answer_of(analysis(part, tests=[]))
    assert found.sentences == []


def test_without_votes_of_several_the_first_screen_says_what_is_there_and_what_is_missing():
    for part in (None, {**votes(), "contested": None}):
        found = answer_of(analysis(part))
        assert found.headline == "factor ranks the preferred response first in 70 % of 1,000 pairs."
        assert found.sentences[0].startswith(
            "Whether people disagree cannot be seen here: no pair has votes of several people. It "
        )
        assert found.sentences[1].startswith("Some people choose differently from others")
        assert found.picture is None
    found = answer_of(analysis(kind="responses", name="m", tests=[]))
    assert found.headline == "m scored the responses in 1,000 rows."
    assert "the file holds no votes" in found.sentences[0]
    assert answer_of({"analyses": []}) is None
