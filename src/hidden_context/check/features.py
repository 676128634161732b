"""What a model sees of a text: words and length, learned within each fold, or an embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from hidden_context.check.items import Items
from hidden_context.contexts.text import clean
from hidden_context.statistics.checks import Codes, Floats

WORDS: Final = "TF-IDF and length"
_DIMENSIONS: Final = 100
_MAX_TERMS: Final = 20_000
_EMBEDDING_DIMENSIONS: Final = 200

Features = Callable[[Codes], Floats]
"""Takes responses to learn from, indices ``(S,)``, to features of all responses, ``(R, D)``."""


def word_features(items: Items, seed: int = 0) -> Features:
    """Make features of words: TF-IDF of words and pairs of words, reduced to 100 numbers.

    The vocabulary, its weights and the reduction are learned from the responses of a fold's
    training side alone.

    Args:
        items: The items.
        seed: Of the reduction.

    Returns:
        A function that learns and computes the features.
    """
    words = [clean(response.words) for response in items.responses]

    def features(learn: Codes) -> Floats:
        return _words(words, learn, seed)

    return features


def _words(words: Sequence[str], learn: Codes, seed: int) -> Floats:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = [words[number] for number in learn.tolist()]
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=_MAX_TERMS,
        min_df=2,
        token_pattern=r"(?u)\b\w+\b",
    )
    try:
        matrix: Any = vectorizer.fit_transform(known)
    except ValueError:  # no word stands in two texts
        return np.zeros((len(words), 0))
    every = vectorizer.transform(words)
    dimensions = min(_DIMENSIONS, *(side - 1 for side in matrix.shape))
    if dimensions < 1:
        return np.asarray(every.toarray(), dtype=np.float64)
    with np.errstate(invalid="ignore"):  # where all texts are alike
        reduction = TruncatedSVD(dimensions, random_state=seed).fit(matrix)
    return np.asarray(reduction.transform(every), dtype=np.float64)


def embedding_features(vectors: Floats, seed: int = 0) -> Features:
    """Reduce embeddings to their 200 main directions, found on a fold's training side.

    Args:
        vectors: Embeddings of all responses, of shape ``(R, D)``.
        seed: Of the reduction.

    Returns:
        A function that learns and computes the features.
    """

    def features(learn: Codes) -> Floats:
        from sklearn.decomposition import PCA

        dimensions = min(_EMBEDDING_DIMENSIONS, len(learn), vectors.shape[1])
        reduction = PCA(dimensions, whiten=False, random_state=seed).fit(vectors[learn])
        return np.asarray(reduction.transform(vectors), dtype=np.float64)

    return features
