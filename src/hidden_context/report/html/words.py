"""Sentences and cells about an analysis's numbers; the templates use each function as a filter."""

from __future__ import annotations

import re
from typing import Any, Final

from hidden_context.terminal import NOTHING, p_value, percent

Found = dict[str, Any]

CLEAR: Final = 0.05
"""A p-value below it is said to show something."""


def interval(
    found: Found | None, *, share: bool = False, decimals: int | None = None, ends: bool = True
) -> str:
    """Write an estimate with its interval, where it has one.

    >>> interval({"estimate": 0.5, "low": 0.25, "high": 0.75}, share=True)
    '50.0 % [25.0, 75.0]'
    >>> interval({"estimate": 0.5, "low": None, "high": None})
    '0.50'
    >>> interval(None)
    '–'
    """
    if found is None or found["estimate"] is None:
        return NOTHING
    scale = 100 if share else 1
    digits = (1 if share else 2) if decimals is None else decimals
    value = number(scale * found["estimate"], digits) + (" %" if share else "")
    if not ends or found["low"] is None or found["high"] is None:
        return value
    return (
        f"{value} [{number(scale * found['low'], digits)}, {number(scale * found['high'], digits)}]"
    )


def count(value: float) -> str:
    """Write a count with commas between thousands.

    >>> count(16927)
    '16,927'
    """
    return f"{value:,.0f}"


def number(value: float | None, decimals: int = 2) -> str:
    """Write a number with a true minus sign, or a dash for a missing number.

    >>> number(-0.5), number(-0.001), number(None)
    ('−0.50', '0.00', '–')
    """
    if value is None:
        return NOTHING
    text = f"{value:.{decimals}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def labels(found: dict[str, str]) -> str:
    """Name a group of rows by its labels.

    >>> labels({"data_subset": "helpful", "annotator": "ann"}), labels({})
    ('subset helpful, annotator ann', 'all')
    """
    named = (f"{column.removeprefix('data_')} {value}" for column, value in found.items())
    return ", ".join(named) or "all"


def unbroken(text: str) -> str:
    r"""Keep a number with its sign, and an interval in round brackets, on one line.

    >>> unbroken("30 % (26 to 34 %) of all").split(" ")
    ['30\xa0%\xa0(26\xa0to\xa034\xa0%)', 'of', 'all']
    """
    share = re.compile(r"\S+ %( \(\S+ to \S+ %\))?")
    return share.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def of_scores(scores: Found) -> list[str]:
    """Describe a model's scores in a few sentences.

    Args:
        scores: An entry of ``analyses`` in ``analysis.json``.

    Returns:
        Sentences, in plain text.
    """
    found = scores["groups"][0].get("intervals", {})
    rates = {} if scores["kind"] == "pairs" else found.get("second_at_least") or {}
    lines = [
        f"By {measure} the second response is rated at least as high as the first in "
        f"{interval(rate, share=True)} of the rows."
        for measure, rate in rates.items()
        if rate is not None
    ]
    if (r2 := found.get("r2")) is not None:
        lines.append(
            f"The text explains {interval(r2, share=True)} of the variance of rewards (r²); the "
            "rest is hidden context: differences between annotators, or noise in their judgements."
        )
        if (within := found.get("r2_within")) is not None:
            lines.append(
                "Within prompts, the only variance that comparisons identify, it explains "
                f"{interval(within, share=True)}."
            )
    contexts = scores.get("contexts")
    if contexts and contexts["clusters"]:
        first = contexts["clusters"][0]
        share = first["prompts"] / max(contexts["prompts"], 1)
        lines.append(
            f"Hidden variance is highest in prompts about “{first['name']}”: {percent(share, 0)} "
            f"of the prompts hold {percent(first['variance_share'], 0)} of the variance."
        )
    return lines


def of_ranking(scores: Found) -> str:
    """Say how well a model ranks pairs, or how many responses it scored."""
    everything = scores["groups"][0]
    found = everything.get("intervals", {})
    name, rows = scores["name"] or scores["head"]["type"], count(everything["n"])
    if scores["kind"] != "pairs":
        return f"{name} scored the responses in {rows} rows."
    right = interval(found.get("accuracy"), share=True, decimals=0, ends=False)
    return f"{name} ranks the preferred response first in {right} of {rows} pairs."


def of_test(test: Found) -> str:
    """Say what a test found, in one short sentence after its question.

    >>> of_test({"name": "x", "question": "Do annotators choose differently?", "p_value": 1.0})
    'Do annotators choose differently? No sign of it (p = 1.000).'
    """
    value = test["p_value"]
    clear = value < CLEAR
    verdict = "Yes" if clear else "No sign of it"
    if test["name"] == "mcnemar":
        verdict = "The rates differ" if clear else "No sign of a difference"
    return f"{test['question']} {verdict} (p = {p_value(value)})."


def of_comparison(comparison: Found) -> list[str]:
    """Describe the differences of two models."""
    lines = []
    for each in comparison["differences"]:
        if each["metric"] not in ("accuracy", "loss"):
            continue
        difference = each["difference"]
        low, high = difference["low"], difference["high"]
        clear = low is not None and (low > 0 or high < 0)
        verdict = "" if clear else "; the interval includes no difference"
        lines.append(
            f"{comparison['second']} against {comparison['first']}: {each['metric']} differs by "
            f"{interval(difference, decimals=3)}{verdict}."
        )
    return lines
