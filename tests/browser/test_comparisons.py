"""The table of comparisons and the dialog, as a reader uses them with mouse and keyboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIDES = ("chosen", "rejected")


def column(page: Any, key: str) -> list[str]:
    """The texts of a column in the order in which the rows stand."""
    return page.evaluate(
        """key => [...document.querySelectorAll('.grid-body .row')]
            .sort((a, b) => a.dataset.place - b.dataset.place)
            .map(row => row.querySelector(`.column-${key}`).textContent)""",
        key,
    )


def count(page: Any) -> str:
    return page.locator("#count").inner_text().replace("\u00a0", " ")


def source(report: Path) -> list[dict[str, Any]]:
    """The rows of the score file, their responses without the prompt as the page shows them."""
    rows = map(json.loads, (report.parent / "scores.jsonl").read_text().splitlines())
    return [
        row | {side: row[side].removeprefix(row["prompt"]).strip() for side in SIDES}
        for row in rows
    ]


def expect_count(page: Any, text: str) -> None:
    page.wait_for_function(
        "text => document.getElementById('count').textContent.replaceAll('\\u00a0', ' ') === text",
        arg=text,
        timeout=10_000,
    )


def reset(page: Any) -> None:
    page.locator("#filters [type=reset]").click()
    expect_count(page, "400 of 400 comparisons")


def to_top(page: Any) -> None:
    page.locator("#grid").evaluate("grid => grid.scrollTop = 0")
    page.locator("#grid [aria-rowindex='2']").wait_for()


@pytest.fixture
def page(visit: Callable[..., Any], report: Path) -> Any:
    """The report, opened."""
    return visit(report)


def test_the_table_is_a_grid_of_all_rows_of_which_few_are_in_the_document(page):
    grid = page.locator("#grid")
    assert count(page) == "400 of 400 comparisons"
    assert grid.get_attribute("aria-rowcount") == "401"
    titles = [text.split()[0] for text in page.locator("[role=columnheader]").all_inner_texts()]
    assert titles[:5] == ["Row", "Prompt", "Chosen", "Rejected", "P"]
    assert titles[5:] == ["σ", "Right?", "Subset", "Objective"]
    assert grid.get_attribute("aria-colcount") == "9"
    assert 10 < page.locator("#grid .grid-body [role=row]").count() < 60
    assert column(page, "row")[:3] == ["1", "2", "3"]
    grid.evaluate("grid => grid.scrollTop = grid.scrollHeight")
    page.locator("#grid [aria-rowindex='401']").wait_for()
    assert column(page, "row")[-1] == "400"


def test_rows_hold_what_the_score_file_says(page, report):
    rows = source(report)
    assert column(page, "subset")[:10] == [row["data_subset"] for row in rows[:10]]
    first = rows[0]
    assert column(page, "chosen")[0] == first["chosen"][:240]
    (mean_a, raw_a), (mean_b, raw_b) = (first[f"reward_output_{side}"] for side in SIDES)
    page_numbers = float(column(page, "p")[0]), float(column(page, "sigma")[0])
    # P = Φ((μ_a − μ_b)/√(σ_a² + σ_b²)), by hand
    variance = np.log1p(np.exp(raw_a)) ** 2 + np.log1p(np.exp(raw_b)) ** 2
    expected = norm.cdf((mean_a - mean_b) / np.sqrt(variance)), np.sqrt(variance)
    assert page_numbers == pytest.approx(expected, abs=0.0051)


def test_a_heading_sorts_up_then_down_by_click_and_by_enter(page, report):
    heading = page.locator("[role=columnheader]", has_text="σ")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = [float(text) for text in column(page, "sigma")[:10]]
    assert rising == sorted(rising)
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    to_top(page)
    falling = [float(text) for text in column(page, "sigma")[:10]]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > rising[-1]
    assert page.locator("[role=columnheader][aria-sort=none]").count() == 8
    page.locator("[role=columnheader]", has_text="Chosen").locator("button").click()
    to_top(page)
    assert column(page, "chosen")[0] == min(row["chosen"] for row in source(report))


def test_search_ignores_case_and_reads_every_text(page, report):
    rows = source(report)
    fields = ("prompt", *SIDES, "annotator")
    for query in ("CANNOT", "please explain", "annotator-3"):
        texts = (" ".join(row[name] for name in fields) for row in rows)
        found = [str(n) for n, text in enumerate(texts, 1) if query.lower() in text.lower()]
        assert 0 < len(found) < 400
        page.locator("#search").fill(query)
        expect_count(page, f"{len(found)} of 400 comparisons")
        assert column(page, "row")[:5] == found[:5]
    page.locator("#search").fill("no such words anywhere")
    expect_count(page, "0 of 400 comparisons")
    assert page.locator("#grid .empty").inner_text() == "Nothing matches."
    reset(page)


def test_filters_leave_what_they_say_and_combine(page, report):
    rows = source(report)
    helpful = sum(row["data_subset"] == "helpful" for row in rows)
    both = sum(row["data_subset"] == "helpful" and row["objective"] == "harmless" for row in rows)
    page.locator("#filter-subset").select_option("helpful")
    expect_count(page, f"{helpful} of 400 comparisons")
    page.locator("#filter-objective").select_option("harmless")
    expect_count(page, f"{both} of 400 comparisons")
    assert set(column(page, "subset")) == {"helpful"}
    reset(page)
    page.locator("#filter-right").select_option("wrong")
    assert set(column(page, "right")) == {"✗ wrong"}
    wrong = int(count(page).split()[0])
    page.locator("#filter-right").select_option("right")
    assert wrong + int(count(page).split()[0]) == 400
    reset(page)
    page.locator("#filter-contested").check()
    shown = [float(text) for text in column(page, "p")]
    assert shown
    assert all(0.35 <= p <= 0.65 for p in shown)


def test_the_context_filter_shows_the_pairs_of_one_context(page):
    options = page.locator("#filter-context option").all()
    totals = []
    for option in options[1:]:
        page.locator("#filter-context").select_option(option.get_attribute("value"))
        shown = int(count(page).split()[0])
        assert option.inner_text().endswith(f"({shown})")
        totals.append(shown)
    assert len(totals) >= 2
    assert sum(totals) == 400


def test_a_click_opens_a_pair_with_texts_numbers_and_densities(page, report):
    row = source(report)[2]
    page.locator("#grid [aria-rowindex='4']").click()
    dialog = page.locator("#pair")
    assert dialog.evaluate("dialog => dialog.open")
    assert page.locator("#pair-title").inner_text() == "Comparison in row 3"
    texts = dialog.locator(".passage .text").all_inner_texts()
    assert texts[:3] == [row["prompt"].strip(), row["chosen"], row["rejected"]]
    label = dialog.locator("svg.densities").get_attribute("aria-label")
    mean = f"{row['reward_output_chosen'][0]:.2f}".replace("-", "−")
    assert label.startswith(f"Reward distributions: chosen mean {mean}, standard deviation ")
    assert dialog.locator("svg polyline.curve").count() == 2
    assert dialog.locator(".badge", has_text=f"objective: {row['objective']}").count() == 1
    page.locator("#pair-next").click()
    assert page.locator("#pair-title").inner_text() == "Comparison in row 4"
    page.locator("#pair-previous").click()
    page.locator("#pair-previous").click()
    assert page.locator("#pair-title").inner_text() == "Comparison in row 2"
    page.locator("#pair-close").click()
    assert not dialog.evaluate("dialog => dialog.open")


def test_the_density_is_drawn_to_scale(page):
    """The curve peaks where the mean lies, and integrates to 1 on the drawn grid."""
    mass, peak, mean = page.evaluate(
        """() => {
          const parts = [{weight: 0.25, location: -1, scale: 0.5},
                         {weight: 0.75, location: 2, scale: 1}];
          const D = HC.distribution;
          const range = D.range([parts]);
          const grid = D.grid([parts], range, 2000);
          const density = D.density(parts, grid);
          let mass = 0;
          for (let i = 1; i < grid.length; i += 1)
            mass += (grid[i] - grid[i - 1]) * (density[i] + density[i - 1]) / 2;
          return [mass, D.density(parts, [2])[0], D.moments(parts)];
        }"""
    )
    assert mass == pytest.approx(1.0, abs=2e-4)
    # 0.25 φ(6)/0.5 + 0.75 φ(0)
    assert peak == pytest.approx(0.75 * 0.3989422804, abs=1e-7)
    # mean 1.25; variance 0.25 (0.25 + 2.25²) + 0.75 (1 + 0.75²) = 2.5
    assert mean == pytest.approx({"mean": 1.25, "stddev": 2.5**0.5})


def test_the_keyboard_reaches_everything(page):
    page.locator("#grid").focus()

    def active() -> str:
        identifier = page.locator("#grid").get_attribute("aria-activedescendant")
        row = page.locator(f"#{identifier}")
        assert row.get_attribute("aria-selected") == "true"
        return row.locator(".column-row").inner_text()

    def press(key: str) -> str:
        page.keyboard.press(key)
        return active()

    assert active() == "1"
    assert press("ArrowDown") == "2"
    assert press("ArrowDown") == "3"
    assert press("ArrowUp") == "2"
    paged = int(press("PageDown"))
    assert 8 < paged < 30
    assert press("PageUp") == "2"
    assert press("End") == "400"
    assert page.locator("#grid .row.active").is_visible()
    assert press("ArrowDown") == "400"
    assert press("Home") == "1"
    press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#pair-title").inner_text() == "Comparison in row 2"
    page.keyboard.press("ArrowRight")
    assert page.locator("#pair-title").inner_text() == "Comparison in row 3"
    page.keyboard.press("Escape")
    assert not page.locator("#pair").evaluate("dialog => dialog.open")
    assert page.evaluate("document.activeElement.id") == "grid"
    assert active() == "3"


def test_sorting_and_filtering_keep_the_active_comparison(page):
    page.locator("#grid").focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    active = page.locator("#grid .row.active")
    assert active.locator(".column-row").inner_text() == "5"
    page.locator("[role=columnheader]", has_text="Row").locator("button").click()
    assert active.locator(".column-row").inner_text() == "5"
    assert active.get_attribute("aria-rowindex") == "397"
    assert active.is_visible()
