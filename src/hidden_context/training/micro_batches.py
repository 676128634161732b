"""Dividing the pairs of an optimiser step into forward passes, and running one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from hidden_context.data.trees import fill_batches, tree_of
from hidden_context.errors import HiddenContextError
from hidden_context.models.budget import is_out_of_memory
from hidden_context.models.engine import Way
from hidden_context.models.forward import padded_outputs, tree_outputs
from hidden_context.training.dataset import PairTokens


class MicroBatch(NamedTuple):
    """Pairs of one forward pass.

    Attributes:
        pairs: Which pairs of the step they are.
        tokens: Tokens that run through the linear layers, padding included.
        weight: 1, or 0 for one that only keeps the processes in step.
    """

    pairs: list[int]
    tokens: int
    weight: float = 1.0


def divide(tokens: PairTokens, way: Way, budget: int) -> list[MicroBatch]:
    """Divide pairs into micro-batches under a token budget, longest pairs first.

    Args:
        tokens: Token ids of the pairs.
        way: ``tree`` counts a pair's shared beginning once, ``padded`` both sides as long as the
            longest of the micro-batch.
        budget: Most tokens of a micro-batch; a longer pair stands alone.

    Returns:
        Micro-batches; every pair stands in exactly one.
    """
    sides = list(zip(tokens.chosen, tokens.rejected, strict=True))
    if way == "tree":
        sizes = [tree_of(pair, (0, 1)).num_tokens for pair in sides]
    else:
        sizes = [2 * max(len(chosen), len(rejected)) for chosen, rejected in sides]
    order = sorted(range(len(sides)), key=lambda pair: -sizes[pair])
    if way == "tree":
        batches = fill_batches([sizes[pair] for pair in order], budget)
        found = [[order[place] for place in batch] for batch in batches]
        return [MicroBatch(pairs, sum(sizes[pair] for pair in pairs)) for pairs in found]
    found = []
    for pair in order:
        # in this order a micro-batch's first pair is its longest, to which all are padded
        if not found or (len(found[-1]) + 1) * sizes[found[-1][0]] > budget:
            found.append([])
        found[-1].append(pair)
    return [MicroBatch(pairs, len(pairs) * sizes[pairs[0]]) for pairs in found]


def bring_to(count: int, batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """Divide micro-batches further until there are ``count``.

    Processes that exchange weights or gradients at every forward pass need equally many. Where
    single pairs are all that is left, the last one is run again with weight 0.

    Args:
        count: Number wanted, at least as many as there are.
        batches: One or more micro-batches.

    Returns:
        Exactly ``count`` micro-batches.
    """
    divided = list(batches)
    while len(divided) < count:
        largest = max(range(len(divided)), key=lambda place: len(divided[place].pairs))
        pairs, tokens, weight = divided[largest]
        if len(pairs) == 1:
            divided.append(MicroBatch(divided[-1].pairs[:1], tokens, 0.0))
            continue
        half = len(pairs) // 2
        part = tokens * half // len(pairs)  # about: pairs of a micro-batch are alike in length
        divided[largest : largest + 1] = [
            MicroBatch(pairs[:half], part, weight),
            MicroBatch(pairs[half:], tokens - part, weight),
        ]
    return divided


def tokens_too_many(error: Exception, batches: Sequence[MicroBatch], alone: bool) -> int:
    """Find out whether fewer tokens may help after an error.

    Args:
        error: What was raised while the micro-batches were run.
        batches: The micro-batches.
        alone: Whether this process can go on without the others.

    Returns:
        Tokens of the largest micro-batch, where memory ran out and it can be divided.

    Raises:
        HiddenContextError: If memory ran out and nothing can be done about it.
        Exception: The error itself, if it is another.
    """
    if not is_out_of_memory(error):
        raise error
    largest = max(batches, key=lambda batch: (batch.tokens, len(batch.pairs)))
    if not alone:
        raise HiddenContextError(
            f"there is no memory for a forward pass of {len(largest.pairs)} pairs. One of several "
            "processes cannot go on with fewer by itself: take a smaller --tokens_per_batch (with "
            "DeepSpeed --per_device_train_batch_size)."
        ) from error
    if len(largest.pairs) == 1:
        raise HiddenContextError(
            f"there is no memory for one pair of {largest.tokens} tokens. Take a smaller "
            "--max_length, --gradient_checkpointing, or a smaller model."
        ) from error
    return largest.tokens


def raw_outputs_of_pairs(
    module: Any,
    tokens: PairTokens,
    pairs: Sequence[int],
    way: Way,
    pad_token_id: int,
    pad_to_multiple_of: int = 1,
) -> Tensor:
    """Run pairs in one forward pass.

    Args:
        module: The classifier, with whatever wraps it for training; for ``tree`` within
            ``tree_attention_in``.
        tokens: Token ids of the step's pairs.
        pairs: Which of them, P in number.
        way: ``tree`` or ``padded``.
        pad_token_id: Id to pad with.
        pad_to_multiple_of: Padded lengths are rounded up to a multiple of this.

    Returns:
        Raw outputs of shape ``(P, 2, K)``, chosen first.
    """
    sides = [side[pair] for pair in pairs for side in (tokens.chosen, tokens.rejected)]
    if way == "tree":
        trees = [tree_of(sides, (place, place + 1)) for place in range(0, len(sides), 2)]
        return tree_outputs(module, sides, trees).unflatten(0, (-1, 2))
    return padded_outputs(module, sides, pad_token_id, pad_to_multiple_of).unflatten(0, (-1, 2))
