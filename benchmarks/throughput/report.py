"""From timings to numbers, tables, and which checks are passed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from throughput.data import Group, work_of
from throughput.measure import Key, Timing
from throughput.models import Cost

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
    part: str,
    model: str,
    timings: Mapping[Key, Timing],
    samples: Sequence[Sequence[Group]],
    cost: Cost,
    rates: Mapping[str, float],
    expanded: Mapping[str, Sequence[Sequence[Group]]],
    peak: float | None = None,
) -> list[Record]:
    """Turn timings into rows of the results.

    Args:
        part: ``scoring``, ``responses``, ``training`` or ``rankings of n``.
        model: Name of the model's shape.
        timings: Seconds of every row and round.
        samples: The texts of each round.
        cost: What a token costs.
        rates: Measured FLOPs per second of matrix products, by precision.
        expanded: What rows make of the texts of each round, for rows that run something else.
        peak: FLOPs per second that the device's maker states for bfloat16, if known.

    Returns:
        A record per row. Ratios are of times on the same texts in the same round, to the first row
        (the paper's procedure, or pairs where rankings are timed): in the first precision (float32
        where it is among them), and at equal precision.
    """
    works = [work_of(texts) for texts in samples]
    flops = _flops(part, cost)
    base, first = next(iter(timings))
    found = []
    for key, timing in timings.items():
        record: Record = {
            "part": part,
            "model": model,
            "precision": key.precision,
            "row": key.row,
            "label": label(key.row),
            "skipped": timing.skipped,
            "seconds": timing.seconds,
            "peak_bytes": timing.peak_bytes,
        }
        if timing.skipped is None:
            rounds = list(zip(timing.seconds, works, strict=True))
            done = [  # what a row has to run, padding aside
                flops(work.unique_tokens, work.unique_context)
                if key.row in SHARING
                else flops(work.tokens, work.context)
                for work in map(work_of, expanded.get(key.row, samples))
            ]
            record["groups_per_second"] = spread(
                [len(texts) / s for texts, s in zip(samples, timing.seconds, strict=True)]
            )
            record["tokens_per_second"] = spread([work.tokens / s for s, work in rounds])
            speeds = [amount / s for amount, s in zip(done, timing.seconds, strict=True)]
            record["flops_per_second"] = spread(speeds)
            record["utilisation"] = spread([speed / rates[key.precision] for speed in speeds])
            if peak is not None and key.precision == "bfloat16":
                record["mfu_of_peak"] = spread([speed / peak for speed in speeds])
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
    part: str,
    model: str,
    samples: Sequence[Sequence[Group]],
    cost: Cost,
    rates: Mapping[str, float],
    rows: Sequence[Record],
) -> list[Record]:
    """Compute what the machine could do at best with shared prompts.

    Unique tokens × FLOPs per token over the measured matrix rate.
    """
    works = [work_of(texts) for texts in samples]
    flops = _flops(part, cost)
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
                "model": model,
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
    from rich.table import Table

    if not found:
        return
    # two: in the first precision, and at equal precision
    ratios = [name for name in found[0] if name.startswith("ratio_to_")]
    others = [name.removeprefix("ratio_to_").replace("_", ", ") for name in ratios]
    gpu = any(row["peak_bytes"] is not None for row in found)
    table = Table(title=f"{found[0]['part']}, {found[0]['model']}")
    heads = ["precision", "way", f"{unit}/s", "tokens/s"]
    heads += [f"× {other}" if "," in other else f"× {other}, same" for other in others]
    stated = any("mfu_of_peak" in row for row in found)
    heads += ["MFU, %"] + (["of stated, %"] if stated else []) + (["peak, GiB"] if gpu else [])
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < 2 else "right")
    for row in found:
        cells = [row["precision"], row["label"]]
        if row["skipped"]:
            table.add_row(*cells, f"skipped: {row['skipped']}")
            continue
        cells.append(_cell(row["groups_per_second"]))
        cells.append(_cell(row["tokens_per_second"], 0))
        cells += [_cell(row[name]) for name in ratios]
        cells.append(_cell(row["utilisation"], 0, 100))
        if stated:
            cells.append(_cell(row.get("mfu_of_peak"), 0, 100))
        if gpu:
            peak = row["peak_bytes"]
            cells.append("–" if peak is None else f"{peak / 2**30:.2f}")
        table.add_row(*cells)
    console().print(table)


def print_plain(title: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Print records that have nothing but plain values."""
    from rich.table import Table

    if not found:
        return
    table = Table(title=title)
    for head in found[0]:
        table.add_column(head.replace("_", " "))
    for row in found:
        table.add_row(*(_plain(value) for value in row.values()))
    console().print(table)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)


def console() -> Any:
    """A console wide enough for the tables when the output goes to a file."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=150)


def checks_of(results: Any) -> list[Record]:
    """List how far apart are numbers that ought to be equal, TRL's memory, and failed checks."""
    # 32 layers in bfloat16 are off by a tenth in their gradient, each way by its own
    half = {"rewards": 5e-2, "gradients": 2e-1}
    found = [
        _most(
            f"equality, {row['model']}, {row['precision']}: {what}",
            row[what],
            1e-4 if row["precision"] == "float32" else limit,
        )
        for row in results.equality
        for what, limit in half.items()
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
