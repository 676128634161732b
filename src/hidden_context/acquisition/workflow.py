"""From votes and a pool to the questions to ask next, and the error expected before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hidden_context.acquisition.config import NextConfig
from hidden_context.acquisition.forecast import ShareForecast, forecast_shares
from hidden_context.acquisition.pool import Pool, read_pool
from hidden_context.acquisition.select import (
    Choice,
    Limits,
    People,
    Twins,
    choose_votes,
    find_twins,
    read_people,
)
from hidden_context.check.features import features_of
from hidden_context.data.dialogue import Conversation, to_text
from hidden_context.data.storage.files import write_json, write_jsonl
from hidden_context.errors import ConfigError, DataError
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.votes.posterior import MOST_AHEAD, SharePosterior, fit_strength


@dataclass(frozen=True)
class Question:
    """One vote to ask for.

    Attributes:
        rank: Its place in the order, from 1.
        item: Name of the item.
        prompt: The prompt as it was read.
        responses: The responses in the order in which they are to be shown.
        annotator: Who is to be asked; None for anyone.
        expected_information: By how much the item's expected squared error drops.
        votes_so_far: Votes that the item has.
        group: The item's group.
        cost: What the vote costs; None where votes are counted.
    """

    rank: int
    item: str
    prompt: Conversation
    responses: tuple[Conversation, ...]
    annotator: str | None
    expected_information: float
    votes_so_far: float
    group: str
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the question as a row."""
        row = vars(self) | {"responses": list(self.responses)}
        if self.cost is None:
            del row["cost"]
        return row


@dataclass(frozen=True)
class GroupSummary:
    """What the chosen votes change for one group, or for all items.

    Attributes:
        name: The group.
        items: Its items.
        votes: Votes that they have.
        chosen: Votes that are asked for.
        before: Expected squared error of an item now, on average.
        after: Expected squared error once the chosen votes are in, on average.
    """

    name: str
    items: int
    votes: float
    chosen: int
    before: float
    after: float


@dataclass(frozen=True)
class Chosen:
    """The result of ``acquisition.run``.

    Attributes:
        questions: The votes to ask for, the most telling first.
        budget: The votes, or the money, that could be spent.
        spent: What the questions cost together, in votes where votes have no cost.
        aim: The quantity to learn; see ``NextConfig.aim``.
        strength: How many votes the forecast is worth where texts are well known.
        unjudged: Items without a vote.
        total: All items.
        groups: One summary for each group, the most questions first.
        report: How the votes were read.
    """

    questions: list[Question]
    budget: float
    spent: float
    aim: str
    strength: float
    unjudged: int
    total: GroupSummary
    groups: list[GroupSummary]
    report: str


def label_studio_task(question: Question) -> dict[str, Any]:
    """Write a question as a task of Label Studio.

    What a labelling configuration shows stands in ``data``: ``$prompt``, and ``$response1`` and
    ``$response2`` of a pair or ``$text`` of a rated text. The rest goes along in ``meta``, where
    annotators do not see it.

    Args:
        question: The question.

    Returns:
        The task.
    """
    data: dict[str, Any] = {"prompt": to_text(question.prompt)}
    texts = [to_text(response) for response in question.responses]
    if len(texts) == 1:
        data["text"] = texts[0]
    else:
        data |= {f"response{number}": text for number, text in enumerate(texts, start=1)}
    row = question.to_dict()
    meta = {name: value for name, value in row.items() if name not in ("prompt", "responses")}
    return {"data": {**data, "item": question.item}, "meta": meta}


Say = Callable[[str], None]
_MOST_VALUES: Final = 4_000_000
"""Expected drops held at a time."""


def run(config: NextConfig, say: Say | None = None) -> Chosen:
    """Choose the votes to ask for, and write them.

    Args:
        config: The options.
        say: Called with a few words at each step; None for silence.

    Returns:
        The questions, and the expected error before and after.

    Raises:
        MissingFileError: If a file is not there.
        DataError: If a row is malformed, nobody judged anything, or nothing can be asked.
        StorageError: If the questions cannot be written.
    """
    chosen = choose(config, say)
    if config.format == "label_studio":
        write_json(config.output, [label_studio_task(question) for question in chosen.questions])
    else:
        write_jsonl(config.output, (question.to_dict() for question in chosen.questions))
    return chosen


def choose(config: NextConfig, say: Say | None = None) -> Chosen:
    """Choose votes without writing anything; see ``run``."""
    tell = say or (lambda _: None)
    tell("reading")
    pool = read_pool(config)
    tell("predicting shares")
    features = features_of(pool.items, config.embed, config.max_length, config.seed)
    forecast = forecast_shares(pool.items, features)
    strength, own = fit_strength(forecast.shares, forecast.variance, pool.items.counts)
    posterior = _posterior(config, pool, forecast, own)
    people = read_people(config, pool.items)
    tell("choosing")
    twins = find_twins(pool.items)
    limits = _limits(config, pool)
    drops = _drops(config, with_twins(posterior, twins), limits)
    votes = choose_votes(drops, limits, twins.number, people)
    if not votes:
        raise DataError(
            "no vote can be asked for: every item has all the votes it may have, nobody is left "
            "to ask, or the budget does not pay for one vote",
            file=config.data_path,
            remedy="Raise --max_votes, --budget or --diversity, or give a --pool",
        )
    new = np.bincount([vote.item for vote in votes], minlength=len(pool))
    before, after = _errors(config, posterior, new)
    total, groups = _by_group(pool, new, before, after)
    return Chosen(
        questions=_questions(config, pool, votes, people),
        budget=config.budget,
        spent=float(sum(vote.cost for vote in votes)),
        aim=config.aim,
        strength=strength,
        unjudged=pool.unjudged,
        total=total,
        groups=groups,
        report=pool.report,
    )


def with_twins(posterior: SharePosterior, twins: Twins) -> SharePosterior:
    """Count the votes on an item's twins as votes known before its own.

    Args:
        posterior: What is known of each item by itself.
        twins: Which items are nearly the same.

    Returns:
        The posteriors; the means and totals take the twins' votes in.
    """
    others = twins.others(posterior.counts)
    known = posterior.strength[:, None] * posterior.prior + others
    strength = known.sum(1)
    return SharePosterior(known / strength[:, None], strength, posterior.counts, posterior.planned)


def _posterior(
    config: NextConfig, pool: Pool, forecast: ShareForecast, strength: Floats
) -> SharePosterior:
    counts = pool.items.counts
    planned = None
    if config.target == "planned" and config.max_votes is not None:
        planned = np.full(len(pool), float(config.max_votes))
        votes = counts.sum(1)
        if (votes > planned).any():
            item = int(np.argmax(votes))
            raise ConfigError(
                f"--max_votes is {config.max_votes}, but item {pool.ids[item]} has "
                f"{votes[item]:g} votes. Plan as many as that, or leave --target as it is."
            )
    return SharePosterior(forecast.shares, strength, counts, planned)


def _limits(config: NextConfig, pool: Pool) -> Limits:
    votes = pool.items.counts.sum(1)
    each = np.full(len(pool), np.iinfo(np.int64).max)
    if config.max_votes is not None:
        each = np.maximum(config.max_votes - np.ceil(votes - 1e-9), 0).astype(np.int64)
    cost = 1.0 if config.cost is None else config.cost
    return Limits(config.budget, cost, each, pool.items.group, config.diversity)


def _drops(config: NextConfig, posterior: SharePosterior, limits: Limits) -> Floats:
    items = len(posterior.total)
    cheapest = limits.cost if config.cost_column is None else 0.0
    ahead = limits.budget / cheapest if cheapest else np.inf
    depth = min(ahead, float(limits.each.max(initial=0)), max(MOST_AHEAD, _MOST_VALUES // items))
    return posterior.drops(config.aim, max(int(depth), 1))


def _questions(
    config: NextConfig, pool: Pool, chosen: list[Choice], people: People | None
) -> list[Question]:
    counted = config.cost is None and config.cost_column is None
    turned = np.random.default_rng(config.seed).random(len(chosen)) < 0.5
    turned &= config.shuffle_sides
    votes = pool.items.counts.sum(1)
    return [
        Question(
            rank=number + 1,
            item=pool.ids[vote.item],
            prompt=pool.prompts[vote.item],
            responses=pool.responses[vote.item][:: -1 if turned[number] else 1],
            annotator=None if people is None else people.names[vote.annotator],
            expected_information=vote.drop,
            votes_so_far=float(votes[vote.item]),
            group=pool.groups[vote.item],
            cost=None if counted else vote.cost,
        )
        for number, vote in enumerate(chosen)
    ]


def _errors(config: NextConfig, posterior: SharePosterior, new: Codes) -> tuple[Floats, Floats]:
    """Expected error of each item before and after the new votes."""
    before = posterior.expected_error(config.aim)
    if config.aim != "contested":
        return before, posterior.expected_error(config.aim, new.astype(np.float64))
    after = before.copy()
    for votes in np.unique(new[new > 0]).tolist():
        here = new == votes
        after[here] = posterior.expected_error(config.aim, min(votes, MOST_AHEAD))[here]
    return before, after


def _by_group(
    pool: Pool, new: Codes, before: Floats, after: Floats
) -> tuple[GroupSummary, list[GroupSummary]]:
    votes, group = pool.items.counts.sum(1), pool.items.group

    def summary(name: str, own: Codes) -> GroupSummary:
        errors = (float(error[own].mean()) for error in (before, after))
        return GroupSummary(name, len(own), float(votes[own].sum()), int(new[own].sum()), *errors)

    names = pool.items.votes.group_names
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    groups = [summary(str(names[int(group[own[0]])]), own) for own in parts]
    groups.sort(key=lambda each: -each.chosen)
    return summary("all", np.arange(len(pool))), groups
