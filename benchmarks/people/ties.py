"""How often people say "equal" of a pair, foretold from what does not change when sides change."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from people.pairs import PairFold

from hidden_context.check.shares import fit_share
from hidden_context.data.labels import labels_of
from hidden_context.models.frozen import FrozenRewardModel

_DIRECTIONS: Final = 40


def equal_shares(model: FrozenRewardModel, pairs: PairFold) -> Any:
    r"""Probability of "equal" of each test pair, ``(I,)``, by a logistic regression.

    Its features are :math:`|x_a - x_b|` and :math:`x_a + x_b` of the main directions of the
    backbone's features, and the like of lengths. A reward model with one threshold knows nothing of
    them: to it two responses are equal as far as their rewards are.
    """
    sides = {name: _sides(model, getattr(pairs, name)) for name in ("train", "test")}
    train, test = (
        _columns(*sides["train"], *sides["train"]),
        _columns(*sides["test"], *sides["train"]),
    )
    mean, scale = train.mean(0), np.maximum(train.std(0), 1e-9)
    labels = labels_of(pairs.train, levels=3).comparisons
    equal = np.bincount(
        labels.example.numpy(), labels.preference.numpy() == 0.5, minlength=len(train)
    )
    votes = np.bincount(labels.example.numpy(), minlength=len(train)) - equal
    counts = np.stack([equal, votes], axis=1)
    fitted = fit_share((train - mean) / scale, counts, pairs.train_groups[:, 0], intercept=True)
    return fitted((test - mean) / scale)


def _sides(model: FrozenRewardModel, examples: list[Any]) -> tuple[Any, Any]:
    texts = [text for each in examples for text in each.inputs]
    lengths = [[len(str(response)) for response in each.responses] for each in examples]
    features = model.featurizer.features(texts).numpy().astype(float)
    return features, np.array(lengths, dtype=float).reshape(-1)


def _columns(features: Any, lengths: Any, known: Any, known_lengths: Any) -> Any:
    mean = known.mean(0)
    variances, axes = np.linalg.eigh(np.cov(known - mean, rowvar=False))
    directions = (features - mean) @ axes[:, ::-1][:, :_DIRECTIONS] / np.sqrt(variances[-1])
    logs = (np.log1p(lengths) - np.log1p(known_lengths).mean()) / np.log1p(known_lengths).std()
    plain = (lengths - known_lengths.mean()) / known_lengths.std()
    both = np.column_stack([directions, logs, plain])
    one, other = both[0::2], both[1::2]
    extra = np.column_stack(
        [np.minimum(logs[0::2], logs[1::2]), np.maximum(logs[0::2], logs[1::2])]
    )
    return np.concatenate([np.abs(one - other), one + other, extra], axis=1)
