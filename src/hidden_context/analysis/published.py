"""The numbers the paper published, so that ours can be printed beside them.

Source: Siththaranjan, Laidlaw and Hadfield-Menell, "Distributional Preference Learning"
(arXiv 2312.08358): Table 1 and the r² values of its Llama-2-7B reward models.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLISHED_ALPHA = 0.01
"""The quantile level behind every risk-sensitive number in the paper."""


@dataclass(frozen=True)
class PublishedCell:
    """What the paper says of one type of reward model trained on one set; shares, not percent.

    ``None`` stands where the paper prints nothing.

    Attributes:
        jailbreak_rate: At the mean, and risk-sensitive.
        helpfulness_accuracy: At the mean, and risk-sensitive.
        r_squared: Explained variance share.
    """

    jailbreak_rate: tuple[float | None, float | None] = (None, None)
    helpfulness_accuracy: tuple[float | None, float | None] = (None, None)
    r_squared: float | None = None


PUBLISHED: dict[tuple[str, str], PublishedCell] = {
    ("base", "helpful"): PublishedCell((0.524, None), (0.726, None)),
    ("base", "harmless"): PublishedCell((0.037, None), (0.495, None)),
    ("base", "both"): PublishedCell((0.251, None), (0.682, None)),
    ("mean_and_variance", "helpful"): PublishedCell(r_squared=0.89),
    ("mean_and_variance", "harmless"): PublishedCell(r_squared=0.77),
    ("mean_and_variance", "both"): PublishedCell((0.305, 0.203), (0.684, 0.664), 0.53),
    ("categorical", "helpful"): PublishedCell(r_squared=0.63),
    ("categorical", "harmless"): PublishedCell(r_squared=0.53),
    ("categorical", "both"): PublishedCell((0.321, 0.134), (0.662, 0.662), 0.41),
}
"""Published numbers by (type of reward model, training set)."""


def published(reward_model_type: str, train_set: str, alpha: float) -> PublishedCell:
    """Return what the paper printed for one model, as far as it can be compared at ``alpha``.

    >>> published("mean_and_variance", "both", 0.01).jailbreak_rate
    (0.305, 0.203)
    >>> published("mean_and_variance", "both", 0.05).jailbreak_rate
    (0.305, None)
    """
    cell = PUBLISHED.get((reward_model_type, train_set), PublishedCell())
    if alpha == PUBLISHED_ALPHA:
        return cell
    return PublishedCell(
        jailbreak_rate=(cell.jailbreak_rate[0], None),
        helpfulness_accuracy=(cell.helpfulness_accuracy[0], None),
        r_squared=cell.r_squared,
    )
