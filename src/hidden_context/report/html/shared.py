"""Parts that all pages share: security policy, embedded data, templates, styles, scripts.

Texts of the data set are hostile. They reach a page by two ways only: through the template,
which escapes everything, and inside JSON that scripts show as text. A content security policy lets
exactly the page's own scripts run, by their checksums, and nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from hidden_context.report.html import words
from hidden_context.terminal import p_value, percent

_TEMPLATES: Final = "hidden_context.report.html.templates"


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

    >>> embedded_json({"a": "</script>&\u2028"})
    '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII, so no U+2028 either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def read_template(name: str) -> str:
    """Return a style or a script that stands beside the templates."""
    return (resources.files(_TEMPLATES) / name).read_text(encoding="utf-8")


def read_scripts(names: Sequence[str]) -> list[str]:
    """Return scripts by name, none of which can end its element."""
    return [closed(read_template(name)) for name in names]


def closed(script: str) -> str:
    """Escape what would end a script's element; JavaScript reads it as the same."""
    return script.replace("</script", "<\\/script")


def render_page(template: str, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Render a page whose policy lets exactly its scripts run.

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
    environment.filters.update(
        count=words.count,
        interval=words.interval,
        labels=_labels,
        number=words.number,
        p=p_value,
        percent=percent,
        unbroken=_unbroken,
    )
    style = "".join(map(read_template, styles)).replace("/* dark.css */", read_template("dark.css"))
    page = environment.get_template(template).render(
        policy=content_security_policy(scripts),
        style=Markup(style),
        scripts=[Markup(text) for text in scripts],
        **values,
    )
    # labels may hold lone surrogates, which UTF-8 cannot encode
    return page.encode("utf-8", "replace").decode("utf-8")


def _labels(labels: dict[str, str]) -> str:
    named = (f"{column.removeprefix('data_')} {value}" for column, value in labels.items())
    return ", ".join(named) or "all"


def _unbroken(text: str) -> str:
    r"""Keep a number and its sign on one line, and so an interval in round brackets.

    >>> _unbroken("30 % (26 to 34 %) of all").split(" ")
    ['30\xa0%\xa0(26\xa0to\xa034\xa0%)', 'of', 'all']
    """
    share = re.compile(r"\S+ %( \(\S+ to \S+ %\))?")
    return share.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
