"""The leaderboard's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kit import markdown


def every_table(result: dict[str, Any]) -> str:
    """Write every table of every data set."""
    parts = []
    for name, found in result.items():
        parts.append(f"## {name}\n")
        parts.append(
            f"{found['items']:,} held-out items, {found['votes']:,} votes of "
            f"{found['annotators']:,} annotators; {found['contested']:,} items contested. Floor: "
            f"{found['floor']['two_way']:.4f} two-way, {found['floor']['three_way']:.4f} "
            "three-way.\n"
        )
        parts += [write(found[part]) for part, write in _PARTS.items() if found.get(part)]
    return "\n".join(parts)


def cell(value: list[float], digits: int = 4, *, signed: bool = False) -> str:
    """Write an estimate with its interval; a dash where there is none."""
    if not value:
        return "–"
    sign = "+" if signed else ""
    estimate, low, high = (f"{each:{sign}.{digits}f}".replace("-", "−") for each in value)
    return f"{estimate} [{low}, {high}]"


def _losses(losses: dict[str, Any]) -> str:
    rows = [
        [
            name,
            cell(each["two_way"]),
            cell(each["minus"].get("logistic", []), signed=True),
            cell(each["minus"].get("base", []), signed=True),
            cell(each["three_way"]),
        ]
        for name, each in losses.items()
    ]
    heads = ["contender", "two-way, nats a vote", "− logistic", "− base", "three-way"]
    return markdown(heads, rows)


def _annotators(found: dict[str, Any]) -> str:
    others = ("population", "logistic", "base with ties")
    rows = [
        [
            name,
            way.replace("_", "-"),
            cell(each[way]),
            *(cell(each.get(f"{way}_minus_{other}", []), signed=True) for other in others),
        ]
        for name, each in found.items()
        for way in ("two_way", "three_way")
        if each[way]
    ]
    heads = ["annotators known", "", "own", "− own population", "− logistic", "− base with ties"]
    return markdown(heads, rows)


def _contested(found: dict[str, Any]) -> str:
    names = ["length: length", "logistic: near_half", "annotators: near_half"]
    rows = [
        [
            name,
            cell(each["auroc"], 3),
            *(cell(each["minus"].get(other, []), 3, signed=True) for other in names),
        ]
        for name, each in found["measures"].items()
    ]
    heads = ["contested items found by", "AUROC", "− length", "− logistic", "− P near ½"]
    ceiling = found["ceiling"]
    chosen = ", ".join(sorted(set(found["chosen"]))) or "nothing"
    text = f"\nChosen on the other folds: {chosen}."
    if ceiling["mean"] == ceiling["mean"]:  # not where halves of the votes are single votes
        text += f" One half of the votes predicts the other with AUROC {ceiling['mean']:.3f}."
    return markdown(heads, rows) + text + "\n"


def _conflict(found: dict[str, Any]) -> str:
    rows = [
        [name, cell(each["auroc"], 3), cell(each["minus_length"], 3, signed=True)]
        for name, each in found["measures"].items()
    ]
    heads = [
        f"conflict ({found['conflict']}) against indifference ({found['indifference']})",
        "AUROC",
        "− length",
    ]
    votes, length = (found["ceiling"][name]["mean"] for name in ("votes", "length"))
    return markdown(heads, rows) + (
        f"\nOne half of the votes predicts whether the other half shows conflict or indifference "
        f"with AUROC {votes:.3f}; the difference in length does so with {length:.3f}.\n"
    )


def _newcomers(found: dict[str, Any]) -> str:
    rows = [
        [
            k,
            cell(found["two_way"][k]),
            cell(found["two_way_minus_none"].get(k, []), signed=True),
            cell(found["three_way"][k]),
            cell(found["three_way_minus_none"].get(k, []), signed=True),
        ]
        for k in found["two_way"]
    ]
    heads = ["votes shown of a new person", "two-way", "− none", "three-way", "− none"]
    return markdown(heads, rows) + f"\n{found['people']} people, {found['votes']:,} votes.\n"


def _psychology(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            ", ".join(f"{value:.2f}" for value in found[name]["correlation"]),
            ", ".join(f"{value:.4f}" for value in found[name]["p_value"]),
        ]
        for name in found
        if name.startswith("Factor")
    ]
    heads = ["published factor", "correlation with contexts, by fold", "permutation p"]
    between, halves = found["canonical_between_folds"], found["canonical_between_halves"]
    return (
        markdown(heads, rows)
        + f"\nCanonical correlations of contexts: mean {between['mean']:.2f} between folds' "
        f"training sets, {', '.join(f'{value:.2f}' for value in halves)} between disjoint halves "
        "of the items.\n"
    )


_PARTS: Final[dict[str, Callable[[Any], str]]] = {
    "losses": _losses,
    "annotators_add": _annotators,
    "finding_contested": _contested,
    "conflict": _conflict,
    "newcomers": _newcomers,
    "psychology": _psychology,
}
