from __future__ import annotations

import re

import pytest

from hidden_context.report import html
from hidden_context.report.people import picture_of
from hidden_context.report.people_page import SCRIPTS, render_people_page, write_people_page
from report import people_found

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}<!--\ud800"


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def drawn(topics, **options):
    split = {"estimate": 0.3, "low": 0.28, "high": 0.32}
    rows = [
        {
            "name": f"t{n}",
            "items": 9,
            "observed": people_found.span(share, 0.05),
            "predicted": people_found.span(guess, 0.01),
        }
        for n, (share, guess) in enumerate(topics)
    ]
    kinds = people_found.check()["observed"]["kinds"]
    return picture_of("pairs", kinds, 1000, split, rows, **options)


def test_the_bar_puts_what_is_split_first_and_is_full():
    picture = drawn([])
    assert [part.style for part in picture.kinds] == [
        "split",
        "split-soft",
        "split-softer",
        "most",
        "all",
        "equal",
    ]
    assert [part.left for part in picture.kinds][:3] == ["0.000%", "18.000%", "27.000%"]
    assert sum(float(part.width[:-1]) for part in picture.kinds) == pytest.approx(100)
    assert [(title, len(parts)) for title, parts in picture.key] == [
        ("Split: 30 %", 3),
        ("Not split: 70 %", 3),
    ]
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
    assert [tick.label for tick in picture.scale.ticks] == ["0 %", "20 %", "40 %", "60 %"]
    assert picture.scale.place(0.3) == "50.00%"
    assert picture.topics_note == (
        "Dots: the share of split pairs in the votes, with 95 % intervals. Diamonds: predicted. "
        "Dashed: all pairs. 3 topics that fewer than five people judged are left out."
    )


def test_the_page_says_the_answer_first_and_then_its_parts(tmp_path):
    path = tmp_path / "people.html"
    write_people_page(people_found.check(), path)
    text = text_of(path.read_text(encoding="utf-8"))
    parts = [
        "People disagree: they are split on 30 % of 1,000 pairs.",
        "How people voted on 1,000 pairs",
        "Split: 30 %",
        "topic 1 70 38 % [33, 43] 34 %",
        "2 more topics",
        "2 topics that fewer than five people judged are left out.",
        "votes for each of the pairs 5 (4 to 6)",
        "12 abstentions are no votes",
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
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


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
    assert "topic 0 70 40 % 35 %" in text_of(page)
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
    for name in ("items", "advice", "predicted", "missing"):
        assert f'id="{name}"' not in page
        assert f'href="#{name}"' not in page
    text = text_of(page)
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
    for name in ("missing", "explained"):
        assert f'id="{name}"' not in page
        assert f'href="#{name}"' not in page


def test_texts_stand_in_the_page_as_texts_only(tmp_path):
    path = tmp_path / "people.html"
    write_people_page(people_found.hostile(people_found.check(), HOSTILE), path)
    page = path.read_text(encoding="utf-8")
    own = html.read_scripts(SCRIPTS)
    assert page.count("<script") == len(own)
    assert "<img" not in page
    assert "49" not in re.search("<title>(.*?)</title>", page)[1]
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy == html.content_security_policy(own).replace("'", "&#39;")
    assert 'src="' not in page
    assert set(re.findall('href="(.)', page)) == {"#"}
