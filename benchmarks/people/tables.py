"""The leaderboard's tables in Markdown, and the figure of what knowing who votes gains.

    python benchmarks/people/tables.py docs/evidence/people.md --output docs/figures/people.svg

The figure reads the tables of the page, so that figure and page cannot differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import cell, markdown, plotting, script_parser, table


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


def _losses(losses: dict[str, Any]) -> str:
    columns = {
        "two-way, nats a vote": lambda each: cell(each["two_way"], 4, signed=False),
        "− logistic": lambda each: cell(each["minus"].get("logistic", []), 4),
        "− base": lambda each: cell(each["minus"].get("base", []), 4),
        "three-way": lambda each: cell(each["three_way"], 4, signed=False),
    }
    return table("contender", losses, columns)


def _annotators(found: dict[str, Any]) -> str:
    others = ("population", "logistic", "base with ties")
    rows = [
        [
            name,
            way.replace("_", "-"),
            cell(each[way], 4, signed=False),
            *(cell(each.get(f"{way}_minus_{other}", []), 4) for other in others),
        ]
        for name, each in found.items()
        for way in ("two_way", "three_way")
        if each[way]
    ]
    heads = ["annotators known", "", "own", "− own population", "− logistic", "− base with ties"]
    return markdown(heads, rows)


def _contested(found: dict[str, Any]) -> str:
    columns = {
        "AUROC": lambda each: cell(each["auroc"], 3, signed=False),
        "− length": lambda each: cell(each["minus"].get("length: length", []), 3),
        "− logistic": lambda each: cell(each["minus"].get("logistic: near_half", []), 3),
        "− P near ½": lambda each: cell(each["minus"].get("annotators: near_half", []), 3),
    }
    ceiling = found["ceiling"]
    text = f"\nChosen on the other folds: {', '.join(sorted(set(found['chosen'])))}."
    if ceiling["mean"] == ceiling["mean"]:  # not where halves of the votes are single votes
        text += f" One half of the votes predicts the other with AUROC {ceiling['mean']:.3f}."
    return table("contested items found by", found["measures"], columns) + text + "\n"


def _conflict(found: dict[str, Any]) -> str:
    columns = {
        "AUROC": lambda each: cell(each["auroc"], 3, signed=False),
        "− length": lambda each: cell(each["minus_length"], 3),
    }
    corner = f"conflict ({found['conflict']}) against indifference ({found['indifference']})"
    votes, length = (found["ceiling"][name]["mean"] for name in ("votes", "length"))
    return table(corner, found["measures"], columns) + (
        f"\nOne half of the votes predicts whether the other half shows conflict or indifference "
        f"with AUROC {votes:.3f}; the difference in length does so with {length:.3f}.\n"
    )


def _newcomers(found: dict[str, Any]) -> str:
    columns = {
        "two-way": lambda k: cell(found["two_way"][k], 4, signed=False),
        "− none": lambda k: cell(found["two_way_minus_none"].get(k, []), 4),
        "three-way": lambda k: cell(found["three_way"][k], 4, signed=False),
        "− none ": lambda k: cell(found["three_way_minus_none"].get(k, []), 4),
    }
    written = table("votes shown of a new person", {k: k for k in found["two_way"]}, columns)
    return written + f"\n{found['people']} people, {found['votes']:,} votes.\n"


def _psychology(found: dict[str, Any]) -> str:
    columns = {
        "correlation with contexts, by fold": lambda each: _listed(each["correlation"], 2),
        "permutation p": lambda each: _listed(each["p_value"], 4),
    }
    factors = {name: each for name, each in found.items() if name.startswith("Factor")}
    between = found["canonical_between_folds"]["mean"]
    return (
        table("published factor", factors, columns)
        + f"\nCanonical correlations of contexts: mean {between:.2f} between folds' "
        f"training sets, {_listed(found['canonical_between_halves'], 2)} between disjoint halves "
        "of the items.\n"
    )


def _listed(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


_PARTS: Final[dict[str, Callable[[Any], str]]] = {
    "losses": _losses,
    "annotators_add": _annotators,
    "finding_contested": _contested,
    "conflict": _conflict,
    "newcomers": _newcomers,
    "psychology": _psychology,
}


_ROW: Final = re.compile(r"^\| annotators \| (two-way|three-way) \|(.*)\|$")
_INTERVAL: Final = re.compile(r"([−+]?[\d.]+) \[([−+]?[\d.]+), ([−+]?[\d.]+)\]")
_PANELS: Final = {
    "three-way": ("first, equal or second\nagainst a scalar reward with ties", -1),
    "two-way": ("which side\nagainst a logistic regression", -2),
}

Gains = dict[str, dict[str, tuple[float, float, float]]]


def gains_of(page: str) -> Gains:
    """Return, by kind of answer and data set, the gain in nats a vote and its interval."""
    found: Gains = {kind: {} for kind in _PANELS}
    title = ""
    for line in page.splitlines():
        if line.startswith("### "):
            title = line.removeprefix("### ")
        elif row := _ROW.match(line):
            kind, cells = row[1], row[2].split("|")
            numbers = _INTERVAL.search(cells[_PANELS[kind][1]])
            if numbers is None:
                raise SystemExit(f"{title}: no interval in {line!r}")
            estimate, low, high = (-float(each.replace("−", "-")) for each in numbers.groups())
            found[kind][title] = (estimate, high, low)
    return found


def draw(gains: Gains, path: Path) -> None:
    """Draw a panel for each kind of answer, a row for each data set."""
    plt = plotting()
    plt.rcParams.update({"svg.hashsalt": "people", "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.4), sharey=True, layout="constrained")
    for place, (kind, (title, _)) in zip(axes, _PANELS.items(), strict=True):
        for row, (estimate, low, high) in enumerate(gains[kind].values()):
            colour = "#0072B2" if low > 0 else "#999999" if high > 0 else "#D55E00"
            place.plot([low, high], [row, row], color=colour)
            place.plot(estimate, row, "o", color=colour)
        place.axvline(0, color="black", linewidth=0.8)
        place.set_yticks(range(len(gains[kind])), list(gains[kind]))
        place.set_title(title, fontsize=9)
        place.set_xlabel("loss saved, nats a vote (95 %)")
        place.spines["top"].set_visible(False)
    axes[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Read the page and draw."""
    parser = script_parser(__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/figures/people.svg"))
    options = parser.parse_args()
    draw(gains_of(options.page.read_text(encoding="utf-8")), options.output)


if __name__ == "__main__":
    main()
