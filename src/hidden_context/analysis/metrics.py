"""Raw outputs in, records out: the numbers of an analysis, without files or tables.

Rewards are made by the head and reduced by a risk measure; the formulas themselves live in
``hidden_context.likelihood``, ``hidden_context.risk`` and ``hidden_context.statistics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hidden_context.analysis.evidence import pair_evidence, response_evidence
from hidden_context.analysis.records import (
    Count,
    PairRecord,
    ResponseRecord,
    count_of,
    record_of_pairs,
    record_of_responses,
)

if TYPE_CHECKING:
    from hidden_context.heads import Head
    from hidden_context.likelihood import Labels, Likelihood

    RawOutputs = NDArray[np.float64]


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
    return count_of(share, len(first))


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


def pair_record(
    likelihood: Likelihood,
    chosen: RawOutputs,
    rejected: RawOutputs,
    risk_names: Sequence[str] = (),
    preference: NDArray[np.float64] | None = None,
    labels: Labels | None = None,
) -> PairRecord:
    """Evaluate a likelihood on pairs.

    Args:
        likelihood: The head that reads the raw outputs, and what was learned beside the network.
        chosen: Raw outputs of the chosen texts, ``(N, K)``.
        rejected: Raw outputs of the rejected texts, ``(N, K)``.
        risk_names: Risk measures by which the pairs are compared as well.
        preference: Share of annotators for the chosen texts, ``(N,)``; None for hard labels.
        labels: What annotators said of the N pairs (see ``pair_evidence``).

    Returns:
        The record; see :class:`PairRecord`. Where each pair has one vote, its numbers are those of
        ``hidden_context.statistics.judgement_metrics``, which the evaluate command reports too.
    """
    if preference is None:
        preference = np.ones(len(chosen))
    evidence = pair_evidence(likelihood, chosen, rejected, preference, risk_names, labels)
    return record_of_pairs(evidence, np.ones(len(chosen), dtype=bool))


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
    evidence = response_evidence(head, outputs, num_responses, risk_names)
    return record_of_responses(evidence, np.ones(len(num_responses), dtype=bool))
