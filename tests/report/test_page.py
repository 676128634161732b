import base64
import gzip
import hashlib
import json
import re

import numpy as np
import pytest

from hidden_context.analysis.analysis_file import naming_the_file
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.workflow import run as analyze
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, DataError
from hidden_context.report.config import ReportConfig
from hidden_context.report.html import page as html
from hidden_context.report.html import words
from hidden_context.report.html.page import render, write_people_page
from hidden_context.report.workflow import run
from report import people_found
from report.people_found import HOSTILE, Page, rows
from support.score_rows import pair, write


@pytest.fixture
def report(tmp_path):
    """Make a report on rows."""

    def report(found=None, **options):
        options = {"resamples": 99, "output": str(tmp_path / "report.html"), **options}
        files = [write(tmp_path / "scores.jsonl", rows() if found is None else found)]
        result = run(ReportConfig(files=files, **options))
        return result, Page(result.path.read_text(encoding="utf-8"))

    return report


@pytest.fixture
def made(tmp_path):
    """The analysis of the report's rows, made before."""
    files, path = [write(tmp_path / "scores.jsonl", rows())], tmp_path / "analysis.json"
    analyze(AnalyzeConfig(files=files, contexts=True, resamples=99, output=str(path)))
    return path


def shown(analysis):
    """The visible text of the page of an analysis."""
    return Page(render("Title", analysis, None, None, None)).visible


@pytest.fixture(params=["report", "people"])
def hostile(request, report, tmp_path):
    """A page each of whose texts is an attack, and what scripts it should have."""
    if request.param == "report":
        texts = dict.fromkeys(("prompt", "rejected", "data_subset", "annotator"), HOSTILE)
        _, page = report(rows(chosen=HOSTILE + "a", **texts), title=HOSTILE)
        return page, html.scripts()
    path = tmp_path / "people.html"
    write_people_page(people_found.hostile(people_found.check(), HOSTILE), path)
    return Page(path.read_text(encoding="utf-8")), html.read_scripts(html.PEOPLE_SCRIPTS)


def test_the_policy_lets_exactly_the_page_s_scripts_run(hostile):
    page, own = hostile
    assert page.code == own
    digests = [hashlib.sha256(text.encode()).digest() for text in page.code]
    hashes = [base64.b64encode(digest).decode() for digest in digests]
    assert re.findall(r"'sha256-([^']+)'", page.policy) == hashes
    assert "unsafe" not in re.search(r"script-src ([^;]+);", page.policy)[1]
    assert page.policy.startswith("default-src 'none';")


def test_nothing_in_a_page_points_outside(hostile):
    for tag, attrs in hostile[0].tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        assert "src" not in attrs, (tag, attrs)
        assert not any(name.startswith("on") for name in attrs)
        assert attrs.get("href", "#").startswith("#")


def test_texts_stand_in_a_page_as_texts_only(hostile):
    page, _ = hostile
    assert HOSTILE.replace("\ud800", "?") in page.visible  # escaped, so the parser gives it back
    assert page.visible.count("{{ 7*7 }}") == page.visible.count("alert(2)")
    assert not any("<" in text for attrs, text in page.scripts if attrs.get("id") == "data")


def test_the_page_holds_the_numbers_of_the_analysis(report, made):
    result, page = report()
    analysis = json.loads(made.read_text())
    text, everything = page.visible, analysis["analyses"][0]["groups"][0]["intervals"]
    assert words.interval(everything["accuracy"], share=True) in text
    assert words.interval(everything["r2"]) in text
    assert words.interval(everything["r2_within"]) in text
    for point in analysis["analyses"][0]["frontier"]:
        assert words.interval(point["accuracy"], share=True) in text
    assert "50 % of the prompts hold" in text
    pairs = json.loads(gzip.decompress(base64.b64decode(page.script("pairs"))))
    assert len(pairs["p"]) == result.pairs.shown == 60
    assert set(pairs["context"]) == {
        cluster["name"] for cluster in analysis["analyses"][0]["contexts"]["clusters"]
    }


def test_an_analysis_made_before_gives_the_same_page(tmp_path, report, made):
    first, _ = report()
    second, _ = report(analysis=str(made), output=str(tmp_path / "second.html"))
    assert first.path.read_text() == second.path.read_text()
    with pytest.raises(DataError, match=r"60 pairs.*which has 8"):
        report(rows(8), analysis=str(made))
    with pytest.raises(DataError, match="no analysis of the pairs"):
        run(ReportConfig(files=[write(tmp_path / "x.jsonl", rows())], analysis=str(made)))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("groups", 0, "n"), ...),
        (("groups", 0), None),
        (("groups", 0, "labels"), None),
        (("clusters",), ...),
        (("frontier", 0, "unsafe"), {"estimate": 0.5, "low": "x", "high": 1}),
        (("contexts", "clusters", 0, "terms"), 5),
    ],
)
def test_an_analysis_changed_by_hand_is_an_error_that_names_it(
    tmp_path, capsys, made, where, value
):
    content = json.loads(made.read_text())
    inner = content["analyses"][0]
    for key in where[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    made.write_text(json.dumps(content))
    scores, output = str(tmp_path / "scores.jsonl"), str(tmp_path / "page.html")
    assert main(["report", scores, "--analysis", str(made), "--output", output]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {made}: a field is missing or has the wrong type (")
    assert "changed by hand" in error
    assert len(error.splitlines()) == 1


def test_an_analysis_of_version_2_gives_a_page_without_votes(report, made):
    content = json.loads(made.read_text())
    content["version"] = 2
    for scores in content["analyses"]:
        del scores["votes"]
        scores["agreement"] = None
    made.write_text(json.dumps(content))
    _, page = report(analysis=str(made))
    assert "ranks the preferred response first" in page.visible
    made.write_text(json.dumps(content | {"analyses": [5]}))
    with pytest.raises(DataError, match="missing or has the wrong type"):
        report(analysis=str(made))


def test_an_error_of_the_program_is_not_blamed_on_a_file():
    with pytest.raises(KeyError), naming_the_file(None):
        raise KeyError("x")


def test_rewards_beyond_what_numbers_hold_give_a_page(report):
    far = rows(1)[0] | pair([1e300, 0.0], [-1e300, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        result, _ = report([far, far])
    assert result.pairs.shown == 2


def test_pages_without_pairs_and_of_two_models(tmp_path, report):
    responses = [
        {"prompt": f"p{n}", "responses": ["a", "b"], "reward_outputs_m": [[0.0, 0.0], [n / 9, 1.0]]}
        for n in range(12)
    ]
    result, page = report(responses)
    assert result.pairs is None
    assert "Comparisons" not in page.visible
    assert "By quantile:0.01 the second response" in page.visible
    files = [write(tmp_path / f"{name}.jsonl", rows(60, seed)) for seed, name in enumerate("ab")]
    result = run(ReportConfig(compare=files, output=str(tmp_path / "two.html"), resamples=99))
    text = Page(result.path.read_text()).visible
    assert "Two models on the same rows" in text
    assert f"{files[1]} against {files[0]}, 60 pairs" in text


def test_more_pairs_than_asked_for_are_sampled_and_said(tmp_path, capsys):
    path = write(tmp_path / "scores.jsonl", rows(80))
    output = tmp_path / "out.html"
    arguments = ["report", path, "--output", str(output), "--max_pairs", "20", "--resamples", "99"]
    assert main(arguments) == 0
    assert "20 of 80 comparisons" in capsys.readouterr().out
    assert "20 of 80 comparisons" in Page(output.read_text()).visible


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no score file"),
        ({"files": ["a"], "max_pairs": 0}, "max_pairs is 0"),
        ({"data_dir": "d", "analysis": "a.json"}, "needs the score files"),
        ({"files": ["a"], "analysis": "a.json", "head": "base"}, "without --head"),
    ],
)
def test_what_cannot_be_reported_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ReportConfig(**options)


def test_no_input_is_overwritten(tmp_path):
    path = write(tmp_path / "scores.jsonl", rows())
    with pytest.raises(ConfigError, match="is an input too"):
        run(ReportConfig(files=[path], output=path))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.1, 0.1, "0.010 [−0.100, 0.100]; the interval includes no difference."),
        (0.005, 0.1, "0.010 [0.005, 0.100]."),
    ],
)
def test_the_summary_says_when_there_may_be_nothing(low, high, said):
    difference = {"estimate": 0.01, "low": low, "high": high}
    differences = [{"metric": name, "difference": difference} for name in ("loss", "r2")]
    found = words.of_comparison({"first": "a", "second": "b", "differences": differences})
    assert found == [f"b against a: loss differs by {said}"]


@pytest.mark.parametrize(
    ("name", "p", "verdict"),
    [
        ("annotator_permutation", 0.0004, "Yes (p = 0.0004)."),
        ("annotator_permutation", 1.0, "No sign of it (p = 1.000)."),
        ("mcnemar", 0.01, "The rates differ (p = 0.010)."),
        ("mcnemar", 0.2, "No sign of a difference (p = 0.200)."),
    ],
)
def test_a_test_is_one_question_and_one_short_answer(name, p, verdict):
    test = {"name": name, "question": "Why?", "p_value": p, "limit": "A long paragraph."}
    assert words.of_test(test) == f"Why? {verdict}"


def test_nothing_stands_there_that_says_nothing(report):
    _, page = report(rows(data_subset="both", objective="helpful"))
    data = json.loads(page.script("data"))
    assert [group["labels"] for group in data["analyses"][0]["groups"]] == [{}]
    text = page.visible
    assert "Numbers by group" in text
    for absent in ("subset both", "Risk frontier", "unsafe preferred"):  # no side is unsafe
        assert absent not in text
    assert "unsafe preferred" in report()[1].visible


def test_the_votes_of_people_stand_before_the_model():
    part = people_found.votes()
    part["topics"][0]["r2_within"] = None  # what is not a number is a dash
    text = shown(people_found.analysis(part))
    parts = [
        "People disagree: they are split on 30 % of 1,000 pairs.",
        "They split most on “fathers”",
        "The people votes 5,000 pairs with two votes or more 1,000 of 1,010",
        "Loss on 4,000 votes of 30 people that the model knows",
        "first, equal or second 0.9700 0.9400 −0.0300 [−0.0400, −0.0200]",
        "Somebody new, after a few votes",
        "5 12 300 0.9700 0.9500 −0.0200 [−0.0300, −0.0100]",
        "factor: pairs",
        "the best possible, without names 0.5000 –",
        "Finding the pairs on which people split, factor",
        "expected disagreement",
        "0.70 [0.68, 0.72] 0.05 [0.04, 0.06] 0.10 [0.08, 0.12]",
        "Telling conflict from indifference, factor",
        "the other half of the votes is the ceiling, factor",
        "0.61 [0.59, 0.63]",
        "topic fathers 500 37.0 % [34.0, 40.0] 33.0 % [31.0, 35.0] –",
        "topic bottles 500 20.0 % [17.0, 23.0] 25.0 % [23.0, 27.0] 0.60",
        "rank correlation −0.80 [−0.90, −0.70] over 2 values of topic",
    ]
    people_found.expect_in_order(text, parts)
