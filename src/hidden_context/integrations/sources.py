"""Where rewards come from: a model in this process, or a server."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from hidden_context import risk as risks
from hidden_context.data.dialogue import Conversation, join
from hidden_context.data.model_input import Text, Tools, with_context
from hidden_context.errors import ConfigError
from hidden_context.integrations.client import (
    Answer,
    RewardClient,
    RewardServerError,
    UnscoredItemError,
    is_url,
)
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.prepare import Asked
from hidden_context.scoring.requests import Answers, Percentiles, Scorer, disagreement

Model: TypeAlias = "str | Path | RewardModel | Scorer | RewardClient | RewardSource"
"""A checkpoint, the address of a server, or either of them opened already."""


@dataclass(frozen=True)
class Candidates:
    """The responses to one prompt, which is run once for all of them.

    Args:
        prompt: Text or chat messages; None where the responses are whole texts.
        responses: n responses.
        items: Their places among all that was asked, for errors.
        tools: The tools that the chat template is told of.
    """

    prompt: Conversation | None
    responses: Sequence[Conversation]
    items: Sequence[int]
    tools: Tools | None = None

    def without(self, left_out: Mapping[int, str]) -> Candidates:
        """Leave out the responses at some places."""
        kept = [n for n, item in enumerate(self.items) if item not in left_out]
        responses, items = [self.responses[n] for n in kept], [self.items[n] for n in kept]
        return replace(self, responses=responses, items=items)

    def texts(self) -> list[Text]:
        """The whole texts that a model reads."""
        if self.prompt is None:
            return [with_context(response, None, self.tools) for response in self.responses]
        begin = self.prompt
        texts = [join(begin, response) for response in self.responses]
        chat = join(begin, [])
        return [
            with_context(text, begin if isinstance(text, str) else chat, self.tools)
            for text in texts
        ]


@dataclass(frozen=True)
class Rewards:
    """What is known of n responses to one prompt.

    Attributes:
        values: Value of the risk measure of each, in reward units: the number that is optimised.
        mean: Expected reward of each.
        stddev: Standard deviation of each, in reward units.
        preferred: Probability that somebody prefers response i to j, shape ``(n, n)``.
        shares: Share of each response's variance by cause: ``shared_context``, ``noise``,
            ``ignorance``, or ``unsplit`` where the head cannot tell; NaN where nothing varies.
        percentiles: Where the responses stand in the model's reference; None where it has none.
    """

    values: list[float]
    mean: list[float]
    stddev: list[float]
    preferred: list[list[float]]
    shares: dict[str, list[float]]
    percentiles: Percentiles | None = None

    @property
    def disagreement(self) -> float:
        """Probability that two people choose differently (see ``requests.disagreement``)."""
        return disagreement(self.preferred)

    @property
    def log_sigma(self) -> list[float]:
        """Logarithm of each standard deviation; NaN where nothing varies."""
        return [math.log(one) if one > 0 else math.nan for one in self.stddev]

    @property
    def distance(self) -> list[float]:
        """Percentile of each response's distance to the training texts; NaN without a reference."""
        where = self.percentiles
        return [math.nan] * len(self.values) if where is None else where.distance


@dataclass(frozen=True)
class Answered:
    """Rewards of the candidates that have some, and why others have none, by their places."""

    candidates: Candidates
    rewards: Rewards
    reasons: dict[int, str] = field(default_factory=dict)


class RewardSource(Protocol):
    """Where rewards come from."""

    def answer(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Score the candidates of several prompts."""
        ...

    async def answer_async(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Do the same without blocking the event loop."""
        ...


class LocalSource:
    """A model in this process; threads wait for each other.

    Args:
        scorer: The model.
        annotator: Whose rewards; None for the population's.
    """

    def __init__(self, scorer: Scorer, annotator: str | None = None) -> None:
        self.scorer, self.annotator = scorer, annotator
        self._lock = threading.Lock()

    def answer(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Score the candidates of several prompts, all run together.

        Raises:
            ConfigError: If the risk measure is not known, or not defined for the model.
        """
        measure = risks.parse(risk)
        answers = self.raw([text for group in asked for text in group.texts()])
        raw, why, distance = answers.raw, answers.reasons, answers.distance
        result, start = [], 0
        for group in asked:
            end = start + len(group.items)
            reasons = {
                item: reason
                for item, reason in zip(group.items, why[start:end], strict=True)
                if reason is not None
            }
            kept = [n for n in range(start, end) if why[n] is None]
            rewards = self._read(raw[kept], measure, None if distance is None else distance[kept])
            result.append(Answered(group.without(reasons), rewards, reasons))
            start = end
        return result

    async def answer_async(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Score in another thread, which the event loop does not wait for."""
        return await asyncio.to_thread(self.answer, asked, risk)

    def raw(self, asked: Sequence[Asked]) -> Answers:
        """Run texts, marked texts or token ids: raw outputs, and why some have none."""
        with self._lock:
            return self.scorer.raw(asked)

    def _read(self, raw: Tensor, measure: risks.RiskMeasure, distance: Tensor | None) -> Rewards:
        if not len(raw):
            return _NOTHING
        found = self.scorer.describe(raw, measure, annotator=self.annotator, distance=distance)
        return Rewards(
            found.values[str(measure)].tolist(),
            found.mean.tolist(),
            found.stddev.tolist(),
            found.preferred.tolist(),
            {name: share.tolist() for name, share in found.shares.items()},
            found.percentiles,
        )


class RemoteSource:
    """A reward server; one request a prompt, several prompts at once.

    Args:
        client: The client that asks it.
        model: Name of one of its models; None for the one it serves first.
        annotator: Whose rewards; None for the population's.
    """

    def __init__(
        self, client: RewardClient, model: str | None = None, annotator: str | None = None
    ) -> None:
        self.client, self.model, self.annotator = client, model, annotator

    def answer(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Score the candidates of several prompts (see ``RewardClient.ask`` for errors).

        A server refuses a prompt with a response that it cannot score; it is asked again for the
        others.
        """
        rounds = _Rounds(asked)
        while rounds.open:
            rounds.take(self.client.ask([self._request(group, risk) for group in rounds.groups]))
        return [self._read(*done) for done in rounds.done()]

    async def answer_async(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Do the same without blocking the event loop."""
        rounds = _Rounds(asked)
        while rounds.open:
            requests = [self._request(group, risk) for group in rounds.groups]
            rounds.take(await self.client.ask_async(requests))
        return [self._read(*done) for done in rounds.done()]

    def _request(self, group: Candidates, risk: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": group.prompt,
            "responses": list(group.responses),
            "tools": group.tools,
            "risk": risk,
            "annotator": self.annotator,
            "items": group.items,
        }

    def _read(
        self, group: Candidates, found: Mapping[str, Any] | None, reasons: dict[int, str]
    ) -> Answered:
        if found is None:
            return Answered(group, _NOTHING, reasons)
        try:
            rewards = Rewards(
                _numbers(found["risk"]["values"]),
                _numbers(found["mean"]),
                _numbers(found["stddev"]),
                [_numbers(row) for row in found["preferred"]],
                {str(name): _numbers(share) for name, share in found["shares"].items()},
                _percentiles(found.get("percentiles")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RewardServerError(
                f"{self.client.url} answered without what is needed ({error!r}). Check that it "
                "runs the same release of hidden-context."
            ) from error
        if len(rewards.values) != len(group.items) or not all(map(math.isfinite, rewards.values)):
            raise RewardServerError(f"{self.client.url} answered a reward that is not a number.")
        return Answered(group, rewards, reasons)


class _Rounds:
    """Prompts that are asked for until every response has a reward or a reason."""

    def __init__(self, asked: Sequence[Candidates]) -> None:
        self._groups = list(asked)
        self._found: list[Mapping[str, Any] | None] = [None] * len(self._groups)
        self._reasons: list[dict[int, str]] = [{} for _ in self._groups]
        self.open = [n for n, group in enumerate(self._groups) if group.items]

    @property
    def groups(self) -> list[Candidates]:
        return [self._groups[n] for n in self.open]

    def take(self, answers: Sequence[Answer]) -> None:
        """Keep the answers of a round, and the reasons of responses that were refused."""
        again = []
        for n, answer in zip(self.open, answers, strict=True):
            if isinstance(answer, UnscoredItemError):
                self._reasons[n][answer.item] = answer.reason
                self._groups[n] = self._groups[n].without(self._reasons[n])
                again += [n] if self._groups[n].items else []
            else:
                self._found[n] = answer
        self.open = again

    def done(self) -> list[tuple[Candidates, Mapping[str, Any] | None, dict[int, str]]]:
        return list(zip(self._groups, self._found, self._reasons, strict=True))


_NOTHING = Rewards([], [], [], [], {})
_opening = threading.Lock()


def _numbers(values: Sequence[float | None]) -> list[float]:
    """Read numbers; null, which JSON has for NaN, is NaN."""
    return [math.nan if value is None else float(value) for value in values]


def _percentiles(found: Mapping[str, Any] | None) -> Percentiles | None:
    """Read percentiles; a server whose model has no reference, or an earlier one, sends none."""
    if found is None:
        return None
    (divided,) = _numbers([found["disagreement"]])
    return Percentiles(_numbers(found["sigma"]), _numbers(found["distance"]), divided)


def open_source(
    model: Model, *, name: str | None = None, annotator: str | None = None
) -> RewardSource:
    """Open where rewards come from.

    Args:
        model: A checkpoint's folder or hub id, the address of a server, or either opened already.
        name: Name of one of a server's models.
        annotator: Whose rewards, for models that know annotators; None for the population's.

    Raises:
        ConfigError: If it is something else, such as a bare network of several outputs.
        MissingFileError: If the folder is not there.
    """
    if isinstance(model, (LocalSource, RemoteSource)):
        return model
    if is_url(model):
        model = RewardClient(str(model))
    if isinstance(model, RewardClient):
        return RemoteSource(model, name, annotator)
    if name is not None:
        raise ConfigError(f"a model's name {name!r} is for servers, which hold several.")
    if isinstance(model, (str, Path)):
        model = load_model(str(model), ModelOptions())
    if isinstance(model, RewardModel):
        model = Scorer(model)
    if isinstance(model, Scorer):
        return LocalSource(model, annotator)
    raise ConfigError(
        f"rewards come from a checkpoint, a RewardModel or the address of a server, not from "
        f"{type(model).__name__}. A bare network does not say how its outputs are read: give "
        "RewardModel.from_pretrained(folder)."
    )


@lru_cache(maxsize=8)
def _opened(model: str, name: str | None, annotator: str | None) -> RewardSource:
    return open_source(model, name=name, annotator=annotator)


def shared_source(
    model: str, *, name: str | None = None, annotator: str | None = None
) -> RewardSource:
    """Open a checkpoint or a server once for the whole process (see ``open_source``)."""
    with _opening:  # threads that ask at the same time load it once
        return _opened(model, name, annotator)
