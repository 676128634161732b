"""A loaded model that is served, and what was found of a request's texts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.requests import Scorer


@dataclass(frozen=True)
class Served:
    """A loaded model.

    Attributes:
        name: Its name in requests.
        path: The folder or hub id it was loaded from, by which requests may call it too.
        scorer: Answers requests.
    """

    name: str
    path: str
    scorer: Scorer

    def check(self, measure: RiskMeasure) -> None:
        """Check that a risk measure is defined for the model.

        Raises:
            ConfigError: If it is not.
        """
        head = self.scorer.model.head
        if measure.is_relative and not head.has_context:
            raise ConfigError(
                f"{measure} needs a head that knows what the answers to a prompt have in common: "
                f"factor, or an ensemble of such; {self.name} has a {head.member.type} head."
            )


@dataclass(frozen=True)
class Found:
    """What was found of the texts of a request.

    Attributes:
        served: The model.
        risk: The risk measure that the request's numbers are of.
        raw: Raw outputs, float32 of shape ``(B, K)``, all finite.
        tokens: Number of tokens of each text.
        distance: Where each text's distance stands in the model's reference, or None.
    """

    served: Served
    risk: RiskMeasure
    raw: Tensor
    tokens: list[int]
    distance: Tensor | None = None
