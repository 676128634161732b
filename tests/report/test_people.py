from __future__ import annotations

import re

import pytest

from hidden_context.report.html.answer import answer_of
from hidden_context.report.html.page import render_people_page, write_people_page
from hidden_context.report.html.people import Scale, picture_of, scale_of
from report import people_found
from report.people_found import Page, analysis, span, votes


def test_the_first_sentence_is_of_votes():
    found = answer_of(analysis(votes()))
    assert found.headline == "People disagree: they are split on 30 % of 1,000 pairs."
    assert found.sentences == [
        "They split most on “fathers” (37 %), least on “bottles” (20 %).",
        "The model expects a split on 27 %.",
        "On 60 % of the split pairs, people lean apart; on 10 %, most find both sides equal.",
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


def known(*difference):
    return {"three_way": None, "two_way": {"difference": span(*difference)}}


def only(*names):
    return [kind for kind in votes()["kinds"] if kind["name"] in names]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("contested.share", span(0.2), "People disagree: they are split on 20 %"),
        ("contested.share", span(0.05), "People disagree in part: they are split on 5 %"),
        ("contested.share", span(0.04), "People mostly agree: they are split on 4 %"),
        ("topics.1.observed", span(0.2, 0.2), "No topic is clearly more split than another."),
        ("topics.1.observed", span(0.2), "They split most on “fathers”"),
        ("annotators_known", known(0.02, 0.01), "makes the model’s predictions worse."),
        ("annotators_known", known(0.001, 0.01), "votes does not clearly help the model."),
        ("annotators_known", known(-0.01), "votes does not clearly help the model."),
        ("kinds", only("conflict"), "On 100 % of the split pairs, people lean apart; on 0 %, most"),
        ("kinds", only("unanimous", "mixed"), "Two people answer the same pair differently"),
    ],
)
def test_each_finding_has_its_words(path, value, words):
    part = inner = votes()
    *places, name = path.split(".")
    for place in places:
        inner = inner[int(place) if place.isdigit() else place]
    inner[name] = value
    found = answer_of(analysis(part))
    assert any(words in line for line in (found.headline, *found.sentences))
    assert any("lean apart" in line for line in found.sentences) == ("Two people" not in words)


def test_topics_of_several_columns_are_named_by_column_too():
    part = votes()
    part["topics"][1] |= {"column": "stance"}
    names = [topic["name"] for topic in answer_of(analysis(part)).picture.topics]
    assert names == ["topic: fathers", "stance: bottles"]


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


def labels(*numbers, is_share=False):
    return [label for _, label in scale_of(list(map(span, numbers)), is_share=is_share).ticks]


def test_ticks_are_round_and_hold_every_number():
    assert labels(0.31, is_share=True) == ["0 %", "10 %", "20 %", "30 %", "40 %"]
    assert labels(0.031, is_share=True) == ["0 %", "1 %", "2 %", "3 %", "4 %"]
    assert labels(0.0031, is_share=True) == ["0.0 %", "0.1 %", "0.2 %", "0.3 %", "0.4 %"]
    assert labels(0.41, is_share=True)[-1] == "50 %"
    assert labels(0.51, is_share=True) == ["0 %", "20 %", "40 %", "60 %"]
    assert labels(-0.6, 0.3) == ["−0.6", "−0.4", "−0.2", "0.0", "0.2", "0.4"]
    assert labels(30.0) == ["0", "10", "20", "30"]
    assert labels() == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_places_are_in_percent_of_the_width():
    scale = Scale(-1.0, 3.0, 1.0, False)
    for value, place in {-2: 0, -1: 0, 0: 25, 3: 100}.items():
        assert scale.place(value) == f"{place}.00%"
    assert [place for place, _ in scale.ticks] == [f"{n}.00%" for n in (0, 25, 50, 75, 100)]


def test_intervals_count_for_the_scale_and_what_is_missing_does_not():
    found = [{"estimate": 0.1, "low": -0.15, "high": 0.7}, {"estimate": None, "low": 9, "high": 9}]
    assert scale_of([found[0], None], is_share=False).low == pytest.approx(-0.2)
    assert scale_of([found[0]], is_share=False).high == pytest.approx(0.8)
    share = scale_of([{"estimate": 0.97, "low": 0.9, "high": 1.02}], is_share=True)
    assert (share.high, share.place(1.02)) == (1.0, "100.00%")


def drawn(topics, **options):
    rows = [people_found.topic(f"t{n}", *shares, None) for n, shares in enumerate(topics)]
    kinds = people_found.check()["observed"]["kinds"]
    return picture_of("pairs", kinds, 1000, span(0.3, 0.02), rows, **options)


def test_the_bar_puts_what_is_split_first_and_is_full():
    picture = drawn([])
    styles = " ".join(part.style for part in picture.kinds)
    assert styles == "split split-soft split-softer most all equal"
    assert [part.left for part in picture.kinds][:3] == ["0.000%", "18.000%", "27.000%"]
    assert sum(float(part.width[:-1]) for part in picture.kinds) == pytest.approx(100)
    counts = {title: len(parts) for title, parts in picture.key}
    assert counts == {"Split: 30 %": 3, "Not split: 70 %": 3}
    assert picture.kinds[0].text == "18 % people lean apart"


def test_kinds_of_other_names_have_a_place_and_empty_ones_none():
    kinds = [
        {"name": "new", "label": "a", "is_split": False, "items": 1, "share": 0.25},
        {"name": "newer", "label": "b", "is_split": True, "items": 3, "share": 0.75},
        {"name": "conflict", "label": "c", "is_split": True, "items": 0, "share": 0.0},
    ]
    picture = picture_of("pairs", kinds, 4, None, [])
    assert [(part.label, part.style) for part in picture.kinds] == [("b", "split"), ("a", "most")]
    assert picture.split is None
    assert not picture.has_predicted


def test_the_rows_share_a_scale_that_holds_all_votes_and_predictions():
    picture = drawn([(0.4, 0.52), (0.2, 0.3)], hidden=3, predicted_by="Diamonds: predicted.")
    assert [label for _, label in picture.scale.ticks] == ["0 %", "20 %", "40 %", "60 %"]
    assert picture.scale.place(0.3) == "50.00%"
    assert picture.topics_note == (
        "Dots: the share of split pairs in the votes, with 95 % intervals. Diamonds: predicted. "
        "Dashed: all pairs. Topics that fewer than five people judged, left out: 3."
    )


def test_the_page_says_the_answer_first_and_then_its_parts(tmp_path):
    path = tmp_path / "people.html"
    write_people_page(people_found.check(), path)
    text = Page(path.read_text(encoding="utf-8")).visible
    parts = [
        "People disagree: they are split on 30 % of 1,000 pairs.",
        "How people voted on 1,000 pairs",
        "Split: 30 %",
        "topic 1 70 38 % [33, 43] 34 %",
        "2 more topics",
        "Topics that fewer than five people judged, left out: 2.",
        "votes for each of the pairs 5 (4 to 6)",
        "Abstentions, which do not count as votes: 12.",
        "People choose differently.",
        "Across items people differ.",
        "Knowing who votes lowers the loss by 0.030 nats per vote.",
        "person 0 10 40 % [30, 50] 50 %",
        "3 more people",
        "2 first response 1 equal 2 second response",
        "the model predicted 40 % first response, 20 % equal, 40 % second response",
        "18-29 12 2.0 % [−1.0, 5.0] 0.0 %",
        "1 group of fewer than five people left out.",
        "bottle, water Which is better? 3 70 40 %",
        "quantile:0.1 12.0 % [10.0, 14.0]",
        "The model beats its baselines.",
        "the same for all 1.050 [1.030, 1.070] –",
        "What could not be found",
        "4 folds by topic, 16 groups",
        "Names of people are made up.",
        "Intervals: 95 %, by group. Seed 7.",
    ]
    people_found.expect_in_order(text, parts)


def test_what_does_not_clearly_go_with_votes_is_folded_away():
    found = people_found.check()
    (age,) = found["explained"]["covariates"]
    found["explained"]["covariates"] = [age, {**age, "name": "town", "p_adjusted": 0.4}]
    page = render_people_page(found)
    before, folded = page.split('class="fold"')
    assert "<h3>age</h3>" in before
    assert "<h3>town</h3>" not in before
    assert "What does not clearly go with the votes: town" in folded


def test_where_there_is_no_interval_there_is_no_line():
    page = render_people_page(people_found.check(topics=2, people=0))
    topics = page.split('class="topics"')[1].split("</table>")[0]
    assert topics.count('class="dot"') == 3  # two rows and the heading
    assert topics.count('class="range"') == 1
    assert "topic 0 70 40 % 35 %" in Page(page).visible
    assert "Who deviates most" not in page


def test_a_page_of_little_says_what_is_missing():
    found = people_found.check()
    nothing = people_found.span(None)
    found["predicted"] = found["advice"] = None
    found["explained"] |= {"covariates": [], "contexts": []}
    found["observed"] |= {"people": [], "annotator_test": None, "annotators": 0, "abstentions": 0}
    found["observed"] |= {"opposite": nothing, "alpha": nothing}
    found["observed"]["votes_per_item"] = {"fewest": 3.0, "median": 3.0, "most": 3.0}
    found["settings"] |= {"folds": 0, "middle": 3.0, "anonymised": False, "unit": "rating"}
    found["missing"] = []
    page = render_people_page(found)
    assert not re.findall(r'(id="|href="#)(items|advice|predicted|missing)"', page)
    text = Page(page).visible
    assert "votes for each of the texts 3" in text
    assert "Ratings above 3.0 are read as first response" in text
    assert "folds by" not in text
    assert "more topics" not in text


def test_without_votes_of_several_the_first_screen_says_what_is_missing():
    found = people_found.check()
    found["answer"]["headline"] = "Nobody can say whether your people disagree."
    found["observed"] |= {"kinds": [], "people": [], "split": people_found.span(None)}
    found["explained"] |= {"sentence": "", "covariates": [], "contexts": []}
    found["predicted"] = None
    page = render_people_page(found)
    first = page.split('<section id="answer">')[1].split("</section>")[0]
    assert found["missing"][0] in first
    assert "<svg" not in first
    assert not re.findall(r'(id="|href="#)(missing|explained)"', page)
