"""The answers and annotators that a likelihood is made for."""

from __future__ import annotations

import dataclasses
import math

from hidden_context.errors import ConfigError
from hidden_context.likelihood.annotators import Inference
from hidden_context.likelihood.covariates import CovariateCoding
from hidden_context.likelihood.ratings import RatingKind


@dataclasses.dataclass(frozen=True)
class LikelihoodOptions:
    """What a likelihood learns from.

    Attributes:
        levels: Answers to a comparison: 2, 3, 5 or 7 (see ``Outcomes``).
        margin_scale: Reward units per unit of a comparison's margin; 0 leaves margins out.
        inference: How what differs between annotators is learned, or None for not at all.
        taste: Whether annotators have contexts of their own; needs a head with factors.
        habits: Habits of annotators that are learned (see ``AnnotatorHabits``).
        covariates: How what is known of annotators becomes numbers; None where nothing is.
        names: The annotators' names; empty where they play no part.
        column: The column of the data that names them.
        rating_weight: How much a rating counts beside a comparison; 0 leaves ratings out.
        ratings: How ratings are read (see ``Ratings``).
        rating_location: What is taken off a rating before it is read as a reward.
        rating_scale: What is left is divided by this, > 0.
        grades: The different ratings in ascending order, for ordinal ones.
        styles: Whether each annotator has a level and unit of ratings.
        seed: Seed of the annotators' start.

    Raises:
        ConfigError: If the weight of ratings is negative, or their scale not positive.
    """

    levels: int = 2
    margin_scale: float = 0.0
    inference: Inference | None = None
    taste: bool = True
    habits: tuple[str, ...] = ()
    covariates: CovariateCoding | None = None
    names: tuple[str, ...] = ()
    column: str = "annotator"
    rating_weight: float = 0.0
    ratings: RatingKind = "gaussian"
    rating_location: float = 0.0
    rating_scale: float = 1.0
    grades: tuple[float, ...] = ()
    styles: bool = False
    seed: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rating_weight < math.inf:
            raise ConfigError(f"rating_weight is {self.rating_weight}; it must be ≥ 0.")
        if not 0 < self.rating_scale < math.inf:
            raise ConfigError(f"rating_scale is {self.rating_scale}; it must be > 0.")
        if not math.isfinite(self.rating_location):
            raise ConfigError(f"rating_location is {self.rating_location}; it must be finite.")
