"""Features of texts (words and length, or an embedding), and logistic regression on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.items import Items
from hidden_context.contexts.text import clean
from hidden_context.statistics.checks import Codes, Floats

WORDS: Final = "TF-IDF and length"

Features = Callable[[Codes], Floats]
"""Takes responses to learn from, indices ``(S,)``, to features of all responses, ``(R, D)``."""


def features_of(
    items: Items, embed: str | None = None, max_length: int = 512, seed: int = 0
) -> Features:
    """Make features from words, or from an embedding model if one is named.

    Args:
        items: The items.
        embed: Embedding model, a hub id or folder; None for words.
        max_length: Longest text of the embedding model, in tokens.
        seed: Seed of the reduction.

    Returns:
        A function that learns and computes the features.
    """
    if embed is None:
        return word_features(items, seed)
    from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
    from hidden_context.models.network.precision import resolve_device

    options = FeaturizerOptions(max_length=max_length)
    featurizer = Featurizer(embed, options, device=resolve_device("auto"))
    vectors = featurizer.features([response.input for response in items.responses])
    return embedding_features(np.asarray(vectors.double().numpy()), seed)


def word_features(items: Items, seed: int = 0) -> Features:
    """Make features from words: TF-IDF of words and pairs of words, reduced to 100 numbers.

    The vocabulary, its weights and the reduction are learned from the responses of a fold's
    training side alone.

    Args:
        items: The items.
        seed: Seed of the reduction.

    Returns:
        A function that learns and computes the features.
    """
    words = [clean(response.words) for response in items.responses]

    def features(learn: Codes) -> Floats:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            max_features=20_000,
            min_df=2,
            token_pattern=r"(?u)\b\w+\b",
        )
        try:
            matrix: Any = vectorizer.fit_transform([words[number] for number in learn.tolist()])
        except ValueError:  # no word stands in two texts
            return np.zeros((len(words), 0))
        every = vectorizer.transform(words)
        dimensions = min(100, *(side - 1 for side in matrix.shape))
        if dimensions < 1:
            return np.asarray(every.toarray(), dtype=np.float64)
        with np.errstate(invalid="ignore"):  # where all texts are alike
            reduction = TruncatedSVD(dimensions, random_state=seed).fit(matrix)
        return np.asarray(reduction.transform(every), dtype=np.float64)

    return features


def embedding_features(vectors: Floats, seed: int = 0) -> Features:
    """Reduce embeddings to their 200 main directions, learned on the training side of a fold.

    Args:
        vectors: Embeddings of all responses, of shape ``(R, D)``.
        seed: Seed of the reduction.

    Returns:
        A function that learns and computes the features.
    """

    def features(learn: Codes) -> Floats:
        from sklearn.decomposition import PCA

        dimensions = min(200, len(learn), vectors.shape[1])
        reduction = PCA(dimensions, whiten=False, random_state=seed).fit(vectors[learn])
        return np.asarray(reduction.transform(vectors), dtype=np.float64)

    return features


_PENALTIES: Final = (10.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
_ROUNDING: Final = 1e-6

Share = Callable[[Floats], Floats]
"""Takes features ``(N, D)`` to probabilities ``(N,)``."""


def fit_share(features: Floats, votes: Floats, group: Codes, *, intercept: bool) -> Share:
    """Fit the probability of one of two answers.

    The penalty per vote goes down from the strongest as long as votes of groups that are left out
    are predicted better.

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
    folds = list(group_folds(np.stack([group, group], axis=1), 3))
    best, penalty = np.inf, _PENALTIES[0]
    models = [_model(intercept) for _ in folds]
    for candidate in _PENALTIES if folds else ():
        loss = 0.0
        for model, (learn, held_out) in zip(models, folds, strict=True):
            if votes[learn].sum(0).min() == 0:
                continue
            _fit(model, own[learn], votes[learn], candidate)
            chance = np.clip(model.predict_proba(own[held_out]), _ROUNDING, 1 - _ROUNDING)
            loss -= float((votes[held_out] * np.log(chance[:, ::-1])).sum())
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
