"""Ratings of single responses: what a number or a grade says about the reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from hidden_context.distributions import Components, RewardDifference
from hidden_context.errors import ConfigError
from hidden_context.likelihood.annotators import rows_of
from hidden_context.likelihood.labels import RatingLabels

RatingKind = Literal["gaussian", "ordinal"]
RATING_KINDS: Final[tuple[str, ...]] = get_args(RatingKind)
LEVEL_PRIOR: Final = 1.0
UNIT_PRIOR: Final = 0.5


class AnnotatorStyles(nn.Module):
    r"""Each annotator's use of the scale: a level :math:`a_u` and a unit :math:`e^{b_u}`.

    The priors are :math:`a_u \sim N(0, 1^2)` in reward units and :math:`b_u \sim N(0, 0.5^2)`.
    Where annotators rated different responses, only the priors separate an annotator's level from
    the responses' rewards. An unknown annotator has a = b = 0.

    Args:
        count: Number U of annotators.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(count))
        self.log_unit = nn.Parameter(torch.zeros(count))

    def of(self, annotator: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b of annotators: indices ``(D,)`` to two tensors ``(D,)``."""
        none = self.level.new_zeros(())
        return rows_of(self.level, none, annotator), rows_of(self.log_unit, none, annotator)

    def prior(self) -> Tensor:
        """Return the negative log prior, in nats, without its constant: a sum over annotators."""
        level, unit = self.level / LEVEL_PRIOR, self.log_unit / UNIT_PRIOR
        return 0.5 * (level.square().sum() + unit.square().sum())


class Ratings(nn.Module):
    r"""Likelihood of ratings, given the reward u of the response.

    ``gaussian``: :math:`(y - l)/c = a_u + e^{b_u}(u + \tau\varepsilon)` with l and c fixed, so that
    ratings pin the level and the unit of rewards, which comparisons leave open.

    ``ordinal``: grade k of K where :math:`c_{k-1} < a_u + e^{b_u}(u + \varepsilon) \le c_k`, with
    learned thresholds :math:`c_1 < \dots < c_{K-1}` and noise ε of standard deviation 1, which pins
    the unit; only the order of the grades counts.

    Ratings identify the order and spacing of rewards over all responses, across prompts too. They
    identify an annotator's level and unit as far as annotators rated the same responses; otherwise
    the prior decides.

    Args:
        kind: ``gaussian`` or ``ordinal``.
        grades: The K different ratings in ascending order; for ``ordinal`` only.
        annotators: Number of annotators with separate styles; None for no styles.
        unit: l and c > 0, in the data's units; for ``gaussian`` only.

    Raises:
        ConfigError: If the kind is unknown, or there are fewer than two grades.

    Source: McCullagh (1980) for ordinal thresholds.
    """

    def __init__(
        self,
        kind: RatingKind = "gaussian",
        grades: Sequence[float] = (),
        annotators: int | None = None,
        unit: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        if kind not in RATING_KINDS:
            raise ConfigError(f"ratings are {' or '.join(RATING_KINDS)}, not {kind!r}.")
        self.kind, self.unit, self.grades = kind, unit, tuple(map(float, grades))
        self.styles = None if annotators is None else AnnotatorStyles(annotators)
        if kind == "gaussian":
            self.log_noise = nn.Parameter(torch.zeros(1))
            return
        if len(self.grades) < 2 or list(self.grades) != sorted(set(self.grades)):
            raise ConfigError("ordinal ratings need at least two grades, in ascending order.")
        gaps = torch.full((len(self.grades) - 2,), math.log(math.expm1(1.0)))
        self.first_threshold = nn.Parameter(torch.tensor([-(len(self.grades) - 2) / 2]))
        self.raw_gaps = nn.Parameter(gaps) if len(gaps) else None

    @property
    def noise(self) -> Tensor:
        """Standard deviation τ of gaussian ratings in reward units, of shape ``(1,)``."""
        return self.log_noise.exp()

    @property
    def thresholds(self) -> Tensor:
        """Ascending thresholds between grades, of shape ``(K − 1,)``."""
        gaps = () if self.raw_gaps is None else (functional.softplus(self.raw_gaps).cumsum(-1),)
        zero = torch.zeros_like(self.first_threshold)
        return self.first_threshold + torch.cat([zero, *gaps])

    def log_prob(self, rewards: Components, labels: RatingLabels) -> Tensor:
        """Return log-densities (``gaussian``) or log-probabilities (``ordinal``) of ratings.

        Args:
            rewards: Rewards of the D responses rated, as mixtures of normals and points.
            labels: The D ratings.

        Returns:
            In nats, of shape ``(D,)``.

        Raises:
            ConfigError: If a rating is none of the grades.
        """
        level = log_unit = torch.zeros_like(rewards.location[..., 0])
        if self.styles is not None:
            level, log_unit = (part.to(level) for part in self.styles.of(labels.annotator))
        if self.kind == "gaussian":
            location, scale = self.unit
            value = ((labels.value.to(level) - location) / scale - level) * torch.exp(-log_unit)
            density = rewards.log_density(value, self.noise.to(level))
            return density - log_unit - math.log(scale)
        noisy = RewardDifference(
            rewards.log_weights,
            rewards.location,
            torch.hypot(rewards.scale, torch.ones_like(rewards.scale)),
        )
        grade, last = self._grade(labels.value), len(self.grades) - 1
        # the open ends are put in last: ∞ times a gradient of zero would be NaN
        bounds = self.thresholds.to(level)
        lower, upper = (
            (bounds[place.clamp(0, last - 1)] - level) * torch.exp(-log_unit)
            for place in (grade - 1, grade)
        )
        lower = lower.masked_fill(grade == 0, -math.inf)
        upper = upper.masked_fill(grade == last, math.inf)
        return noisy.log_prob_between(lower, upper)

    def mean(self, reward: Tensor, labels: RatingLabels) -> Tensor:
        """Return the expected gaussian rating of rewards.

        Args:
            reward: Mean rewards of the D responses rated, of shape ``(D,)``.
            labels: The D ratings, of which the annotators matter.

        Returns:
            In the data's units, of shape ``(D,)``.

        Raises:
            ConfigError: If ratings are ordinal: grades have an order and no mean.
        """
        if self.kind == "ordinal":
            raise ConfigError("ordinal ratings have no mean.")
        if self.styles is not None:
            level, log_unit = (part.to(reward) for part in self.styles.of(labels.annotator))
            reward = level + log_unit.exp() * reward
        return self.unit[0] + self.unit[1] * reward

    def _grade(self, value: Tensor) -> Tensor:
        grades = torch.tensor(self.grades, device=value.device, dtype=value.dtype)
        place = torch.searchsorted(grades, value).clamp(max=len(grades) - 1)
        wrong = grades[place] != value
        if bool(wrong.any()):
            raise ConfigError(
                f"a rating is {value[wrong][0]:g}, which is not one of the grades "
                f"{', '.join(f'{grade:g}' for grade in self.grades)}."
            )
        return place

    def prior(self) -> Tensor:
        """Return the negative log prior of the annotators' styles, in nats, a scalar."""
        if self.styles is None:
            return next(self.parameters()).new_zeros(())
        return self.styles.prior()
