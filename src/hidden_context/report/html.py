"""What every page shares: the policy that locks it, data it carries, templates, styles, scripts.

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
from typing import TYPE_CHECKING, Any, Final

from hidden_context.analysis.table_cells import p_value, percent
from hidden_context.report import words

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES: Final = "hidden_context.report.templates"


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


def read_template(name: str) -> str:
    """Return a style or a script that stands beside the templates."""
    return (resources.files(_TEMPLATES) / name).read_text(encoding="utf-8")


def read_scripts(names: Sequence[str]) -> list[str]:
    """Return scripts by name, written so that none can end the element it stands in."""
    return [closed(read_template(name)) for name in names]


def closed(script: str) -> str:
    """Write what would end a script's element otherwise, which JavaScript reads as the same."""
    return script.replace("</script", "<\\/script")


def environment() -> Environment:
    """Return the templates, which escape everything and refuse what is missing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("hidden_context.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        count=words.count,
        interval=words.interval,
        labels=_labels,
        number=words.number,
        p=p_value,
        percent=percent,
        unbroken=_unbroken,
    )
    return found


def writable(html: str) -> str:
    """Replace half of a surrogate pair, which a label may hold and UTF-8 does not know."""
    return html.encode("utf-8", "replace").decode("utf-8")


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
