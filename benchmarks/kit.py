"""What the scripts share: options, quiet trainings, tables in Markdown, figures, intervals."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def script_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help is a script's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def names(text: str) -> list[str]:
    """Divide a list written with commas."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """Divide a list of numbers written with commas."""
    return [int(name) for name in names(text)]


def fit(options: Mapping[str, Any], rows: Any, test: Any = None) -> Any:
    """Train without a word, in a folder that is removed afterwards.

    Args:
        options: Options of ``TrainConfig``; ``final_dir`` is where the model is kept, if anywhere.
        rows: What it learns from.
        test: What it is tested on.
    """
    from hidden_context.training import TrainConfig, run

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(TrainConfig(**{"output_dir": folder, "quiet": True, **options}), rows, test)


def plotting() -> Any:
    """Return Matplotlib's ``pyplot``, which draws into files only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """Write a table in Markdown, under a heading if it has a title."""
    lines = [f"### {title}", ""] if title else []
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def table(
    corner: str,
    records: Mapping[Any, Any],
    columns: Mapping[str, Callable[[Any], str]],
    title: str = "",
) -> str:
    """Write a table in Markdown: a row for each record by its name, a column for each head.

    Blanks around a head are left out, so that two columns may have one head.
    """
    rows = [
        [str(name), *(write(each) for write in columns.values())] for name, each in records.items()
    ]
    return markdown([corner, *map(str.strip, columns)], rows, title)


def cell(value: Sequence[float], digits: int, *, signed: bool = True, factor: float = 1.0) -> str:
    """Write an estimate with its interval; a dash where there is none, no ends that are NaN.

    Args:
        value: Estimate, low and high end, or nothing.
        digits: Decimals.
        signed: Whether a plus is written.
        factor: What numbers are multiplied by, 100 for per cent.
    """
    if not len(value) or math.isnan(value[0]):
        return "–"
    sign = "+" if signed else ""
    mean, low, high = (f"{factor * each:{sign}.{digits}f}".replace("-", "−") for each in value)
    return mean if math.isnan(value[1]) else f"{mean} [{low}, {high}]"


def write_tables(path: Path, tables: Sequence[str], numbers: Any) -> None:
    """Write tables in Markdown, and all their numbers as JSON beside them."""
    from hidden_context.data.storage.files import atomic_write, write_json

    with atomic_write(path) as file:
        file.write("\n".join(tables))
    write_json(path.with_suffix(".json"), numbers)


def student_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval by Student's t; NaN ends for a single value."""
    from scipy import stats

    given = np.asarray(values, dtype=float)
    mean = float(given.mean())
    if len(given) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(given) - 1) * stats.sem(given))
    return mean, mean - half, mean + half


def numbered(names: Iterable[Any]) -> NDArray[np.int64]:
    """Number names from 0 in the order in which they come first."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names])


def processor() -> str:
    """Name the processor, its cores, and how busy the machine is."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cores, load average {load}"
