"""Risk measures by name: each turns a reward distribution into one number per text.

The same names work in Python, on the command line and in every product:

==========================  =====================================================
``mean``                    expected reward
``quantile:0.01``           lower quantile; ``quantile:0.01:bins`` in the paper's reading
``cvar:0.05``               mean of the worst 5 %
``mean_minus_std:1``        mean − 1 standard deviation
``entropic:2``              −(1/θ)·log E e^(−θu) with θ = 2
``relative_quantile:0.1``   lower quantile over annotators of the reward minus the
                            mean reward of all candidates (the last dimension)
``relative_cvar:0.1``       the same for the mean of the worst tenth of annotators
==========================  =====================================================

Relative measures need a factor head and all candidates of a prompt together. They say how bad each
response is for the people whom it serves worst.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, Literal, cast

from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.distributions.base import QuantileMethod
from hidden_context.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Measure:
    """One kind of risk measure.

    Args:
        name: Its name.
        evaluate: The measure of a distribution, given the parameter and the reading of discrete
            quantiles, in reward units, with the distribution's batch shape.
        parameter: The description of its parameter in errors; empty if it takes none.
        allows: Whether a value of the parameter is allowed.
        has_readings: Whether discrete rewards have two readings, ``step`` and ``bins``.
        is_relative: Whether it depends on the prompt's other candidates, in the last dimension.
    """

    name: str
    evaluate: Callable[[RewardDistribution, float, str], Tensor]
    parameter: str = ""
    allows: Callable[[float], bool] = lambda parameter: True
    has_readings: bool = False
    is_relative: bool = False


def _relative(measure: Measure, example: str) -> Measure:
    """Make the relative version of a measure; the last dimension holds the candidates."""
    return dataclasses.replace(
        measure,
        name=f"relative_{measure.name}",
        evaluate=lambda rewards, number, _: measure.evaluate(rewards.relative(), number, "step"),
        parameter=f"{measure.parameter.split(',')[0]}{example}",
        has_readings=False,
        is_relative=True,
    )


_QUANTILE: Final = Measure(
    "quantile",
    lambda rewards, level, method: rewards.quantile(level, cast(QuantileMethod, method)),
    "level in (0, 1), as in quantile:0.01",
    lambda level: 0 < level < 1,
    has_readings=True,
)
_CVAR: Final = Measure(
    "cvar",
    lambda rewards, share, method: rewards.cvar(share),
    "share in (0, 1], as in cvar:0.05",
    lambda share: 0 < share <= 1,
)
MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        Measure("mean", lambda rewards, parameter, method: rewards.mean),
        _QUANTILE,
        _CVAR,
        Measure(
            "mean_minus_std",
            lambda rewards, factor, method: rewards.mean - factor * rewards.stddev,
            "number of standard deviations ≥ 0, as in mean_minus_std:1",
            lambda factor: 0 <= factor < float("inf"),
        ),
        Measure(
            "entropic",
            lambda rewards, aversion, method: rewards.entropic(aversion),
            "aversion > 0, as in entropic:2",
            lambda aversion: 0 < aversion < float("inf"),
        ),
        _relative(_QUANTILE, ", 1), as in relative_quantile:0.1"),
        _relative(_CVAR, ", 1], as in relative_cvar:0.1"),
    )
}


@dataclasses.dataclass(frozen=True)
class RiskMeasure:
    """A named risk measure; call it on a distribution.

    Args:
        name: One of the names above.
        parameter: Its parameter; not used by ``mean``.
        method: Reading of a discrete quantile, ``step`` or ``bins``.
    """

    name: str
    parameter: float = 0.0
    method: Literal["step", "bins"] = "step"

    def __post_init__(self) -> None:
        if self.name not in MEASURES:
            raise ConfigError(
                f"risk measure {self.name!r} is not known; choose one of {', '.join(MEASURES)}."
            )
        kind = MEASURES[self.name]
        if not kind.allows(self.parameter):
            raise ConfigError(
                f"risk measure {self.name} needs a {kind.parameter}; got {self.parameter}."
            )
        if self.method not in ("step", "bins") or (self.method == "bins" and not kind.has_readings):
            raise ConfigError(
                f"the risk measure {self.name} has no reading {self.method!r}; only quantile has "
                "readings, step or bins."
            )

    @property
    def is_relative(self) -> bool:
        """Whether the measure depends on the other candidates (the last dimension)."""
        return MEASURES[self.name].is_relative

    def __call__(self, distribution: RewardDistribution) -> Tensor:
        """Evaluate the measure, in reward units, with the distribution's batch shape.

        Raises:
            ConfigError: If a relative measure is applied to rewards without shared context.
        """
        return MEASURES[self.name].evaluate(distribution, self.parameter, self.method)

    def __str__(self) -> str:
        if not MEASURES[self.name].parameter:
            return self.name
        reading = ":bins" if self.method == "bins" else ""
        number = int(self.parameter) if self.parameter == int(self.parameter) else self.parameter
        return f"{self.name}:{number!r}{reading}"


def parse(text: str) -> RiskMeasure:
    """Read a risk measure from its name.

    Args:
        text: Such as ``mean``, ``quantile:0.01``, ``quantile:0.01:bins`` or ``cvar:0.05``.

    Returns:
        The risk measure.

    Raises:
        ConfigError: If the name is unknown, or its parameter missing, superfluous or out of range.

    >>> str(parse("quantile:0.01:bins"))
    'quantile:0.01:bins'
    """
    name, *rest = text.strip().split(":")
    if name not in MEASURES:
        raise ConfigError(
            f"risk measure {text!r} is not known; choose one of {', '.join(MEASURES)}, with a "
            "parameter where one is needed, as in quantile:0.01."
        )
    kind = MEASURES[name]
    if not kind.parameter:
        if rest:
            raise ConfigError(f"risk measure {text!r}: {name} takes no parameter.")
        return RiskMeasure(name)
    if not rest or len(rest) > 1 + kind.has_readings:
        raise ConfigError(f"risk measure {text!r} needs a {kind.parameter}.")
    try:
        parameter = float(rest[0])
    except ValueError:
        raise ConfigError(f"risk measure {text!r} needs a {kind.parameter}.") from None
    method = cast(Literal["step", "bins"], rest[1] if len(rest) == 2 else "step")
    return RiskMeasure(name, parameter, method)
