"""From preferences to the labels that an objective reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hidden_context.data.annotations import annotations_of
from hidden_context.data.preferences import Preference
from hidden_context.errors import DataError

if TYPE_CHECKING:
    from hidden_context.objectives import Labels, Objective


def annotator_names(preferences: Sequence[Preference], column: str = "annotator") -> list[str]:
    """Names of all annotators of a column, sorted.

    Args:
        preferences: The pairs.
        column: The column that says who judged, such as ``objective``.

    Returns:
        Distinct names, as texts.

    Raises:
        DataError: If a value is neither text nor integer.
    """
    found = {
        str(annotation.annotator)
        for pair in preferences
        for annotation in annotations_of(pair, column)
        if annotation.annotator not in (None, "")
    }
    return sorted(found)


def labels_of(
    preferences: Sequence[Preference],
    index: Callable[[object], int] | None = None,
    column: str = "annotator",
) -> Labels:
    """Collect the labels of pairs.

    Args:
        preferences: B pairs.
        index: Index of an annotator by name, −1 for those who are not known; None knows nobody.
        column: The column that says who judged.

    Returns:
        Labels of B pairs, in order, float32.

    Raises:
        DataError: If an annotation is malformed.
    """
    import torch

    from hidden_context.objectives import Labels
    from hidden_context.objectives.labels import UNKNOWN

    found = [annotations_of(pair, column) for pair in preferences]
    flat = [annotation for annotations in found for annotation in annotations]
    nan = float("nan")

    def floats(values: Sequence[float | None], missing: float) -> torch.Tensor:
        filled = [missing if value is None else float(value) for value in values]
        return torch.tensor(filled, dtype=torch.float32)

    annotators = [UNKNOWN if index is None else index(a.annotator) for a in flat]
    sizes = torch.tensor([len(annotations) for annotations in found], dtype=torch.long)
    return Labels(
        preference=floats([a.preference for a in flat], 1.0),
        pair=torch.repeat_interleave(torch.arange(len(found)), sizes),
        strength=floats([a.strength for a in flat], nan),
        margin=floats([a.margin for a in flat], 0.0),
        annotator=torch.tensor(annotators, dtype=torch.long),
        weight=floats([pair.weight for pair in preferences], 1.0),
        rating_chosen=floats([pair.rating_chosen for pair in preferences], nan),
        rating_rejected=floats([pair.rating_rejected for pair in preferences], nan),
    )


def labels_for(
    objective: Objective, preferences: Sequence[Preference], file: str | Path | None = None
) -> Labels:
    """Collect the labels of pairs as an objective reads them.

    Args:
        objective: The objective, which may know annotators by a column of the data.
        preferences: The pairs.
        file: Where they come from, for the error.

    Returns:
        Labels of the pairs, in order.

    Raises:
        DataError: If a strength is beyond the objective's levels, naming its line.
    """
    known, levels = objective.annotators, objective.outcomes.levels
    if known is None:
        labels = labels_of(preferences)
    else:
        labels = labels_of(preferences, known.index, known.column)
    top = (levels - 1) // 2
    beyond = (labels.strength.abs() > top).nonzero().squeeze(-1)
    if levels > 3 and len(beyond):
        row = int(labels.pair[beyond[0]])
        raise DataError(
            f"strength {labels.strength[beyond[0]]:g} is beyond {levels} levels (up to {top})",
            file=file,
            line=preferences[row].source_line or row + 1,
            field="strength",
            remedy="Scale the strengths, or train with --outcomes seven_levels",
        )
    return labels
