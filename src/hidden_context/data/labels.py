"""Labels for a likelihood, from examples."""

from __future__ import annotations

import dataclasses
import math
from collections import ChainMap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hidden_context.data.checks import NOWHERE, Place, read_annotator
from hidden_context.data.example import Example, Judgement, Rating
from hidden_context.data.importers.answers import name_of
from hidden_context.data.reshape import comparisons_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from hidden_context.likelihood.labels import Labels

_Labels = TypeVar("_Labels", bound="DataclassInstance")
_INDICES = ("first", "second", "response", "annotator", "example")


def annotator_of(
    judgement: Judgement, column: str = "annotator", place: Place = NOWHERE
) -> str | int | None:
    """Return the annotator of a judgement from the column that names annotators.

    Args:
        judgement: The judgement.
        column: The column that says who judged, such as ``objective``. For a judgement
            from a list, the key of this name in the entry; without the key, the row's column.
        place: Where its row stands, for errors.

    Returns:
        The annotator, None where not known.

    Raises:
        DataError: If the value is neither text nor an integer nor null, naming the field.
    """
    if column == "annotator":
        return judgement.annotator
    if not isinstance(judgement.columns, ChainMap):
        return read_annotator(judgement.columns.get(column), column, place)
    entry, row = judgement.columns.maps
    name = name_of(entry, row) or "entry"
    who = read_annotator(entry.get(column), f"{name}.{column}", place)
    return read_annotator(row.get(column), column, place) if who is None else who


def annotator_names(examples: Sequence[Example], column: str = "annotator") -> list[str]:
    """Return the sorted names of all annotators in a column who cast at least one vote.

    Args:
        examples: The examples.
        column: The column that says who judged, such as ``objective``.

    Returns:
        Distinct names, as texts.

    Raises:
        DataError: If a value is neither text nor integer, naming its line.
    """
    votes = (
        annotator_of(judgement, column, example.place())
        for example in examples
        for judgement in example.judgements
        if not judgement.abstains
    )
    return sorted({str(annotator) for annotator in votes if annotator is not None})


def labels_of(
    examples: Sequence[Example],
    index: Callable[[object], int] | None = None,
    column: str = "annotator",
    levels: int = 2,
    file: str | Path | None = None,
) -> Labels:
    """Collect the judgements of examples as tensors, without abstentions.

    Args:
        examples: E examples.
        index: Index of an annotator by name, −1 for unknown annotators; None makes all unknown.
        column: The column that says who judged.
        levels: Number of answers in the likelihood; with more than three answers, strengths have
            to fit.
        file: Where the examples come from, for errors.

    Returns:
        Labels of E examples, in order, float32; a ranking of n responses has the n(n−1)/2
        comparisons of ``comparisons_of``, whose votes and weights are 2/n of the ranking's.

    Raises:
        DataError: If a strength is beyond the levels or an annotator's name is malformed, naming
            the line.
    """
    import torch

    from hidden_context.likelihood.labels import UNKNOWN, Comparisons, Labels, RatingLabels

    compared: list[tuple[float, ...]] = []  # rows of both lists are in the order of the fields
    rated: list[tuple[float, ...]] = []
    start, offsets = 0, [0]
    for number, example in enumerate(examples):
        place = example.place(file, number + 1)
        for judgement in example.judgements:
            answer, weight = judgement.answer, judgement.weight
            who = UNKNOWN
            if index is not None and not judgement.abstains:
                who = index(annotator_of(judgement, column, place))
            if isinstance(answer, Rating):
                rated.append((start + answer.response, answer.value, who, weight, 1.0, number))
            for comparison, votes in comparisons_of(answer):
                top = (levels - 1) // 2
                if levels > 3 and abs(comparison.strength or 0) > top:
                    raise place.error(
                        f"strength {comparison.strength} is beyond {levels} levels (up to {top})",
                        "strength",
                        "Scale the strengths, or train with --outcomes seven_levels",
                    )
                places = (start + comparison.first, start + comparison.second)
                strength = math.nan if comparison.strength is None else comparison.strength
                said = (comparison.preference, strength, comparison.margin or 0.0)
                compared.append((*places, *said, who, weight * votes, votes, number))
        start += len(example.responses)
        offsets.append(start)
    return Labels(
        _tensors(Comparisons, compared), _tensors(RatingLabels, rated), torch.tensor(offsets)
    )


def _tensors(kind: type[_Labels], rows: list[tuple[float, ...]]) -> _Labels:
    """Build labels of one kind from rows that hold the fields in order."""
    import torch

    names = [field.name for field in dataclasses.fields(kind)]
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return kind(
        **{
            name: torch.tensor(values, dtype=torch.long if name in _INDICES else torch.float32)
            for name, values in zip(names, columns, strict=True)
        }
    )
