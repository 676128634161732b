"""The report's page: the answer about people first, then each model's numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from hidden_context.analysis.measure.votes import MEASURES
from hidden_context.report.html import shared, words
from hidden_context.report.html.answer import answer_of
from hidden_context.report.html.pairs import PairsMeta

Found = dict[str, Any]

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

    return [shared.closed(get_plotlyjs()), *shared.read_scripts(SCRIPTS)]


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

    shown = [_shown_scores(scores) for scores in analysis["analyses"]]
    data = {
        "analyses": [{name: scores.get(name) for name in _CHARTED} for scores in shown],
        "pairs": None if meta is None else asdict(meta),
    }
    return shared.render_page(
        "report.html.j2",
        STYLES,
        scripts(),
        title=title,
        analysis={**analysis, "analyses": shown},
        answer=answer_of(analysis),
        summary=summary,
        words=words,
        measures=MEASURES,
        meta=meta,
        data=Markup(shared.embedded_json(data)),
        pairs=pairs,
    )


def _shown_scores(scores: Found) -> Found:
    """Leave out groups that repeat, and a risk frontier without a known unsafe response."""
    frontier = scores["frontier"]
    has_unsafe = any(point["unsafe"] is not None for point in frontier)
    return {
        **scores,
        "groups": _distinct_groups(scores["groups"]),
        "frontier": frontier if has_unsafe else [],
    }


def _distinct_groups(groups: list[Found]) -> list[Found]:
    """Leave out groups of the same rows as an earlier one, which have the same numbers.

    >>> rows = [
    ...     {"labels": {}, "n": 2, "intervals": {"r2": None}},
    ...     {"labels": {"data_subset": "both"}, "n": 2, "intervals": {"r2": None}},
    ... ]
    >>> [group["labels"] for group in _distinct_groups(rows)]
    [{}]
    """
    kept: list[tuple[Found, Found]] = []
    for group in groups:
        numbers = {name: group[name] for name in group if name not in ("labels", "intervals")}
        if all(numbers != other for _, other in kept):
            kept.append((group, numbers))
    return [group for group, _ in kept]
