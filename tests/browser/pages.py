"""Reports for the browser to open, and the browser itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hidden_context.report.config import ReportConfig
from hidden_context.report.workflow import run
from hidden_context.worlds.dialogues import World
from support.score_rows import pair, write

HOSTILE = (
    "<script>window.__xss = 1</script>",
    '<img src="x" onerror="window.__xss = 2">',
    '<a href="javascript:window.__xss = 3">click</a>',
    "</script><script>window.__xss = 4</script>",
    "<!-- <script> --> <svg onload='window.__xss = 5'>",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "</title></style></textarea><iframe srcdoc='<script>parent.__xss = 6</script>'>",
    "\u2028\u2029\u0000 ]]> &lt;b&gt; \\u003cscript\\u003e",
)

_VIOLATIONS = """
window.__violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


# standard deviation before softplus of the kinds on which the objectives disagree
_SPREADS = {"compliance": 1.6, "refusal": 0.4}


def score_rows(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Comparisons of the generated world with the raw outputs of a mean_and_variance model.

    The model knows the true P of each pair but for noise, and is least certain of the responses
    on whose kind the two objectives disagree.
    """
    draw = np.random.default_rng(seed)
    rows = World(seed=seed).generate_comparisons(size, "both", "test")
    for number, row in enumerate(rows):
        truth = min(max(row["true_probability"], 0.02), 0.98)
        gap = math.log(truth / (1 - truth)) + 0.6 * draw.standard_normal()
        centre = 0.3 * draw.standard_normal()
        for side, sign in (("chosen", 1), ("rejected", -1)):
            certain = _SPREADS.get(row[f"{side}_kind"], -0.5)
            spread = certain + 0.3 * draw.standard_normal()
            row[f"reward_output_{side}"] = [centre + sign * gap / 2, spread]
        row["annotator"] = f"annotator-{number % 7}"
    return rows


def hostile_rows() -> list[dict[str, Any]]:
    """Rows each of whose fields is an attack on the page."""
    return [
        pair([0.5 + 0.1 * number, 0.1], [0.0, 0.2], prompt=f"Human: {attack} and {number}")
        | {side: f"{side} {attack}" for side in ("chosen", "rejected")}
        | {"data_subset": attack, "objective": HOSTILE[number % len(HOSTILE) - 1]}
        for number, attack in enumerate(HOSTILE * 4)
    ]


def write_page(
    folder: Path, rows: Iterable[dict[str, Any]], title: str = "Report", **options: Any
) -> Path:
    """Write rows as a score file, and the report on it."""
    page, scores = folder / "report.html", write(folder / "scores.jsonl", rows)
    run(ReportConfig(files=[scores], output=str(page), title=title, **options))
    return page


def watch(context: Any, path: Path) -> tuple[Any, list[str]]:
    """Open a page offline; also return what it does that a report must not do, as it goes on.

    These are errors, dialogs and requests other than for the file itself.
    """
    context.add_init_script(_VIOLATIONS)
    page = context.new_page()
    misdeeds: list[str] = []
    note = misdeeds.append
    page.on("console", lambda m: note(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: note(f"error: {error}"))
    page.on("request", lambda r: note(f"request: {r.url}") if r.url != path.as_uri() else None)

    def dismiss(dialog: Any) -> None:
        note(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=true]", timeout=60_000)
    return page, misdeeds


def draw_charts(page: Any) -> int:
    """Bring every chart into sight and return how many were drawn."""
    figures = page.locator("figure.chart:visible")
    for place in range(figures.count()):
        figures.nth(place).scroll_into_view_if_needed()
        figures.nth(place).locator(".main-svg").first.wait_for(timeout=30_000)
    return int(page.locator("figure.chart[data-drawn=true]:has(.main-svg)").count())
