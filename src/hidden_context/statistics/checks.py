"""Checks and numbering of the columns that statistics are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hidden_context.errors import ConfigError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Booleans = NDArray[np.bool_]

BATCH_NUMBERS = 4_000_000
"""Numbers that resampling holds in memory at a time."""


def equally_long(*columns: ArrayLike) -> tuple[Floats, ...]:
    """Convert columns to float64, and check that they are equally long.

    Raises:
        ConfigError: If the columns are not lists of one length, or are empty.
    """
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    shapes = [array.shape for array in arrays]
    if arrays[0].ndim != 1 or len(set(shapes)) > 1 or not len(arrays[0]):
        raise ConfigError(
            "equally long, non-empty lists are needed; got shapes "
            f"{' and '.join(map(str, shapes))}."
        )
    return arrays


def check_shares(values: Floats, name: str) -> None:
    """Check that numbers are shares.

    Raises:
        ConfigError: If a number lies outside [0, 1].
    """
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ConfigError(f"{name} must lie in [0, 1].")


def numbered(numbers: ArrayLike | None, size: int, name: str = "cluster") -> Codes:
    """Number the groups of rows from 0 without gaps; without groups, each row is its own group.

    Raises:
        ConfigError: If there are no rows, or not one number for each row.
    """
    found = np.arange(size) if numbers is None else np.asarray(numbers)
    if found.shape != (size,) or size == 0:
        raise ConfigError(
            f"{size} rows need {size} {name} numbers, one or more; got shape {found.shape}."
        )
    return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64)


def quotient(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Divide; NaN or infinite where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(numerator / denominator)


def places(group: Codes, order: Codes | None = None) -> Codes:
    """Number the rows of each group from 0, in the order of the rows or in a given order."""
    rows = np.arange(len(group)) if order is None else order
    rows = rows[np.argsort(group[rows], kind="stable")]
    count = np.bincount(group)
    found = np.empty(len(group), dtype=np.int64)
    found[rows] = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return found


def sample_rows(rows: int, seed: int, most: int = 20_000) -> Codes:
    """Return the places of all rows, or of a random sample if there are more than ``most``."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def batches(resamples: int, numbers: int) -> Iterator[int]:
    """Yield the sizes of batches of resamples or rows, each of which needs ``numbers`` numbers."""
    step = max(1, BATCH_NUMBERS // numbers)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)
