"""From preferences to the labels that an objective reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hidden_context.data.annotations import annotations_of
from hidden_context.data.preferences import Preference

if TYPE_CHECKING:
    from hidden_context.objectives import Labels


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
