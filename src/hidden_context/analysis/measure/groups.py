"""Groups of rows: by any column, and by quarters of the texts' length."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.read.files import Scores
from hidden_context.errors import ConfigError

_MAX_VALUES: Final = 50
"""Values of a grouping column that get a row each; the rest are one group."""


def group_labels(scores: Scores, by: list[str]) -> dict[str, NDArray[np.str_]]:
    """Return the columns that split the rows, in the order asked for.

    Raises:
        ConfigError: If a column that was asked for by name stands in no row.
    """
    found = {}
    for name in by:
        if name == "length_bin":
            found[name] = scores.facts.length_bins()
        elif name in scores.labels:
            found[name] = _pooled(scores.labels[name])
        elif name not in ("data_subset", "objective"):
            raise ConfigError(
                f"--by {name}, but no row of {scores.file} has that column; leave it out."
            )
    return {name: values for name, values in found.items() if (values != "").any()}


def _pooled(values: NDArray[np.str_]) -> NDArray[np.str_]:
    names, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) <= _MAX_VALUES:
        return values
    common = np.isin(np.arange(len(names)), np.argsort(-counts, kind="stable")[:_MAX_VALUES])
    pooled = np.where(common | (names == ""), names, "(all others)")
    return np.asarray(pooled[place])


def label_groups(
    labels: dict[str, NDArray[np.str_]], rows: int
) -> list[tuple[dict[str, str], NDArray[Any]]]:
    """Split rows by their labels.

    Args:
        labels: Per label column, ``(N,)`` strings; empty where a row has none.
        rows: Number of rows N.

    Returns:
        Pairs of labels and a boolean mask ``(N,)``: first all rows (no labels), then each value of
        each column, then each combination of two or more columns that occurs.

    >>> labels = {"data_subset": np.array(["helpful", "harmless", "helpful"])}
    >>> [(group, int(mask.sum())) for group, mask in label_groups(labels, 3)]
    [({}, 3), ({'data_subset': 'harmless'}, 1), ({'data_subset': 'helpful'}, 2)]
    """
    groups: list[tuple[dict[str, str], NDArray[Any]]] = [({}, np.ones(rows, dtype=bool))]
    for name, values in labels.items():
        groups += [({name: str(v)}, values == v) for v in np.unique(values) if v]
    if len(labels) > 1:
        columns = [values.tolist() for values in labels.values()]
        for combination in sorted(set(zip(*columns, strict=True))):
            if all(combination):
                group = dict(zip(labels, combination, strict=True))
                mask = np.logical_and.reduce([labels[name] == v for name, v in group.items()])
                groups.append((group, mask))
    return groups
