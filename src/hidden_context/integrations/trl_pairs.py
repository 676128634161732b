"""Preference pairs for DPO from scored responses, by P(a ≻ b), with contested pairs apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hidden_context import risk as risks
from hidden_context.data.dialogue import Conversation
from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations.guard import Guard, GuardLike, check_guard
from hidden_context.integrations.reward import Unscored, score
from hidden_context.integrations.sources import Model, RewardSource, open_source

Contested = Literal["skip", "soften", "keep"]


@dataclass(frozen=True)
class BuiltPairs:
    """Rows for DPOTrainer, and a record of what was left out.

    Attributes:
        rows: Dictionaries with ``prompt``, ``chosen`` and ``rejected``, the example's other
            columns, and ``probability``, ``disagreement`` and ``risk_gap`` for the records, which
            the trainer does not read.
        contested: Number of contested pairs that were skipped.
        without_pair: Places of examples that no pair came from.
        unscored: Why responses have no reward, by the places of example and response.
    """

    rows: list[dict[str, Any]]
    contested: int
    without_pair: list[int]
    unscored: dict[tuple[int, int], str]


@dataclass(frozen=True)
class _Pair:
    """Two responses, the first of which is to be chosen."""

    chosen: int
    rejected: int
    probability: float
    gap: float


@dataclass(frozen=True)
class PairBuilder:
    """A builder of rows from examples with ``prompt`` and ``responses``; see ``pair_builder``."""

    source: RewardSource
    risk: str = "mean"
    contested: Contested = "skip"
    agreement: float = 0.65
    pairs: int = 1
    copies: int = 4
    unscored: Unscored = "error"
    guard: Guard | None = None

    def __post_init__(self) -> None:
        if self.contested not in ("skip", "soften", "keep"):
            raise ConfigError(f"contested is skip, soften or keep, not {self.contested!r}.")
        if not 0.5 <= self.agreement < 1:
            raise ConfigError(f"agreement is a probability in [0.5, 1), not {self.agreement}.")
        if self.pairs < 1 or self.copies < 2:
            raise ConfigError(
                f"pairs must be at least 1, copies at least 2; got {self.pairs} and {self.copies}."
            )

    def __call__(self, examples: Iterable[Mapping[str, Any]]) -> BuiltPairs:
        """Choose pairs.

        Args:
            examples: Each with ``prompt`` and ``responses``, two or more; other columns pass
                through.

        Raises:
            DataError: If an example has too few responses, or one that cannot be scored.
        """
        examples = list(examples)
        counts = [_count(place, example) for place, example in enumerate(examples)]
        where = [(place, n) for place, count in enumerate(counts) for n in range(count)]
        batch = score(
            self.source,
            [examples[place]["prompt"] for place, _ in where],
            [examples[place]["responses"][n] for place, n in where],
            self.risk,
            unscored=self.unscored,
            guard=self.guard,
        )
        # examples of equal prompts are scored together, but no pair is made across them
        preferred = {
            (items[i], items[j]): probability
            for found in batch.answered
            for items in [found.candidates.items]
            for i, row in enumerate(found.rewards.preferred)
            for j, probability in enumerate(row)
        }
        rows: list[dict[str, Any]] = []
        contested, without, first = 0, [], 0
        for place, (example, count) in enumerate(zip(examples, counts, strict=True)):
            items = [n for n in range(first, first + count) if n not in batch.reasons]
            possible = _possible(items, batch.values, preferred)
            least = self.agreement if self.contested == "skip" else 0.0
            kept = [pair for pair in possible if pair.probability >= least]
            contested += len(possible) - len(kept)
            for pair in kept[: self.pairs]:
                rows += self._rows(example, pair, first)
            if not kept:
                without.append(place)
            first += count
        reasons = {where[item]: reason for item, reason in batch.reasons.items()}
        return BuiltPairs(rows, contested, without, reasons)

    def _rows(self, example: Mapping[str, Any], pair: _Pair, first: int) -> list[dict[str, Any]]:
        """Return one row or, for softened labels, copies in both orders in the proportion of P."""
        row = {key: value for key, value in example.items() if key != "responses"}
        sides = [
            _completion(example["prompt"], example["responses"][item - first])
            for item in (pair.chosen, pair.rejected)
        ]
        p = pair.probability
        row["disagreement"] = 2 * p * (1 - p)
        names = ("chosen", "rejected", "probability", "risk_gap")
        there = row | dict(zip(names, (*sides, p, pair.gap), strict=True))
        if self.contested != "soften":
            return [there]
        back = row | dict(zip(names, (*sides[::-1], 1 - p, -pair.gap), strict=True))
        ahead = round(p * self.copies)
        return [there] * ahead + [back] * (self.copies - ahead)


def pair_builder(
    model_or_url: Model,
    risk: str = "mean",
    *,
    contested: Contested = "skip",
    agreement: float = 0.65,
    pairs: int = 1,
    copies: int = 4,
    unscored: Unscored = "error",
    guard: GuardLike = None,
) -> PairBuilder:
    """Make a function that turns prompts with scored responses into rows for DPOTrainer.

    Of two responses the one with the greater risk value is chosen. Pairs are taken in the order of
    P(chosen ≻ rejected), the most agreed first. A pair is contested if this probability is below
    ``agreement``: people would be divided, or would prefer the other response to the cautious
    choice.

    DPOTrainer has no column for a weight or a soft label, and one ``label_smoothing`` for all rows.
    So softening repeats rows: each pair is written ``copies`` times, in the proportion
    P : 1 − P in one order and in the other.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        risk: Name of the risk measure.
        contested: ``skip`` contested pairs, ``soften`` the labels of all pairs, or ``keep`` them.
        agreement: Least P(chosen ≻ rejected) of a pair that is not contested, in [0.5, 1).
        pairs: Most pairs of an example.
        copies: Rows of a pair whose labels are softened.
        unscored: Whether a response that cannot be scored is an error, or is left out.
        guard: Warns, or stops with an error, where responses become more contested than the data:
            ``warn``, ``stop``, or a ``Guard``.

    Returns:
        The function; its result's ``rows`` go into ``datasets.Dataset.from_list``.

    Raises:
        ConfigError: If an option cannot work.
    """
    source, name = open_source(model_or_url), str(risks.parse(risk))
    own = check_guard(guard, source)
    return PairBuilder(source, name, contested, agreement, pairs, copies, unscored, own)


@dataclass(frozen=True)
class Best:
    """The best of n responses.

    Attributes:
        index: Its place.
        response: The response.
        values: The risk measure's value of each response, in reward units.
        stddev: Standard deviation of each, in reward units.
        disagreement: Probability that two people choose differently between two of them.
    """

    index: int
    response: Conversation
    values: list[float]
    stddev: list[float]
    disagreement: float


def best_of_n(
    model_or_url: Model, prompt: Conversation, responses: Sequence[Conversation], risk: str = "mean"
) -> Best:
    """Choose the response with the greatest value of a risk measure; ties go to the first.

    Args:
        model_or_url: A checkpoint, a ``RewardModel``, or the address of a server.
        prompt: Text or chat messages.
        responses: n responses.
        risk: Name of the risk measure.

    Raises:
        DataError: If there is no response, or one cannot be scored.
    """
    if not responses:
        raise DataError("there is no response to choose from")
    batch = score(model_or_url, [prompt] * len(responses), responses, risk)
    values = batch.values
    index = max(range(len(values)), key=values.__getitem__)
    return Best(index, responses[index], values, batch.stddev, batch.disagreement[0])


def _count(place: int, example: Mapping[str, Any]) -> int:
    """Return the number of an example's responses."""
    missing = next((key for key in ("prompt", "responses") if key not in example), None)
    if missing is not None:
        raise DataError(f"example {place} has no {missing!r}", field=missing)
    count = len(example["responses"])
    if isinstance(example["responses"], str) or count < 2:
        raise DataError(f"example {place} has fewer than two responses", field="responses")
    return count


def _possible(
    items: Sequence[int], values: Sequence[float], preferred: Mapping[tuple[int, int], float]
) -> list[_Pair]:
    """Return all pairs of an example, the most agreed first; P breaks ties of the risk value."""
    pairs = []
    for a, b in itertools.combinations(items, 2):
        first, second = (a, b) if (values[a], preferred[a, b]) >= (values[b], 0.5) else (b, a)
        pairs.append(_Pair(first, second, preferred[first, second], values[first] - values[second]))
    return sorted(pairs, key=lambda pair: (-pair.probability, -pair.gap))


def _completion(prompt: Conversation, response: Conversation) -> Conversation:
    """Write a response in the form of its prompt: messages after messages."""
    if isinstance(response, str) and not isinstance(prompt, str):
        return [{"role": "assistant", "content": response}]
    return response
