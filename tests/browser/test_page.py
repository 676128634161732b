"""Pages of a report and of a check: what they draw, what they let happen, for whom they work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browser import pages
from hidden_context.report.html.page import render, write_people_page
from report import people_found

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCHEMES = ("light", "dark")
WIDTHS = (390, 768, 1440)
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
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
def made(tmp_path_factory: pytest.TempPathFactory, report: Path) -> dict[str, Path]:
    """A report, one on pairs with votes, and a check; of two of them also with hostile texts."""
    folder = tmp_path_factory.mktemp("pages")
    found = {name: folder / f"{name}.html" for name in ("people", "hostile people", "voted")}
    attacks = "".join(pages.HOSTILE)
    write_people_page(people_found.check(), found["people"])
    hostile = people_found.hostile(people_found.check(), attacks + "x" * 80)
    write_people_page(hostile, found["hostile people"])
    part = people_found.votes()
    part["topics"] = [
        people_found.topic(f"topic {n}", 0.4 - 0.02 * n, 0.35 - 0.01 * n, None) for n in range(5)
    ]
    page = render("Report", people_found.analysis(part), None, None, None)
    found["voted"].write_text(page, "utf-8")
    found["hostile report"] = pages.write_page(folder, pages.hostile_rows(), title=attacks)
    return found | {"report": report}


@pytest.fixture
def open_page(visit, made):
    """Opens one of the pages by its name."""
    return lambda name, **options: visit(made[name], **options)


def test_it_loads_offline_without_an_error_and_draws_every_chart(visit, report):
    page = visit(report)
    assert pages.draw_charts(page) == page.locator("figure.chart").count() == 4
    # ten bins at most, each a point with an error bar; the diagonal has none
    bins = page.locator("[data-chart=reliability] .scatterlayer .trace").last
    table = page.locator("table", has_text="Reliability").locator("tbody tr").count()
    assert bins.locator(".point").count() == bins.locator(".errorbar").count() == table
    rows = page.locator("table", has_text="Numbers by group").locator("tbody tr").count()
    groups = page.locator("[data-chart=groups] .scatterlayer .trace").first
    assert groups.locator(".point").count() == rows
    contexts = page.locator("table", has_text="Contexts of prompts").locator("tbody tr").count()
    assert page.locator("[data-chart=contexts] .barlayer .point").count() == contexts


def test_where_there_is_no_interval_there_is_no_bar(visit, tmp_path):
    none = people_found.span(0.7)
    known = {**people_found.span(0.75, 0.25), "high": 0.875}
    bins = [
        {"low": p, "high": p, "n": n, "predicted": p, "observed": each["estimate"]}
        | {"observed_low": each["low"], "observed_high": each["high"]}
        for p, n, each in ((0.6, 5, none), (0.8, 9, known))
    ]
    point = {"measure": "quantile", "name": "quantile:0.1", "alpha": 0.1}
    intervals = dict.fromkeys(("accuracy", "loss", "brier", "r2"), none)
    analysis = people_found.analysis(
        calibration={"bins": bins, "ece": none, "brier": none, "sharpness": 0.1},
        frontier=[{**point, "unsafe": none, "accuracy": known}],
        groups=[{"labels": {}, "n": 9, "intervals": intervals}],
    )
    path = tmp_path / "page.html"
    path.write_text(render("Report", analysis, None, None, None), "utf-8")
    page = visit(path)
    assert pages.draw_charts(page) == 3
    shown = [none, known, {**none, "high": 1.0}]
    spans = page.evaluate("all => all.map((each) => HC.span(each, 2))", shown)
    assert spans == ["0.70", "0.75 [0.50, 0.88]", "0.70"]
    plots = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('figure.chart')].map((each) => {
          const { data, layout } = each.querySelector('.plot');
          return [each.dataset.chart, [data.at(-1), layout.yaxis.range[0]]];
        }))"""
    )
    (reliability, lowest), (frontier, _), (groups, _) = map(
        plots.get, ("reliability", "frontier", "groups")
    )
    for bars, above, below in (
        (reliability["error_y"], [np.nan, 0.125], [np.nan, 0.25]),
        (frontier["error_x"], [np.nan], [np.nan]),
        (frontier["error_y"], [0.125], [0.25]),
        (groups["error_x"], [np.nan], [np.nan]),
    ):
        np.testing.assert_array_equal([bars["array"], bars["arrayminus"]], [above, below])
    assert reliability["hovertext"][0] == "predicted 0.600<br>observed 0.700<br>5 pairs"
    # the axis goes down to the lowest end there is, not to 0
    assert lowest == pytest.approx(0.42)
    assert groups["hovertext"] == ["all rows<br>r² 0.700"]


def test_charts_and_plotly_wait_until_they_come_near(visit, report):
    page = visit(report, viewport={"width": 1280, "height": 200})
    drawn = page.locator("figure.chart[data-drawn=true]")
    assert drawn.count() < 4
    assert page.evaluate("[typeof window.Plotly, HC.grid.view.length]") == ["undefined", 400]
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert drawn.count() == 4
    assert page.evaluate("typeof window.Plotly") == "object"
    assert page.locator("#plotly").count() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_theme_follows_the_system_until_the_button_turns_page_and_charts(visit, report, scheme):
    page = visit(report, color_scheme=scheme)
    pages.draw_charts(page)
    read = """() => [
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector('.chart .xtick text')).fill,
      document.getElementById('theme').getAttribute('aria-pressed')]"""
    light = ["rgb(247, 248, 250)", "rgb(28, 33, 40)", "false"]
    dark = ["rgb(18, 22, 27)", "rgb(228, 232, 237)", "true"]
    for colours in (light, dark, light) if scheme == "light" else (dark, light, dark):
        assert page.evaluate(read) == colours
        page.locator("#theme").click()
        page.wait_for_timeout(200)


@pytest.mark.parametrize("name", ["hostile report", "hostile people"])
def test_hostile_texts_stay_texts(open_page, name):
    page = open_page(name)
    assert "{{7*7}} ${7*7}" in page.title()
    assert "49" not in page.title()
    assert "<script>window.__xss = 1</script>" in page.locator("h1").inner_text()
    if "report" in name:
        _touch_everything(page)
    assert page.evaluate("window.__xss") is None
    inside = (
        "main :is(script, iframe, img, object, embed), main a[href^='javascript'], main [onload]"
    )
    assert page.locator(inside).count() == 0
    assert page.locator("main figure.chart svg a, main .topics a").count() == 0


def _touch_everything(page):
    """Open every hostile pair, and draw and hover the charts."""
    pages.draw_charts(page)
    assert page.title().startswith("".join(pages.HOSTILE[:4]))
    assert page.locator("[data-chart=groups] .ytick", has_text="<").count() > 0
    page.locator("#grid").focus()
    for number, attack in enumerate(pages.HOSTILE):
        page.keyboard.press("Home" if number == 0 else "ArrowDown")
        page.keyboard.press("Enter")
        shown = page.locator("#pair .passage.chosen .text").evaluate("node => node.textContent")
        assert shown == f"chosen {attack}".strip()
        badges = page.locator("#pair .badge").evaluate_all("all => all.map(b => b.textContent)")
        assert f"subset: {attack}" in badges
        page.keyboard.press("Escape")
    options = page.locator("#filter-subset option").evaluate_all("all => all.map(o => o.value)")
    assert set(pages.HOSTILE) <= set(options)
    # hovering writes data into the charts
    points = page.locator("[data-chart=groups] .point")
    for place in range(min(points.count(), 5)):
        points.nth(place).hover(force=True)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report", "hostile report", "people", "hostile people", "voted"])
def test_no_window_scrolls_sideways(open_page, name, width):
    page = open_page(name, viewport={"width": width, "height": 844})
    pages.draw_charts(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    if "report" in name:
        page.locator("#grid .grid-body .row").first.click()
        dialog = page.locator("#pair")
        assert dialog.evaluate("d => d.scrollWidth - d.clientWidth") == 0
        assert dialog.bounding_box()["width"] <= width


def test_a_narrow_table_shows_row_prompt_and_probability(visit, report):
    page = visit(report, viewport={"width": 390, "height": 844})
    shown = page.locator("[role=columnheader]:visible").all_inner_texts()
    assert [text.split()[0] for text in shown] == ["Row", "Prompt", "P"]


@pytest.mark.parametrize(
    ("name", "shown", "hidden"),
    [
        ("report", ["h1"], ["#filters", "#grid", "#pair"]),
        ("people", [".topics details .marks", ".kinds .stacked"], []),
    ],
)
def test_paper_shows_what_is_folded_away_and_no_navigation(open_page, name, shown, hidden):
    page = open_page(name, color_scheme="dark")
    assert page.locator("header nav").is_visible()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert not any(page.locator(each).is_visible() for each in ["header nav", *hidden])
    assert all(page.locator(each).is_visible() for each in shown)
    text = page.evaluate("getComputedStyle(document.body).color")
    assert text == "rgb(28, 33, 40)"  # dark on light, whatever the screen's theme is
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "auto"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("name", "state", "width"),
    [
        *(("report", state, 1280) for state in ("page", "dialog", "nothing found")),
        *((name, "page", width) for name in ("people", "voted") for width in (390, 1440)),
    ],
)
def test_axe_finds_nothing_serious(open_page, name, state, width, scheme):
    viewport = {"width": width, "height": 900}
    page = open_page(name, color_scheme=scheme, viewport=viewport, bypass_csp=True)
    pages.draw_charts(page)
    if state == "dialog":
        page.locator("#grid .grid-body .row").nth(1).click()
    elif state == "nothing found":
        page.locator("#search").fill("no such words anywhere")
        page.locator("#grid .empty").wait_for()
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response
    assert len(found["passes"]) > (15 if name == "report" else 12)
    assert not [each for each in found["violations"] if each["impact"] in ("serious", "critical")]


def test_comparisons_that_cannot_be_unpacked_are_said_to_be_so(chromium, report, tmp_path):
    before, start, after = report.read_text(encoding="utf-8").partition('id="pairs">')
    broken = tmp_path / "broken.html"
    broken.write_text(f"{before}{start}AAAA{after[4:]}", encoding="utf-8")
    context = chromium.new_context(offline=True)
    page, _ = pages.watch(context, broken)
    assert page.locator("#count").inner_text().startswith("The comparisons could not be read: ")
    assert pages.draw_charts(page) == 4
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["people", "voted"])
def test_the_first_screen_holds_the_picture_and_marks_stand_where_the_axis_says(
    open_page, name, width
):
    page = open_page(name, viewport={"width": width, "height": 844})
    for selector in (".headline", ".stacked", ".key", ".topics tbody tr"):
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + box["height"] <= 844, selector
    marks = page.evaluate(MARKS)
    assert len(marks) >= 5
    expected = [[0.4 - 0.02 * n, 0.35 - 0.01 * n] for n in range(len(marks))]
    assert np.array(marks) == pytest.approx(np.array(expected), abs=0.003)


def test_a_bar_is_as_long_as_its_shares(open_page):
    page = open_page("people")
    widths = page.locator(".kinds .stacked rect").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect().width)"
    )
    bar = page.locator(".kinds .stacked").bounding_box()["width"]
    shares = [0.18, 0.09, 0.03, 0.53, 0.15, 0.02]
    assert [width / bar for width in widths] == pytest.approx(shares, abs=0.004)


def test_the_theme_and_the_keyboard_work_without_the_report_s_scripts(open_page):
    page = open_page("people", color_scheme="light")
    assert page.evaluate(BACKGROUND) == "rgb(247, 248, 250)"
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(BACKGROUND) == "rgb(18, 22, 27)"
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert page.evaluate(BACKGROUND) == "rgb(247, 248, 250)"
    page.locator(".topics summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(".topics details .marks tbody tr").count() == 2
    assert page.locator(".topics details .marks").is_visible()
