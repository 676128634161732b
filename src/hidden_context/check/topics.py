"""Where people are split: topics with observed and predicted shares, and contexts of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from hidden_context.check.findings import Context, Topic
from hidden_context.check.items import Items
from hidden_context.contexts.text import shortened
from hidden_context.data.votes.people import FEWEST_PEOPLE
from hidden_context.statistics.checks import Codes, Floats, places
from hidden_context.statistics.interval import FEWEST, Interval, Resampling
from hidden_context.statistics.votes.table import BETWEEN

MOST_VALUES: Final = 40
"""A column of more values is no list of topics."""
_FEWEST_ITEMS: Final = 10
_EXAMPLE: Final = 200


@dataclass(frozen=True, eq=False)
class Topics:
    """Topics of I items.

    Attributes:
        by: What the topics are; see ``Predicted.topics_by``.
        names: Names of the topics.
        topic: Each item's topic, of shape ``(I,)``; −1 for none.
        contexts: Contexts found in the prompts, the most split first.
        contexts_by: How contexts were found; see ``Explained.contexts_by``.
    """

    by: Literal["column", "context", "none"]
    names: list[str]
    topic: Codes
    contexts: list[Context]
    contexts_by: Literal["split", "text", "none"]

    def name(self, item: int) -> str:
        """Name of an item's topic; empty without one."""
        number = int(self.topic[item])
        return self.names[number] if number >= 0 else ""


def find_topics(items: Items, seed: int = 0) -> Topics:
    """Find topics: the groups if there are few, else contexts of the prompts.

    Args:
        items: The items.
        seed: Seed of the clusters.

    Returns:
        The topics.
    """
    contexts, by, cluster = _contexts(items, seed)
    groups = items.votes.group_names
    if 2 <= len(groups) <= MOST_VALUES and len(items) >= _FEWEST_ITEMS * len(groups):
        names = _unique([shortened(str(name), 80) for name in groups])
        return Topics("column", names, items.group, contexts, by)
    names = _unique([context.name for context in contexts])
    return Topics("context" if names else "none", names, cluster, contexts, by)


def _unique(names: list[str]) -> list[str]:
    """Number the names that are repeated."""
    before = places(np.unique(names, return_inverse=True)[1]).tolist()
    return [f"{name} ({n + 1})" if n else name for name, n in zip(names, before, strict=True)]


def _contexts(
    items: Items, seed: int
) -> tuple[list[Context], Literal["split", "text", "none"], Codes]:
    """Find contexts by how much the votes on prompts differ, and each item's context."""
    from hidden_context.contexts import find_contexts

    counts = items.votes.table.counts
    judged = np.flatnonzero(np.isfinite(counts.differ))
    if len(judged) < _FEWEST_ITEMS or len(items.prompts) < _FEWEST_ITEMS:
        return [], "none", np.full(len(items), -1)
    prompt, differ = items.prompt[judged], counts.differ[judged]
    found = find_contexts(items.prompts, prompt, differ, max_clusters=12, seed=seed)
    if len(found.clusters) < 2:
        return [], "none", np.full(len(items), -1)
    label = found.assignment[items.prompt]
    rows = []
    for number, each in enumerate(found.clusters):
        own = (label == number) & counts.judged
        share = float(items.split[own].mean()) if own.any() else float("nan")
        example = shortened(each.examples[0], _EXAMPLE) if each.examples else ""
        rows.append(Context(each.name, each.prompts, int(own.sum()), share, example))
    order = sorted(range(len(rows)), key=lambda n: -np.nan_to_num(rows[n].split))
    place = np.full(len(rows) + 1, -1)
    place[order] = np.arange(len(order))
    by: Literal["split", "text"] = "split" if found.split == "variance" else "text"
    return [rows[n] for n in order], by, place[label]


def rank_topics(
    items: Items, topics: Topics, chance: Floats | None, seed: int = 0
) -> tuple[list[Topic], int]:
    """Rank topics by the observed share of split items.

    Args:
        items: The items.
        topics: The topics.
        chance: Predicted probability of being split, of shape ``(I,)``; None without a forecast.
        seed: Seed of the bootstrap.

    Returns:
        The topics, most split first, and how many were left out because fewer than five people
        judged them. Intervals are by prompt, or by item in a topic of fewer than five prompts.
    """
    found, hidden = [], 0
    table = items.votes.table
    for number, name in enumerate(topics.names):
        own = np.flatnonzero((topics.topic == number) & table.counts.judged)
        votes = table.select(np.isin(table.item, own))
        # how many people stand behind a share, or behind votes without a name, is not known
        counted = votes.named.all() and (votes.answer != BETWEEN).all()
        if counted and 0 < len(np.unique(votes.annotator)) < FEWEST_PEOPLE:
            hidden += 1
        elif len(own):
            found.append(_topic(items, name, own, chance, seed))
    return sorted(found, key=lambda topic: -topic.observed.estimate), hidden


def _topic(items: Items, name: str, own: Codes, chance: Floats | None, seed: int) -> Topic:
    counts = items.votes.table.counts
    cluster = np.unique(items.prompt[own], return_inverse=True)[1]
    if cluster.max() + 1 < FEWEST:
        cluster = np.arange(len(own))
    share = Resampling(seed=seed).share
    prompt = items.prompts[int(items.prompt[own[0]])]
    return Topic(
        name=name,
        items=len(own),
        votes=int(items.counts[own].sum()),
        observed=share(items.split[own], cluster),
        predicted=Interval.without_ends() if chance is None else share(chance[own], cluster),
        conflict=float(counts.conflict[own].mean()),
        indifference=float(counts.indifference[own].mean()),
        example=shortened(prompt, _EXAMPLE),
    )
