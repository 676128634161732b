"""The service behind the routes: models by name with their guards, raw outputs, and numbers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Query, Request
from torch import Tensor

from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.risk import RiskMeasure, parse
from hidden_context.scoring.columns import check_context
from hidden_context.scoring.guard import Guard, Seen, parse_guard
from hidden_context.scoring.prepare import Asked
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.batching import Batcher
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.monitoring import Metrics, log
from hidden_context.serve.schema import RequestError, invalid_request

T = TypeVar("T")

_TRIAL: Final = [f"\n\nHuman: Is tea hot?\n\nAssistant: {answer}." for answer in ("Yes", "No")]


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


class Service:
    """The models, the queue and the counts behind all routes.

    Each model has its own guard, which sees the responses of all clients.

    Args:
        models: The models, the first of which answers requests that name none.
        config: The options.

    Raises:
        ConfigError: If a risk measure is not defined for a model, or there is a guard, but a model
            has no reference.
    """

    def __init__(self, models: Sequence[Served], config: ServeConfig) -> None:
        self.config, self.models = config, list(models)
        self.metrics = Metrics()
        self.risk = parse(config.risk)
        self.measures = [parse(name) for name in config.measures]
        self._guards: dict[str, Guard] = {}
        for served in self.models:
            for measure in (self.risk, *self.measures):
                served.check(measure)
            if config.guard is None:
                continue
            if served.scorer.model.reference is None:
                raise ConfigError(
                    f"--guard needs the reference of {served.path}, but it has none. Make it once: "
                    f"hidden-context reference {served.path} DATA (docs/guides/guard.md)."
                )
            self._guards[served.name] = parse_guard(config.guard)
        self._by_name = {served.path: served for served in reversed(self.models)}
        self._by_name |= {served.name: served for served in self.models}
        self.batcher = Batcher(config, self.metrics)
        self.draining = False
        self.under_way = self.accepted = 0
        self._idle = asyncio.Event()

    async def start(self) -> None:
        """Begin to answer; every model runs once, so that its engine is chosen."""
        self.batcher.start()
        for served in self.models:
            await self.batcher.on_model(functools.partial(served.scorer.raw, _TRIAL))

    async def drain(self, seconds: float) -> bool:
        """Accept no more requests, and wait until the accepted ones are answered.

        Returns:
            Whether they all were, within so many seconds.
        """
        self.draining = True
        if self.under_way:
            self._idle.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        return not self.under_way

    def check_open(self) -> None:
        """Refuse a request with status 503 once the server drains."""
        if self.draining:
            raise RequestError(503, "draining", "the server is shutting down", retry_after=1)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request that was accepted, until it is answered."""
        self.accepted += 1
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._idle.set()

    def find(self, name: str | None, risk: str | None = None) -> tuple[Served, RiskMeasure]:
        """Find a loaded model, and the risk measure that its numbers describe.

        Args:
            name: ``name``, or ``name@measure``; None for the first model.
            risk: The measure where it is named apart.

        Raises:
            RequestError: With status 404 if no such model is loaded, 422 if there is no such
                measure, or not for this model.
        """
        served = self.models[0] if name is None else self._by_name.get(name)
        if served is None and name is not None:
            base, _, measure = name.rpartition("@")
            served, risk = (self._by_name.get(base) if base else None), risk or measure
        if served is None:
            loaded = ", ".join(one.name for one in self.models)
            message = f"no model of that name is loaded; the loaded models are {loaded}"
            raise RequestError(404, "model_not_found", message)
        try:
            measure_wanted = self.risk if risk is None else parse(risk)
            served.check(measure_wanted)
        except ConfigError as error:
            raise invalid_request(str(error)) from None
        return served, measure_wanted

    def single(self, name: str | None) -> tuple[Served, RiskMeasure]:
        """Find the model of a route that answers each text by itself (see ``find``)."""
        served, measure = self.find(name)
        if measure.is_relative:
            raise invalid_request(
                f"{measure} compares the responses to a prompt, but this route takes each text by "
                "itself; choose another measure, or ask /v1/distribution"
            )
        return served, measure

    async def ask(
        self,
        request: Request,
        model: tuple[Served, RiskMeasure],
        asked: Sequence[Asked],
        prompts: Sequence[Any] | None = None,
    ) -> Found:
        """Compute raw outputs of the texts of a request; stop when its client leaves.

        Args:
            request: The request.
            model: The model and the measure (see ``find``).
            asked: The texts.
            prompts: The prompt of each, where that is known; for the guard alone.

        Raises:
            RequestError: If a text cannot be scored, there are none or too many, or a guard stops.
        """
        served, measure = model
        facts = request.scope["state"]["facts"]
        facts |= {"model": served.name, "texts": len(asked)}
        if not asked:
            raise invalid_request("the request holds no text")
        if len(asked) > self.config.max_items:
            limit = self.config.max_items
            message = f"the request holds {len(asked)} texts, more than {limit}"
            raise RequestError(413, "too_large", message, limit)
        try:
            ready, answers = await self._while_there(
                request, self.batcher.submit(served.scorer, asked)
            )
        except ConfigError as error:  # such as messages without a chat template
            raise invalid_request(str(error)) from None
        tokens = [one.num_tokens for one in ready]
        facts["tokens"] = sum(tokens)
        for place, reason in enumerate(answers.reasons):
            if reason is not None:
                message = f"text {place} cannot be scored: {reason}"
                raise RequestError(422, "not_scored", message, place)
        self.metrics.texts.labels(served.name).inc(len(asked))
        found = Found(served, measure, answers.raw, tokens, answers.distance)
        if served.name in self._guards:
            keys = [repr(one) for one in (asked if prompts is None else prompts)]
            await self.compute(lambda: self._watch(found, keys))
        return found

    def _watch(self, found: Found, prompts: Sequence[str]) -> None:
        """Show a model's guard the texts of a request, grouped by prompt.

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
            assert where is not None  # every watched model has a reference
            seen.append(Seen(prompt, **vars(where)))
        alarm = guard.take(seen)
        for quantity, share in guard.shares().items():
            self.metrics.unusual.labels(name, quantity).set(share.share)
        if alarm is not None and guard.action == "stop":
            raise RequestError(409, "over_optimised", alarm.message)
        if alarm is not None and alarm.begins:
            numbers = {key: round(share.share, 4) for key, share in alarm.shares.items()}
            log("guard", level=logging.WARNING, model=name, shares=numbers)

    async def values(self, found: Found) -> list[float]:
        """Return the risk measure of each text.

        Raises:
            RequestError: If a value is not finite, naming the item.
        """
        values = await self.compute(lambda: found.risk(found.served.scorer.rewards(found.raw)))
        return finite(values, str(found.risk))

    async def compute(self, function: Callable[[], T]) -> T:
        """Compute numbers outside the event loop; this package's errors become status 422."""
        try:
            return await self.batcher.aside(function)
        except HiddenContextError as error:
            raise invalid_request(str(error)) from None

    async def _while_there(self, request: Request, work: Any) -> Any:
        """Await work, and cancel it if the client leaves."""
        task = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            self.metrics.left.inc()
            raise RequestError(499, "left", "the client left")
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def finite(values: Tensor, name: str) -> list[Any]:
    """Return numbers of texts, or rows of numbers, as a list.

    Raises:
        RequestError: If one is not finite, naming the item.
    """
    numbers: list[Any] = values.tolist()
    for place, found in enumerate(numbers):
        if not all(map(math.isfinite, found if isinstance(found, list) else [found])):
            message = f"text {place} cannot be scored: its {name} is not finite"
            raise RequestError(422, "not_scored", message, place)
    return numbers


async def service_of(request: Request) -> Service:
    """Return the service that the application was made with; async, so that no thread is used."""
    service: Service = request.app.state.service
    return service


ServiceNow = Annotated[Service, Depends(service_of)]
"""A route's parameter that is the service."""

ModelQuery = Annotated[str | None, Query(description="a loaded model, such as name@cvar:0.05")]
"""A route's parameter that names the model in the address."""
