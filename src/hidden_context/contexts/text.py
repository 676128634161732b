"""Prompts as short vectors, and the terms that set clusters of prompts apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats

MAX_CHARACTERS: Final = 1500
"""Longest prompt that is read whole; of a longer one, the first and last half of this many."""

_MAX_DIMENSIONS: Final = 300
_VOCABULARY_PROMPTS: Final = 20_000
_SPEAKER: Final = re.compile(r"(?:\A|(?<=\s))(?:Human|Assistant|User|System)\s*:")


@dataclass(frozen=True, eq=False)
class Texts:
    """Prompts as vectors, with the terms that stand in them.

    Attributes:
        vectors: ``(P, d)``, rows of length 1 (0 for a prompt without any known term).
        counts: ``(P, V)`` sparse 0/1, which terms stand in which prompt; for names of clusters.
        terms: The V terms.
    """

    vectors: Floats
    counts: Any
    terms: Sequence[str]


def clean(prompt: str) -> str:
    r"""Return a prompt without the marks of its speakers, cut if it is very long.

    >>> clean("Human: Hi there\n\nAssistant: Hello.\n\nHuman: Why? Assistant:")
    'Hi there Hello. Why?'
    """
    if len(prompt) > MAX_CHARACTERS:
        half = MAX_CHARACTERS // 2
        prompt = f"{prompt[:half]} {prompt[-half:]}"
    return " ".join(_SPEAKER.sub(" ", prompt).split())


def shortened(text: str, most: int = 400) -> str:
    """Put a text on one line and shorten it.

    >>> shortened("a   long word", 8)
    'a long…'
    """
    text = " ".join(text.split()).encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def read_texts(prompts: Sequence[str], embeddings: Floats | None, seed: int) -> Texts:
    r"""Turn prompts into vectors.

    Terms are single words and pairs of neighbouring words, without English stop words. A term's
    weight is :math:`(1 + \ln \mathrm{tf}) (1 + \ln\frac{1 + P}{1 + \mathrm{df}})`. The matrix is
    reduced to at most 300 dimensions by a truncated singular value decomposition; rows are then
    scaled to length 1, so that distances follow the angle.

    Args:
        prompts: P texts.
        embeddings: ``(P, d)``, vectors to use in place of TF-IDF; terms then only give names.
        seed: Seed of the randomised decomposition.

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
        min_df=2 if len(sample) > 2000 else 1,
        max_features=20_000,
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


def log_odds(inside: Floats, outside: Floats, prompts: int) -> Floats:
    r"""Return z-scores that say how typical each term is of a cluster's prompts.

    A term is typical if it stands in more of the cluster's prompts than in the other prompts.
    :math:`y_w` is the number of the cluster's prompts that hold term w, and :math:`y'_w` the number
    of other prompts that hold it. The prior :math:`\alpha_w` is proportional to their sum, and
    weighs as much as the terms of ten prompts:

    .. math:: \delta_w = \ln\frac{y_w + \alpha_w}{n + \alpha_0 - y_w - \alpha_w}
        - \ln\frac{y'_w + \alpha_w}{n' + \alpha_0 - y'_w - \alpha_w}, \qquad
        z_w = \frac{\delta_w}{\sqrt{1 / (y_w + \alpha_w) + 1 / (y'_w + \alpha_w)}}

    with n and n' the sums of y and y'.

    Args:
        inside: y, of shape ``(V,)``.
        outside: y', of shape ``(V,)``; every term stands in some prompt.
        prompts: Number of prompts, of the cluster and the others together.

    Returns:
        z, of shape ``(V,)``.

    Source: Monroe, Colaresi and Quinn (2008), "Fightin' Words", equations 16, 18 and 22.
    """
    prior = (inside + outside) * min(1.0, 10.0 / prompts)
    total = prior.sum()
    own, other = inside + prior, outside + prior
    delta = np.log(own / (inside.sum() + total - own)) - np.log(
        other / (outside.sum() + total - other)
    )
    return np.asarray(delta / np.sqrt(1 / own + 1 / other))


def distinctive_terms(
    counts: Any, terms: Sequence[str], label: Codes, count: int = 8
) -> list[list[str]]:
    """Name the terms by which each cluster differs from the rest.

    A term that shares a word with an already chosen term says little new and is left out.

    Args:
        counts: ``(P, V)`` sparse 0/1, which term stands in which prompt.
        terms: The V terms.
        label: ``(P,)``, clusters 0 to C − 1.
        count: Most terms of a cluster.

    Returns:
        Terms of each cluster, the most distinctive first; with a single cluster its most frequent.
    """
    clusters = int(label.max()) + 1
    if not terms:
        return [[] for _ in range(clusters)]
    total = np.asarray(counts.sum(0), dtype=np.float64).ravel()
    known = np.flatnonzero(total)  # a part of the prompts need not have every term
    total, names = total[known], [terms[place] for place in known.tolist()]
    found = []
    for cluster in range(clusters):
        inside = np.asarray(counts[label == cluster].sum(0), dtype=np.float64).ravel()[known]
        scores = total if clusters == 1 else log_odds(inside, total - inside, len(label))
        least = 0.0 if clusters == 1 else 1.0
        found.append(_best(scores, names, least, count) or _best(scores, names, 0.0, count))
    return found


def _best(scores: Floats, terms: Sequence[str], least: float, count: int) -> list[str]:
    chosen: list[str] = []
    words: set[str] = set()
    for place in map(int, np.argsort(-scores, kind="stable")):
        if len(chosen) == count or scores[place] <= least:
            break
        own = set(terms[place].split())
        if own & words:
            continue
        chosen.append(terms[place])
        words |= own
    return chosen
