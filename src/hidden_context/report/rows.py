"""The rows that the page's table shows, as columns of numbers and a store of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.data.files import iter_jsonl
from hidden_context.report.payload import rounded
from hidden_context.report.scored import ScoredRows
from hidden_context.report.texts import MISSING, TextStore, clean, row_texts

_SEED: Final = 0


@dataclass(frozen=True)
class TableRows:
    """What the page's table reads.

    Attributes:
        numbers: Columns, sets and distributions, ready for JSON.
        texts: Texts by number.
        shown: Rows in the table.
        available: Rows that could be.
        cut: Texts that were cut.
    """

    numbers: dict[str, Any]
    texts: TextStore
    shown: int
    available: int
    cut: int


def quotas(sizes: Sequence[int], limit: int) -> list[int]:
    """Share a number of rows among sets as evenly as their sizes allow.

    >>> quotas([10, 100, 100], 90)
    [10, 40, 40]
    """
    found, left = [0] * len(sizes), limit
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for done, place in enumerate(order):
        found[place] = min(sizes[place], left // (len(sizes) - done))
        left -= found[place]
    return found


def table_rows(sets: Sequence[ScoredRows], max_pairs: int, max_text: int) -> TableRows:
    """Choose rows, read their texts and lay all out in columns.

    Args:
        sets: The scored rows of all models.
        max_pairs: Most rows in all.
        max_text: Most characters of a text.

    Returns:
        The rows in the order of the sets and files.
    """
    sizes = [len(scored.rows) for scored in sets]
    chosen = []
    for size, quota in zip(sizes, quotas(sizes, max_pairs), strict=True):
        drawn = np.random.default_rng(_SEED).choice(size, quota, replace=False)
        chosen.append(np.sort(drawn))
    store = TextStore(max_text)
    prompts, responses = _read_texts(sets, chosen, store)
    columns = {
        "row": _joined(sets, chosen, "rows"),
        "set": np.repeat(np.arange(len(sets)), [len(rows) for rows in chosen]).tolist(),
        "count": _joined(sets, chosen, "counts"),
        "verdict": _joined(sets, chosen, "verdict"),
        "probability": rounded(_column(sets, chosen, "probability")),
        "difference": rounded(_column(sets, chosen, "difference")),
        "stddev": rounded(np.sqrt(_column(sets, chosen, "variance"))),
        "preference": rounded(_column(sets, chosen, "preference")),
        "prompt": prompts,
    }
    numbers = {
        "columns": columns,
        "responses": responses,
        "labels": _labels(sets, chosen),
        "sets": [_set(scored, rows) for scored, rows in zip(sets, chosen, strict=True)],
    }
    shown = sum(len(rows) for rows in chosen)
    return TableRows(numbers, store, shown, sum(sizes), len(store.left_out))


def _column(sets: Sequence[ScoredRows], chosen: list[NDArray[Any]], name: str) -> NDArray[Any]:
    parts = [getattr(scored, name)[rows] for scored, rows in zip(sets, chosen, strict=True)]
    return np.concatenate(parts) if parts else np.empty(0)


def _joined(sets: Sequence[ScoredRows], chosen: list[NDArray[Any]], name: str) -> list[int]:
    return [int(value) for value in _column(sets, chosen, name)]


def _read_texts(
    sets: Sequence[ScoredRows], chosen: list[NDArray[Any]], store: TextStore
) -> tuple[list[int], list[int]]:
    """Read the chosen rows' texts; each file once for sets that stand beside each other in it."""
    prompts: list[int] = []
    responses: list[int] = []
    read: dict[str, dict[int, tuple[int, list[int]]]] = {}
    for file in dict.fromkeys(scored.file for scored in sets):
        wanted = {
            int(row)
            for scored, rows in zip(sets, chosen, strict=True)
            if scored.file == file
            for row in scored.rows[rows]
        }
        read[file] = _read_rows(file, wanted, store)
    for scored, rows in zip(sets, chosen, strict=True):
        for place in rows:
            prompt, texts = read[scored.file][int(scored.rows[place])]
            count = int(scored.counts[place])
            prompts.append(prompt)
            responses += texts if len(texts) == count else [MISSING] * count
    return prompts, responses


def _read_rows(file: str, wanted: set[int], store: TextStore) -> dict[int, tuple[int, list[int]]]:
    found = {}
    for number, (_, row) in enumerate(iter_jsonl(file)):
        if number in wanted:
            prompt, texts = row_texts(row)
            place = store.add(prompt, keep_end=True) if prompt.strip() else MISSING
            found[number] = place, [store.add(text) for text in texts]
    return found


def _labels(sets: Sequence[ScoredRows], chosen: list[NDArray[Any]]) -> dict[str, Any]:
    """Label columns as codes of values; the context of the prompt is one of them."""
    names = dict.fromkeys(name for scored in sets for name in scored.labels)
    found: dict[str, Any] = {}
    for name in (*names, "context"):
        texts: list[str] = []
        for scored, rows in zip(sets, chosen, strict=True):
            if name == "context":
                own = [*scored.context_names, ""]  # −1 is the last
                texts += [own[code] for code in scored.context[rows]]
            else:
                values = scored.labels.get(name)
                texts += [""] * len(rows) if values is None else values[rows].tolist()
        if not any(texts):
            continue
        # contexts are numbered, and more than nine of them would not sort as texts
        key = (lambda v: int(v.split(":")[0] or 0)) if name == "context" else str
        values = sorted(set(texts) - {""}, key=key)
        codes = {value: code for code, value in enumerate(values)} | {"": -1}
        found[name] = {
            "values": [clean(value) for value in values],
            "codes": [codes[text] for text in texts],
        }
    return found


def _set(scored: ScoredRows, rows: NDArray[Any]) -> dict[str, Any]:
    return {
        "file": clean(scored.file),
        "name": clean(scored.name),
        "kind": scored.kind,
        "head": scored.head.type,
        "distributions": _distributions(scored, rows),
    }


def _distributions(scored: ScoredRows, rows: NDArray[Any]) -> dict[str, Any]:
    """Components of every text's reward, of shape ``(T, C)``, or ``(C,)`` where all are the same.

    A scale of 0 is a point.
    """
    import torch

    starts = np.concatenate([[0], np.cumsum(scored.counts)])
    mask = np.zeros(len(scored.outputs), dtype=bool)
    for place in rows:
        mask[starts[place] : starts[place + 1]] = True
    with torch.no_grad():
        parts = scored.head.distribution(torch.from_numpy(scored.outputs[mask])).components()
    values = {
        "weight": parts.log_weights.exp(),
        "location": parts.location,
        "scale": parts.scale,
    }
    return {
        "kernel": getattr(parts, "kernel", "normal"),
        **{name: _shared_or_each(value.double().numpy()) for name, value in values.items()},
    }


def _shared_or_each(values: NDArray[np.float64]) -> list[Any]:
    if len(values) and (values == values[0]).all():
        return rounded(values[0])
    return rounded(values)
