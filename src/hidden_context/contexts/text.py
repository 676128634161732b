"""Prompts as vectors: TF-IDF of words and pairs of words, or embeddings, reduced to few numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.errors import ConfigError

Floats = NDArray[np.float64]

MAX_CHARACTERS: Final = 1500
"""Of a longer prompt, its first and its last half of so many characters are read."""

_MAX_DIMENSIONS: Final = 300
_MAX_TERMS: Final = 20_000
_VOCABULARY_PROMPTS: Final = 20_000
_RARE_ABOVE: Final = 2000
_SPEAKER: Final = re.compile(r"(?:\A|(?<=\s))(?:Human|Assistant|User|System)\s*:")


@dataclass(frozen=True, eq=False)
class Texts:
    """Prompts as numbers.

    Attributes:
        vectors: ``(P, d)``, rows of length 1 (0 for a prompt without any known term).
        counts: ``(P, V)`` sparse 0/1, which terms stand in which prompt; for names of clusters.
        terms: The V terms.
    """

    vectors: Floats
    counts: Any
    terms: Sequence[str]


def clean(prompt: str) -> str:
    r"""Return a prompt without the marks of its speakers, cut where it is very long.

    >>> clean("Human: Hi there\n\nAssistant: Hello.\n\nHuman: Why? Assistant:")
    'Hi there Hello. Why?'
    """
    if len(prompt) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        prompt = f"{prompt[:half]} {prompt[-half:]}"
    return " ".join(_SPEAKER.sub(" ", prompt).split())


def read_texts(prompts: Sequence[str], embeddings: Floats | None, seed: int) -> Texts:
    r"""Turn prompts into vectors.

    Terms are single words and pairs of neighbouring words, without English stop words. A term's
    weight is :math:`(1 + \ln \mathrm{tf}) (1 + \ln\frac{1 + P}{1 + \mathrm{df}})`. The matrix is
    reduced to at most 300 dimensions by a truncated singular value decomposition; rows are then
    scaled to length 1, so that distances follow the angle.

    Args:
        prompts: P texts.
        embeddings: ``(P, d)``, vectors to use in place of TF-IDF; terms then only give names.
        seed: Of the randomised decomposition.

    Returns:
        Vectors, term counts and terms.

    Raises:
        ConfigError: If embeddings are not finite.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    texts = [clean(prompt) for prompt in prompts]
    counts, terms = _term_counts(texts, seed)
    if embeddings is None:
        transformer = TfidfTransformer(sublinear_tf=True)
        matrix = transformer.fit_transform(counts) if counts.shape[1] else np.zeros((len(texts), 1))
    else:
        matrix = np.asarray(embeddings, dtype=np.float64)
        if not np.isfinite(matrix).all():
            raise ConfigError("embeddings hold values that are not finite numbers.")
    presence = counts.copy()
    presence.data = np.ones_like(presence.data)
    return Texts(_reduced(matrix, seed), presence, terms)


def _term_counts(texts: Sequence[str], seed: int) -> tuple[Any, list[str]]:
    """Count terms; the vocabulary comes from a bounded sample, so that memory stays flat."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

    sample = texts
    if len(texts) > _VOCABULARY_PROMPTS:
        chosen = np.random.default_rng(seed).choice(len(texts), _VOCABULARY_PROMPTS, replace=False)
        sample = [texts[place] for place in chosen]
    vectorizer = CountVectorizer(
        ngram_range=(1, 2),
        stop_words="english",
        min_df=2 if len(sample) > _RARE_ABOVE else 1,
        max_features=_MAX_TERMS,
        dtype=np.float64,
    )
    try:
        vectorizer.fit(sample)
    except ValueError:  # not one term: empty texts, or stop words alone
        return csr_matrix((len(texts), 0)), []
    return vectorizer.transform(texts), list(vectorizer.get_feature_names_out())


def _reduced(matrix: Any, seed: int) -> Floats:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    is_dense = isinstance(matrix, np.ndarray)
    dimensions = min(_MAX_DIMENSIONS, *(side - 1 for side in matrix.shape))
    if dimensions >= 2 and not (is_dense and matrix.shape[1] <= _MAX_DIMENSIONS):
        matrix = TruncatedSVD(dimensions, random_state=seed).fit_transform(matrix)
    elif not is_dense:
        matrix = matrix.toarray()
    return np.asarray(normalize(matrix), dtype=np.float64)
