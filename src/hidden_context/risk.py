"""Risk measures: a reward distribution to one number per text, chosen by name.

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

The relative ones need a factor head and all candidates of a prompt together; they say how badly the
people served worst fare with each answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError

_PARAMETERS: Final[dict[str, str]] = {
    "mean": "",
    "quantile": "level in (0, 1), as in quantile:0.01",
    "cvar": "share in (0, 1], as in cvar:0.05",
    "mean_minus_std": "number of standard deviations ≥ 0, as in mean_minus_std:1",
    "entropic": "aversion > 0, as in entropic:2",
    "relative_quantile": "level in (0, 1), as in relative_quantile:0.1",
    "relative_cvar": "share in (0, 1], as in relative_cvar:0.1",
}


@dataclass(frozen=True)
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
        p = self.parameter
        valid = {
            "mean": True,
            "quantile": 0 < p < 1,
            "cvar": 0 < p <= 1,
            "mean_minus_std": 0 <= p < float("inf"),
            "entropic": 0 < p < float("inf"),
            "relative_quantile": 0 < p < 1,
            "relative_cvar": 0 < p <= 1,
        }
        if self.name not in valid:
            raise ConfigError(
                f"risk measure {self.name!r} is not known; choose one of {', '.join(valid)}."
            )
        if not valid[self.name]:
            raise ConfigError(
                f"risk measure {self.name} needs a {_PARAMETERS[self.name]}; got {p}."
            )
        if self.method not in ("step", "bins"):
            raise ConfigError(f"a quantile is read as step or bins, not {self.method!r}.")

    @property
    def is_relative(self) -> bool:
        """Whether it depends on the other candidates of the prompt, in the last dimension."""
        return self.name.startswith("relative_")

    def __call__(self, distribution: RewardDistribution) -> Tensor:
        """Evaluate, in reward units, of the distribution's batch shape.

        Raises:
            ConfigError: If a relative measure is asked of rewards without shared context.
        """
        if self.is_relative:
            plain = RiskMeasure(self.name.removeprefix("relative_"), self.parameter)
            return plain(distribution.relative())
        if self.name == "quantile":
            return distribution.quantile(self.parameter, method=self.method)
        if self.name == "cvar":
            return distribution.cvar(self.parameter)
        if self.name == "mean_minus_std":
            return distribution.mean - self.parameter * distribution.stddev
        if self.name == "entropic":
            return distribution.entropic(self.parameter)
        return distribution.mean

    def __str__(self) -> str:
        if self.name == "mean":
            return "mean"
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
    if name not in _PARAMETERS:
        raise ConfigError(
            f"risk measure {text!r} is not known; choose one of {', '.join(_PARAMETERS)}, with a "
            "parameter where one is needed, as in quantile:0.01."
        )
    if name == "mean":
        if rest:
            raise ConfigError(f"risk measure {text!r}: mean takes no parameter.")
        return RiskMeasure("mean")
    if not rest or len(rest) > (2 if name == "quantile" else 1):
        raise ConfigError(f"risk measure {text!r} needs a {_PARAMETERS[name]}.")
    try:
        parameter = float(rest[0])
    except ValueError:
        raise ConfigError(f"risk measure {text!r} needs a {_PARAMETERS[name]}.") from None
    method = cast(Literal["step", "bins"], rest[1] if len(rest) == 2 else "step")
    return RiskMeasure(name, parameter, method)
