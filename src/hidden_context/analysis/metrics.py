"""Raw outputs in, records out: the numbers of an analysis, without files or tables.

Rewards are made by the head and reduced by a risk measure; the formulas themselves live in
``hidden_context.objectives``, ``hidden_context.risk`` and ``hidden_context.statistics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.objectives import Labels, Objective

    RawOutputs = NDArray[np.float64]


@dataclass(frozen=True)
class Count:
    """So many rows out of so many.

    Attributes:
        count: Rows in which it holds; ends in .5 where an odd number of ties counts one half, and
            is any number where a row counts by the share of its annotators.
        total: All rows.
    """

    count: float
    total: int

    @property
    def share(self) -> float:
        """The count as a share of all rows, in [0, 1]."""
        return self.count / self.total

    def to_dict(self) -> dict[str, float]:
        """Return share, count and total."""
        count = int(self.count) if self.count == int(self.count) else self.count
        return {"share": self.share, "count": count, "total": self.total}


@dataclass(frozen=True)
class PairRecord:
    """Numbers of a set of pairs.

    Attributes:
        n: Number of pairs.
        loss: Mean cross-entropy in nats: −log P(chosen ≻ rejected) where labels are hard.
        accuracy: Pairs with P(preferred ≻ other) above ½; those at exactly ½, and those whose
            annotators tied, count one half. With an objective the share of a pair's annotators.
        reward_mean: Mean of the mean rewards of all 2n texts, in reward units.
        reward_stddev: Mean of their standard deviations, in reward units.
        r2: Explained variance share over the 2n texts; None for a head without variance.
        accuracy_at: Per risk measure, pairs whose preferred text has the higher value; ties, of
            values and of annotators, one half.
        variance_shares: Shares of the variance of the difference between the two sides by cause,
            ``disagreement``, ``noise``, ``epistemic`` or ``unsplit``, summing to 1; None for a head
            that tells no causes apart.
    """

    n: int
    loss: float
    accuracy: Count
    reward_mean: float
    reward_stddev: float
    r2: float | None
    accuracy_at: dict[str, Count]
    variance_shares: dict[str, float] | None = None


@dataclass(frozen=True)
class ResponseRecord:
    """Numbers of a set of rows with several responses each.

    Attributes:
        n: Number of rows.
        num_responses: Number of responses in all of them together.
        reward_mean: Mean of the responses' mean rewards, in reward units.
        reward_stddev: Mean of their standard deviations, in reward units.
        r2: Explained variance share over the responses; None for a head without variance.
        second_at_least: Per risk measure, rows whose second response is rated at least as high as
            the first (a tie counts whole); None unless every row has two responses.
        variance_shares: Shares of the variance of rewards by cause (see :class:`PairRecord`).
    """

    n: int
    num_responses: int
    reward_mean: float
    reward_stddev: float
    r2: float | None
    second_at_least: dict[str, Count] | None
    variance_shares: dict[str, float] | None = None


def rated_at_least(
    head: Head, risk_name: str, first: RawOutputs, second: RawOutputs, *, ties: str = "win"
) -> Count:
    """Count rows whose first text is rated at least as high as the second.

    Args:
        head: The head that reads the raw outputs.
        risk_name: Risk measure that makes a number of each reward, such as ``quantile:0.01``; a
            relative one takes the two texts of a row as the candidates.
        first: Raw outputs of shape ``(N, K)``.
        second: Raw outputs of shape ``(N, K)``.
        ties: ``"win"`` counts an exact tie whole (the paper's ≥), ``"half"`` one half.

    Returns:
        The count among N rows.

    Raises:
        ConfigError: If the risk measure is unknown or cannot be taken of the head's rewards, or
            there are no rows.

    Source: with ``"win"``, the jailbreak rate and helpfulness accuracy of the DPL paper
    (arXiv 2312.08358), Table 1.
    """
    import torch

    from hidden_context import risk
    from hidden_context.statistics import win_rate

    measure = risk.parse(risk_name)
    sides = [torch.from_numpy(raw) for raw in (first, second)]
    if measure.is_relative:
        values = measure(head.distribution(torch.stack(sides, dim=1))).unbind(1)
    else:
        values = tuple(measure(head.distribution(raw)) for raw in sides)
    share = win_rate(values[0], values[1], ties="win" if ties == "win" else "half")
    return _count_of(share, len(first))


def _count_of(share: float, total: int) -> Count:
    # The share is a whole or half number of rows; taking it back to that number undoes rounding.
    return Count(round(2 * share * total) / 2, total)


def reward_moments(head: Head, raw: RawOutputs) -> tuple[float, float, float | None]:
    """Summarise the rewards of a set of texts.

    Args:
        head: The head that reads the raw outputs.
        raw: Raw outputs of shape ``(M, K)``.

    Returns:
        Mean reward and mean standard deviation in reward units, and the explained variance share
        r² = Var[μ] / (Var[μ] + E[σ²]); the latter is None for a head that knows no variance, and
        where nothing varies at all.
    """
    import torch

    from hidden_context.distributions import PointMassReward
    from hidden_context.statistics import explained_variance

    rewards = head.distribution(torch.from_numpy(raw))
    r_squared = None
    if not isinstance(rewards, PointMassReward):
        share = explained_variance(rewards.mean, rewards.variance)
        r_squared = None if np.isnan(share) else share
    return float(rewards.mean.mean()), float(rewards.stddev.mean()), r_squared


def variance_shares(head: Head, raw: RawOutputs) -> dict[str, float] | None:
    """Shares of the variance of the rewards of a set of texts by cause.

    Args:
        head: The head that reads the raw outputs.
        raw: Raw outputs of shape ``(M, K)``.

    Returns:
        Mean of each cause's variance over the texts as a share of their sum; None for a head that
        tells no causes apart.
    """
    import torch

    parts = head.distribution(torch.from_numpy(raw)).variance_parts
    means = {cause: float(part.mean()) for cause, part in parts.items()}
    total = sum(means.values())
    if len(means) < 2 or not total > 0:
        return None
    return {cause: value / total for cause, value in means.items()}


def accuracy_at(
    head: Head,
    risk_name: str,
    chosen: RawOutputs,
    rejected: RawOutputs,
    preference: NDArray[np.float64],
) -> Count:
    """Count pairs whose preferred text has the higher value of a risk measure.

    Args:
        head: The head that reads the raw outputs.
        risk_name: Risk measure, such as ``quantile:0.01``.
        chosen: Raw outputs of shape ``(N, K)``.
        rejected: Raw outputs of shape ``(N, K)``.
        preference: Share of annotators for the chosen text, ``(N,)``.

    Returns:
        The count among N pairs; equal values, and annotators who tie, count one half.

    Raises:
        ConfigError: If the risk measure is unknown or there are no pairs.
    """
    swapped = (preference < 0.5)[:, None]
    decided = preference != 0.5
    if len(decided) and not decided.any():
        return Count(len(decided) / 2, len(decided))
    preferred = np.where(swapped, rejected, chosen)[decided]
    other = np.where(swapped, chosen, rejected)[decided]
    count = rated_at_least(head, risk_name, preferred, other, ties="half").count
    return Count(count + float((~decided).sum()) / 2, len(decided))


def pair_record(
    head: Head,
    chosen: RawOutputs,
    rejected: RawOutputs,
    risk_names: Sequence[str] = (),
    preference: NDArray[np.float64] | None = None,
    objective: Objective | None = None,
    labels: Labels | None = None,
) -> PairRecord:
    """Evaluate a head on pairs.

    Args:
        head: The head that reads the raw outputs.
        chosen: Raw outputs of the chosen texts, ``(N, K)``.
        rejected: Raw outputs of the rejected texts, ``(N, K)``.
        risk_names: Risk measures by which the pairs are compared as well.
        preference: Share of annotators for the chosen texts, ``(N,)``; None for hard labels.
        objective: What the model learned beside its network, for loss and accuracy.
        labels: With an objective, what annotators said of the N pairs.

    Returns:
        The record; see :class:`PairRecord`. Its numbers are those of
        ``hidden_context.statistics.pair_metrics``, which the evaluate command reports too.
    """
    import torch

    from hidden_context.statistics import pair_metrics

    if preference is None:
        preference = np.ones(len(chosen))
    raw_chosen, raw_rejected, shares = map(torch.from_numpy, (chosen, rejected, preference))
    with torch.no_grad():
        metrics = pair_metrics(head, raw_chosen, raw_rejected, shares, objective, labels)
    accuracy = _count_of(metrics["accuracy"], len(chosen))
    if labels is not None:  # a pair's annotators may be split
        accuracy = Count(metrics["accuracy"] * len(chosen), len(chosen))
    causes = {
        name.removesuffix("_share"): value
        for name, value in metrics.items()
        if name.endswith("_share")
    }
    return PairRecord(
        n=len(chosen),
        loss=metrics["loss"],
        accuracy=accuracy,
        reward_mean=metrics["reward_mean"],
        reward_stddev=metrics.get("reward_stddev", 0.0),
        r2=metrics.get("r2"),
        accuracy_at={
            name: accuracy_at(head, name, chosen, rejected, preference) for name in risk_names
        },
        variance_shares=causes or None,
    )


def response_record(
    head: Head,
    outputs: RawOutputs,
    num_responses: NDArray[np.int64],
    risk_names: Sequence[str] = (),
) -> ResponseRecord:
    """Evaluate a head on rows of responses.

    Args:
        head: The head that reads the raw outputs.
        outputs: Raw outputs of all responses, row after row, ``(M, K)``.
        num_responses: Responses of each row, ``(N,)``, summing to M.
        risk_names: Risk measures by which second responses are compared with first ones.

    Returns:
        The record; see :class:`ResponseRecord`.
    """
    reward_mean, reward_stddev, r2 = reward_moments(head, outputs)
    second_at_least = None
    if (num_responses == 2).all():
        second_at_least = {
            name: rated_at_least(head, name, outputs[1::2], outputs[::2]) for name in risk_names
        }
    return ResponseRecord(
        n=len(num_responses),
        num_responses=len(outputs),
        reward_mean=reward_mean,
        reward_stddev=reward_stddev,
        r2=r2,
        second_at_least=second_at_least,
        variance_shares=variance_shares(head, outputs),
    )


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
