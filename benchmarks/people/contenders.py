"""What stands on the leaderboard: baselines, plain heads, and models that know their annotators."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from people.data import Fold
from people.pairs import PairFold

from hidden_context.baselines import VotedPairs, fit_baselines
from hidden_context.data.labels import labels_of
from hidden_context.likelihood import Likelihood
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.statistics.item_measures import item_measures
from hidden_context.statistics.vote_losses import three_way_losses, two_way_losses
from hidden_context.statistics.vote_predictions import VotePredictions, predict_votes, table_of
from hidden_context.statistics.votes import VoteTable
from hidden_context.training import TrainConfig, run

_KNOWN: Final[dict[str, Any]] = {"annotators": "variational", "outcomes": "ties"}
_PEOPLE: Final[dict[str, Any]] = {
    "reward_model_type": "factor",
    "num_factors": 2,
    "probe_members": 1,
    **_KNOWN,
}

BASELINES: Final = ("constant", "length", "logistic", "ridge")
"""Fitted together, by ``fit_baselines``."""

PLAIN: Final[dict[str, dict[str, Any]]] = {
    "base": {"reward_model_type": "base"},
    "mean_and_variance": {"reward_model_type": "mean_and_variance"},
    "categorical": {"reward_model_type": "categorical"},
    "factor": {"reward_model_type": "factor", "num_factors": 1},
}
"""Heads that know nobody."""

PEOPLE: Final[dict[str, dict[str, Any]]] = {
    "base with ties": {"reward_model_type": "base", "probe_members": 1, "outcomes": "ties"},
    "factor with ties": {
        "reward_model_type": "factor",
        "num_factors": 2,
        "probe_members": 1,
        "outcomes": "ties",
    },
    "annotators": _PEOPLE,
}
"""The model that knows its annotators, and the two that are it without them."""

EFFECTS: Final[dict[str, dict[str, Any]]] = {
    "readiness": {"reward_model_type": "base", **_KNOWN, "annotator_effects": ["readiness"]},
    "readiness, sharpness": {
        "reward_model_type": "base",
        **_KNOWN,
        "annotator_effects": ["readiness", "sharpness"],
    },
    "readiness, position": {
        "reward_model_type": "base",
        **_KNOWN,
        "annotator_effects": ["readiness", "position"],
    },
    "taste": {**_PEOPLE, "annotator_effects": ["taste"]},
}
"""Each effect of annotators by itself."""

CONTENDERS: Final = {**PLAIN, **PEOPLE, **EFFECTS}


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """What a contender says of a fold's V test votes on I items.

    Attributes:
        two_way: Loss of each vote in nats, ``equal`` half a vote each way, ``(V,)``.
        three_way: Loss of each vote among first, equal and second, ``(V,)``; NaN without ties.
        two_way_population: The same of somebody unknown, ``(V,)``.
        three_way_population: Likewise.
        known: Which votes are by annotators whom it knows, ``(V,)``.
        probability: Share expected for the first side, ``(I,)``.
        measures: Scores by which contested items are found, higher where one is expected.
        conflicts: Scores that are to be higher for conflict than for indifference.
    """

    two_way: Any
    three_way: Any
    two_way_population: Any
    three_way_population: Any
    known: Any
    probability: Any
    measures: dict[str, Any]
    conflicts: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write it as an archive of arrays."""
        arrays: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                arrays |= {f"{field.name}/{name}": each for name, each in value.items()}
            else:
                arrays[field.name] = value
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **arrays)
        partial.rename(path)

    @classmethod
    def load(cls, path: Path) -> Predicted:
        """Read what ``save`` wrote."""
        values: dict[str, Any] = {"measures": {}, "conflicts": {}}
        with np.load(path) as arrays:
            for name in arrays.files:
                field, _, key = name.partition("/")
                if key:
                    values[field][key] = arrays[name]
                else:
                    values[field] = arrays[name]
        return cls(**values)


def test_table(pairs: PairFold) -> VoteTable:
    """Put a fold's test votes into a table; annotators are numbered over both sides."""
    place = {name: number for number, name in enumerate(pairs.names)}
    labels = labels_of(pairs.test, lambda name: place[str(name)], levels=3)
    every = np.arange(len(pairs.test))
    turned = np.zeros(len(every), dtype=bool)
    return table_of(labels, every, turned, labels.comparisons.annotator)


def fit(options: dict[str, Any], fold: Fold, shared: dict[str, Any]) -> FrozenRewardModel:
    """Train a probe on a fold.

    Args:
        options: The contender's own options.
        fold: The fold.
        shared: Options of all contenders: backbone, cache, features.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            output_dir=folder,
            freeze_backbone=True,
            quiet=True,
            evaluate_at_end=False,
            **{**shared, **options},
        )
        model = run(config, fold.train, fold.test).model
    assert isinstance(model, FrozenRewardModel)
    return model


def predict(model: FrozenRewardModel, pairs: PairFold, table: VoteTable) -> Predicted:
    """What a model says of a fold's test votes."""
    return predicted(model.likelihood, _raw(model, pairs), pairs, table)


def predicted(
    likelihood: Likelihood, raw: torch.Tensor, pairs: PairFold, table: VoteTable
) -> Predicted:
    """What a likelihood says of a fold's test votes, given raw outputs of the test responses."""
    labels = labels_of(
        pairs.test, likelihood.names.index, likelihood.options.column, likelihood.options.levels
    )
    every = np.arange(len(pairs.test))
    turned = np.zeros(len(every), dtype=bool)
    with torch.no_grad():
        found = predict_votes(likelihood, raw, labels, every, turned)
    nothing = np.full(len(table), np.nan)
    ways = (found.own, found.population)
    three = [three_way_losses(each, table.share) if found.has_equal else nothing for each in ways]
    two = [two_way_losses(each, table.share) for each in ways]
    return Predicted(
        two[0],
        three[0],
        two[1],
        three[1],
        found.known,
        found.probability,
        item_measures(table, found, pairs.length),
        _conflicts(found, pairs),
    )


def _conflicts(found: VotePredictions, pairs: PairFold) -> dict[str, Any]:
    """Scores that are to be higher for conflict than for indifference."""
    scores = {"length": np.abs(pairs.length), "near_half": np.abs(found.probability - 0.5)}
    if found.has_equal:
        scores["equal"] = -found.answers[:, 1]
    if found.has_context:
        scores["conflict"] = found.conflict
    return scores


def predict_baselines(
    model: FrozenRewardModel, pairs: PairFold, table: VoteTable
) -> dict[str, Predicted]:
    """Fit the baselines on a model's features, and hold them against a fold's test votes."""
    train, test = (_voted(model, pairs, side) for side in ("train", "test"))
    nothing = np.full(len(table), np.nan)
    nobody = np.zeros(len(table), dtype=bool)
    answers = {}
    for name, baseline in fit_baselines(train).items():
        first, second = baseline.log_probs(test)
        first, second = first[table.item], second[table.item]
        loss = -table.share * first - (1 - table.share) * second
        probability = np.exp(baseline.log_prob_first(test))
        measures = {"near_half": -np.abs(probability - 0.5), "length": -np.abs(pairs.length)}
        conflicts = {"length": np.abs(pairs.length), "near_half": np.abs(probability - 0.5)}
        answers[name] = Predicted(
            loss, nothing, loss, nothing, nobody, probability, measures, conflicts
        )
    return answers


def _raw(model: FrozenRewardModel, pairs: PairFold) -> torch.Tensor:
    features = model.featurizer.features([text for each in pairs.test for text in each.inputs])
    with torch.inference_mode():
        raw: torch.Tensor = model.probe(features)
    return raw.clone()


def _voted(model: FrozenRewardModel, pairs: PairFold, side: str) -> VotedPairs:
    """Pairs of one side of a fold with their shares of votes, as baselines see them."""
    examples = getattr(pairs, side)
    texts = [text for each in examples for text in each.inputs]
    features = model.probe.standardised(model.featurizer.features(texts)).numpy().astype(float)
    lengths = np.array([len(str(r)) for each in examples for r in each.responses], dtype=float)
    labels = labels_of(examples)
    votes = labels.votes_by_example.numpy().astype(float)
    judged = votes > 0
    groups = getattr(pairs, f"{side}_groups").reshape(-1)
    first = 2 * np.arange(len(examples))[judged]
    share = labels.vote_share.numpy().astype(float)[judged]
    return VotedPairs(features, lengths, groups, first, first + 1, share, votes[judged])
