"""The report's page: the answer about people first, then each model's numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from hidden_context.analysis.votes import MEASURES
from hidden_context.report import html, words
from hidden_context.report.answer import answer_of
from hidden_context.report.pairs import PairsMeta
from hidden_context.report.shown import shown_scores

SCRIPTS: Final = (
    "theme.js",
    "data.js",
    "distribution.js",
    "charts.js",
    "grid.js",
    "pair.js",
    "main.js",
)
STYLES: Final = (
    "colours.css",
    "base.css",
    "numbers.css",
    "people.css",
    "comparisons.css",
    "pair.css",
)
_CHARTED: Final = ("file", "kind", "name", "head", "groups", "calibration", "frontier", "contexts")


def scripts() -> list[str]:
    """Return the page's scripts in their order, Plotly first."""
    from plotly.offline import get_plotlyjs

    return [html.closed(get_plotlyjs()), *html.read_scripts(SCRIPTS)]


def render(
    title: str,
    analysis: dict[str, Any],
    summary: dict[str, Any] | None,
    pairs: str | None,
    meta: PairsMeta | None,
) -> str:
    """Render the page.

    Args:
        title: Its title.
        analysis: ``analysis.json``.
        summary: The paper's tables as ``results.json`` has them; None without.
        pairs: The packed comparisons; None without.
        meta: What the page says about them.

    Returns:
        HTML.
    """
    from markupsafe import Markup

    inlined = scripts()
    shown = [shown_scores(scores) for scores in analysis["analyses"]]
    data = {
        "analyses": [{name: scores.get(name) for name in _CHARTED} for scores in shown],
        "pairs": None if meta is None else asdict(meta),
    }
    page = (
        html.environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            analysis={**analysis, "analyses": shown},
            answer=answer_of(analysis),
            summary=summary,
            words=words,
            measures=MEASURES,
            meta=meta,
            policy=html.content_security_policy(inlined),
            style=Markup("".join(map(html.read_template, STYLES))),
            data=Markup(html.embedded_json(data)),
            pairs=pairs,
            scripts=[Markup(text) for text in inlined],
        )
    )
    return html.writable(page)
