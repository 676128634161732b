"""Adaptation: learn annotators who were not in training from a few of their judgements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from hidden_context.errors import ConfigError
from hidden_context.likelihood.base import Likelihood
from hidden_context.likelihood.covariates import Value
from hidden_context.likelihood.ensemble import make_likelihood
from hidden_context.likelihood.labels import Labels
from hidden_context.likelihood.single import HeadLikelihood, members_of

_STEPS: Final = 60
_TOLERANCE: Final = 1e-4


def adapt(
    likelihood: Likelihood,
    raw: Tensor,
    labels: Labels,
    names: Sequence[str],
    covariates: Sequence[Mapping[str, Value]] | None = None,
) -> Likelihood:
    r"""Infer tastes and habits of new people; everything else that was learned stays fixed.

    .. math:: \min_q \; E_{q}\Bigl[-\sum_j w_j \log P(y_j \mid z, h)\Bigr]
        + \operatorname{KL}\bigl(q(z, h)\,\|\,N(xB, \operatorname{diag}(1, \tau^2))\bigr)

    L-BFGS fits all people at once. A person without judgements keeps the prior, whose mean depends
    on the covariates.

    Args:
        likelihood: What training has learned, with annotators.
        raw: Raw outputs of the responses judged, of shape ``(R, K)``.
        labels: The judgements; ``annotator`` is the place in ``names``.
        names: The A people.
        covariates: What else is known of each; None for nothing.

    Returns:
        A likelihood that knows these people alone, in evaluation mode.

    Raises:
        ConfigError: If training knew no annotators, a name stands twice, a judgement is by somebody
            beyond the names, or covariates do not fit.
    """
    if not likelihood.knows_annotators:
        raise ConfigError(
            "this model was trained without annotators, so it has nothing to adapt; train it with "
            "--annotators on data that name them."
        )
    coding, design = likelihood.options.covariates, None
    if covariates is not None:
        if coding is None:
            raise ConfigError("this model was trained without covariates of annotators.")
        design = coding.encode(covariates)
    beyond = int(labels.annotator.max()) if labels.num_judgements else -1
    if beyond >= len(names):
        raise ConfigError(
            f"a judgement has the annotator index {beyond}, but names has the length {len(names)}."
        )
    options = dataclasses.replace(likelihood.options, names=tuple(names))
    adapted = make_likelihood(likelihood.head, options, design)
    learned = next(likelihood.parameters())
    adapted = adapted.to(device=raw.device, dtype=learned.dtype)
    for old, new in zip(members_of(likelihood), members_of(adapted), strict=True):
        _take_over(old, new)
    adapted.requires_grad_(False)
    own = [part for head in members_of(adapted) for part in _of_people(head)]
    for parameter in own:
        parameter.requires_grad_(True)
    if labels.num_judgements:
        _minimise(adapted, raw.detach(), likelihood.read(labels), own)
    return adapted.requires_grad_(False).eval()


def _minimise(adapted: Likelihood, raw: Tensor, labels: Labels, own: list[nn.Parameter]) -> None:
    weight = labels.weight
    optimizer = torch.optim.LBFGS(
        own, max_iter=_STEPS, tolerance_change=_TOLERANCE, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        nats = adapted(raw, labels)
        loss = (weight.to(nats) * nats).sum() + adapted.prior().to(nats)
        loss.backward()
        return loss.detach()

    with torch.enable_grad():
        optimizer.step(closure)


def _take_over(old: HeadLikelihood, new: HeadLikelihood) -> None:
    """Copy everything that does not belong to one person; start everybody at the prior."""
    of_people = {id(parameter) for parameter in _of_people(new)}
    buffers = {id(buffer) for buffer in new.buffers()}
    learned = old.state_dict()
    with torch.no_grad():
        for name, values in new.state_dict(keep_vars=True).items():
            if id(values) not in of_people | buffers:
                values.copy_(learned[name])
        for known in (new.annotators, new.habits):
            if known is not None:
                known.location.zero_()
                if known.log_scale is not None:
                    known.log_scale.copy_(known.log_prior_scales().expand_as(known.log_scale))


def _of_people(head: HeadLikelihood) -> list[nn.Parameter]:
    """Return the parameters with one row for each person."""
    parts: list[nn.Parameter | None] = []
    for known in (head.annotators, head.habits):
        if known is not None:
            parts += [known.location, known.log_scale]
    if head.ratings is not None and head.ratings.styles is not None:
        parts += [head.ratings.styles.level, head.ratings.styles.log_unit]
    return [part for part in parts if part is not None]
