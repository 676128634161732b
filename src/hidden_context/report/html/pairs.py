"""The comparisons of a page: texts, probabilities and both reward distributions, by columns."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hidden_context.analysis.measure.evidence import PairEvidence
from hidden_context.analysis.read.files import PairScores
from hidden_context.data.checks import read_conversation
from hidden_context.data.dialogue import shared_prompt, to_text
from hidden_context.data.published import plain_row
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.errors import DataError
from hidden_context.statistics.checks import Codes, Floats

if TYPE_CHECKING:
    from hidden_context.heads import Head


_SIDES: Final = ("chosen", "rejected")


@dataclass(frozen=True)
class PairsMeta:
    """Facts that the page states about its comparisons.

    Attributes:
        file: The score file.
        total: Pairs with rewards in the file.
        shown: Pairs in the page.
        cut: Pairs of which a text was cut.
    """

    file: str
    total: int
    shown: int
    cut: int


def pairs_payload(
    scores: PairScores,
    evidence: PairEvidence,
    head: Head,
    places: Codes,
    max_text: int,
    contexts: list[str] | None = None,
) -> tuple[dict[str, Any], PairsMeta]:
    """Collect the page's columns for the chosen pairs.

    Args:
        scores: All pairs of the file, with their facts.
        evidence: Their numbers.
        head: The head that reads the raw outputs.
        places: Which pairs.
        max_text: Most characters of one text.
        contexts: Name of the context of each pair; None without contexts.

    Returns:
        The columns as JSON has them, and what the page says about them.
    """

    def rounded(values: Floats) -> list[float]:
        return round_numbers(values[places])

    payload: dict[str, Any] = {
        **_texts(_rows_of(scores, places), max_text),
        "row": (scores.rows[places] + 1).tolist(),
        "p": rounded(evidence.probability),
        "gap": rounded(evidence.difference),
        "sigma": rounded(np.sqrt(evidence.difference_variance)) if evidence.has_variance else None,
        "right": rounded(evidence.right),
        "preference": rounded(evidence.preference),
        "mean": {side: rounded(evidence.mean[:, place]) for place, side in enumerate(_SIDES)},
        "context": None if contexts is None else [contexts[place] for place in places],
        "kernel": "normal",
    }
    columns = {"subset": "data_subset", "objective": "objective", "annotator": "annotator"}
    for name, column in columns.items():
        labels = scores.labels.get(column)
        payload[name] = None if labels is None else labels[places].tolist()
    for side, raw in zip(_SIDES, (scores.chosen, scores.rejected), strict=True):
        parts = _components(head, raw[places])
        payload["components"] = parts.pop("count")
        payload[f"{side}_components"] = parts
    return payload, PairsMeta(scores.file, len(scores.chosen), len(places), sum(payload["cut"]))


def encode(payload: dict[str, Any]) -> str:
    """Pack columns for the page as base64 of gzipped JSON; equal columns give equal bytes."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # labels may hold half of a surrogate pair, which UTF-8 does not know
    packed = gzip.compress(text.encode("utf-8", "replace"), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def round_numbers(values: Floats) -> list[float]:
    """Round numbers to five significant digits.

    >>> round_numbers(np.array([0.1234567, 1234567.0, 0.0]))
    [0.12346, 1234600.0, 0.0]
    """
    return [float(f"{value:.5g}") for value in values.tolist()]


def _components(head: Head, raw: Floats) -> dict[str, Any]:
    import torch

    with torch.no_grad():
        parts = head.distribution(torch.from_numpy(raw)).components()
    shape = parts.location.shape
    weight = parts.log_weights.exp().expand(shape)
    columns = {"weight": weight, "location": parts.location, "scale": parts.scale.expand(shape)}
    found: dict[str, Any] = {
        name: round_numbers(value.double().flatten().numpy()) for name, value in columns.items()
    }
    return {**found, "count": int(shape[-1])}


def _rows_of(scores: PairScores, places: Codes) -> Iterator[dict[str, Any]]:
    """Read the rows of some pairs again, in their order."""
    wanted = set(scores.rows[places].tolist())
    rows = itertools.islice(iter_jsonl(scores.file, allow_empty=False), max(wanted) + 1)
    return (row for number, (_, row) in enumerate(rows) if number in wanted)


def _texts(rows: Iterable[dict[str, Any]], most: int) -> dict[str, list[Any]]:
    """Collect each prompt once, and the responses without their prompt."""

    def shortened(text: str) -> str:
        return text if len(text) <= most else f"{text[: most - 1]}…"

    columns: dict[str, list[Any]] = {name: [] for name in ("prompt", *_SIDES, "cut")}
    places = {"": -1}
    for row in map(plain_row, rows):
        prompt, *sides = (_text(row.get(name)).strip() for name in ("prompt", *_SIDES))
        prompt = prompt or str(shared_prompt(*sides)).strip()
        whole = [prompt, *(text.removeprefix(prompt).strip() for text in sides)]
        # a long prompt keeps its end
        shown = [shortened(prompt[::-1])[::-1], *map(shortened, whole[1:])]
        place = places.setdefault(shown[0], len(places) - 1)
        values = place, *shown[1:], int(shown != whole)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return {"prompts": [*places][1:], **columns}


def _text(value: Any) -> str:
    """Return a text, or messages written as turns; anything else becomes the empty text."""
    if not isinstance(value, str):
        try:
            value = to_text(read_conversation(value, ""))
        except DataError:
            return ""
    # half of a surrogate pair cannot be written as UTF-8
    return str(value).encode("utf-8", "replace").decode("utf-8")
