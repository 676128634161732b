"""HTML pages: the report, which begins with the answer about people, and the check of votes.

The page treats texts of the data set as hostile. They reach it in two ways only: through the
template, which escapes everything, and inside JSON that scripts show as text. A content security
policy allows exactly the page's own scripts, by their checksums, and forbids loading anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Final

from hidden_context.analysis.measure.votes import MEASURES
from hidden_context.data.storage.files import atomic_write
from hidden_context.report.html import people as pictures
from hidden_context.report.html import words
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
PEOPLE_SCRIPTS: Final = ("theme.js",)
PEOPLE_STYLES: Final = ("colours.css", "base.css", "numbers.css", "people.css", "items.css")
_UNITS: Final = {"pair": "pairs", "rating": "texts", "both": "pairs and texts"}
_TEMPLATES: Final = "hidden_context.report.html.templates"


def scripts() -> list[str]:
    """Return the page's scripts in their order, Plotly first."""
    from plotly.offline import get_plotlyjs

    return [closed(get_plotlyjs()), *read_scripts(SCRIPTS)]


def render(
    title: str,
    analysis: dict[str, Any],
    summary: dict[str, Any] | None,
    pairs: str | None,
    meta: PairsMeta | None,
) -> str:
    """Render the page of a report.

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
    return render_page(
        "report.html.j2",
        STYLES,
        scripts(),
        title=title,
        analysis={**analysis, "analyses": shown},
        answer=answer_of(analysis),
        summary=summary,
        measures=MEASURES,
        meta=meta,
        data=Markup(embedded_json(data)),
        pairs=pairs,
    )


def _shown_scores(scores: Found) -> Found:
    """Leave out groups that repeat, and a risk frontier without a known unsafe response."""
    has_unsafe = any(point["unsafe"] is not None for point in scores["frontier"])
    frontier = scores["frontier"] if has_unsafe else []
    return {**scores, "groups": _distinct_groups(scores["groups"]), "frontier": frontier}


def _distinct_groups(groups: list[Found]) -> list[Found]:
    """Leave out groups that hold the same rows, and so the same numbers, as an earlier group.

    >>> rows = [
    ...     {"labels": {}, "n": 2, "intervals": {"r2": None}},
    ...     {"labels": {"data_subset": "both"}, "n": 2, "intervals": {"r2": None}},
    ... ]
    >>> [group["labels"] for group in _distinct_groups(rows)]
    [{}]
    """
    kept, seen = [], []
    for group in groups:
        numbers = {name: group[name] for name in group if name not in ("labels", "intervals")}
        if numbers not in seen:
            kept.append(group)
            seen.append(numbers)
    return kept


def write_people_page(found: Found, path: Path) -> None:
    """Write the page of a vote check.

    Args:
        found: ``check.json``.
        path: The HTML file to write.

    Raises:
        StorageError: If it cannot be written.
    """
    page = render_people_page(found)
    with atomic_write(path) as file:
        file.write(page)


def render_people_page(found: Found) -> str:
    """Render the page of a vote check.

    Args:
        found: ``check.json``.

    Returns:
        HTML that is complete: it loads nothing, and nothing in it runs but the theme's button.
    """
    observed, predicted = found["observed"], found["predicted"]
    unit = _UNITS[found["settings"]["unit"]]
    votes = observed["kinds"], observed["judged"], observed["split"]
    topics, hidden = (predicted["topics"], predicted["topics_hidden"]) if predicted else ([], 0)
    predicted_by = f"Diamonds: predicted by models that never saw these {unit}."
    split_words = found["settings"].get("split_means", pictures.SPLIT_MEANS)
    picture = pictures.picture_of(unit, *votes, topics, hidden, predicted_by, split_words)
    return render_page(
        "people.html.j2",
        PEOPLE_STYLES,
        read_scripts(PEOPLE_SCRIPTS),
        found=found,
        picture=picture,
        pictures=pictures,
        clear=words.CLEAR,
        votes_of=_votes_of,
    )


def _votes_of(item: Found, sides: dict[str, str]) -> list[pictures.Part]:
    """Stack the votes of an item as the parts of a bar."""
    total = sum(item[name] for name in sides)
    return pictures.stack([(side, item[name] / total, name) for name, side in sides.items()])


def content_security_policy(scripts: Sequence[str]) -> str:
    """Return the content security policy that allows these scripts and forbids everything else.

    Args:
        scripts: The inlined scripts, to the letter.

    Returns:
        The content of the meta tag. Styles may stand in the page, since charts and the grid place
        things by them; they can load nothing.
    """
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def embedded_json(value: Any) -> str:
    r"""Write JSON that cannot close its HTML element: ``<``, ``>`` and ``&`` are escaped.

    >>> embedded_json({"a": "</script>&\u2028"})
    '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII, so no U+2028 either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read_template(name: str) -> str:
    """Read a style sheet or a script from the folder of the templates."""
    return (resources.files(_TEMPLATES) / name).read_text(encoding="utf-8")


def read_scripts(names: Sequence[str]) -> list[str]:
    """Read scripts by name, escaped so that none can close its HTML element."""
    return [closed(read_template(name)) for name in names]


def closed(script: str) -> str:
    """Escape whatever would close a script element; JavaScript reads the same text."""
    return script.replace("</script", "<\\/script")


def render_page(template: str, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Render a page whose content security policy allows exactly its scripts.

    Args:
        template: Name of the template, which escapes everything and refuses what is missing.
        styles: Names of the styles.
        scripts: The scripts, to the letter.
        **values: What the template uses.

    Returns:
        HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("hidden_context.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(vars(words))
    style = "".join(map(read_template, styles)).replace("/* dark.css */", read_template("dark.css"))
    page = environment.get_template(template).render(
        policy=content_security_policy(scripts),
        style=Markup(style),
        scripts=[Markup(text) for text in scripts],
        **values,
    )
    # labels may hold lone surrogates, which UTF-8 cannot encode
    return page.encode("utf-8", "replace").decode("utf-8")
