"""What annotators said of pairs, as an evaluation reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hidden_context.data.annotations import annotations_of
from hidden_context.data.labels import labels_of
from hidden_context.data.preferences import Preference
from hidden_context.errors import DataError
from hidden_context.objectives import Labels, Objective


def vote_shares(pairs: Sequence[Preference]) -> list[float]:
    """Share of annotators for each pair's chosen side, as training reads it.

    It is the mean over ``annotations`` where there are some, else ``preference``, else 1, ½ or 0 by
    the sign of ``strength``, else 1.

    >>> from hidden_context.data.preferences import parse_preference
    >>> vote_shares([parse_preference({"chosen": "a", "rejected": "b", "strength": -2})])
    [0.0]
    """
    return [fmean(said.preference for said in annotations_of(pair)) for pair in pairs]


def labels_for(objective: Objective, pairs: Sequence[Preference], file: str | Path) -> Labels:
    """Collect the labels of pairs as an objective reads them.

    Args:
        objective: The objective, which may know annotators by a column of the data.
        pairs: The pairs.
        file: Where they come from, for the error.

    Returns:
        Labels of the pairs, in order.

    Raises:
        DataError: If a strength is beyond the objective's levels, naming its line.
    """
    known = objective.annotators
    labels = labels_of(pairs) if known is None else labels_of(pairs, known.index, known.column)
    levels = objective.outcomes.levels
    if levels > 3:
        top = (levels - 1) // 2
        beyond = (labels.strength.abs() > top).nonzero().squeeze(-1)
        if len(beyond):
            row = int(labels.pair[beyond[0]])
            raise DataError(
                f"strength {labels.strength[beyond[0]]:g} is beyond the {levels} levels that the "
                f"model knows, which end at {top}",
                file=file,
                line=pairs[row].source_line or row + 1,
                field="strength",
                remedy="Scale the strengths as those that it was trained on",
            )
    return labels
