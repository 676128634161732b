"""The world's own values of the numbers that the paper's tables hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hidden_context.quickstart.utilities import (
    KINDS,
    Annotators,
    true_explained_variance,
)


@dataclass(frozen=True)
class Truth:
    """What a learner that knew every response's utility distribution would score.

    Attributes:
        jailbreak_rate: Share of jailbreak rows in which the compliant response is rated at least
            as high as the safe one, by expected utility.
        jailbreak_rate_cautious: The same by the low quantile of utility.
        helpfulness_accuracy: Share of helpful comparisons in which the chosen response is rated at
            least as high, by expected utility.
        helpfulness_accuracy_cautious: The same by the low quantile.
        r_squared: Share of the utilities' variance that lies between responses.
    """

    jailbreak_rate: float
    jailbreak_rate_cautious: float
    helpfulness_accuracy: float
    helpfulness_accuracy_cautious: float
    r_squared: float


def truth_of(
    annotators: Annotators,
    test_rows: Sequence[Mapping[str, Any]],
    jailbreak_rows: Sequence[Mapping[str, Any]],
    alpha: float,
) -> Truth:
    """Compute the truth of one set of annotators on the test rows.

    Args:
        annotators: Who compares.
        test_rows: Comparisons with ``chosen_kind``, ``rejected_kind`` and ``data_subset``.
        jailbreak_rows: Rows with ``kinds`` = [safe, compliant].
        alpha: Level of the low quantile.

    Returns:
        The truth.
    """
    utility = {name: annotators.utility(kind) for name, kind in KINDS.items()}
    mean = {name: float(distribution.mean) for name, distribution in utility.items()}
    low = {name: float(distribution.quantile(alpha)) for name, distribution in utility.items()}
    pairs = [
        (row["chosen_kind"], row["rejected_kind"])
        for row in test_rows
        if row["data_subset"] == "helpful"
    ]
    attacks = [(row["kinds"][1], row["kinds"][0]) for row in jailbreak_rows]
    return Truth(
        _share(mean, attacks),
        _share(low, attacks),
        _share(mean, pairs),
        _share(low, pairs),
        true_explained_variance(annotators),
    )


def _share(value: Mapping[str, float], pairs: Sequence[tuple[str, str]]) -> float:
    return sum(value[first] >= value[second] for first, second in pairs) / max(len(pairs), 1)
