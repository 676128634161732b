"""Facts about annotators as numbers: demographics, groups, scales."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from hidden_context.errors import ConfigError
from hidden_context.likelihood.annotators import rows_of

FEWEST_PEOPLE: Final = 5
"""A group of fewer people has no separate effect, which would describe persons."""

COEFFICIENT_SCALE: Final = 0.3
"""Prior scale of a covariate's effect, in the units of tastes and of habits' logarithms."""

Value = str | float


@dataclasses.dataclass(frozen=True)
class Covariate:
    """One column of numbers, coded from facts about annotators.

    Attributes:
        name: The covariate, such as ``age``.
        level: The answer that the column stands for, 1 where given; None for a quantity.
        location: What is taken off.
        scale: What is left is divided by this, > 0.
    """

    name: str
    level: str | None
    location: float
    scale: float


@dataclasses.dataclass(frozen=True)
class CovariateCoding:
    """Coding of annotators' covariates as numbers.

    Attributes:
        columns: The P columns, each standardised over the people it was made from.
    """

    columns: tuple[Covariate, ...]

    @classmethod
    def of(cls, people: Sequence[Mapping[str, Value]]) -> CovariateCoding:
        """Choose the columns: each quantity, and each answer of at least ``FEWEST_PEOPLE``.

        Args:
            people: What is known of each annotator; a missing key is an answer not given.

        Returns:
            The coding. What does not vary over people has no column.
        """
        names = sorted({name for person in people for name in person})
        columns: list[Covariate] = []
        for name in names:
            values = [person[name] for person in people if name in person]
            numbers = [float(value) for value in values if not isinstance(value, str)]
            if len(numbers) >= FEWEST_PEOPLE:
                columns += _standardised(name, None, numbers)
            texts = Counter(value for value in values if isinstance(value, str))
            for level, count in sorted(texts.items()):
                rest = len(values) - count
                if min(count, rest) >= FEWEST_PEOPLE:
                    columns += _standardised(name, level, [1.0] * count + [0.0] * rest)
        return cls(tuple(columns))

    def encode(self, people: Sequence[Mapping[str, Value]]) -> Tensor:
        """Code people as numbers of shape ``(A, P)``; a missing answer counts as the average."""
        rows = [[_coded(column, person) for column in self.columns] for person in people]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(people), len(self.columns))


class CovariateEffects(nn.Module):
    r"""Prior means of tastes and habits by covariates, :math:`m_u = x_u B`.

    So an annotator with covariates but no judgements starts from similar people. The
    prior of B is :math:`N(0, 0.3^2)`.

    Args:
        design: Coded covariates of the U annotators, of shape ``(U, P)``.
        size: Number of quantities that have a mean: tastes, then habits.
    """

    def __init__(self, design: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("design", design.clone())
        self.coefficients = nn.Parameter(torch.zeros((design.shape[1], size)))

    def means(self, annotator: Tensor) -> Tensor:
        """Return annotators' prior means, ``(A,)`` to ``(A, size)``; −1 is the average person."""
        design = self.get_buffer("design")
        average = design.new_zeros(design.shape[1])
        return rows_of(design, average, annotator) @ self.coefficients

    def prior(self) -> Tensor:
        """Return the negative log prior of B without its constant, in nats, a scalar."""
        return 0.5 * (self.coefficients / COEFFICIENT_SCALE).square().sum()


def _standardised(name: str, level: str | None, values: Sequence[float]) -> list[Covariate]:
    mean = sum(values) / len(values)
    scale = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [Covariate(name, level, mean, scale)] if scale > 0 else []


def _coded(column: Covariate, person: Mapping[str, Value]) -> float:
    value = person.get(column.name)
    if value is None:
        return 0.0
    if column.level is not None:
        number = float(value == column.level)
    elif isinstance(value, str):
        raise ConfigError(
            f"the covariate {column.name!r} is a quantity, but one annotator has {value!r}."
        )
    else:
        number = float(value)
    return (number - column.location) / column.scale
