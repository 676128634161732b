"""From timings to numbers, tables, and which checks are passed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from throughput.data import Group, work_of
from throughput.measure import Key, Timing, peak_rate
from throughput.models import Cost

from hidden_context.terminal import make_console

LABELS = {
    "paper": "paper's procedure",
    "trl": "TRL RewardTrainer",
    "padded": "ours, engine padded",
    "padding-free": "padding-free, nothing shared",
    "tree": "ours, engine tree",
    "qlora": "ours, engine tree, QLoRA",
    "pairs": "ours, pair by pair",
    "ranking": "ours, each response once",
}
SHARING = ("tree", "qlora", "pairs", "ranking")  # rows that run once what a group shares
BEST = ("tree", "ranking")  # the package at its best
CHECKED = ("parity", "attention", "budget", "recovery")  # rows that say whether they are right
Record = dict[str, Any]
Samples = Sequence[Sequence[Group]]  # the texts of each round


def label(row: str) -> str:
    """Name of a row in tables."""
    if row.startswith("sorted"):
        budget = row.removeprefix("sorted").strip()
        return "padded, sorted" + (f", {budget} tokens" if budget else "")
    return LABELS[row]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def records(
    bench: Any,
    part: str,
    timings: Mapping[Key, Timing],
    samples: Samples,
    rates: Mapping[str, float],
    expanded: Mapping[str, Samples],
) -> list[Record]:
    """Turn timings into rows of the results.

    Args:
        bench: The benchmark of a model.
        part: ``scoring``, ``responses``, ``training`` or ``rankings of n``.
        timings: Seconds of every row and round.
        samples: The texts of each round.
        rates: Measured FLOPs per second of matrix products, by precision.
        expanded: What rows make of the texts of each round, for rows that run something else.

    Returns:
        A record per row. Ratios are of times on the same texts in the same round, to the first row
        (the paper's procedure, or pairs where rankings are timed): in the first precision (float32
        where it is among them), and at equal precision.
    """
    works = [work_of(texts) for texts in samples]
    flops = _flops(part, bench.cost)
    peak = peak_rate(bench.options.device, bench.options.peak_tflops)
    base, first = next(iter(timings))
    found = []
    for key, timing in timings.items():
        record: Record = {
            "part": part,
            "model": bench.shape,
            "precision": key.precision,
            "row": key.row,
            "label": label(key.row),
            "skipped": timing.skipped,
            "seconds": timing.seconds,
            "peak_bytes": timing.peak_bytes,
        }
        if timing.skipped is None:
            done = [  # what a row has to run, padding aside
                flops(work.unique_tokens, work.unique_context)
                if key.row in SHARING
                else flops(work.tokens, work.context)
                for work in map(work_of, expanded.get(key.row, samples))
            ]
            amounts: dict[str, Iterable[float]] = {
                "groups_per_second": map(len, samples),
                "tokens_per_second": (work.tokens for work in works),
                "flops_per_second": done,
                "utilisation": (amount / rates[key.precision] for amount in done),
            }
            if peak is not None and key.precision == "bfloat16":
                amounts["mfu_of_peak"] = (amount / peak for amount in done)
            for name, each in amounts.items():
                record[name] = spread([a / s for a, s in zip(each, timing.seconds, strict=True)])
            for name, other in (
                (f"ratio_to_{base}_{first}", timings[Key(base, first)]),
                (f"ratio_to_{base}", timings[Key(base, key.precision)]),
            ):
                record[name] = ratio(other.seconds, timing.seconds)
        found.append(record)
    return found


def _flops(part: str, cost: Cost) -> Callable[[int, int], float]:
    return cost.training if part.startswith(("training", "rankings")) else cost.scoring


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float] | None:
    """How many times faster, round by round; None where one of the two was skipped."""
    if len(slow) != len(fast) or not slow:
        return None
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def roofline(
    bench: Any, part: str, samples: Samples, rates: Mapping[str, float], rows: Sequence[Record]
) -> list[Record]:
    """Compute what the machine could do at best with shared prompts.

    Unique tokens × FLOPs per token over the measured matrix rate.
    """
    works = [work_of(texts) for texts in samples]
    flops = _flops(part, bench.cost)
    needed = sum(flops(work.unique_tokens, work.unique_context) for work in works)
    groups, unique = sum(map(len, samples)), sum(work.unique_tokens for work in works)
    found = []
    for precision, rate in rates.items():
        reached = [
            row["groups_per_second"]["median"]
            for row in rows
            if row["row"] in BEST and row["precision"] == precision and not row["skipped"]
        ]
        limit = groups * rate / needed
        found.append(
            {
                "part": part,
                "model": bench.shape,
                "precision": precision,
                "matrix_flops_per_second": rate,
                "unique_tokens": unique,
                "tokens_per_unique_token": sum(work.tokens for work in works) / unique,
                "flops_per_unique_token": needed / unique,
                "groups_per_second": limit,
                "reached": reached[0] / limit if reached else None,
            }
        )
    return found


def _cell(value: Mapping[str, float] | None, digits: int = 2, factor: float = 1.0) -> str:
    if value is None:
        return "–"
    middle, low, high = (f"{value[name] * factor:.{digits}f}" for name in ("median", "low", "high"))
    return f"{middle} ({low}–{high})"


def print_records(found: Sequence[Record], unit: str) -> None:
    """Print a table of rows: medians, and ranges in brackets."""
    if not found:
        return
    gpu = any(row["peak_bytes"] is not None for row in found)
    columns: list[tuple[str, str, int, float]] = [  # head, number, decimals and unit
        (f"{unit}/s", "groups_per_second", 2, 1),
        ("tokens/s", "tokens_per_second", 0, 1),
    ]
    # two ratios: in the first precision, and at equal precision
    for name in (each for each in found[0] if each.startswith("ratio_to_")):
        other = name.removeprefix("ratio_to_").replace("_", ", ")
        columns.append((f"× {other}" if "," in other else f"× {other}, same", name, 2, 1))
    columns.append(("MFU, %", "utilisation", 0, 100))
    if any("mfu_of_peak" in row for row in found):
        columns.append(("of stated, %", "mfu_of_peak", 0, 100))
    table = Table("precision", "way", title=f"{found[0]['part']}, {found[0]['model']}")
    for head in (*(column[0] for column in columns), *(["peak, GiB"] if gpu else [])):
        table.add_column(head, justify="right")
    for row in found:
        cells = [_cell(row.get(name), *written) for _, name, *written in columns]
        if gpu:
            peak = row["peak_bytes"]
            cells.append("–" if peak is None else f"{peak / 2**30:.2f}")
        if row["skipped"]:
            cells = [f"skipped: {row['skipped']}"]
        table.add_row(row["precision"], row["label"], *cells)
    make_console().print(table)


def print_plain(title: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Print records that have nothing but plain values."""
    if not found:
        return
    table = Table(*(head.replace("_", " ") for head in found[0]), title=title)
    for row in found:
        table.add_row(*map(_plain, row.values()))
    make_console().print(table)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)


def checks_of(results: Any) -> list[Record]:
    """List how far apart are numbers that ought to be equal, TRL's memory, and failed checks."""
    # 32 layers in bfloat16 are off by a tenth in their gradient, each way by its own
    found = [
        _most(
            f"equality, {row['model']}, {row['precision']}: {what}",
            row[what],
            1e-4 if row["precision"] == "float32" else limit,
        )
        for row in results.equality
        for what, limit in (("rewards", 5e-2), ("gradients", 2e-1))
    ]
    found += [
        _most(f"{row['part']}, {row['model']}: losses of the rows, nats", row["difference"], 1e-5)
        for row in results.rankings
        if row["precision"] == "float32"
    ]
    curve = results.curve
    for name, value in curve.get("differences", {}).items():
        found.append(_most(f"loss curve, {curve['model']}: tree against {name}", value, 1e-3))
    rows = results.memory or [row for row in results.rows if row["part"] == "training"]
    peaks = {(row["model"], row["precision"], row["row"]): row["peak_bytes"] for row in rows}
    for (model, precision, row), peak in peaks.items():
        trl = peaks.get((model, precision, "trl"))
        if row == "tree" and peak and trl:
            name = f"memory, {model}: tree, {precision}, against TRL's"
            found.append(_most(name, peak / trl, 1.0))
    for kind in CHECKED:
        found += [_failed(kind, row) for row in getattr(results, kind) if row["reached"] is False]
    return found


def _failed(kind: str, row: Mapping[str, Any]) -> Record:
    """A check that was not passed: how far it is off, or why there is nothing."""
    names = ("model", "precision", "what", "way", "attention")
    off = row.get("difference", [row.get("rewards"), row.get("gradients")])
    return {
        "target": ", ".join([kind, *(str(row[name]) for name in names if name in row)]),
        "wanted": f"{'budgets halved, and ' if kind == 'recovery' else ''}within its tolerance",
        "found": row.get("note") or row.get("skipped") or off,
        "reached": False,
    }


def _most(target: str, value: float, most: float) -> Record:
    return {"target": target, "wanted": f"≤ {most:g}", "found": value, "reached": value <= most}
