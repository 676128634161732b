"""Tables and figure of the ground-truth benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kit import markdown

Records = Sequence[Mapping[str, Any]]


def _means(records: Records, key: str) -> str:
    values = [record[key] for record in records if record.get(key) is not None]
    finite = [value for value in values if np.isfinite(value)]
    return f"{np.mean(finite):.3g}" if finite else "–"


def _by(records: Records, key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(str(record[key]), []).append(record)
    return found


def tabular_tables(records: Records) -> list[str]:
    """One table per tabular world, means over seeds."""
    tables = []
    for world, own in _by(records, "world").items():
        rows = [
            [
                head,
                _means(part, "probability_error"),
                _means(part, "r2_error"),
                _means(part, "variance_spearman"),
                f"{_means(part, 'shared_share')} ({_means(part, 'true_shared_share')})",
            ]
            for head, part in _by(own, "head").items()
        ]
        header = ["head", "error of P", "error of r²", "Spearman", "shared share (true)"]
        tables.append(markdown(header, rows, world))
    return tables


def text_tables(records: Records) -> list[str]:
    """One table per text world, means over seeds."""
    columns = {
        "error of P": "probability_error",
        "ECE": "calibration",
        "Brier": "brier",
        "NLL": "nll",
        "AUROC": "disagreement_auroc",
        "Spearman": "variance_spearman",
        "error of r²": "r2_error",
        "prompts": "ranking_share",
    }
    tables = []
    for world, own in _by(records, "world").items():
        rows = []
        for head, part in _by(own, "head").items():
            exact = f"{sum(bool(record['ranking_exact']) for record in part)}/{len(part)}"
            cells = [_means(part, key) for key in columns.values()]
            rows.append([head, str(len(part)), *cells[:-1], exact, cells[-1]])
        tables.append(
            markdown(
                ["head", "seeds", *list(columns)[:-1], "ranking", "prompts"], rows, f"text, {world}"
            )
        )
    return tables


def ignorance_table(records: Records, title: str = "ignorance and shared context, text") -> str:
    """Shares by number of training pairs, means over seeds, beside the truth where it is known."""
    rows = []
    for pairs, part in _by(records, "pairs").items():
        low, high = np.mean([record["shared_context_interval"] for record in part], axis=0)
        rows.append(
            [
                pairs,
                _means(part, "ignorance"),
                _means(part, "shared_context"),
                f"{low:.3f} to {high:.3f}",
                _means(part, "true_shared_context"),
            ]
        )
    header = ["pairs", "ignorance share", "shared context share", "95 % interval", "true share"]
    return markdown(header, rows, title)


def real_table(result: Mapping[str, Any]) -> str:
    """Held-out losses by objective, and what knowing it gains."""
    rows = []
    for name, losses in result["loss"].items():
        cells = [f"{losses[objective]:.4f}" for objective in ("helpful", "harmless")]
        for objective in ("helpful", "harmless"):
            gain = result["gain"].get(name, {}).get(objective)
            cells.append(
                f"{gain['difference']:.4f} [{gain['low']:.4f}, {gain['high']:.4f}]" if gain else "–"
            )
        rows.append([name, *cells])
    header = ["model", "helpful", "harmless", "gain on helpful", "gain on harmless"]
    return markdown(header, rows, f"real, {result['pairs']} pairs")


def print_tables(results: Mapping[str, Any]) -> None:
    """Print every table there are records for, in Markdown."""
    tables: list[str] = []
    if results.get("tabular"):
        tables += tabular_tables(results["tabular"])
    columns = {"first": ".4f", "second": ".4f", "gap_in_standard_errors": ".2f"}
    if results.get("theorem_3_4"):
        rows = [
            [one["head"], *(f"{one[name]:{digits}}" for name, digits in columns.items())]
            for one in results["theorem_3_4"]
        ]
        header = ["head", "P(b ≻ a), world 1", "world 2", "gap in standard errors"]
        tables.append(markdown(header, rows, "theorem 3.4"))
    if results.get("proposition_3_3"):
        rows = [
            [record["head"], record["order"], f"{record['probability_error']:.4f}"]
            for record in results["proposition_3_3"]
        ]
        tables.append(markdown(["head", "order by mean", "error of P"], rows, "proposition 3.3"))
    if results.get("text"):
        tables += text_tables(results["text"])
    for seed, own in _by(results.get("ignorance_table", []), "seed").items():
        tables.append(ignorance_table(own, f"ignorance and shared context, alternatives {seed}"))
    if results.get("ignorance"):
        tables.append(ignorance_table(results["ignorance"]))
    if results.get("real"):
        tables.append(real_table(results["real"]))
    print("\n".join(tables))


def draw_figure(results: Mapping[str, Any], path: Path) -> None:
    """Draw errors of probabilities by head and world, and shares by number of pairs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 1))
    worlds = _by(results.get("text", []), "world")
    heads = list(dict.fromkeys(record["head"] for record in results.get("text", [])))
    width = 0.8 / max(len(worlds), 1)
    for place, (world, own) in enumerate(worlds.items()):
        parts = _by(own, "head")
        values = [np.mean([r["probability_error"] for r in parts.get(h, [])]) for h in heads]
        left.barh(np.arange(len(heads)) + place * width, values, width, label=world)
    left.set_yticks(np.arange(len(heads)) + 0.4 - width / 2, heads)
    left.invert_yaxis()
    left.set_xlabel("mean error of P(a ≻ b), text worlds")
    above = {"frameon": False, "loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    if worlds:
        left.legend(ncols=len(worlds), **above)
    ignorance = _by(results.get("ignorance_table", []), "pairs")
    for name, marker in (("shared_context", "o"), ("ignorance", "s")):
        sizes = [int(pairs) for pairs in ignorance]
        means = [np.mean([record[name] for record in part]) for part in ignorance.values()]
        right.plot(sizes, means, marker=marker, label=f"{name.replace('_', ' ')} share")
    if ignorance:
        right.set_xscale("log")
        right.set_xticks([int(pairs) for pairs in ignorance], list(ignorance))
        right.minorticks_off()
        right.legend(**above)
    right.set_xlabel("pairs of ten alternatives")
    right.set_ylim(0, 1)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
