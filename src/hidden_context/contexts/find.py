"""Finding the prompts that carry hidden variance: contexts found from texts and variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from hidden_context.contexts.levels import cluster_by_silhouette, find_levels
from hidden_context.contexts.text import Texts, distinctive_terms, read_texts, shortened
from hidden_context.data.storage.files import to_plain
from hidden_context.errors import ConfigError
from hidden_context.statistics.checks import Codes, Floats, sample_rows

MAX_PROMPTS: Final = 50_000
"""Largest number of prompts; of more, this many are drawn by the seed, with all their pairs."""

_EXAMPLE_CHARACTERS: Final = 300


@dataclass(frozen=True)
class Topic:
    """Prompts of one context that have words in common.

    Attributes:
        name: Its three most distinctive terms.
        terms: Terms by which it differs from the rest of its context.
        prompts: Number of prompts.
        pairs: Number of their pairs.
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
    """Contexts that carry hidden variance.

    Attributes:
        features: ``tfidf`` or ``embeddings``.
        split: ``variance`` where contexts are levels of the variance that the text predicts;
            ``text`` where the text predicts none, and they are clusters of text alone.
        text_r2: Cross-validated share of the variance of prompts' log variance that the text
            predicts; NaN where it was not tried.
        prompts: Prompts with pairs.
        sampled: Number of prompts that were looked at.
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
    assignment: Codes

    def to_dict(self) -> dict[str, Any]:
        """Return the entries of ``analysis.json``."""
        return {name: value for name, value in to_plain(self).items() if name != "assignment"}


def find_contexts(
    prompts: Sequence[str],
    cluster: Codes,
    variance: Floats,
    *,
    features: Literal["tfidf"] | Floats = "tfidf",
    max_clusters: int = 12,
    seed: int = 0,
    rows: Codes | None = None,
) -> Contexts:
    """Find the prompts that carry hidden variance.

    Prompts become vectors. If the vectors predict the variance of held-out prompts, contexts are
    levels of the predicted variance, and each context is divided into topics by its text.
    Otherwise contexts are clusters of text alone. Either way, a prompt's own variance does not
    decide its context.

    Args:
        prompts: Distinct prompts, by number.
        cluster: ``(N,)``, the number of each pair's prompt.
        variance: ``(N,)``, hidden variance of each pair: that of the difference of its rewards.
        features: ``tfidf``, or embeddings of shape ``(P, d)``.
        max_clusters: Most contexts, and most topics of one.
        seed: Seed of everything drawn at random.
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
    chosen = used[sample_rows(len(used), seed, MAX_PROMPTS)]
    place = np.full(len(prompts), -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    own = place[cluster]
    kept = own >= 0
    pairs = np.bincount(own[kept], minlength=len(chosen))
    sums = np.stack([pairs, np.bincount(own[kept], variance[kept], len(chosen))]).astype(float)
    looked_at = [prompts[number] for number in chosen]
    texts = read_texts(looked_at, None if embeddings is None else embeddings[chosen], seed)
    levels = find_levels(texts.vectors, sums[1] / sums[0], max_clusters, seed)
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


def _check(prompts: Sequence[str], cluster: Codes, variance: Floats, max_clusters: int) -> None:
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
    label: Codes,
    sums: Floats,
    max_clusters: int,
    seed: int,
    with_topics: bool,
) -> tuple[list[Context], Codes]:
    """Describe clusters, most mean variance first, by pairs and summed variance of prompts."""
    total = float(sums[1].sum())
    described, label = _topics(texts, label, sums, total)
    contexts = []
    for number, topic in enumerate(described):
        inside = np.flatnonzero(label == number)
        topics: list[Topic] = []
        if with_topics and len(inside) >= 20:
            part = Texts(texts.vectors[inside], texts.counts[inside], texts.terms)
            inner = cluster_by_silhouette(part.vectors, max_clusters, seed)
            topics = _topics(part, inner, sums[:, inside], total)[0]
        vectors = texts.vectors[inside]
        distance = np.square(vectors - vectors.mean(0)).sum(1)
        typical = inside[np.argsort(distance, kind="stable")[:3]]
        examples = [shortened(prompts[number], _EXAMPLE_CHARACTERS) for number in typical]
        contexts.append(Context(**vars(topic), examples=examples, topics=topics))
    return contexts, label


def _topics(texts: Texts, label: Codes, sums: Floats, total: float) -> tuple[list[Topic], Codes]:
    count = int(label.max()) + 1
    pairs, variance = (np.bincount(label, values, count) for values in sums)
    terms = distinctive_terms(texts.counts, texts.terms, label)
    size = np.bincount(label, minlength=count)
    order = np.argsort(-variance / pairs, kind="stable")
    share = variance / total if total > 0 else pairs / pairs.sum()
    topics = [
        Topic(
            name=", ".join(terms[k][:3]) or "no distinctive term",
            terms=terms[k],
            prompts=int(size[k]),
            pairs=int(pairs[k]),
            mean_variance=float(variance[k] / pairs[k]),
            variance_share=float(share[k]),
        )
        for k in order
    ]
    return topics, np.argsort(order).astype(np.int64)[label]


def _top(
    prompts: Sequence[str], cluster: Codes, variance: Floats, rows: Codes | None
) -> list[dict[str, Any]]:
    order = np.argsort(-variance, kind="stable")
    largest = np.sort(np.unique(cluster[order], return_index=True)[1])  # one of each prompt
    return [
        {
            "row": place if rows is None else int(rows[place]),
            "prompt": shortened(prompts[int(cluster[place])], _EXAMPLE_CHARACTERS),
            "variance": float(variance[place]),
        }
        for place in order[largest[:10]].tolist()
    ]
