"""Analyses written by earlier versions, brought to what this one writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hidden_context.analysis.results import FORMAT_VERSION

PARTS: Final = {"disagreement": "shared_context", "epistemic": "ignorance"}
"""Parts of variance by the names that they had up to version 2."""


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring ``analysis.json`` of version 2 to the present version; a present one stays as it is.

    Up to version 2 the parts of variance had other names, and pairs with several labels were held
    against their votes by numbers that counted a unanimous "equal" as contested: these are left
    out.

    Args:
        content: The file's content.

    Returns:
        The same content with names of this version, and ``votes`` of None.
    """
    if content.get("version") == FORMAT_VERSION:
        return dict(content)
    analyses = [_scores(scores) for scores in content.get("analyses", [])]
    return {**content, "version": FORMAT_VERSION, "analyses": analyses}


def _scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in scores.items() if name != "agreement"}
    groups = [
        {**group, "variance_shares": renamed(group.get("variance_shares"))}
        for group in scores.get("groups", [])
    ]
    return {**found, "groups": groups, "votes": None}


def renamed(parts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give parts of variance their present names; None stays None.

    >>> renamed({"disagreement": 0.25, "noise": 0.75})
    {'shared_context': 0.25, 'noise': 0.75}
    """
    if parts is None:
        return None
    return {PARTS.get(name, name): value for name, value in parts.items()}
