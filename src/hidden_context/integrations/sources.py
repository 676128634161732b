"""Sources of rewards: a model in this process, or a server."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from hidden_context import risk as risks
from hidden_context.data.dialogue import Conversation
from hidden_context.data.example import Tools
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
from hidden_context.scoring.prepare import Asked, texts_of
from hidden_context.scoring.requests import Answers, Percentiles, Scorer, disagreement

RewardSource: TypeAlias = "LocalSource | RemoteSource"
"""Where rewards come from; it answers, with or without blocking the event loop."""

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
        """Return the candidates without the responses at some places."""
        kept = [n for n, item in enumerate(self.items) if item not in left_out]
        responses, items = [self.responses[n] for n in kept], [self.items[n] for n in kept]
        return replace(self, responses=responses, items=items)


@dataclass(frozen=True)
class Rewards:
    """The rewards of n responses to one prompt.

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
    """The rewards of candidates, and the reasons why others have none, by their places."""

    candidates: Candidates
    rewards: Rewards
    reasons: dict[int, str] = field(default_factory=dict)


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
        texts = [texts_of(group.prompt, group.responses, group.tools) for group in asked]
        answers = self.raw(list(chain.from_iterable(texts)))
        result, start = [], 0
        for group in asked:
            end = start + len(group.items)
            own, start = answers.part(start, end), end
            why = zip(group.items, own.reasons, strict=True)
            reasons = {item: reason for item, reason in why if reason is not None}
            result.append(Answered(group.without(reasons), self._read(own, measure), reasons))
        return result

    async def answer_async(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Score in another thread, so that the event loop is not blocked."""
        return await asyncio.to_thread(self.answer, asked, risk)

    def raw(self, asked: Sequence[Asked]) -> Answers:
        """Compute raw outputs of texts, marked texts or token ids, or why a text has none."""
        with self._lock:
            return self.scorer.raw(asked)

    def _read(self, answers: Answers, measure: risks.RiskMeasure) -> Rewards:
        kept = [n for n, reason in enumerate(answers.reasons) if reason is None]
        if not kept:
            return _NOTHING
        raw, distance = answers.raw[kept], answers.distance
        if distance is not None:
            distance = distance[kept]
        found = self.scorer.describe(raw, [measure], self.annotator, distance=distance)
        numbers = (found.values[str(measure)], found.mean, found.stddev, found.preferred)
        values, mean, stddev, preferred = (each.tolist() for each in numbers)
        shares = {name: share.tolist() for name, share in found.shares.items()}
        return Rewards(values, mean, stddev, preferred, shares, found.percentiles)


class RemoteSource:
    """A reward server; one request per prompt, several prompts at once.

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

        A server refuses a prompt with a response that it cannot score. The other responses are
        then sent again.
        """
        rounds = _Rounds(asked)
        while rounds.open:
            rounds.take(self.client.ask(self._requests(rounds, risk)))
        return self._read(rounds)

    async def answer_async(self, asked: Sequence[Candidates], risk: str) -> list[Answered]:
        """Do what ``answer`` does without blocking the event loop."""
        rounds = _Rounds(asked)
        while rounds.open:
            rounds.take(await self.client.ask_async(self._requests(rounds, risk)))
        return self._read(rounds)

    def _requests(self, rounds: _Rounds, risk: str) -> list[dict[str, Any]]:
        common: Any = {"model": self.model, "risk": risk, "annotator": self.annotator}
        return [common | vars(rounds.groups[n]) for n in rounds.open]

    def _read(self, rounds: _Rounds) -> list[Answered]:
        return [
            Answered(group, self._rewards(group, rounds.found.get(n)), rounds.reasons[n])
            for n, group in enumerate(rounds.groups)
        ]

    def _rewards(self, group: Candidates, found: Mapping[str, Any] | None) -> Rewards:
        if found is None:
            return _NOTHING
        try:
            where = found.get("percentiles")  # None without a reference, or from an old server
            if where is not None:
                sigma, distance = _numbers(where["sigma"]), _numbers(where["distance"])
                where = Percentiles(sigma, distance, *_numbers([where["disagreement"]]))
            rewards = Rewards(
                _numbers(found["risk"]["values"]),
                _numbers(found["mean"]),
                _numbers(found["stddev"]),
                [_numbers(row) for row in found["preferred"]],
                {str(name): _numbers(share) for name, share in found["shares"].items()},
                where,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RewardServerError(
                f"the answer of {self.client.url} lacks a field, or has a wrong one ({error!r}). "
                "Check that it runs the same release of hidden-context."
            ) from error
        if len(rewards.values) != len(group.items) or not all(map(math.isfinite, rewards.values)):
            raise RewardServerError(f"{self.client.url} answered a reward that is not a number.")
        return rewards


class _Rounds:
    """Prompts that are sent again until every response has a reward or a reason."""

    def __init__(self, asked: Sequence[Candidates]) -> None:
        self.groups = list(asked)
        self.found: dict[int, Mapping[str, Any]] = {}
        self.reasons: list[dict[int, str]] = [{} for _ in asked]

    @property
    def open(self) -> list[int]:
        return [n for n, group in enumerate(self.groups) if group.items and n not in self.found]

    def take(self, answers: Sequence[Answer]) -> None:
        """Keep the answers of a round, and the reasons of responses that were refused."""
        for n, answer in zip(self.open, answers, strict=True):
            if isinstance(answer, UnscoredItemError):
                self.reasons[n][answer.item] = answer.reason
                self.groups[n] = self.groups[n].without(self.reasons[n])
            else:
                self.found[n] = answer


_NOTHING = Rewards([], [], [], [], {})
_opening = threading.Lock()


def _numbers(values: Sequence[float | None]) -> list[float]:
    """Read numbers; JSON's null stands for NaN."""
    return [math.nan if value is None else float(value) for value in values]


def open_source(
    model: Model, *, name: str | None = None, annotator: str | None = None
) -> RewardSource:
    """Open a source of rewards.

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
        raise ConfigError(f"name={name!r} is for servers of several models; leave it out.")
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


_opened = lru_cache(maxsize=8)(open_source)


def shared_source(model: str, *, name: str | None = None) -> RewardSource:
    """Open a checkpoint or a server once for the whole process (see ``open_source``)."""
    with _opening:  # threads that ask at the same time load it once
        return _opened(model, name=name)
