"""How many tokens a corpus of comparisons costs, by sampling and laying out the package's batches.

A corpus is drawn by the lengths of the real pairs (``throughput/data.py``). Ways to run it:

- ``random padded``: every comparison a pair by itself; 8 pairs in a pass as they come, all texts as
  long as the longest of them. TRL's RewardTrainer does so.
- ``sorted padded``: the same pairs sorted by length, under a budget of tokens.
- ``padding-free``: the same pairs without padding and without sharing.
- ``responses``: each response of a ranking once, with its prompt; no padding, no sharing.
- ``tree of pairs``: the package, fed with pairs: each prompt once where it can be seen.
- ``tree``: the package, fed with rankings: prompt and responses once.

Of pairs the last two are the same, and so are ``padding-free`` and ``responses``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from throughput.data import Group, draw_lengths, pairs_of, triangle, work_of

from hidden_context.data.tokens.trees import TokenTree, fill_batches, tree_of
from hidden_context.models.engine.budget import TokenBudget
from hidden_context.models.engine.runner import distinct, plan
from hidden_context.scoring.config import StreamOptions
from hidden_context.training.config import TrainConfig
from hidden_context.training.dataset import StepSampler
from hidden_context.training.runner import Pass, bring_to, divide

Task = Literal["scoring", "training"]
WAYS = (
    *("random padded", "sorted padded", "padding-free"),
    *("responses", "tree of pairs", "tree"),
)
OF_PAIRS = ("random padded", "sorted padded", "padding-free", "tree")  # the others are the same
FROM_RANKINGS = ("responses", "tree")  # ways that are fed with rankings, not with their pairs
RANDOM_PAIRS = 8
WINDOW = StreamOptions().window
STEPS_SORTED = TrainConfig().length_window
MOST_TEXTS = 512  # of a padded batch: the budget decides


def comparisons_in(responses: int) -> int:
    """Comparisons that a ranking of so many responses gives: n(n − 1)/2."""
    return responses * (responses - 1) // 2


def draw_groups(count: int, responses: int, seed: int) -> list[Group]:
    """Draw prompts with responses; no two of them begin alike."""
    draw = random.Random(seed)
    return groups_of([draw_lengths(draw, responses) for _ in range(count)])


def groups_of(lengths: Iterable[tuple[int, Sequence[int]]]) -> list[Group]:
    """Make groups of the lengths given: the prompt's, and each response's without its EOS."""
    groups, names = [], itertools.count(1)
    for prompt, own in lengths:
        shared = [next(names), *([0] * (prompt - 1))]  # another first token tells prompts apart
        # the last token of each text is the EOS
        groups.append(tuple([*shared, next(names), *([0] * count)] for count in own))
    return groups


def unique_share(groups: Sequence[Group]) -> float:
    """Unique tokens of groups over all of their tokens."""
    work = work_of(groups)
    return work.unique_tokens / work.tokens


class Amount(NamedTuple):
    """What is run.

    Attributes:
        tokens: Tokens through the linear layers, padding included.
        context: Positions attended to, summed over those tokens.
        passes: Forward passes.
        slowest: Tokens if every process had as many as the one with most in each pass.
        slowest_step: Tokens if every process had as many as the one with most in each step.
        steps: Optimiser steps; 0 in scoring.
    """

    tokens: float
    context: float
    passes: float
    slowest: float
    slowest_step: float
    steps: float

    def times(self, factor: float) -> Amount:
        """Multiply every amount by a factor."""
        return Amount(*(factor * value for value in self))


class Estimate(NamedTuple):
    """Mean over independent corpora, and its standard error."""

    mean: float
    error: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a corpus is drawn and run.

    Attributes:
        responses: Responses to a prompt; n of them give n(n − 1)/2 comparisons.
        processes: Processes that share a training step.
        comparisons: Comparisons of each process in a step.
        budget: Most tokens of a forward pass.
        steps: Steps drawn for each corpus.
        corpora: Independent corpora, for the standard error.
        seed: Seed of a corpus.
    """

    responses: int = 2
    processes: int = 64
    comparisons: int = 64
    budget: int = 8192
    steps: int = 4
    corpora: int = 8
    seed: int = 0


def context_of(sequences: Sequence[Sequence[int]], tree: TokenTree) -> float:
    """Positions attended to in a tree: shared ones count once."""
    whole = sum(triangle(len(sequences[member])) for member in tree.members)
    return whole - (len(tree.members) - 1) * triangle(tree.shared)


def one_pass(tokens: float, context: float) -> Amount:
    """A forward pass of one process."""
    return Amount(tokens, context, 1, tokens, tokens, 0)


def padded(lengths: Sequence[int], multiple: int = 1) -> Amount:
    """One pass of texts that are all padded to the longest, and that to a multiple."""
    longest = -(-max(lengths) // multiple) * multiple
    return one_pass(len(lengths) * longest, len(lengths) * triangle(longest))


def free(lengths: Sequence[int]) -> Amount:
    """One pass of texts without padding."""
    return one_pass(sum(lengths), sum(map(triangle, lengths)))


def scoring(groups: Sequence[Group], way: str, budget: int, window: int = WINDOW) -> Amount:
    """Lay out what scoring runs, window by window as the package reads a file.

    Args:
        groups: What a row holds: the responses to a prompt.
        way: One of ``WAYS``.
        budget: Most tokens of a pass.
        window: Rows of a window.
    """
    rows = groups if way in FROM_RANKINGS else pairs_of(groups)
    if way == "random padded":
        return total_of(random_passes(rows))
    found: list[Amount] = []
    for start in range(0, len(rows), window):
        texts = [text for row in rows[start : start + window] for text in row]
        lengths = [len(text) for text in texts]
        if way in ("padding-free", "responses"):
            batches = fill_batches(lengths, budget)
            found += [free([lengths[place] for place in batch]) for batch in batches]
        elif way == "sorted padded":
            for batch in plan(texts, range(len(texts)), "padded", TokenBudget(budget), MOST_TEXTS):
                found.append(padded([len(texts[tree.members[0]]) for tree in batch]))
        else:  # the package runs equal texts once
            texts = [texts[place] for place in distinct(texts)[0]]
            for batch in plan(texts, range(len(texts)), "tree", TokenBudget(budget), MOST_TEXTS):
                found.append(shared([texts] * len(batch), batch))
    return total_of(found)


def shared(texts: Iterable[Sequence[Sequence[int]]], trees: Sequence[TokenTree]) -> Amount:
    """Count a pass of trees, each over texts of its own."""
    return one_pass(sum(tree.num_tokens for tree in trees), sum(map(context_of, texts, trees)))


def training(groups: Sequence[Group], way: str, plan: Plan) -> Amount:
    """Lay out an epoch: steps are dealt, divided over processes and into passes.

    A process waits in each pass for the one with most tokens, because weights are gathered in step.
    """
    examples = groups if way in FROM_RANKINGS else pairs_of(groups)
    if way == "random padded":
        passes, each = random_passes(examples), max(plan.comparisons // RANDOM_PAIRS, 1)
        ranks = [passes[place : place + each] for place in range(0, len(passes), each)]
        starts = range(0, len(ranks), plan.processes)
        return total_of(step_of(ranks[start : start + plan.processes]) for start in starts)
    sizes = [sum(map(len, example)) for example in examples]
    votes = [len(example) - 1.0 for example in examples]
    # a ranking of n has n(n − 1)/2 comparisons and n − 1 votes
    per_example = comparisons_in(len(examples[0]))
    wanted = plan.processes * max(plan.comparisons // per_example, 1) * round(votes[0])
    found = []
    for step in StepSampler(sizes, wanted, votes, window=STEPS_SORTED, seed=plan.seed).steps():
        ranks = [step[rank :: plan.processes] for rank in range(min(plan.processes, len(step)))]
        found.append(_step([[examples[e] for e in rank] for rank in ranks], way, plan))
    return total_of(found)


def random_passes(
    pairs: Sequence[Group], at_once: int = RANDOM_PAIRS, multiple: int = 1
) -> list[Amount]:
    """Passes of pairs as they come, both sides padded together, to a multiple."""
    return [
        padded([len(text) for pair in pairs[start : start + at_once] for text in pair], multiple)
        for start in range(0, len(pairs), at_once)
    ]


def total_of(amounts: Iterable[Amount]) -> Amount:
    """Add up."""
    return Amount(*map(sum, zip(*amounts, strict=True)))


def step_of(ranks: Sequence[Sequence[Amount]]) -> Amount:
    """Put together the passes of each process: all wait for the one with most tokens.

    Where weights are gathered in step they wait in each pass, else at the end of the step.
    """
    whole = total_of(each for passes in ranks for each in passes)
    most = sum(
        max(each.tokens for each in together if each) * len(ranks)
        for together in itertools.zip_longest(*ranks)
    )
    longest = max(sum(each.tokens for each in passes) for passes in ranks)
    return whole._replace(slowest=most, slowest_step=longest * len(ranks), steps=1)


def _step(ranks: Sequence[Sequence[Group]], way: str, plan: Plan) -> Amount:
    """One step: each process divides its examples, and all run as many passes as the most."""
    divided = [_divide(examples, way, plan.budget) for examples in ranks]
    count = max(map(len, divided))
    found = []
    for examples, passes in zip(ranks, divided, strict=True):
        parts = ([examples[e] for e in each.examples] for each in bring_to(count, passes))
        found.append([pass_amount(part, way) for part in parts])
    return step_of(found)


def _divide(examples: Sequence[Group], way: str, budget: int) -> list[Pass]:
    if way not in ("padding-free", "responses"):
        kind = "padded" if way == "sorted padded" else "tree"
        return divide([list(example) for example in examples], kind, budget)
    sizes = [sum(map(len, example)) for example in examples]
    order = sorted(range(len(examples)), key=lambda place: -sizes[place])
    found = []
    for batch in fill_batches([sizes[place] for place in order], budget):
        own = [order[place] for place in batch]
        found.append(Pass(own, sum(sizes[place] for place in own)))
    return found


def pass_amount(examples: Sequence[Group], way: str) -> Amount:
    """Count one pass of training."""
    if way in ("tree", "tree of pairs"):
        return shared(examples, [tree_of(example, range(len(example))) for example in examples])
    lengths = [len(text) for example in examples for text in example]
    return padded(lengths) if way == "sorted padded" else free(lengths)


def simulate(task: Task, ways: Sequence[str], plan: Plan) -> dict[str, dict[str, Estimate]]:
    """Estimate what a comparison costs in each way, over independent corpora.

    Returns:
        By way the estimates of ``Amount``'s fields, for each comparison. What is spent on passes
        is that of one process: divide by the processes to have it for the cluster.
    """
    found: dict[str, list[Amount]] = {way: [] for way in ways}
    wanted = plan.steps * plan.processes * plan.comparisons
    prompts = max(math.ceil(wanted / comparisons_in(plan.responses)), 2)
    for seed in range(plan.corpora):
        groups = draw_groups(prompts, plan.responses, seed)
        own = dataclasses.replace(plan, seed=seed)
        for way in ways:
            is_scoring = task == "scoring"
            amount = scoring(groups, way, plan.budget) if is_scoring else training(groups, way, own)
            found[way].append(amount.times(1 / (prompts * comparisons_in(plan.responses))))
    return {way: estimates(amounts) for way, amounts in found.items()}


def estimates(amounts: Sequence[Amount]) -> dict[str, Estimate]:
    """Mean and standard error of each field."""
    made = {}
    for name, values in zip(Amount._fields, zip(*amounts, strict=True), strict=True):
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        made[name] = Estimate(statistics.fmean(values), spread / math.sqrt(len(values)))
    return made
