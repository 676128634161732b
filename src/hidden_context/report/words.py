"""The report's summary: sentences made of an analysis's numbers, and of nothing else."""

from __future__ import annotations

from typing import Any

from hidden_context.analysis.table_cells import NOTHING, p_value, percent

Found = dict[str, Any]


def interval(found: Found | None, *, share: bool = False, decimals: int = 2) -> str:
    """Write an estimate with its interval.

    >>> interval({"estimate": 0.5, "low": 0.25, "high": 0.75}, share=True)
    '50.0 % [25.0, 75.0]'
    >>> interval(None)
    '–'
    """
    if found is None or found["estimate"] is None:
        return NOTHING
    scale, digits = (100, 1) if share else (1, decimals)
    value = percent(found["estimate"]) if share else f"{found['estimate']:.{digits}f}"
    if found["low"] is None:
        return value
    return f"{value} [{scale * found['low']:.{digits}f}, {scale * found['high']:.{digits}f}]"


def summary(analysis: Found) -> list[str]:
    """Say what an analysis found, one sentence or two for each thing.

    Args:
        analysis: ``analysis.json``.

    Returns:
        Sentences, in plain text.
    """
    lines: list[str] = []
    for scores in analysis.get("analyses", []):
        lines += _of_scores(scores)
    for comparison in analysis.get("comparisons", []):
        lines += _of_comparison(comparison)
    return lines


def _of_scores(scores: Found) -> list[str]:
    everything = scores["groups"][0]
    found = everything.get("intervals", {})
    name = scores["name"] or scores["head"]["type"]
    lines = []
    if scores["kind"] == "pairs":
        lines.append(
            f"{name}: on {everything['n']} pairs of {scores.get('clusters', '?')} prompts the "
            f"preferred response is ranked first in {interval(found.get('accuracy'), share=True)} "
            f"of them, with a loss of {interval(found.get('loss'), decimals=3)} nats."
        )
    else:
        lines.append(f"{name}: {everything['n']} rows of responses.")
        lines += _of_caution(found)
    lines += _of_variance(found)
    lines += [_of_test(test) for test in scores.get("tests", [])]
    lines += _of_contexts(scores.get("contexts"))
    lines += [confound["text"] for confound in scores.get("confounds", [])]
    return lines


def _of_caution(found: Found) -> list[str]:
    rates = found.get("second_at_least") or {}
    return [
        f"By {measure} the second response is rated at least as high as the first in "
        f"{interval(rate, share=True)} of the rows."
        for measure, rate in rates.items()
        if rate is not None
    ]


def _of_variance(found: Found) -> list[str]:
    r2, within = found.get("r2"), found.get("r2_within")
    if r2 is None:
        return []
    lines = [
        f"The text explains {interval(r2, share=True)} of the variance of rewards (r²); the rest "
        "is what annotators differ in, or the noise of their judgements: hidden context."
    ]
    if within is not None:
        lines.append(
            f"Within prompts, which is what comparisons identify, it is "
            f"{interval(within, share=True)}."
        )
    return lines


def _of_test(test: Found) -> str:
    value = test["p_value"]
    verdict = "There is evidence for it" if value < 0.05 else "There is no clear evidence for it"
    if test["name"] == "mcnemar":
        verdict = "The rates differ" if value < 0.05 else "The difference may be chance"
    return f"{test['question']} {verdict} (p = {p_value(value)}). {test['limit']}"


def _of_contexts(contexts: Found | None) -> list[str]:
    if not contexts or not contexts["clusters"]:
        return []
    first = contexts["clusters"][0]
    share = first["prompts"] / max(contexts["prompts"], 1)
    return [
        f"Hidden variance is highest in prompts about “{first['name']}”: {percent(share, 0)} of "
        f"the prompts hold {percent(first['variance_share'], 0)} of it."
    ]


def _of_comparison(comparison: Found) -> list[str]:
    lines = []
    for each in comparison["differences"]:
        if each["metric"] not in ("accuracy", "loss"):
            continue
        difference = each["difference"]
        low, high = difference["low"], difference["high"]
        clear = low is not None and (low > 0 or high < 0)
        verdict = "" if clear else "; the interval holds no difference as well"
        lines.append(
            f"{comparison['second']} against {comparison['first']}: {each['metric']} differs by "
            f"{interval(difference, decimals=3)}{verdict}."
        )
    return lines
