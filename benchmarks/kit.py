"""What the scripts share: their options, tables in Markdown, Student's intervals, the processor."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def script_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help is a script's own docstring."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """Write a table in Markdown, under a heading if it has a title."""
    lines = [f"### {title}", ""] if title else []
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def student_interval(values: ArrayLike) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval by Student's t; NaN ends for a single value."""
    from scipy import stats

    given = np.asarray(values, dtype=float)
    mean = float(given.mean())
    if len(given) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(given) - 1) * given.std(ddof=1) / np.sqrt(len(given)))
    return mean, mean - half, mean + half


def processor() -> str:
    """Name the processor, its cores, and how busy the machine is."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return f"{names[0] if names else 'unknown'}, {os.cpu_count()} cores, load average {load}"
