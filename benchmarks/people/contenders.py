"""The contenders: baselines, plain heads, and models that know their annotators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import kit
import numpy as np
import torch
from people.data import Fold, PairFold

from hidden_context.baselines import VotedPairs, fit_baselines
from hidden_context.check.features import fit_share
from hidden_context.data.example import Example
from hidden_context.data.labels import labels_of
from hidden_context.data.storage.files import atomic_write
from hidden_context.models.frozen import FrozenRewardModel
from hidden_context.statistics.evaluation.item_measures import item_measures
from hidden_context.statistics.evaluation.predictions import (
    VotePredictions,
    predict_votes,
    table_of,
)
from hidden_context.statistics.votes.losses import three_way_losses, two_way_losses
from hidden_context.statistics.votes.table import VoteTable

_TIES: Final[dict[str, Any]] = {"probe_members": 1, "outcomes": "ties"}
_BASE: Final[dict[str, Any]] = {"reward_model_type": "base"}
_FACTOR: Final[dict[str, Any]] = {"reward_model_type": "factor", "num_factors": 2, **_TIES}
_KNOWN: Final[dict[str, Any]] = {"annotators": "variational", "outcomes": "ties"}

BASELINES: Final = ("constant", "length", "logistic", "ridge")
"""Fitted together, by ``fit_baselines``."""

PLAIN: Final[dict[str, dict[str, Any]]] = {
    "base": _BASE,
    "mean_and_variance": {"reward_model_type": "mean_and_variance"},
    "categorical": {"reward_model_type": "categorical"},
    "factor": {"reward_model_type": "factor", "num_factors": 1},
}
"""Heads that know nobody."""

PEOPLE: Final[dict[str, dict[str, Any]]] = {
    "base with ties": {**_BASE, **_TIES},
    "factor with ties": _FACTOR,
    "annotators": {**_FACTOR, **_KNOWN},
}
"""The model that knows its annotators, and the two that are it without them."""

EFFECTS: Final[dict[str, dict[str, Any]]] = {
    **{
        name: {**_BASE, **_KNOWN, "annotator_effects": name.split(", ")}
        for name in ("readiness", "readiness, sharpness", "readiness, position")
    },
    "taste": {**_FACTOR, **_KNOWN, "annotator_effects": ["taste"]},
}
"""Each effect of annotators by itself."""

CONTENDERS: Final = {**PLAIN, **PEOPLE, **EFFECTS}


# What a contender says of a fold's V test votes on I items, as arrays by name:
# - two_way, three_way: loss of each vote in nats, (V,); of two ways "equal" is half a vote each,
#   three ways are NaN without ties; with _population the same of somebody unknown
# - known: which votes are by annotators whom it knows, (V,)
# - probability: share expected for the first side, (I,)
# - measures/NAME: scores by which contested items are found, higher where one is expected, (I,)
# - conflicts/NAME: scores that should be higher for conflict than for indifference, (I,)
Said = dict[str, Any]


def save(said: Said, path: Path) -> None:
    """Write an archive of arrays, whole or not at all."""
    with atomic_write(path, "wb") as file:
        np.savez_compressed(file, **said)


def read(path: Path) -> Said:
    """Read an archive of arrays."""
    with np.load(path) as arrays:
        return dict(arrays)


def test_table(pairs: PairFold) -> VoteTable:
    """Put a fold's test votes into a table; annotators are numbered over both sides."""
    place = {name: number for number, name in enumerate(pairs.names)}
    labels = labels_of(pairs.test, lambda name: place[str(name)], levels=3)
    every = np.arange(len(pairs.test))
    return table_of(labels, every, np.zeros(len(every), dtype=bool), labels.comparisons.annotator)


def fit(options: dict[str, Any], fold: Fold, shared: dict[str, Any]) -> FrozenRewardModel:
    """Train a probe on a fold.

    Args:
        options: The contender's own options.
        fold: The fold.
        shared: Options of all contenders: backbone, cache, features.
    """
    common = {"freeze_backbone": True, "evaluate_at_end": False}
    return kit.fit({**common, **shared, **options}, fold.train, fold.test).model


def predict(model: FrozenRewardModel, pairs: PairFold, table: VoteTable) -> Said:
    """What a model says of a fold's test votes."""
    likelihood, raw = model.likelihood, raw_outputs(model, pairs.test)
    labels = labels_of(
        pairs.test, likelihood.names.index, likelihood.options.column, likelihood.options.levels
    )
    every = np.arange(len(pairs.test))
    with torch.no_grad():
        found = predict_votes(likelihood, raw, labels, every, np.zeros(len(every), dtype=bool))
    said = {
        "known": found.known,
        "probability": found.probability,
        **_named("measures", item_measures(table, found, pairs.length)),
        **_named("conflicts", _conflicts(found, pairs)),
    }
    for whose, answers in (("", found.own), ("_population", found.population)):
        said[f"two_way{whose}"] = two_way_losses(answers, table.share)
        three = three_way_losses(answers, table.share) if found.has_equal else None
        said[f"three_way{whose}"] = np.full(len(table), np.nan) if three is None else three
    return said


def _named(kind: str, scores: Mapping[str, Any]) -> Said:
    return {f"{kind}/{name}": values for name, values in scores.items()}


def _conflicts(found: VotePredictions, pairs: PairFold) -> dict[str, Any]:
    """Scores that should be higher for conflict than for indifference."""
    scores = {"length": np.abs(pairs.length), "near_half": np.abs(found.probability - 0.5)}
    if found.has_equal:
        scores["equal"] = -found.answers[:, 1]
    if found.has_context:
        scores["conflict"] = found.conflict
    return scores


def predict_baselines(
    model: FrozenRewardModel, pairs: PairFold, table: VoteTable
) -> dict[str, Said]:
    """Fit the baselines on a model's features, and hold them against a fold's test votes."""
    train, test = (_voted(model, pairs, side) for side in ("train", "test"))
    nothing = np.full(len(table), np.nan)
    answers = {}
    for name, baseline in fit_baselines(train).items():
        first, second = baseline.log_probs(test)
        first, second = first[table.item], second[table.item]
        loss = -table.share * first - (1 - table.share) * second
        probability = np.exp(baseline.log_prob_first(test))
        scores = {"length": np.abs(pairs.length), "near_half": np.abs(probability - 0.5)}
        answers[name] = {
            **dict.fromkeys(("two_way", "two_way_population"), loss),
            **dict.fromkeys(("three_way", "three_way_population"), nothing),
            "known": np.zeros(len(table), dtype=bool),
            "probability": probability,
            **_named("measures", {name: -scores[name] for name in ("near_half", "length")}),
            **_named("conflicts", scores),
        }
    return answers


def raw_outputs(model: FrozenRewardModel, examples: Sequence[Example]) -> torch.Tensor:
    """Raw outputs of all responses of examples, ``(2I, K)`` of I pairs."""
    texts = [text for each in examples for text in each.inputs]
    if not texts:
        return torch.zeros((0, model.head.num_outputs))
    with torch.inference_mode():
        raw: torch.Tensor = model.probe(model.featurizer.features(texts))
    return raw.clone()


def _voted(model: FrozenRewardModel, pairs: PairFold, side: str) -> VotedPairs:
    """Pairs of one side of a fold with their shares of votes, as baselines see them."""
    examples, groups = getattr(pairs, side), getattr(pairs, f"{side}_groups").reshape(-1)
    raw, lengths = _sides(model, examples)
    features = model.probe.standardised(raw).numpy().astype(float)
    labels = labels_of(examples)
    votes, share = (x.numpy().astype(float) for x in (labels.votes_by_example, labels.vote_share))
    judged = votes > 0
    first = 2 * np.flatnonzero(judged)
    return VotedPairs(features, lengths, groups, first, first + 1, share[judged], votes[judged])


_DIRECTIONS: Final = 40


def equal_shares(model: FrozenRewardModel, pairs: PairFold) -> Any:
    r"""Probability of "equal" of each test pair, ``(I,)``, by a logistic regression.

    Its features are :math:`|x_a - x_b|` and :math:`x_a + x_b` of the main directions of the
    backbone's features, and the like of lengths. A reward model with one threshold knows nothing of
    them: to it two responses are equal as far as their rewards are.
    """
    known, tested = (_sides(model, examples) for examples in (pairs.train, pairs.test))
    train, test = (_columns(*sides, *known) for sides in (known, tested))
    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-9)
    labels = labels_of(pairs.train, levels=3).comparisons
    equal = np.bincount(
        labels.example.numpy(), labels.preference.numpy() == 0.5, minlength=len(train)
    )
    votes = np.bincount(labels.example.numpy(), minlength=len(train)) - equal
    counts = np.stack([equal, votes], axis=1)
    fitted = fit_share((train - mean) / scale, counts, pairs.train_groups[:, 0], intercept=True)
    return fitted((test - mean) / scale)


def _sides(model: FrozenRewardModel, examples: list[Example]) -> tuple[torch.Tensor, Any]:
    """Features and lengths of all responses of examples."""
    texts = [text for each in examples for text in each.inputs]
    lengths = [len(str(response)) for each in examples for response in each.responses]
    return model.featurizer.features(texts), np.array(lengths, dtype=float)


def _columns(features: Any, lengths: Any, known: Any, known_lengths: Any) -> Any:
    features, known = (each.numpy().astype(float) for each in (features, known))
    mean = known.mean(0)
    variances, axes = np.linalg.eigh(np.cov(known - mean, rowvar=False))
    directions = (features - mean) @ axes[:, ::-1][:, :_DIRECTIONS] / np.sqrt(variances[-1])
    logs = (np.log1p(lengths) - np.log1p(known_lengths).mean()) / np.log1p(known_lengths).std()
    plain = (lengths - known_lengths.mean()) / known_lengths.std()
    both = np.column_stack([directions, logs, plain])
    one, other = both[0::2], both[1::2]
    extra = np.sort(np.column_stack([logs[0::2], logs[1::2]]), axis=1)
    return np.concatenate([np.abs(one - other), one + other, extra], axis=1)
