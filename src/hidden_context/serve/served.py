"""Served models, the raw outputs of a request, and the guards that watch them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.guard import Guard, Seen, parse_guard
from hidden_context.scoring.people import check_context
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.errors import RequestError
from hidden_context.serve.monitoring import Metrics, log


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
        if measure.is_relative:
            check_context(self.scorer.model.head, self.name, str(measure))


@dataclass(frozen=True)
class Found:
    """Raw outputs of the texts of a request.

    Attributes:
        served: The model.
        risk: The risk measure of the request.
        raw: Raw outputs, float32 of shape ``(B, K)``, all finite.
        tokens: Number of tokens of each text.
        distance: Where each text's distance stands in the model's reference, or None.
    """

    served: Served
    risk: RiskMeasure
    raw: Tensor
    tokens: list[int]
    distance: Tensor | None = None


class ServerGuards:
    """One guard for each model, which sees the responses of all clients.

    Args:
        models: The models.
        guard: The guard in its text form; None for none.
        metrics: Where shares of unusual responses are shown.

    Raises:
        ConfigError: If there is a guard, and a model without a reference.
    """

    def __init__(self, models: Sequence[Served], guard: str | None, metrics: Metrics) -> None:
        self.metrics = metrics
        self._guards: dict[str, Guard] = {}
        if guard is None:
            return
        for served in models:
            if served.scorer.model.reference is None:
                raise ConfigError(
                    f"--guard needs the reference of {served.path}, but it has none. Make it once: "
                    f"hidden-context reference {served.path} DATA (docs/guides/guard.md)."
                )
            self._guards[served.name] = parse_guard(guard)

    def watches(self, name: str) -> bool:
        """Tell whether a model has a guard."""
        return name in self._guards

    def take(self, found: Found, prompts: Sequence[str]) -> None:
        """Show a model's guard the texts of a request.

        Args:
            found: The texts' raw outputs.
            prompts: What identifies the prompt of each text.

        Raises:
            RequestError: With status 409 if the guard stops.
        """
        name, guard = found.served.name, self._guards[found.served.name]
        places: dict[str, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        seen = []
        for prompt, own in places.items():
            assert found.distance is not None
            where = found.served.scorer.percentiles(found.raw[own], found.distance[own])
            if where is not None:
                seen.append(Seen(prompt, where.sigma, where.distance, where.disagreement))
        alarm = guard.take(seen)
        for quantity, share in guard.shares().items():
            self.metrics.unusual.labels(name, quantity).set(share.share)
        if alarm is None:
            return
        if guard.action == "stop":
            raise RequestError(409, "over_optimised", alarm.message)
        if alarm.begins:
            numbers = {key: round(share.share, 4) for key, share in alarm.shares.items()}
            log("guard", level=logging.WARNING, model=name, shares=numbers)
