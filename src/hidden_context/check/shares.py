"""Logistic regression of shares of votes, its penalty chosen on groups that are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.statistics.checks import Codes, Floats

_PENALTIES: Final = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
_FOLDS: Final = 3
_ROUNDING: Final = 1e-6

Share = Callable[[Floats], Floats]
"""Takes features ``(N, D)`` to probabilities ``(N,)``."""


def fit_share(features: Floats, votes: Floats, group: Codes, *, intercept: bool) -> Share:
    """Fit the probability of one of two answers.

    The penalty per vote goes down from the strongest as long as votes of groups that are left out
    are foretold better.

    Args:
        features: Features of N items, of shape ``(N, D)``.
        votes: Votes for the answer and for the other, of shape ``(N, 2)``.
        group: Group of each item, of shape ``(N,)``.
        intercept: Whether there is an intercept, without penalty.

    Returns:
        The fitted model. Without features, votes or an answer of either kind it says what the
        votes say without them: ½ without an intercept, else the share, half a vote added to each
        side.
    """
    total = votes.sum(0)
    varies = np.ptp(features, axis=0) > 0 if len(features) else np.zeros(features.shape[1], bool)
    if not intercept:
        varies = np.abs(features).max(0, initial=0.0) > 0
    if not varies.any() or total.min() == 0:
        # without an intercept the two sides are exchangeable, unless a column is constant
        free = intercept or varies.any()
        share = (total[0] + 0.5) / (total.sum() + 1) if free else 0.5
        return lambda new: np.full(len(new), share)
    own = features[:, varies]
    folds = list(group_folds(np.stack([group, group], axis=1), _FOLDS))
    best, penalty = np.inf, _PENALTIES[0]
    models = [_model(intercept) for _ in folds]
    for candidate in _PENALTIES if folds else ():
        loss = 0.0
        for model, (learn, held_out) in zip(models, folds, strict=True):
            if votes[learn].sum(0).min() == 0:
                continue
            _fit(model, own[learn], votes[learn], candidate)
            loss += _loss(model, own[held_out], votes[held_out])
        if loss >= best:
            break
        best, penalty = loss, candidate
    final = _model(intercept)
    _fit(final, own, votes, penalty)
    return lambda new: np.asarray(final.predict_proba(new[:, varies])[:, 1], dtype=np.float64)


def _model(intercept: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        fit_intercept=intercept, solver="newton-cholesky", warm_start=True, max_iter=100, tol=1e-5
    )


def _fit(model: Any, features: Floats, votes: Floats, penalty: float) -> None:
    rows = [np.flatnonzero(column > 0) for column in votes.T]
    weight = np.concatenate([votes[rows[0], 0], votes[rows[1], 1]])
    answer = np.repeat([1, 0], [len(rows[0]), len(rows[1])])
    model.C = 1 / (penalty * weight.sum())
    model.fit(features[np.concatenate(rows)], answer, sample_weight=weight)


def _loss(model: Any, features: Floats, votes: Floats) -> float:
    yes = np.clip(model.predict_proba(features)[:, 1], _ROUNDING, 1 - _ROUNDING)
    return float(-(votes[:, 0] * np.log(yes) + votes[:, 1] * np.log(1 - yes)).sum())
