"""The page of a check, and the first screen that a report shares with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import pages
from hidden_context.report.html.page import render
from hidden_context.report.html.people_page import write_people_page
from report import people_found

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCHEMES = ("light", "dark")
WIDTHS = (390, 768, 1440)
# where each dot and diamond stands on the axis above it, as a share
MARKS = """() => {
  const middle = (node) => {
    const box = node.getBoundingClientRect();
    return box.left + box.width / 2;
  };
  const table = document.querySelector('.topics .marks');
  const ticks = [...table.querySelectorAll('.ticks span')];
  const value = (tick) => parseFloat(tick.textContent) / 100;
  const [first, last] = [ticks[0], ticks[ticks.length - 1]];
  const unit = (middle(last) - middle(first)) / (value(last) - value(first));
  const read = (node) => (middle(node) - middle(first)) / unit + value(first);
  return [...table.querySelectorAll('tbody tr')].map((row) =>
    ['.dot', '.diamond'].map((mark) => read(row.querySelector(mark))));
}"""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.html"
    write_people_page(people_found.check(), path)
    return path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "people.html"
    attack = "".join(pages.HOSTILE) + "x" * 80
    write_people_page(people_found.hostile(people_found.check(), attack), path)
    return path


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on pairs with votes."""
    path = tmp_path_factory.mktemp("voted") / "report.html"
    part = people_found.votes()
    part["topics"] = [
        people_found.topic(f"topic {n}", 0.4 - 0.02 * n, 0.35 - 0.01 * n, None) for n in range(5)
    ]
    path.write_text(render("Report", people_found.analysis(part), None, None, None), "utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_marks_stand_where_the_axis_says(visit, people, voted, width):
    for path in (people, voted):
        page = visit(path, viewport={"width": width, "height": 900})
        marks = page.evaluate(MARKS)
        assert len(marks) >= 5
        for n, (dot, diamond) in enumerate(marks):
            assert dot == pytest.approx(0.4 - 0.02 * n, abs=0.003)
            assert diamond == pytest.approx(0.35 - 0.01 * n, abs=0.003)


@pytest.mark.parametrize("width", [390, 1440])
def test_the_first_screen_holds_the_sentence_and_the_picture(visit, people, voted, width):
    for path in (people, voted):
        page = visit(path, viewport={"width": width, "height": 844})
        for selector in (".headline", ".stacked", ".key", ".topics tbody tr"):
            box = page.locator(selector).first.bounding_box()
            assert box["y"] + box["height"] <= 844, selector


def test_a_bar_is_as_long_as_its_shares(visit, people):
    page = visit(people)
    widths = page.locator(".kinds .stacked rect").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().width)"
    )
    bar = page.locator(".kinds .stacked").bounding_box()["width"]
    shares = [0.18, 0.09, 0.03, 0.53, 0.15, 0.02]
    assert [width / bar for width in widths] == pytest.approx(shares, abs=0.004)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_narrow_window_does_not_scroll_sideways(visit, people, hostile, voted, width):
    for path in (people, hostile, voted):
        page = visit(path, viewport={"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_hostile_texts_stay_texts(visit, hostile):
    page = visit(hostile)
    assert page.evaluate("window.__xss") is None
    inside = "main :is(script, iframe, img, object, embed, a), main [onload]"
    assert page.locator(inside).count() == 0
    assert "<script>window.__xss = 1</script>" in page.locator("h1").inner_text()
    assert "{{7*7}} ${7*7}" in page.title()


def test_the_theme_and_the_keyboard_work_without_the_report_s_scripts(visit, people):
    page = visit(people, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(247, 248, 250)"
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(background) == "rgb(18, 22, 27)"
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert page.evaluate(background) == "rgb(247, 248, 250)"
    page.locator(".topics summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(".topics details .marks tbody tr").count() == 2
    assert page.locator(".topics details .marks").is_visible()


def test_paper_shows_the_picture_and_what_is_folded_away(visit, people):
    page = visit(people, color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not page.locator("header nav").is_visible()
    assert page.locator(".topics details .marks").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 40)"
    assert page.locator(".kinds .stacked").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "auto"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["people", "voted"])
def test_axe_finds_nothing_serious(visit, request, name, scheme, width):
    path = request.getfixturevalue(name)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page = visit(path, bypass_csp=True, **options)
    assert pages.serious_violations(page, 12) == []
