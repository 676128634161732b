r"""A linear probe that knows its annotators: one penalty for rewards and tastes alike.

An annotator gives only a few dozen votes, too few for a network to learn what the annotator cares
about. Every raw output is therefore linear in the features,

.. math:: \text{raw} = \text{start} + \text{slope}\cdot x, \qquad
    \min\; \frac1V\Bigl(\sum_j w_j\,\ell_j + \lambda_{\text{prior}}\cdot\text{prior}\Bigr)
    + \tfrac12 \sum_k \frac{c_k\lambda}{b^2}\, \|\text{slope}_k - \text{slope}_{0k}\|^2

with the bound :math:`\ell_j` of a vote by a known annotator. For rewards, slope₀ is a logistic
regression of the votes, which says what the population wants; for tastes it is 0. The penalty λ is
the best in this regression at predicting held-out groups, and b brings λ to the unit of the head's
rewards. For tastes, c is the value that best predicts the votes of known annotators on held-out
groups. For rewards, c is large, so that what the regression has shrunk is not fitted a second time.
"""

from __future__ import annotations

import copy
import math
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hidden_context.baselines.pairs import group_folds
from hidden_context.errors import DivergedError
from hidden_context.heads.factor import FactorHead
from hidden_context.likelihood import HeadLikelihood, Likelihood
from hidden_context.training.config import TrainConfig
from hidden_context.training.frozen.features import FeatureSet
from hidden_context.training.frozen.starts import LinearStart
from hidden_context.training.schedules import cosine_factor, prior_weight

_STEPS: Final = 400
_VOTES: Final = 8192
# A step of Adam moves every weight by about the learning rate, and a reward by √D times as much.
_RATE: Final = 0.1
_RANDOM: Final = 0.1
_FEWEST_PEOPLE: Final = {"variational": 10, "map": 2}
_LEAST_UNIT: Final = 0.1
TASTE_PENALTIES: Final = (2.0, 6.0, 20.0)
"""Values of c for tastes, tried in turn while held-out votes are predicted better."""
_HOLD: Final = 100.0
# Trials are shorter than the fit itself.
_TRIAL_STEPS: Final = 150
_TRIAL_VOTES: Final = 4096
_TRIAL_FOLDS: Final = 4
# Folds are held out one after another until there are as many comparisons as this.
_HELD_OUT: Final = 8192


def fit_with_annotators(
    config: TrainConfig,
    likelihood: Likelihood,
    train: FeatureSet,
    start: LinearStart,
    draws: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[dict[str, float]]]:
    """Fit slope and start together with the annotators.

    Args:
        config: ``objective_learning_rate``, ``annotator_warmup`` and the seed.
        likelihood: The likelihood of one head; it is trained too.
        train: Standardised features and labels.
        start: The logistic regression that rewards start from.
        draws: How often each example counts, of shape ``(E,)``; None for once.

    Returns:
        The slope ``(K, D)``, the start ``(K,)``, and the loss in nats per vote over training.

    Raises:
        DivergedError: If a loss is not finite.
    """
    weight = train.weight(draws)
    with torch.random.fork_rng(devices=[]):
        factor = taste_penalty(config, likelihood, train, start, weight)
    batches = _batches(torch.arange(len(train.labels.comparisons)), _VOTES, _STEPS, config.seed)
    slope, first, history = _fit(config, likelihood, train, start, weight, batches, factor)
    slope, first = _at_the_prior(likelihood, slope, first)
    return slope, first, history


def taste_penalty(
    config: TrainConfig,
    likelihood: Likelihood,
    train: FeatureSet,
    start: LinearStart,
    weight: Tensor,
) -> float:
    """Choose the factor c in the penalty on tastes by held-out groups.

    Args:
        config: The options of ``fit_with_annotators``.
        likelihood: The untrained likelihood, which stays so.
        train: Standardised features and labels.
        start: The logistic regression.
        weight: Weight of each judgement, of shape ``(J,)``.

    Returns:
        One of ``TASTE_PENALTIES``: the first whose successor is no better; the first of all
        without tastes, or where nothing can be held out.
    """
    if not likelihood.knows_tastes:
        return TASTE_PENALTIES[0]
    trials = _trials(train, config.seed)
    best, chosen = math.inf, TASTE_PENALTIES[0]
    for factor in TASTE_PENALTIES:
        loss = 0.0
        for batches, held_out in trials:
            own = copy.deepcopy(likelihood)
            slope, first, _ = _fit(config, own, train, start, weight, batches, factor)
            test, responses = train.labels.take(held_out)
            with torch.no_grad():
                raw = functional.linear(train.features[responses], slope, first)
                nats = own.negative_log_likelihood(raw, test)
            loss += float((nats * test.votes.to(nats)).sum())
        if not loss < best:
            break
        best, chosen = loss, factor
    return chosen


def _trials(train: FeatureSet, seed: int) -> list[tuple[list[Tensor], Tensor]]:
    """Return batches to learn from and held-out comparisons, for as many folds as are needed."""
    said = train.labels.comparisons
    groups = train.response_groups()
    sides = np.stack([groups[said.first].numpy(), groups[said.second].numpy()], axis=1)
    found: list[tuple[list[Tensor], Tensor]] = []
    count = 0
    for fold in group_folds(sides, _TRIAL_FOLDS):
        learn, held_out = (torch.from_numpy(part).nonzero().squeeze(-1) for part in fold)
        held_out = held_out[torch.randperm(len(held_out))[: 2 * _HELD_OUT]]
        found.append((_batches(learn, _TRIAL_VOTES, _TRIAL_STEPS, seed), held_out))
        count += len(held_out)
        if count >= _HELD_OUT:
            break
    return found


def _fit(
    config: TrainConfig,
    likelihood: Likelihood,
    train: FeatureSet,
    start: LinearStart,
    weight: Tensor,
    batches: list[Tensor],
    factor: float,
) -> tuple[Tensor, Tensor, list[dict[str, float]]]:
    """Minimise the loss by Adam, a batch of comparisons a step; ``factor`` is c of tastes."""
    votes, steps = float(train.labels.votes.sum()), len(batches)
    # random loadings, because their gradient vanishes at 0
    loads, width = _loadings(likelihood).unsqueeze(-1), train.features.shape[1]
    random = torch.randn(len(loads), width) / math.sqrt(width)
    slope = (start.slope() + _RANDOM * random * loads).requires_grad_()
    first = start.start.clone().requires_grad_()
    unit = max(float(start.along.abs().max()), _LEAST_UNIT)  # 0 where the regression says nothing
    penalty = (start.baseline.penalty or 1.0) / unit**2
    usual = start.slope()
    stiffness = penalty * torch.where(loads, factor, _HOLD)
    optimizer = torch.optim.Adam(
        [
            {"params": [slope, first], "lr": _RATE / math.sqrt(width)},
            {"params": list(likelihood.parameters()), "lr": config.objective_learning_rate},
        ]
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    history: list[dict[str, float]] = []
    total, seen = 0.0, 0
    for step, chosen in enumerate(batches):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * cosine_factor(step, steps)
        batch, responses = train.labels.take(chosen)
        raw = functional.linear(train.features[responses], slope, first)
        nats = (weight[chosen].to(raw) * likelihood(raw, batch)).sum() / batch.votes.sum()
        prior = prior_weight(config.annotator_warmup, step / steps) * likelihood.prior() / votes
        loss = nats + prior + 0.5 * (stiffness * (slope - usual).square()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, seen = total + nats.item(), seen + 1
        if not total < math.inf:
            raise DivergedError(
                f"training stopped in step {step + 1}: the loss is not finite. Lower "
                "--objective_learning_rate, or look for strange weights of votes."
            )
        if step % (steps // 10) == steps // 10 - 1:
            history.append({"epoch": float(len(history) + 1), "loss": total / seen})
            total, seen = 0.0, 0
    return slope.detach(), first.detach(), history


def _at_the_prior(likelihood: Likelihood, slope: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    r"""Centre tastes on their mean and scale them by their spread; nobody's rewards change.

    The penalty on loadings lets contexts drift away from their prior N(0, I), which predicts the
    population. Here they get the prior's mean, and its variance if there are enough annotators.
    """
    head = likelihood.head
    if not isinstance(likelihood, HeadLikelihood) or likelihood.annotators is None:
        return slope, start
    assert isinstance(head, FactorHead)
    known = likelihood.annotators
    with torch.no_grad():
        mean = known.location.mean(0)
        location, scale = likelihood.posterior(torch.arange(len(known.location)))
        spread = ((location - mean).square() + scale.square()).mean(0).sqrt()
        enough = len(known.location) >= _FEWEST_PEOPLE[known.inference] and bool((spread > 0).all())
        unit = spread if enough else torch.ones_like(spread)
        known.location.sub_(mean).div_(unit)
        if known.log_scale is not None:
            known.log_scale.sub_(unit.log())
        if likelihood.covariates is not None:
            likelihood.covariates.coefficients[:, : len(unit)].div_(unit)
        moved = head.with_context_at(slope.T, mean, unit).T.contiguous()
        return moved, head.with_context_at(start, mean, unit)


def _loadings(likelihood: Likelihood) -> Tensor:
    """Mask of the raw outputs that are loadings on a context, of shape ``(K,)``."""
    scales = torch.tensor(likelihood.head.output_scales)
    return (scales == scales.max()) & (scales.max() > scales.min())


def _batches(chosen: Tensor, votes: int, steps: int, seed: int) -> list[Tensor]:
    """Deal comparisons into batches, again and again, one for each step."""
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    while len(found) < steps:
        found += chosen[torch.randperm(len(chosen), generator=generator)].split(votes)
    return found[:steps]
