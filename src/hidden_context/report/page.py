"""One self-contained HTML page: template, styles, scripts, and the policy that locks it.

Texts of the data set are hostile. They reach the page by two ways only: through the template,
which escapes everything, and inside JSON that scripts show as text. A content security policy lets
exactly the scripts below run, by their checksums, and nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any, Final

from hidden_context.analysis.table_cells import p_value, percent
from hidden_context.report import words
from hidden_context.report.pairs import PairsMeta

SCRIPTS: Final = ("data.js", "distribution.js", "charts.js", "grid.js", "pair.js", "main.js")
_TEMPLATES: Final = "hidden_context.report.templates"
_CHARTED: Final = ("file", "kind", "name", "head", "groups", "calibration", "frontier", "contexts")


def content_security_policy(scripts: Sequence[str]) -> str:
    """Return the policy that lets these scripts run and forbids all else.

    Args:
        scripts: The inlined scripts, to the letter.

    Returns:
        The content of the meta tag. Styles may stand in the page, since charts and the grid place
        things by them; they can load nothing.
    """
    hashes = " ".join(f"'sha256-{script_hash(text)}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def script_hash(text: str) -> str:
    """Return a script's SHA-256 in base64, as content security policies have it."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def embedded_json(value: Any) -> str:
    r"""Write JSON that cannot end the element it stands in: ``<``, ``>`` and ``&`` are escaped.

    >>> embedded_json({"a": "</script>"})
    '{"a":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII, so no U+2028 either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def scripts() -> list[str]:
    """Return the page's scripts in their order, Plotly first."""
    from plotly.offline import get_plotlyjs

    own = [_read(name) for name in SCRIPTS]
    # what would end a script's element is written otherwise, which JavaScript reads as the same
    return [text.replace("</script", "<\\/script") for text in (get_plotlyjs(), *own)]


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
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("hidden_context.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(interval=words.interval, percent=percent, p=p_value, labels=_labels)
    inlined = scripts()
    data = {
        "analyses": [
            {name: scores.get(name) for name in _CHARTED} for scores in analysis["analyses"]
        ],
        "pairs": None if meta is None else asdict(meta),
    }
    html = environment.get_template("report.html.j2").render(
        title=title,
        analysis=analysis,
        summary=summary,
        words=words.summary(analysis),
        meta=meta,
        policy=content_security_policy(inlined),
        style=Markup(_read("report.css")),
        data=Markup(embedded_json(data)),
        pairs=pairs,
        scripts=[Markup(text) for text in inlined],
    )
    # a title or a label may hold half of a surrogate pair, which UTF-8 does not know
    return html.encode("utf-8", "replace").decode("utf-8")


def _read(name: str) -> str:
    return (resources.files(_TEMPLATES) / name).read_text(encoding="utf-8")


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{column} {value}" for column, value in labels.items()) or "all"
