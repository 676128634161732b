"""Data inside a page: packed where it is large, and inert where it is text of unknown origin."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DIGITS: Final = 6
"""Significant digits of embedded numbers."""

_ESCAPES: Final = {
    "<": "\\u003c",  # ends a script element, or opens a comment in it
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",  # line breaks to older JavaScript, not to JSON
    "\u2029": "\\u2029",
}


def embed_json(value: Any) -> str:
    r"""Write JSON that may stand inside a script element, whatever texts it holds.

    >>> embed_json({"a": "</script><!-- b"})
    '{"a":"\\u003c/script\\u003e\\u003c!-- b"}'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text


def pack(content: str) -> str:
    """Compress a text and write it in base 64, whose characters mean nothing to a browser."""
    packed = gzip.compress(content.encode("utf-8"), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def pack_json(value: Any) -> str:
    """Pack JSON; the page's ``data.js`` unpacks it."""
    return pack(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def unpack(packed: str) -> str:
    """Undo ``pack``."""
    return gzip.decompress(base64.b64decode(packed)).decode("utf-8")


def script_hash(source: str) -> str:
    """Return the source expression that lets a policy admit exactly this script.

    Source: Content Security Policy Level 3, section 2.3.1.
    """
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def rounded(values: NDArray[np.float64]) -> list[Any]:
    """Round to significant digits; what is not finite becomes None.

    >>> rounded(np.array([0.123456789, 1234567.8, np.nan]))
    [0.123457, 1234570.0, None]
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.ndim != 1:
        return [rounded(row) for row in flat]
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in flat.tolist()]
