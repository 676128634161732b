"""Requests to a loaded model: texts or token ids in, raw outputs and numbers out.

The server, the integrations and the benchmarks use this layer. Their numbers come from the
functions that write the columns of ``score``, so that names mean the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hidden_context.distributions import RewardDistribution
from hidden_context.errors import ConfigError, DataError
from hidden_context.likelihood.labels import UNKNOWN
from hidden_context.models.reward_model import RawOutputs, RewardModel
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.risk import RiskMeasure
from hidden_context.scoring.columns import (
    Groups,
    People,
    group_measure_values,
    rewards_of_people,
)
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.prepare import Asked, OverLength, Prepared, Preparer, as_text
from hidden_context.scoring.stream import reasons_of

_ROWS_AT_ONCE = 32  # rows of the preference matrix at once, to save memory


@dataclass(frozen=True)
class Answers:
    """Raw outputs of B texts.

    Attributes:
        raw: Float32 of shape ``(B, K)``, on the CPU; NaN in the rows of texts without a reward.
        reasons: Why a text has no reward, or None.
        distance: Where each text's distance to the model's reference stands among the usual ones,
            in [0, 1], float64 of shape ``(B,)``; None where the model has no reference.
        features: What the raw outputs were read from, ``(B, M, D)``; None unless asked for.
    """

    raw: Tensor
    reasons: list[str | None]
    distance: Tensor | None = None
    features: Tensor | None = None

    def part(self, start: int, end: int) -> Answers:
        """Return the answers of consecutive texts, without features."""
        distance = None if self.distance is None else self.distance[start:end]
        return Answers(self.raw[start:end], self.reasons[start:end], distance)

    def complete(self, noun: str = "text") -> Tensor:
        """Return the raw outputs, if every text has a reward.

        Args:
            noun: What a text is called in the error.

        Raises:
            DataError: If a text has no reward, naming its place and the reason.
        """
        for place, reason in enumerate(self.reasons):
            if reason is not None:
                raise DataError(f"{noun} {place} cannot be scored: {reason}")
        return self.raw


@dataclass(frozen=True)
class Percentiles:
    """Where the n candidates of one prompt stand among the texts of the model's reference.

    Each is the share of the reference's texts, or prompts, with a smaller value: in [0, 1].

    Attributes:
        sigma: Of each reward's standard deviation.
        distance: Of each text's distance to the training texts.
        disagreement: Of the disagreement among the candidates; NaN of a single one.
    """

    sigma: list[float]
    distance: list[float]
    disagreement: float


@dataclass(frozen=True)
class Described:
    """The rewards of the n candidates of one prompt, in reward units.

    Attributes:
        mean: Means, of shape ``(n,)``.
        stddev: Standard deviations, of shape ``(n,)``.
        values: Values of the risk measures by their names, each of shape ``(n,)``.
        preferred: P(i ≻ j) in a comparison, ties counted half, of shape ``(n, n)``.
        shares: Shares of the variance by part, each of shape ``(n,)``, which sum to 1; NaN where a
            reward does not vary, and no part at all for a head without variance.
        groups: By the risk measures' names, their values by group of annotators, and of the group
            with the lowest value (``worst_group``).
        percentiles: Where the candidates stand in the model's reference, or None.
    """

    mean: Tensor
    stddev: Tensor
    values: dict[str, Tensor]
    preferred: Tensor
    shares: dict[str, Tensor]
    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    percentiles: Percentiles | None = None


class Scorer(Preparer):
    """A loaded model that answers requests; a reward does not depend on the texts beside it.

    Args:
        model: The model.
        options: How texts are run: the engine, and the most tokens or texts of a pass.
        over_length: Whether a text longer than the model reads is an error of that text, or loses
            its beginning.
    """

    def __init__(
        self,
        model: RewardModel,
        options: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
        over_length: OverLength = "error",
    ) -> None:
        super().__init__(model, over_length)
        self.options = options

    def raw(self, asked: Sequence[Asked]) -> Answers:
        """Compute raw outputs of texts together; a beginning that several texts share is run once.

        Args:
            asked: B texts, marked texts or token ids, in any mixture.

        Returns:
            Their raw outputs, and why a text has none.

        Raises:
            ConfigError: If there are messages but no chat template.
        """
        return self.run(self.prepare(asked))

    def run(self, ready: Sequence[Prepared], *, with_features: bool = False) -> Answers:
        """Compute raw outputs of prepared texts (see ``raw``).

        Args:
            ready: B texts.
            with_features: Whether what the raw outputs are read from is kept.
        """
        model, options = self.model, self.options
        how: dict[str, Any] = {
            "engine": options.engine,
            "tokens_per_batch": options.tokens_per_batch,
            "with_features": with_features or model.reference is not None,
        }
        features: Tensor | None = None
        raw = torch.full((len(ready), model.head.num_outputs), torch.nan)
        reasons = [one.reason for one in ready]
        places = [n for n, reason in enumerate(reasons) if reason is None]
        if places:
            if isinstance(model, SequenceRewardModel):
                sequences = [ready[n].ids or () for n in places]
                found, features = model.run_tokens(sequences, options.batch_size, **how)
                outputs = RawOutputs(found, [None] * len(places))
            else:
                texts = [as_text(ready[n].asked) for n in places]
                how["over_length"] = "truncate" if self.over_length == "truncate" else "drop"
                outputs = model.try_raw_outputs(texts, options.batch_size, **how)
                features = outputs.features
            raw[places] = outputs.raw
            for place, reason in zip(places, reasons_of(outputs), strict=True):
                reasons[place] = reason
        raw[[reason is not None for reason in reasons]] = torch.nan
        distance = kept = None
        if model.reference is not None:
            distance = torch.full((len(ready),), torch.nan, dtype=torch.float64)
        if features is not None:
            kept = torch.full((len(ready), *features.shape[1:]), torch.nan)
            kept[places] = features
            kept[raw.isnan().any(1)] = torch.nan
            if model.reference is not None:
                distance = model.reference.percentiles("distance", model.reference.distances(kept))
        return Answers(raw, reasons, distance, kept if with_features else None)

    def describe(
        self,
        raw: Tensor,
        measures: Sequence[RiskMeasure] = (),
        annotator: str | None = None,
        groups: Groups | None = None,
        distance: Tensor | None = None,
    ) -> Described:
        """Describe the rewards of the n candidates of one prompt together.

        Args:
            raw: Raw outputs of shape ``(n, K)``, all finite.
            measures: Risk measures.
            annotator: Whose rewards; None for the population's.
            groups: Annotators by group; the same risk measures are computed for each group.
            distance: Where the candidates' distances stand in the reference (``Answers.distance``).

        Returns:
            Moments, risk measures, preferences and shares, in float64.

        Raises:
            ConfigError: If the model does not know the annotators, or a relative measure meets a
                head without shared context.
        """
        people = People(self.model.likelihood, annotator, groups)
        rewards = self.rewards(raw, annotator)
        return Described(
            rewards.mean,
            rewards.stddev,
            {str(measure): measure(rewards) for measure in measures},
            _preferences(rewards),
            variance_shares(rewards),
            {} if groups is None else group_measure_values(self.rewards(raw), measures, people),
            None if distance is None else self.percentiles(raw, distance),
        )

    def percentiles(self, raw: Tensor, distance: Tensor) -> Percentiles | None:
        """Compare the candidates of one prompt, by the population's rewards, with the reference.

        Args:
            raw: Raw outputs of shape ``(n, K)``, all finite.
            distance: Where their distances stand (``Answers.distance``), of shape ``(n,)``.

        Returns:
            The percentiles; None where the model has no reference.
        """
        reference = self.model.reference
        if reference is None:
            return None
        rewards = self.rewards(raw)
        divided = torch.tensor(disagreement(_preferences(rewards).tolist()))
        return Percentiles(
            reference.percentiles("sigma", rewards.stddev).tolist(),
            distance.tolist(),
            float(reference.percentiles("disagreement", divided)),
        )

    def rewards(self, raw: Tensor, annotator: str | None = None) -> RewardDistribution:
        """Read raw outputs as rewards.

        Args:
            raw: Raw outputs of shape ``(n, K)``, all finite.
            annotator: Whose rewards; None for the population's.

        Returns:
            Rewards in float64, of batch shape ``(n,)``.

        Raises:
            ConfigError: If the model does not know the annotator.
        """
        likelihood = self.model.likelihood
        if annotator is not None:
            likelihood.check_annotators()
            if likelihood.names.index(annotator) == UNKNOWN:
                raise ConfigError(
                    f"the model does not know the annotator {annotator!r}; leave the annotator out "
                    "for the population's rewards."
                )
        return rewards_of_people(raw.double(), People(likelihood, annotator))


def disagreement(preferred: Sequence[Sequence[float]]) -> float:
    """Return the probability that two people choose differently between two of n responses.

    This is the mean of 2P(1 − P) over pairs, in [0, ½].

    Args:
        preferred: P(i ≻ j), n rows of n.

    Returns:
        The probability; NaN of a single response.
    """
    pairs = [preferred[i][j] for i in range(len(preferred)) for j in range(i)]
    return sum(2 * p * (1 - p) for p in pairs) / len(pairs) if pairs else math.nan


def variance_shares(rewards: RewardDistribution) -> dict[str, Tensor]:
    """Return each part's share of the variance of rewards; NaN where nothing varies."""
    return {name: part / rewards.variance for name, part in rewards.variance_parts.items()}


def extra_logs(rewards: RewardDistribution, distance: Tensor | None) -> dict[str, Tensor]:
    """Return numbers that trainers log beside rewards, without parts that are not all finite."""
    parts = {"log_sigma": rewards.stddev.log()}
    parts |= {f"share_{name}": part for name, part in variance_shares(rewards).items()}
    logs = {"mean": rewards.mean, "stddev": rewards.stddev}
    logs |= {name: part for name, part in parts.items() if bool(part.isfinite().all())}
    return logs if distance is None else logs | {"distance": distance}


def _preferences(rewards: RewardDistribution) -> Tensor:
    """Return P(i ≻ j) of n rewards, of shape ``(n, n)``."""
    rows = [
        rewards[start : start + _ROWS_AT_ONCE, None].log_prob_greater(rewards[None, :]).exp()
        for start in range(0, len(rewards), _ROWS_AT_ONCE)
    ]
    return torch.cat(rows)
