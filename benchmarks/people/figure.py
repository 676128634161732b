"""The figure of people's votes: what knowing who votes gains over models without names.

    python benchmarks/people/figure.py docs/evidence/people.md --output docs/figures/people.svg

It reads the tables of the page, so that figure and page cannot differ.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

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
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "people", "axes.spines.right": False})
    import matplotlib.pyplot as plt

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--output", type=Path, default=Path("docs/figures/people.svg"))
    options = parser.parse_args()
    draw(gains_of(options.page.read_text(encoding="utf-8")), options.output)


if __name__ == "__main__":
    main()
