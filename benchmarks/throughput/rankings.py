"""Rows of training on rankings: each response once, or all pairs of a ranking.

- ``ranking``: our loop, a ranking as one example, so that its prompt and each response run once.
- ``pairs``: our loop on every two responses of a ranking (those of ``expand_pairs``), each pair an
  example by itself, as if nothing had been merged: its prompt runs once.
- ``trl``: TRL's RewardTrainer on the same pairs, as ``throughput/training.py`` has it: 8 pairs in a
  pass, gradient checkpointing off.

A prompt has 400 tokens and each response 100 of its own, EOS included, drawn at random. A round is
one optimiser step, of as many rankings in every row, from the same weights. A ranking of n counts
n − 1 votes and each of its n(n − 1)/2 pairs 2/n of one, so the loss of a step is the mean over its
pairs in every row.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from throughput.data import Group, branches
from throughput.measure import Key, Row
from throughput.models import ModelSet
from throughput.training import Train, TrainingOptions, train_ours, train_trl

from hidden_context.data.example import Ranking
from hidden_context.data.expand import comparisons_of

PROMPT_TOKENS, RESPONSE_TOKENS = 400, 100
Expand = Callable[[Sequence[Group]], Sequence[Group]]
Losses = dict[str, list[float]]


def draw_rankings(
    count: int, responses: int, vocabulary: int, seed: int, scale: float = 1.0
) -> list[Group]:
    """Draw rankings, each the best response first, with lengths as the module says."""
    draw = random.Random(seed)
    prompt, response = round(PROMPT_TOKENS * scale), round(RESPONSE_TOKENS * scale)
    return [branches(draw, vocabulary, prompt, [response - 1] * responses) for _ in range(count)]


def pairs_of(rankings: Sequence[Group]) -> list[Group]:
    """Every two responses of each ranking, the better one first."""
    return [
        (ranking[pair.first], ranking[pair.second])
        for ranking in rankings
        for pair, _ in comparisons_of(Ranking(tuple(range(1, len(ranking) + 1))))
    ]


def ranking_rows(
    models: ModelSet, tokenizer: Any, options: TrainingOptions, losses: Losses
) -> dict[Key, Row]:
    """Make the rows.

    Args:
        models: The models.
        tokenizer: Their tokenizer.
        options: What the rows have in common, but for the votes of a step.
        losses: Filled with the loss of each step that a row runs.

    Returns:
        The rows, which take rankings.
    """

    def row(name: str, train: Train, groups_of: Expand) -> Row:
        def run(rankings: Sequence[Group]) -> float:
            models.reset_adapters()
            groups = groups_of(rankings)
            votes = sum(len(group) - 1 for group in groups)
            done = train(groups, dataclasses.replace(options, votes_per_step=votes))
            losses.setdefault(name, []).extend(done.losses)
            return done.seconds

        return run

    ways: dict[str, tuple[Train, Expand]] = {
        "pairs": (train_ours(models, tokenizer, "tree"), pairs_of),
        "trl": (train_trl(models, tokenizer), pairs_of),
        "ranking": (train_ours(models, tokenizer, "tree"), lambda rankings: rankings),
    }
    return {Key(name, models.precision): row(name, *way) for name, way in ways.items()}


def steps_of(losses: Losses, rounds: int) -> Losses:
    """Loss of each round's step, of rows that ran in every round; the warm-up is left out."""
    return {name: found[1:] for name, found in losses.items() if len(found) == 1 + rounds}
