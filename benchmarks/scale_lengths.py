"""Comparisons to be counted on paper: only the lengths of prompts and responses matter.

Lengths are those of the real pairs, by the law of ``throughput_data.synthetic_pairs``: a prompt of
exp N(4.35, 1.04) tokens and n responses of exp N(3.44, 0.98), all independent.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations

from throughput_data import Group

from hidden_context.data.trees import tree_of

# logarithm's mean and spread, fewest and most tokens, as in throughput_data.synthetic_pairs
PROMPT, RESPONSE, LONGEST = (4.35, 1.04, 8, 875), (3.44, 0.98, 2, 784), 1020


def comparisons_in(responses: int) -> int:
    """Comparisons that a ranking of so many responses gives: n(n − 1)/2."""
    return responses * (responses - 1) // 2


def draw_lengths(draw: random.Random, responses: int) -> tuple[int, list[int]]:
    """Draw the tokens of a prompt and of each response, EOS left out (see the module)."""

    def length(mean: float, spread: float, least: int, most: int) -> int:
        return max(least, min(most, round(draw.lognormvariate(mean, spread))))

    while True:
        prompt = length(*PROMPT)
        own = [length(*RESPONSE) for _ in range(responses)]
        if prompt + max(own) <= LONGEST:
            return prompt, own


def draw_groups(count: int, responses: int, seed: int) -> list[Group]:
    """Draw prompts with responses; no two of them begin alike."""
    draw = random.Random(seed)
    return groups_of([draw_lengths(draw, responses) for _ in range(count)])


def groups_of(lengths: Iterable[tuple[int, Sequence[int]]]) -> list[Group]:
    """Make groups of the lengths given: the prompt's, and each response's without its EOS."""
    groups, name = [], 0
    for prompt, own in lengths:
        name += 1
        shared = [name, *([0] * (prompt - 1))]  # another first token tells prompts apart
        texts = []
        for count in own:
            name += 1
            texts.append([*shared, name, *([0] * count)])  # the last one is the EOS
        groups.append(tuple(texts))
    return groups


def pairs_in(groups: Sequence[Group]) -> list[Group]:
    """Every two responses of each group."""
    return [pair for group in groups for pair in combinations(group, 2)]


def unique_share(groups: Sequence[Group]) -> float:
    """Unique tokens of groups over all of their tokens."""
    total = sum(len(text) for group in groups for text in group)
    return sum(tree_of(group, range(len(group))).num_tokens for group in groups) / total
