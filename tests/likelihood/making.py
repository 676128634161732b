"""Likelihoods and labels that the tests of this folder share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.heads import Head
from hidden_context.likelihood import (
    Comparisons,
    Labels,
    Likelihood,
    LikelihoodOptions,
    RatingLabels,
    make_likelihood,
)
from hidden_context.likelihood.annotators import Inference
from hidden_context.likelihood.single import members_of

FACTOR = heads.make("factor", num_factors=2)
ENSEMBLE = heads.make("ensemble", member=FACTOR, num_members=2)
NAMES = ("ann", "bob", "cat")


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Raw outputs of pairs: responses 2e and 2e + 1 are the sides of pair e."""
    return torch.stack([first, second], 1).flatten(0, 1)


def draw(head: Head, count: int, seed: int = 0) -> Tensor:
    """Raw outputs of so many pairs, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * count, head.num_outputs, generator=generator, dtype=torch.float64)


def pairs(
    preference: Sequence[float], annotator: Sequence[int] | None = None, **said: Sequence[float]
) -> Labels:
    """Labels of pairs, in float64, with strengths or margins where they are given."""
    who = None if annotator is None else torch.as_tensor(annotator)
    labels = Labels.of_pairs(torch.as_tensor(preference, dtype=torch.float64), who)
    extra: dict[str, Any] = {name: torch.tensor(value).double() for name, value in said.items()}
    return labels.with_comparisons(**extra)


def comparisons(*rows: dict[str, float]) -> Comparisons:
    """Comparisons by row; what a row does not say is not known."""
    usual = {"preference": 1.0, "strength": torch.nan, "margin": 0.0, "annotator": -1}
    full = [{**usual, "weight": 1.0, "votes": 1.0, "example": 0, **row} for row in rows]
    whole = {"first", "second", "annotator", "example"}
    names = [field.name for field in dataclasses.fields(Comparisons)]
    return Comparisons(
        **{
            name: torch.tensor(
                [row[name] for row in full], dtype=torch.long if name in whole else torch.float64
            )
            for name in names
        }
    )


def ratings(
    response: Sequence[int],
    value: Sequence[float],
    annotator: Sequence[int] | None = None,
    example: Sequence[int] | None = None,
    weight: Sequence[float] | None = None,
) -> RatingLabels:
    """Ratings, one vote each."""
    count = len(response)
    return RatingLabels(
        torch.as_tensor(response),
        torch.as_tensor(value, dtype=torch.float64),
        torch.full((count,), -1) if annotator is None else torch.as_tensor(annotator),
        torch.ones(count).double() if weight is None else torch.tensor(weight).double(),
        torch.ones(count, dtype=torch.float64),
        torch.zeros(count).long() if example is None else torch.as_tensor(example),
    )


def with_annotators(
    head: Head = FACTOR, inference: Inference | None = "variational", **options: Any
) -> Likelihood:
    """A likelihood that knows three annotators, who lie well apart."""
    names = options.pop("names", NAMES)
    made = make_likelihood(
        head, LikelihoodOptions(inference=inference, names=names, seed=5, **options)
    )
    with torch.no_grad():
        for part in members_of(made):
            part.annotators.location *= 3
    return made


def own_outputs(head: Head, raw: Tensor) -> list[Tensor]:
    """Each member's raw outputs."""
    return list(raw.split(head.member.num_outputs, dim=-1))


def moved(likelihood: Likelihood, seed: int = 0) -> Likelihood:
    """Move everything that is learned by a little noise; no two members stay alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    return likelihood


def minimise(loss: Callable[[], Tensor], learned: Iterable[Tensor], **options: Any) -> float:
    """Minimise a loss by L-BFGS; return what it is in the end."""
    optimizer = torch.optim.LBFGS(learned, line_search_fn="strong_wolfe", **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return loss().item()
