"""The page as a whole: what it draws, what it lets happen, and for whom it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import pages

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose every text is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    return pages.write_page(folder, pages.hostile_rows(), title="".join(pages.HOSTILE))


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


def test_a_group_without_an_interval_has_a_point_and_no_bar(visit, tmp_path):
    rows = pages.score_rows(60)
    for row in rows:
        row |= {"data_subset": row["prompt"], "objective": "helpful"}
    page = visit(pages.write_page(tmp_path, rows))
    pages.draw_charts(page)
    table = page.locator("table", has_text="Numbers by group").locator("tbody tr")
    cells = table.evaluate_all("all => all.map((row) => row.cells[5].textContent)")
    trace = page.locator("[data-chart=groups] .scatterlayer .trace").first
    assert trace.locator(".point").count() == len(cells)
    with_bar = sum("[" in cell for cell in cells)
    assert 0 < with_bar < len(cells)
    assert trace.locator(".errorbar path").count() == with_bar


def test_charts_wait_until_they_come_near(visit, report):
    page = visit(report, viewport={"width": 1280, "height": 300})
    drawn = page.locator("figure.chart[data-drawn=true]")
    assert drawn.count() < 4
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert drawn.count() == 4


def test_plotly_may_stand_as_text_and_runs_under_the_policy_once_a_chart_needs_it(
    visit, report, tmp_path
):
    text = report.read_text(encoding="utf-8")
    plain = tmp_path / "plain.html"
    waiting = '<script type="text/plain" id="plotly">'
    plain.write_text(text.replace("<script>/**\n* plotly", f"{waiting}/**\n* plotly"), "utf-8")
    page = visit(plain, viewport={"width": 1280, "height": 200})
    assert page.evaluate("[typeof window.Plotly, HC.grid.view.length]") == ["undefined", 400]
    assert pages.draw_charts(page) == 4
    assert page.evaluate("typeof window.Plotly") == "object"
    assert page.locator("#plotly").count() == 0


def test_the_button_turns_the_theme_of_page_and_charts(visit, report):
    page = visit(report, color_scheme="light")
    pages.draw_charts(page)
    read = """() => [
      getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector('.chart .xtick text')).fill,
      document.getElementById('theme').getAttribute('aria-pressed')]"""
    assert page.evaluate(read) == ["rgb(247, 248, 250)", "rgb(28, 33, 40)", "false"]
    page.locator("#theme").click()
    page.wait_for_timeout(200)
    assert page.evaluate(read) == ["rgb(18, 22, 27)", "rgb(228, 232, 237)", "true"]
    page.locator("#theme").click()
    page.wait_for_timeout(200)
    assert page.evaluate(read) == ["rgb(247, 248, 250)", "rgb(28, 33, 40)", "false"]


def test_the_theme_follows_the_system_until_the_button_is_used(visit, report):
    page = visit(report, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(18, 22, 27)"
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.locator("#theme").click()
    assert page.evaluate(background) == "rgb(247, 248, 250)"


def test_hostile_texts_stay_texts(visit, hostile):
    page = visit(hostile)
    pages.draw_charts(page)
    assert page.title().startswith("".join(pages.HOSTILE[:4]))
    assert "{{7*7}} ${7*7}" in page.title()
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
    assert page.evaluate("window.__xss") is None
    inside = (
        "main :is(script, iframe, img, object, embed), main a[href^='javascript'], main [onload]"
    )
    assert page.locator(inside).count() == 0
    assert "49" not in page.title()


def test_links_in_texts_of_charts_are_not_links(visit, hostile):
    page = visit(hostile)
    pages.draw_charts(page)
    assert page.locator("figure.chart svg a").count() == 0
    assert page.locator("[data-chart=groups] .ytick", has_text="<").count() > 0


@pytest.mark.parametrize("width", [390, 768])
def test_a_narrow_window_does_not_scroll_sideways(visit, report, hostile, width):
    for path in (report, hostile):
        page = visit(path, viewport={"width": width, "height": 844})
        pages.draw_charts(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator("#grid .grid-body .row").first.click()
        dialog = page.locator("#pair")
        assert dialog.evaluate("d => d.scrollWidth - d.clientWidth") == 0
        assert dialog.bounding_box()["width"] <= width


def test_a_narrow_table_shows_row_prompt_and_probability(visit, report):
    page = visit(report, viewport={"width": 390, "height": 844})
    shown = page.locator("[role=columnheader]:visible").all_inner_texts()
    assert [text.split()[0] for text in shown] == ["Row", "Prompt", "P"]


def test_paper_has_no_navigation_and_no_table_of_comparisons(visit, report):
    page = visit(report, color_scheme="dark")
    assert page.locator("header nav").is_visible()
    page.emulate_media(media="print")
    for selector in ("header nav", "#filters", "#grid", "#pair"):
        assert not page.locator(selector).is_visible()
    assert page.locator("h1").is_visible()
    text = page.evaluate("getComputedStyle(document.body).color")
    assert text == "rgb(28, 33, 40)"  # dark on light, whatever the screen's theme is


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", ["page", "dialog", "nothing found"])
def test_axe_finds_nothing_serious(visit, report, scheme, state):
    page = visit(report, color_scheme=scheme, bypass_csp=True)
    pages.draw_charts(page)
    if state == "dialog":
        page.locator("#grid .grid-body .row").nth(1).click()
    elif state == "nothing found":
        page.locator("#search").fill("no such words anywhere")
        page.locator("#grid .empty").wait_for()
    assert pages.serious_violations(page, 15) == []


def test_comparisons_that_cannot_be_unpacked_are_said_to_be_so(chromium, report, tmp_path):
    text = report.read_text(encoding="utf-8")
    start = text.index('id="pairs">') + len('id="pairs">')
    broken = tmp_path / "broken.html"
    broken.write_text(text[:start] + "AAAA" + text[start + 4 :], encoding="utf-8")
    context = chromium.new_context(offline=True)
    page = pages.watch(context, broken).page
    assert page.locator("#count").inner_text().startswith("The comparisons could not be read: ")
    assert pages.draw_charts(page) == 4
    context.close()
