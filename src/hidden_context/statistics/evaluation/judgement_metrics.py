"""Metrics of raw outputs against judgements, by group too, with votes as the unit; Borda counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.heads import Head
from hidden_context.likelihood import Labels, Likelihood

Groups = Mapping[str, Sequence[object]]


def judgement_metrics(likelihood: Likelihood, raw: Tensor, labels: Labels) -> dict[str, float]:
    """Compute loss, accuracy, mean reward, mean σ, r² and the causes of variance.

    Args:
        likelihood: The likelihood. Known annotators are predicted individually.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels of these responses.

    Returns:
        ``loss`` in nats, the mean over votes, without weights and penalties. For comparisons,
        ``accuracy``, the share of votes whose response is the likelier one (ties half). For
        gaussian ratings, ``rating_rmse``, the root mean square distance to the expected rating,
        in the data's units. Over all R responses, ``reward_mean`` and ``reward_stddev`` (mean σ)
        in reward units, and ``r2``; the latter two only for heads that have a variance. For heads
        that tell causes apart, ``shared_context_share``, ``noise_share`` and ``ignorance_share`` of
        the variance of the difference of two compared responses. There is no loss if the model
        reads none of the labels.
    """
    labels = likelihood.read(labels)
    compared, rated = labels.comparisons, labels.ratings
    loss, right = judgement_values(likelihood, raw, labels)
    metrics = {}
    if len(loss):
        metrics["loss"] = _mean(loss, labels.votes)
    if len(compared):
        metrics["accuracy"] = _mean(right, compared.votes)
    if len(rated) and likelihood.options.ratings == "gaussian":
        error = likelihood.rating_means(raw, labels) - rated.value.to(raw)
        metrics["rating_rmse"] = _mean(error.square(), rated.votes) ** 0.5
    rewards = likelihood.head.distribution(raw)
    metrics["reward_mean"] = rewards.mean.mean().item()
    if bool((rewards.variance > 0).any()):
        metrics["reward_stddev"] = rewards.stddev.mean().item()
        metrics["r2"] = explained_variance(rewards.mean, rewards.variance)
    return metrics | variance_shares(likelihood, raw, labels)


def judgement_values(likelihood: Likelihood, raw: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Compute the loss of every judgement, and whether each comparison is ranked correctly.

    Args:
        likelihood: The likelihood.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels with C comparisons among J judgements.

    Returns:
        Losses in nats, of shape ``(J,)``; and scores of shape ``(C,)``: 1 where the preferred
        response is the likelier one, 0 where the other response is, ½ where neither is.
    """
    loss = likelihood.negative_log_likelihood(raw, labels)
    forward = likelihood.log_prob_first(raw, labels)
    backward = likelihood.log_prob_first(raw, labels.swapped())
    sign = torch.sign(labels.comparisons.preference.to(forward) - 0.5)
    return loss, 0.5 + 0.5 * sign * torch.sign(forward - backward)


def variance_shares(likelihood: Likelihood, raw: Tensor, labels: Labels) -> dict[str, float]:
    """Compute the shares by cause of the variance of reward differences, over comparison votes.

    Args:
        likelihood: The likelihood.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels of these responses.

    Returns:
        ``{cause}_share`` in [0, 1], summing to 1; empty for heads that cannot tell causes apart.
    """
    compared = labels.comparisons
    if not len(compared):
        return {}
    first, second = (
        likelihood.head.distribution(raw[side]) for side in (compared.first, compared.second)
    )
    parts = first.difference_parts(second)
    if len(parts) < 2:
        return {}
    means = {name: _mean(part, compared.votes) for name, part in parts.items()}
    return {f"{name}_share": mean / sum(means.values()) for name, mean in means.items()}


def explained_variance(mean: Tensor, variance: Tensor) -> float:
    r"""Compute the share of the variance of rewards that the text explains.

    .. math:: r^2 = \operatorname{Var}[\hat\mu] / (\operatorname{Var}[\hat\mu] + E[\hat\sigma^2])

    Near 1 the reward hardly varies between contexts; a low value shows hidden context. The variance
    of the means is the population's (divided by n), computed in float64.

    Args:
        mean: Mean reward of each text, any shape, at least one text.
        variance: Variance of the reward of each text, of the same shape.

    Returns:
        r² in [0, 1]; NaN if the means are all equal and the variances are all 0.

    Raises:
        ConfigError: If the shapes differ or there is no text.

    Source: DPL paper (arXiv 2312.08358), section 5.
    """
    mean, variance = torch.as_tensor(mean).double(), torch.as_tensor(variance).double()
    if mean.shape != variance.shape or mean.numel() == 0:
        raise ConfigError(
            "means and variances of the same, non-empty set of texts are needed; got shapes "
            f"{tuple(mean.shape)} and {tuple(variance.shape)}."
        )
    explained = mean.var(correction=0)
    return float(explained / (explained + variance.mean()))


def pairwise_probabilities(head: Head, raw: Tensor) -> Tensor:
    """Return P(a ≻ b) of all ordered pairs of responses to one prompt.

    Args:
        head: The head.
        raw: Raw outputs of the n responses, of shape ``(n, K)``.

    Returns:
        Probabilities of shape ``(n, n)``, row a against column b, with ½ on the diagonal.

    Raises:
        ConfigError: If ``raw`` is not a matrix.
    """
    if raw.dim() != 2:
        raise ConfigError(f"raw outputs of shape (n, K) are needed, not {tuple(raw.shape)}.")
    n = len(raw)
    first, second = raw.unsqueeze(1).expand(n, n, -1), raw.unsqueeze(0).expand(n, n, -1)
    return head.log_prob_preferred(first, second).exp().fill_diagonal_(0.5)


def borda_counts(probability: Tensor) -> Tensor:
    r"""Return each response's mean probability of being preferred to another response.

    .. math:: \mathrm{BC}(a) = \frac{1}{n - 1} \sum_{b \ne a} P(a \succ b)

    With hidden context, a scalar reward model learns to order responses by their Borda count, not
    by expected utility. The paper also counts a response against itself, which moves all counts
    towards ½ and keeps the order: its count is ``((n − 1)·BC + ½) / n``.

    Args:
        probability: P(a ≻ b), of shape ``(n, n)`` with n ≥ 2; the diagonal is ignored.

    Returns:
        Counts in [0, 1], of shape ``(n,)``, in float64; their mean is ½.

    Raises:
        ConfigError: If the matrix is not square, has fewer than two rows, or has entries outside
            [0, 1].

    Source: DPL paper (arXiv 2312.08358), section 3.
    """
    p = torch.as_tensor(probability).double()
    if p.dim() != 2 or p.shape[0] != p.shape[1] or p.shape[0] < 2:
        raise ConfigError(f"a square matrix of probabilities is needed, not {tuple(p.shape)}.")
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ConfigError("probabilities must lie in [0, 1].")
    return (p.sum(1) - p.diagonal()) / (p.shape[0] - 1)


def grouped_judgement_metrics(
    likelihood: Likelihood, raw: Tensor, labels: Labels, groups: Groups
) -> dict[str, float]:
    """Compute ``judgement_metrics`` overall and for each value of each grouping column.

    Args:
        likelihood: The likelihood.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels of E examples.
        groups: For each column, the value of each of the E examples; None for a missing value.

    Returns:
        Metrics; a group's metrics are named ``{column}_{value}_{metric}``. A column with a single
        value has no groups.
    """
    metrics = judgement_metrics(likelihood, raw, labels)
    sizes = labels.offsets.diff()
    for column, values in groups.items():
        named = [None if value is None else str(value) for value in values]
        present = sorted({name for name in named if name is not None})
        for name in present if len(present) > 1 else ():
            mask = torch.tensor([other == name for other in named], device=sizes.device)
            own = raw[mask.repeat_interleave(sizes).to(raw.device)]
            part = judgement_metrics(likelihood, own, labels.select(mask))
            metrics |= {f"{column}_{name}_{metric}": value for metric, value in part.items()}
    return metrics


def _mean(values: Tensor, votes: Tensor) -> float:
    """Return the mean over votes."""
    votes = votes.to(values)
    return ((values * votes).sum() / votes.sum()).item()
