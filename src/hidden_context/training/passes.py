"""Dividing the examples of an optimiser step into forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hidden_context.data.tokens.trees import fill_batches, tree_of
from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.budget import is_out_of_memory
from hidden_context.models.engine.choose import Way
from hidden_context.training.dataset import Tokens


class Pass(NamedTuple):
    """Examples of one forward pass.

    Attributes:
        examples: Which examples of the step they are.
        tokens: Tokens that run through the linear layers, padding included.
        weight: 1, or 0 for one that only keeps the processes in step.
    """

    examples: list[int]
    tokens: int
    weight: float = 1.0


def divide(
    tokens: Sequence[Tokens], way: Way, budget: int, together: Sequence[Sequence[int]] | None = None
) -> list[Pass]:
    """Divide examples into passes under a token budget, longest first.

    Args:
        tokens: Token ids of each response of each example.
        way: ``tree`` counts what an example's responses share once, ``padded`` every response as
            long as the longest of the pass.
        budget: Most tokens of a pass; a longer example stands alone.
        together: Groups of examples that have to be run in one pass; None for none.

    Returns:
        Passes; every example stands in exactly one.
    """
    groups = [[place] for place in range(len(tokens))] if together is None else together
    if way == "tree":
        sizes = [
            sum(tree_of(tokens[e], range(len(tokens[e]))).num_tokens for e in group)
            for group in groups
        ]
        order = sorted(range(len(groups)), key=lambda place: -sizes[place])
        batches = fill_batches([sizes[place] for place in order], budget)
        found = [[order[place] for place in batch] for batch in batches]
        return [
            Pass([e for place in batch for e in groups[place]], sum(sizes[p] for p in batch))
            for batch in found
        ]
    counts = [sum(len(tokens[e]) for e in group) for group in groups]
    longest = [max(len(ids) for e in group for ids in tokens[e]) for group in groups]
    passes: list[tuple[list[int], int, int]] = []  # examples, responses, longest of them
    # in this order a pass's first group has its longest text, to which all are padded
    for place in sorted(range(len(groups)), key=lambda place: -longest[place]):
        if passes and (passes[-1][1] + counts[place]) * passes[-1][2] <= budget:
            examples, responses, length = passes.pop()
            passes.append(([*examples, *groups[place]], responses + counts[place], length))
        else:
            passes.append((list(groups[place]), counts[place], longest[place]))
    return [Pass(examples, responses * length) for examples, responses, length in passes]


def bring_to(
    count: int, passes: Sequence[Pass], together: Sequence[Sequence[int]] | None = None
) -> list[Pass]:
    """Divide passes further until there are ``count``.

    Processes that exchange weights or gradients at every forward pass need the same number of
    passes. If nothing is left to divide, an example of the last pass is run again with weight 0.

    Args:
        count: Number wanted, at least as many as there are.
        passes: One or more passes.
        together: Groups of examples that have to be run in one pass; None for none.

    Returns:
        Exactly ``count`` passes.
    """
    divided = list(passes)
    while len(divided) < count:
        groups = [_groups_of(each, together) for each in divided]
        largest = max(range(len(divided)), key=lambda place: len(groups[place]))
        examples, tokens, weight = divided[largest]
        if len(groups[largest]) == 1:
            divided.append(Pass(divided[-1].examples[:1], tokens, 0.0))
            continue
        half = sum(map(len, groups[largest][: len(groups[largest]) // 2]))
        part = tokens * half // len(examples)  # roughly: examples of a pass have similar lengths
        divided[largest : largest + 1] = [
            Pass(examples[:half], part, weight),
            Pass(examples[half:], tokens - part, weight),
        ]
    return divided


def _groups_of(each: Pass, together: Sequence[Sequence[int]] | None) -> list[list[int]]:
    """Divide a pass into its groups of examples that must stay together."""
    if together is None:
        return [[example] for example in each.examples]
    own = set(each.examples)
    groups = {group[0]: list(group) for group in together if group[0] in own}
    return [groups[example] for example in each.examples if example in groups]


def tokens_too_many(
    error: Exception,
    passes: Sequence[Pass],
    alone: bool,
    together: Sequence[Sequence[int]] | None = None,
) -> int:
    """Decide after an error whether fewer tokens may help.

    Args:
        error: What was raised while the passes were run.
        passes: The passes.
        alone: Whether this process can go on without the others.
        together: Groups of examples that have to be run in one pass; None for none.

    Returns:
        Tokens of the largest pass, where memory ran out and it can be divided.

    Raises:
        HiddenContextError: If memory ran out and nothing can be done about it.
        Exception: The error itself, if it is another.
    """
    if not is_out_of_memory(error):
        raise error
    largest = max(passes, key=lambda each: (each.tokens, len(each.examples)))
    count = len(largest.examples)
    if not alone:
        raise HiddenContextError(
            f"there is no memory for a forward pass of {count} examples. One of "
            "several processes cannot take fewer by itself: choose a smaller "
            "--tokens_per_batch (with DeepSpeed --per_device_train_batch_size)."
        ) from error
    if count == 1:
        raise HiddenContextError(
            f"there is no memory for one example of {largest.tokens} tokens. Take a smaller "
            "--max_length, --gradient_checkpointing, or a smaller model."
        ) from error
    if len(_groups_of(largest, together)) == 1:
        raise HiddenContextError(
            f"there is no memory for {count} examples of {largest.tokens} tokens that are compared "
            "with each other. Take a smaller --max_comparisons or --per_device_train_batch_size, "
            "--gradient_checkpointing, or a smaller model."
        ) from error
    return largest.tokens
