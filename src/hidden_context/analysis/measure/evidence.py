"""Numbers of each pair and each response of a score file, computed once, in blocks.

Intervals by prompt need only sums by prompt of these columns, so an analysis of a million rows
keeps a few numbers per row and no distributions. The unit is the pair: the numbers of a pair's
votes are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hidden_context.statistics.checks import Codes, Floats

if TYPE_CHECKING:
    from torch import Tensor

    from hidden_context.heads import Head
    from hidden_context.likelihood import Labels, Likelihood

_BLOCK: Final = 65_536


@dataclass(frozen=True, eq=False)
class PairEvidence:
    """The numbers of each of N pairs, as arrays of shape ``(N,)``.

    Attributes:
        preference: Share of annotators for the chosen text.
        probability: P(chosen ≻ rejected) for the population.
        loss: Mean loss over a pair's votes, in nats.
        right: Whether the preferred text is ranked first, as a mean over a pair's votes; a tie
            counts one half.
        brier: Squared distance of ``probability`` from ``preference``.
        mean: ``(N, 2)``, mean rewards of the chosen and the rejected text.
        stddev: ``(N, 2)``, standard deviations of the two rewards.
        variance: ``(N, 2)``, variances of the two rewards.
        difference_variance: Variance of the difference of the two rewards.
        right_at: By risk measure, whether the preferred text has the higher value, as a mean over a
            pair's votes; ties of values or of annotators count one half.
        parts: ``difference_variance`` by cause.
    """

    preference: Floats
    probability: Floats
    loss: Floats
    right: Floats
    brier: Floats
    mean: Floats
    stddev: Floats
    variance: Floats
    difference_variance: Floats
    right_at: dict[str, Floats]
    parts: dict[str, Floats]

    @property
    def has_variance(self) -> bool:
        """Whether the rewards have any variance."""
        return bool((self.variance > 0).any())

    @property
    def difference(self) -> Floats:
        """Difference of the mean rewards, ``(N,)``."""
        return np.asarray(self.mean[:, 0] - self.mean[:, 1])


@dataclass(frozen=True, eq=False)
class ResponseEvidence:
    """The numbers of the M responses of N rows.

    Attributes:
        row: ``(M,)``, which row each response belongs to.
        mean: ``(M,)``, mean rewards.
        stddev: ``(M,)``, standard deviations of the rewards.
        variance: ``(M,)``, variances of the rewards.
        second_at_least: By risk measure ``(N,)``, whether the second response is rated at least as
            high as the first; None unless every row has two.
        parts: ``variance`` by cause, each ``(M,)``.
    """

    row: Codes
    mean: Floats
    stddev: Floats
    variance: Floats
    second_at_least: dict[str, Floats] | None
    parts: dict[str, Floats]


def blocks(rows: int) -> Iterator[slice]:
    """Divide rows into slices of bounded length."""
    for start in range(0, rows, _BLOCK):
        yield slice(start, min(start + _BLOCK, rows))


def pair_evidence(
    likelihood: Likelihood,
    chosen: Floats,
    rejected: Floats,
    preference: Floats,
    risk_names: Sequence[str] = (),
    labels: Labels | None = None,
) -> PairEvidence:
    """Compute every pair's numbers.

    Args:
        likelihood: The likelihood: the head that reads the raw outputs, and the learned parameters
            outside the network.
        chosen: Raw outputs of the chosen texts, ``(N, K)``.
        rejected: Raw outputs of the rejected texts, ``(N, K)``.
        preference: Share of annotators for the chosen texts, ``(N,)``.
        risk_names: Risk measures by which the pairs are also compared.
        labels: Judgements of the pairs, each of two responses with the chosen response first;
            ratings are ignored. None for one vote per pair, with the pair's share.

    Returns:
        The evidence, in the order of the pairs.
    """
    import torch

    from hidden_context.likelihood import Labels

    labels = Labels.of_pairs(torch.from_numpy(preference)) if labels is None else labels
    labels = labels.without_ratings()
    found = []
    for part in blocks(len(chosen)):
        own = labels.select(torch.arange(part.start, part.stop))
        sides = chosen[part], rejected[part]
        found.append(_pair_block(likelihood, sides, preference[part], risk_names, own))
    columns, right_at, parts = (_joined([each[place] for each in found]) for place in range(3))
    return PairEvidence(preference, **columns, right_at=right_at, parts=parts)


def _joined(dicts: list[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([each[name] for each in dicts]) for name in dicts[0]}


def _pair_block(
    likelihood: Likelihood,
    sides: tuple[Floats, Floats],
    preference: Floats,
    risk_names: Sequence[str],
    labels: Labels,
) -> tuple[dict[str, Floats], dict[str, Floats], dict[str, Floats]]:
    import torch

    from hidden_context.statistics.evaluation.judgement_metrics import judgement_values

    head = likelihood.head
    chosen, rejected, share = map(torch.from_numpy, (*sides, preference))
    with torch.no_grad():
        raw = torch.stack([chosen, rejected], dim=1).flatten(0, 1)
        loss, right = map(labels.mean_by_example, judgement_values(likelihood, raw, labels))
        probability = head.log_prob_preferred(chosen, rejected).exp()
        first, second = head.distribution(chosen), head.distribution(rejected)
        parts = first.difference_parts(second)
        values = {
            "probability": probability,
            "loss": loss,
            "right": right,
            "brier": (probability - share).square(),
            "mean": torch.stack([first.mean, second.mean], dim=1),
            "stddev": torch.stack([first.stddev, second.stddev], dim=1),
            "variance": torch.stack([first.variance, second.variance], dim=1),
            "difference_variance": torch.stack(list(parts.values())).sum(0),
        }
    sign = labels.mean_by_example(torch.sign(labels.comparisons.preference.double() - 0.5)).numpy()
    right_at = {}
    for name in risk_names:
        higher = np.sign(np.subtract(*values_at(head, name, sides)))
        right_at[name] = 0.5 + 0.5 * higher * sign
    return _arrays(values), right_at, _arrays(parts)


def _arrays(values: Mapping[str, Tensor]) -> dict[str, Floats]:
    return {name: value.double().numpy() for name, value in values.items()}


def values_at(head: Head, risk_name: str, sides: Sequence[Floats]) -> list[Floats]:
    """Apply a risk measure to each row's texts; one array ``(N,)`` per place in the row."""
    import torch

    from hidden_context import risk

    measure = risk.parse(risk_name)
    raw = [torch.from_numpy(np.ascontiguousarray(side)) for side in sides]
    with torch.no_grad():
        if measure.is_relative:
            found = measure(head.distribution(torch.stack(raw, dim=1))).unbind(1)
        else:
            found = tuple(measure(head.distribution(side)) for side in raw)
    return [value.double().numpy() for value in found]


def response_evidence(
    head: Head,
    outputs: Floats,
    num_responses: Codes,
    risk_names: Sequence[str] = (),
) -> ResponseEvidence:
    """Compute every response's numbers, and which of two responses is rated higher.

    Args:
        head: The head that reads the raw outputs.
        outputs: Raw outputs of all responses, row after row, ``(M, K)``.
        num_responses: Number of responses of each row, ``(N,)``, summing to M.
        risk_names: Risk measures by which the second response is compared with the first.

    Returns:
        The evidence, in the order of the responses.
    """
    import torch

    found, parts = [], []
    with torch.no_grad():
        for part in blocks(len(outputs)):
            rewards = head.distribution(torch.from_numpy(outputs[part]))
            names = ("mean", "stddev", "variance")
            found.append(_arrays({name: getattr(rewards, name) for name in names}))
            parts.append(_arrays(rewards.variance_parts))
    rows, first, second = len(num_responses), outputs[::2], outputs[1::2]

    def at_least(name: str) -> Floats:
        holds = [np.less_equal(*values_at(head, name, (first[p], second[p]))) for p in blocks(rows)]
        return np.concatenate(holds).astype(np.float64)

    are_pairs = (num_responses == 2).all()
    second_at_least = {name: at_least(name) for name in risk_names} if are_pairs else None
    row = np.repeat(np.arange(rows), num_responses)
    return ResponseEvidence(
        row, **_joined(found), second_at_least=second_at_least, parts=_joined(parts)
    )
