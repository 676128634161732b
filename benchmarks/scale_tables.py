"""Tables of what the simulation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from throughput_report import console, print_plain

Records = Sequence[Mapping[str, Any]]
HOURS = ("compute", "waiting", "memory", "interconnect")


def print_all(result: Mapping[str, Any]) -> None:
    """Print all tables."""
    print_plain("machine", [result["machine"]])
    print_plain("unique tokens over tokens", [result["lengths"]])
    print_amounts(result["amounts"])
    print_costs(result["costs"])
    print_plain("around the GPUs, in scoring", result["around"])
    print_plain("memory of a GPU in training, in bytes", result["memory"])
    if "checks" in result:
        print_checks(result["checks"])
        print_plain("errors of predictions", result["checks_summary"])


def print_amounts(found: Records) -> None:
    """Print tokens and positions of a comparison, with standard errors."""
    table = _table(
        "for each comparison",
        *("task", "corpus", "way", "tokens", "positions", "waiting, %", "per step, %"),
    )
    for row in found:
        waits = [100 * (row[name] / row["tokens"] - 1) for name in ("slowest", "slowest_step")]
        table.add_row(
            *(row["task"], row["corpus"], row["way"]),
            f"{row['tokens']:.1f} ± {row['tokens_error']:.1f}",
            f"{row['context']:.0f} ± {row['context_error']:.0f}",
            *(f"{wait:.1f}" if row["task"] == "training" else "–" for wait in waits),
        )
    console().print(table)


def print_costs(found: Records) -> None:
    """Print the run as a whole; of full training the file has more ways."""
    table = _table(
        "the whole run",
        *(
            "model",
            "job",
            "shard",
            "corpus",
            "way",
            "tokens, 10⁹",
            "10²¹ FLOPs",
            "GPU-hours",
            "price",
        ),
        *("bottleneck", *(f"{name}, h" for name in HOURS)),
    )
    for row in found:
        if row["job"] == "full" and row["way"] not in ("padding-free", "tree"):
            continue
        table.add_row(
            *(row["model"], row["job"], str(row["shard"] or "–"), row["corpus"], row["way"]),
            f"{row['tokens'] / 1e9:.0f}",
            f"{row['flops'] / 1e21:.2f}",
            f"{row['gpu_hours']:,.0f}",
            f"{row['price']:,.0f}",
            row["bottleneck"],
            *(f"{row[name] / 3600:.1f}" for name in HOURS),
        )
    console().print(table)


def print_checks(found: Records) -> None:
    """Print predictions beside measurements."""
    table = _table(
        "prediction and measurement",
        *(
            "part",
            "model",
            "way",
            "what",
            "predicted",
            "measured",
            "error, %",
            "within",
            "fitted on",
        ),
    )
    for row in found:
        table.add_row(
            *(row["part"], row["model"], row["row"], row["what"]),
            f"{row['predicted']:.2f}",
            f"{row['measured']:.2f}",
            f"{100 * row['error']:+.0f}",
            "yes" if row["within"] else "NO",
            row["fitted_on"] or "–",
        )
    console().print(table)


def _table(title: str, *heads: str) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for head in heads:
        table.add_column(head)
    return table
