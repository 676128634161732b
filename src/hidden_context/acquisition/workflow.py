"""From votes and a pool to the votes to ask for next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from hidden_context.acquisition.config import NextConfig
from hidden_context.acquisition.forecast import ShareForecast, forecast_shares
from hidden_context.acquisition.people import People, read_people
from hidden_context.acquisition.pool import Pool, read_pool
from hidden_context.acquisition.results import Chosen, GroupSummary, Question, label_studio_task
from hidden_context.acquisition.select import Choice, Limits, choose_votes
from hidden_context.acquisition.twins import Twins, find_twins
from hidden_context.check.features import features_of
from hidden_context.data.storage.files import write_json, write_jsonl
from hidden_context.errors import ConfigError, DataError
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.votes.posterior import MOST_AHEAD, SharePosterior, fit_strength

Say = Callable[[str], None]
_MOST_VALUES: Final = 4_000_000
"""Expected drops held at a time."""


def run(config: NextConfig, say: Say | None = None) -> Chosen:
    """Choose the votes to ask for, and write them.

    Args:
        config: The options.
        say: Told what is being done, a few words each time; None for silence.

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
    choice = choose_votes(drops, limits, twins.number, people)
    if not len(choice):
        raise DataError(
            "no vote can be asked for: every item has all the votes it may have, nobody is left "
            "to ask, or the budget does not pay for one vote",
            file=config.data_path,
            remedy="Raise --max_votes, --budget or --diversity, or give a --pool",
        )
    new = choice.per_item(len(pool))
    before, after = _errors(config, posterior, new)
    total, groups = _by_group(pool, new, before, after)
    return Chosen(
        questions=_questions(config, pool, choice, people),
        budget=config.budget,
        spent=float(sum(choice.cost)),
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
    config: NextConfig, pool: Pool, choice: Choice, people: People | None
) -> list[Question]:
    counted = config.cost is None and config.cost_column is None
    turned = np.random.default_rng(config.seed).random(len(choice)) < 0.5
    turned &= config.shuffle_sides
    votes = pool.items.counts.sum(1)
    return [
        Question(
            rank=number + 1,
            item=pool.ids[item],
            prompt=pool.prompts[item],
            responses=pool.responses[item][:: -1 if turned[number] else 1],
            annotator=None if people is None else people.names[choice.annotator[number]],
            expected_information=choice.drop[number],
            votes_so_far=float(votes[item]),
            group=pool.groups[item],
            cost=None if counted else choice.cost[number],
        )
        for number, item in enumerate(choice.item)
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
        return GroupSummary(
            name,
            len(own),
            float(votes[own].sum()),
            int(new[own].sum()),
            float(before[own].mean()),
            float(after[own].mean()),
        )

    names = pool.items.votes.group_names
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    groups = [summary(str(names[int(group[own[0]])]), own) for own in parts]
    groups.sort(key=lambda each: -each.chosen)
    return summary("all", np.arange(len(pool))), groups
