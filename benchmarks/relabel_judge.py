"""How well a small language model judges pairs that a large one labelled.

    python benchmarks/paper/smollm2.py FOLDER
    python benchmarks/relabel_judge.py --model FOLDER --data relabeled_hh_rlhf/both/test.jsonl.gz

Of the paper's relabelled test pairs, as many of each objective are drawn at random; each is judged
by its own objective in both orders. The answers are kept in ``--work``, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from kit import cell, markdown, numbered, script_parser

from hidden_context.data.row_facts import prompt_of
from hidden_context.data.storage.files import write_jsonl
from hidden_context.relabel import RelabelConfig, run
from hidden_context.statistics.interval import SHARE, Interval
from hidden_context.statistics.means import ratio_interval

OBJECTIVES = ("helpful", "harmless")


def draw(rows: list[dict[str, Any]], each: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Draw pairs of each objective; pairs of two equal responses are left out."""
    generator = random.Random(seed)
    found = {}
    for objective in OBJECTIVES:
        fit = [r for r in rows if r["objective"] == objective and r["chosen"] != r["rejected"]]
        found[objective] = generator.sample(fit, each)
    return found


def judge(
    drawn: dict[str, list[dict[str, Any]]], model: str, work: Path
) -> dict[str, list[dict[str, Any]]]:
    """Let the model judge the pairs of each objective; return the rows with its answers."""
    judged = {}
    for objective, rows in drawn.items():
        source, output = work / f"{objective}.jsonl", work / f"{objective}.judged.jsonl"
        write_jsonl(source, rows)
        run(
            RelabelConfig(
                data_path=str(source),
                output=str(output),
                model=model,
                name="SmolLM2-135M-Instruct",
                backend="local",
                device="cpu",
                dtype="float32",
                objectives=[objective],
                cache=str(work / "answers.sqlite"),
            )
        )
        judged[objective] = [json.loads(line) for line in output.read_text().splitlines()]
    return judged


def measure(rows: list[dict[str, Any]]) -> dict[str, Interval]:
    """Shares of pairs, with intervals by prompt; a tie counts one half."""
    cluster, found = numbered(map(prompt_of, rows)), [_of_row(row) for row in rows]
    columns = {name: np.array([each[name] for each in found]) for name in found[0]}
    return {  # NaN is left out
        name: ratio_interval(np.nan_to_num(values), ~np.isnan(values), cluster, bounds=SHARE)
        for name, values in columns.items()
    }


def _of_row(row: dict[str, Any]) -> dict[str, float]:
    """Whether each way to choose takes the chosen response: 1, 0, or ½ for a tie."""
    entry = row["annotations"][-1]
    by_order = [answer.get("preference") for answer in entry["answers"]]
    turns = None not in by_order and (by_order[0] > 0.5) != (by_order[1] > 0.5)
    chosen, rejected = (len(row["responses"][place]) for place in (row["label"], 1 - row["label"]))
    return {
        "both orders": _takes(entry.get("preference"), 0.5),
        "chosen shown first": _takes(by_order[0], 0.5),
        "chosen shown second": _takes(by_order[1], 0.5),
        "baseline: the longer response": _takes(chosen, rejected),
        "baseline: the first of `responses`": float(row["label"] == 0),
        "decision changes with the order": float("nan") if None in by_order else float(turns),
        "abstains": float("preference" not in entry),
    }


def _takes(value: float | None, other: float) -> float:
    return float("nan") if value is None else ((value > other) + (value >= other)) / 2


def print_measures(judged: dict[str, list[dict[str, Any]]]) -> None:
    """Print a Markdown table: a row for each measure, a column for each objective and for all."""
    groups = {**judged, "all": [row for rows in judged.values() for row in rows]}
    heads = ["share of pairs", *(f"{name} ({len(rows)})" for name, rows in groups.items())]
    measured = [measure(rows) for rows in groups.values()]
    rows = []
    for name in measured[0]:
        values = [(each[name].estimate, each[name].low, each[name].high) for each in measured]
        rows.append([name, *(cell(value, 1, signed=False, factor=100) for value in values)])
    print(markdown(heads, rows))


def print_letters(work: Path) -> None:
    """Print how the model divides its probability between the letters, whatever they stand for."""
    import sqlite3

    database = sqlite3.connect(work / "answers.sqlite")
    replies = [json.loads(reply) for (reply,) in database.execute("SELECT reply FROM answers")]
    database.close()
    letters = [reply["letters"] for reply in replies if reply.get("letters")]
    odds = np.array([one["A"] - one["B"] for one in letters])
    mass = np.exp([np.logaddexp(one["A"], one["B"]) for one in letters])
    tokens = [reply["input_tokens"] for reply in replies if reply.get("input_tokens")]
    print(
        f"\n{len(replies)} questions of {np.mean(tokens):.0f} tokens on average; A is preferred in "
        f"{100 * np.mean(odds > 0):.1f} %, P(A) {np.mean(1 / (1 + np.exp(-odds))):.3f} on average; "
        f"both letters together have the probability {mass.mean():.3f} on average."
    )


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder of the language model")
    parser.add_argument("--data", required=True, help="the paper's both/test.jsonl.gz")
    parser.add_argument("--each", type=int, default=150, help="pairs of each objective")
    parser.add_argument("--work", type=Path, default=Path("results/relabel_judge"))
    options = parser.parse_args()
    with gzip.open(options.data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    print_measures(judge(draw(rows, options.each), options.model, options.work))
    print_letters(options.work)


if __name__ == "__main__":
    main()
