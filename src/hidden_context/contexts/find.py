"""Which prompts carry the hidden variance: contexts found from prompts and pairs' variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hidden_context.contexts.clustering import cluster_by_silhouette
from hidden_context.contexts.levels import find_levels
from hidden_context.contexts.terms import distinctive_terms
from hidden_context.contexts.text import Texts, read_texts
from hidden_context.data.files import to_plain
from hidden_context.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_PROMPTS: Final = 50_000
"""Of more prompts, so many are drawn at random (by the seed) with all their pairs."""

_EXAMPLES: Final = 3
_EXAMPLE_CHARACTERS: Final = 300
_TOP: Final = 10
_NAME_TERMS: Final = 3
_MIN_TOPIC_PROMPTS: Final = 20


@dataclass(frozen=True)
class Topic:
    """Prompts of one context that have words in common.

    Attributes:
        name: Its three most distinctive terms.
        terms: Terms by which it differs from the rest of its context.
        prompts: How many.
        pairs: How many pairs these have.
        mean_variance: Mean hidden variance of these pairs.
        variance_share: Their share of all pairs' hidden variance.
    """

    name: str
    terms: list[str]
    prompts: int
    pairs: int
    mean_variance: float
    variance_share: float


@dataclass(frozen=True)
class Context(Topic):
    """Prompts that belong together, in text and in hidden variance.

    Attributes:
        examples: Typical prompts.
        topics: Its parts by text alone, most mean variance first; empty where it has none.
    """

    examples: list[str]
    topics: list[Topic]


@dataclass(frozen=True, eq=False)
class Contexts:
    """Where hidden variance lives.

    Attributes:
        features: ``tfidf`` or ``embeddings``.
        split: ``variance`` where contexts are levels of the variance that the text foretells;
            ``text`` where the text foretells none, and they are clusters of text alone.
        text_r2: Cross-validated share of the variance of prompts' log variance that the text
            foretells; NaN where it was not tried.
        prompts: Prompts with pairs.
        sampled: How many of them were looked at.
        clusters: Most mean variance first.
        top: Pairs of the most variance, one of each prompt: row, prompt, variance.
        assignment: ``(P,)``, the place in ``clusters`` of each prompt; −1 for prompts that were not
            looked at or have no pair.
    """

    features: str
    split: Literal["variance", "text"]
    text_r2: float
    prompts: int
    sampled: int
    clusters: list[Context]
    top: list[dict[str, Any]]
    assignment: Ints

    def to_dict(self) -> dict[str, Any]:
        """Return what analysis.json holds."""
        found = dict(to_plain(self))
        del found["assignment"]
        return found


def find_contexts(
    prompts: Sequence[str],
    cluster: Ints,
    variance: Floats,
    *,
    features: Literal["tfidf"] | Floats = "tfidf",
    max_clusters: int = 12,
    seed: int = 0,
    rows: Ints | None = None,
) -> Contexts:
    """Find the prompts that hidden variance lives in.

    Prompts become vectors. Where these foretell the variance of prompts that were not looked at,
    contexts are levels of that variance, and each is divided into topics by its text; else contexts
    are clusters of text alone. Either way a prompt's own variance has no say in where it goes.

    Args:
        prompts: Distinct prompts, by number.
        cluster: ``(N,)``, the number of each pair's prompt.
        variance: ``(N,)``, hidden variance of each pair: that of the difference of its rewards.
        features: ``tfidf``, or embeddings of shape ``(P, d)``.
        max_clusters: Most contexts, and most topics of one.
        seed: Of everything drawn at random.
        rows: ``(N,)``, the row of each pair in its file, for ``top``; default 0 to N − 1.

    Returns:
        The contexts.

    Raises:
        ConfigError: If lengths differ, there is no pair, a prompt is missing, a variance is
            negative or not finite, or ``max_clusters`` is below 2.
    """
    cluster, variance = np.asarray(cluster, np.int64), np.asarray(variance, np.float64)
    _check(prompts, cluster, variance, max_clusters)
    embeddings = None if isinstance(features, str) else np.asarray(features)
    if embeddings is not None and (embeddings.ndim != 2 or len(embeddings) != len(prompts)):
        raise ConfigError(
            f"embeddings have shape {embeddings.shape}; one row for each of the {len(prompts)} "
            "prompts is needed."
        )
    used = np.unique(cluster)
    chosen = used
    if len(used) > MAX_PROMPTS:
        chosen = np.sort(np.random.default_rng(seed).choice(used, MAX_PROMPTS, replace=False))
    place = np.full(len(prompts), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    own = place[cluster]
    kept = own >= 0
    sums = _Sums(
        np.bincount(own[kept], minlength=len(chosen)).astype(np.int64),
        np.bincount(own[kept], weights=variance[kept], minlength=len(chosen)).astype(np.float64),
    )
    looked_at = [prompts[number] for number in chosen]
    texts = read_texts(looked_at, None if embeddings is None else embeddings[chosen], seed)
    levels = find_levels(texts.vectors, sums.variance / sums.pairs, max_clusters, seed)
    by_variance = levels.count > 1
    label = (
        levels.label if by_variance else cluster_by_silhouette(texts.vectors, max_clusters, seed)
    )
    clusters, label = _contexts(looked_at, texts, label, sums, max_clusters, seed, by_variance)
    assignment = np.full(len(prompts), -1, dtype=np.int64)
    assignment[chosen] = label
    return Contexts(
        features="tfidf" if embeddings is None else "embeddings",
        split="variance" if by_variance else "text",
        text_r2=levels.explained,
        prompts=len(used),
        sampled=len(chosen),
        clusters=clusters,
        top=_top(prompts, cluster, variance, rows),
        assignment=assignment,
    )


@dataclass(frozen=True, eq=False)
class _Sums:
    """Pairs and summed variance of each prompt."""

    pairs: Ints
    variance: Floats

    def of(self, label: Ints, count: int) -> tuple[Ints, Floats]:
        """Add both up by cluster."""
        pairs = np.bincount(label, weights=self.pairs, minlength=count)
        variance = np.bincount(label, weights=self.variance, minlength=count)
        return pairs.astype(np.int64), variance.astype(np.float64)


def _check(prompts: Sequence[str], cluster: Ints, variance: Floats, max_clusters: int) -> None:
    if len(cluster) == 0 or cluster.shape != variance.shape or cluster.ndim != 1:
        raise ConfigError(
            "one prompt number and one variance per pair are needed, at least one; got shapes "
            f"{cluster.shape} and {variance.shape}."
        )
    if cluster.min() < 0 or cluster.max() >= len(prompts):
        raise ConfigError(
            f"prompt numbers run from {cluster.min()} to {cluster.max()}, but there are "
            f"{len(prompts)} prompts."
        )
    if not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise ConfigError("a variance is negative or not a finite number.")
    if max_clusters < 2:
        raise ConfigError(f"max_clusters is {max_clusters}; at least 2 are needed.")


def _contexts(
    prompts: Sequence[str],
    texts: Texts,
    label: Ints,
    sums: _Sums,
    max_clusters: int,
    seed: int,
    with_topics: bool,
) -> tuple[list[Context], Ints]:
    """Describe clusters, most mean variance first, and number them so."""
    described, label = _topics(texts, label, sums, sums.variance.sum())
    contexts = []
    for number, topic in enumerate(described):
        inside = np.flatnonzero(label == number)
        topics: list[Topic] = []
        if with_topics and len(inside) >= _MIN_TOPIC_PROMPTS:
            part = Texts(texts.vectors[inside], texts.counts[inside], texts.terms)
            inner = cluster_by_silhouette(part.vectors, max_clusters, seed)
            own = _Sums(sums.pairs[inside], sums.variance[inside])
            topics = _topics(part, inner, own, sums.variance.sum())[0]
        examples = [_shortened(prompts[i]) for i in inside[_typical(texts.vectors[inside])]]
        contexts.append(Context(**vars(topic), examples=examples, topics=topics))
    return contexts, label


def _topics(texts: Texts, label: Ints, sums: _Sums, total: float) -> tuple[list[Topic], Ints]:
    count = int(label.max()) + 1
    pairs, variance = sums.of(label, count)
    terms = distinctive_terms(texts.counts, texts.terms, label)
    size = np.bincount(label, minlength=count)
    order = np.argsort(-variance / pairs, kind="stable")
    topics = [
        Topic(
            name=", ".join(terms[k][:_NAME_TERMS]) or "no distinctive term",
            terms=terms[k],
            prompts=int(size[k]),
            pairs=int(pairs[k]),
            mean_variance=float(variance[k] / pairs[k]),
            variance_share=float(variance[k] / total)
            if total > 0
            else float(pairs[k] / pairs.sum()),
        )
        for k in order
    ]
    return topics, np.argsort(order).astype(np.int64)[label]


def _typical(vectors: Floats) -> Ints:
    """Return the places of the vectors nearest to their centre."""
    distance = np.square(vectors - vectors.mean(0)).sum(1)
    return np.argsort(distance, kind="stable")[:_EXAMPLES]


def _shortened(prompt: str) -> str:
    text = " ".join(prompt.split())
    text = text.encode("utf-8", "replace").decode()  # half a character cannot be written
    if len(text) <= _EXAMPLE_CHARACTERS:
        return text
    return text[: _EXAMPLE_CHARACTERS - 1].rstrip() + "…"


def _top(
    prompts: Sequence[str], cluster: Ints, variance: Floats, rows: Ints | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    for place in np.argsort(-variance, kind="stable"):
        if len(found) == _TOP:
            break
        if int(cluster[place]) not in seen:
            seen.add(int(cluster[place]))
            found.append(
                {
                    "row": int(place if rows is None else rows[place]),
                    "prompt": _shortened(prompts[int(cluster[place])]),
                    "variance": float(variance[place]),
                }
            )
    return found
