"""Running any number of token sequences through a classifier: engines, batches, memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hidden_context.data.tokens.trees import TokenTree, fill_batches, group_by_prefix, tree_of
from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.models.engine import forward
from hidden_context.models.engine.budget import TokenBudget, default_tokens, is_out_of_memory, tune
from hidden_context.models.engine.choose import EngineChoice, EngineName, Way, evaluating
from hidden_context.models.engine.pooling import LastEosPooling, equal_counts

Batch = list[TokenTree]


class Features:
    """Pooled hidden states of B texts, which the output layer reads.

    Args:
        layers: The output layer; several where adapters have one each, of which one runs at a time.
        count: Number B of texts.
    """

    def __init__(self, layers: Sequence[nn.Linear], count: int) -> None:
        self.layers = layers
        self.vectors = torch.empty(count, layers[0].in_features)

    def keep(
        self,
        module: Any,
        sequences: Sequence[Sequence[int]],
        members: Sequence[int],
        seen: Sequence[Tensor],
    ) -> None:
        """Store the inputs of the output layer from one pass in the rows of its texts.

        Args:
            module: The classifier that ran, wrapped or not.
            sequences: All B sequences.
            members: The texts of the pass, in the order of their raw outputs.
            seen: What the output layer was given.

        Raises:
            HiddenContextError: If the output layer did not read one vector of each.
        """
        found = torch.cat(tuple(seen)) if seen else torch.empty(0)
        classifier = forward.classifier_of(module)
        if found.shape != (len(members), self.vectors.shape[1]):
            raise HiddenContextError(
                f"the output layer of {type(classifier).__name__} reads vectors of shape "
                f"{tuple(found.shape)} instead of one vector per text (texts: {len(members)}); "
                "this model cannot have a reference."
            )
        if isinstance(classifier, LastEosPooling):  # it runs texts by their number of EOS tokens
            eos = int(classifier.config.eos_token_id)
            counts = torch.tensor([list(sequences[n]).count(eos) for n in members])
            found = found[torch.cat(equal_counts(counts)).argsort().to(found.device)]
        self.vectors[list(members)] = found.float().cpu()


class Runner:
    """Runner that computes raw outputs of token sequences without gradients.

    Args:
        module: The sequence classifier, wrapped or not.
        pad_token_id: Id to pad with.
    """

    def __init__(self, module: Any, pad_token_id: int) -> None:
        self.module, self.pad_token_id = module, pad_token_id
        self.choice = EngineChoice(module, pad_token_id)
        self._budgets: dict[int, TokenBudget] = {}
        self._tuned: TokenBudget | None = None

    def raw_outputs(
        self,
        sequences: Sequence[Sequence[int]],
        num_outputs: int,
        *,
        engine: EngineName = "auto",
        batch_size: int = 16,
        tokens_per_batch: int | None = None,
        features: Features | None = None,
    ) -> Tensor:
        """Run sequences in batches, and in smaller batches if memory runs out.

        Equal sequences run once, for example when each pair of a ranking has its own row.

        Args:
            sequences: B non-empty sequences of token ids.
            num_outputs: Number K of raw outputs.
            engine: The way to run them.
            batch_size: Most texts of a padded batch.
            tokens_per_batch: Most tokens of a forward pass; None leaves it to the device, and is
                tuned once on a GPU.
            features: Where the vectors that rewards are read from are kept; None keeps none.

        Returns:
            Raw outputs in float32 of shape ``(B, K)``, on the CPU, in the order given.

        Raises:
            ConfigError: If the requested way does not fit the model, or a number is below 1.
            HiddenContextError: If there is no memory for a single text.
        """
        if batch_size < 1 or (tokens_per_batch is not None and tokens_per_batch < 1):
            raise ConfigError(
                f"batch_size is {batch_size} and tokens_per_batch is {tokens_per_batch}; both must "
                "be at least 1."
            )
        if not len(sequences):
            return torch.empty(0, num_outputs)
        places: list[int] | slice = slice(None)
        if features is None:
            chosen, places = distinct(sequences)
            sequences = [sequences[i] for i in chosen]
        raw = torch.empty(len(sequences), num_outputs)
        way: Way = "padded"
        if engine != "auto" or len(sequences) > 1:  # one text has nothing to share
            way = self.choice.choose(sequences, engine)
        attention = forward.tree_attention_in(self.module) if way == "tree" else nullcontext()
        layers = () if features is None else features.layers
        inference = torch.inference_mode()
        with evaluating(self.module), inference, attention, forward.listening(layers) as seen:
            budget = self._budget(sequences, way, batch_size, tokens_per_batch)
            pending = deque(plan(sequences, range(len(sequences)), way, budget, batch_size))
            while pending:
                batch = pending.popleft()
                members = [member for tree in batch for member in tree.members]
                seen.clear()
                outputs = None
                try:
                    outputs = self._run(sequences, batch, way, budget.tokens)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    if len(members) == 1:
                        raise HiddenContextError(
                            f"one text of {batch[0].num_tokens} tokens does not fit in memory. Use "
                            "a smaller --max_length, or another --precision or --device."
                        ) from error
                if outputs is None:  # outside the handler: its frames no longer hold tensors
                    budget.halve(batch_tokens(batch, way))
                    left = members + [m for rest in pending for tree in rest for m in tree.members]
                    pending = deque(plan(sequences, left, way, budget, batch_size))
                else:
                    raw[members] = outputs.float().cpu()
                    if features is not None:
                        features.keep(self.module, sequences, members, seen)
        return raw[places]

    def _run(
        self, sequences: Sequence[Sequence[int]], batch: Batch, way: Way, max_tokens: int
    ) -> Tensor:
        module, pad = self.module, self.pad_token_id
        if way == "tree":
            return forward.tree_outputs(module, sequences, batch)
        if way == "cache" and batch[0].shared:
            return forward.cached_outputs(module, sequences, batch[0], pad, max_tokens)
        members = [member for tree in batch for member in tree.members]
        return forward.padded_outputs(module, [sequences[i] for i in members], pad)

    def _budget(
        self,
        sequences: Sequence[Sequence[int]],
        way: Way,
        batch_size: int,
        tokens_per_batch: int | None,
    ) -> TokenBudget:
        device = forward.device_of(self.module)
        dtype = next(forward.classifier_of(self.module).base_model.parameters()).dtype
        start = tokens_per_batch or default_tokens(device, dtype)
        untuned = self._budgets.setdefault(start, TokenBudget(start))
        if tokens_per_batch is not None or device.type != "cuda":
            return untuned
        if self._tuned is None:
            if sum(len(sequence) for sequence in sequences) < 4 * start:
                return untuned  # too few to learn from

            def run(tokens: int) -> int:
                everything = range(len(sequences))
                batch = plan(sequences, everything, way, TokenBudget(tokens), batch_size)[0]
                self._run(sequences, batch, way, tokens)
                torch.cuda.synchronize(device)
                return batch_tokens(batch, way)

            self._tuned = TokenBudget(tune(run, untuned.tokens))
        return self._tuned


def distinct(sequences: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Find which sequences are equal.

    Args:
        sequences: N sequences of token ids.

    Returns:
        The places of the M different ones, each where it stands first, and for each of the N
        which of the M it is.

    >>> distinct([[1, 2], [3], [1, 2]])
    ([0, 1], [0, 1, 0])
    """
    number: dict[tuple[int, ...], int] = {}
    places = [number.setdefault(tuple(sequence), len(number)) for sequence in sequences]
    first = {which: place for place, which in reversed([*enumerate(places)])}
    return [first[which] for which in range(len(number))], places


def plan(
    sequences: Sequence[Sequence[int]],
    members: Sequence[int],
    way: Way,
    budget: TokenBudget,
    batch_size: int,
) -> list[Batch]:
    """Divide sequences into batches.

    Args:
        sequences: Sequences of token ids.
        members: Indices of the sequences to run.
        way: How they will be run.
        budget: Most tokens of a batch, padding counted. A longer text stands alone, and texts that
            share a beginning may exceed the budget up to four times the longest, or to its limit.
        batch_size: Most texts of a padded batch.

    Returns:
        Batches of trees; every member stands in exactly one tree.
    """
    if way == "padded":
        return _padded(sequences, members, budget.tokens, batch_size)
    chosen = [sequences[member] for member in members]
    trees = [
        tree._replace(members=tuple(members[i] for i in tree.members))
        for tree in group_by_prefix(chosen, budget.tokens, limit=budget.limit)
    ]
    if way == "tree":
        batches = fill_batches([tree.num_tokens for tree in trees], budget.tokens)
        return [[trees[i] for i in batch] for batch in batches]
    alone = [tree.members[0] for tree in trees if not tree.shared]
    return [[tree] for tree in trees if tree.shared] + _padded(
        sequences, alone, budget.tokens, batch_size
    )


def _padded(
    sequences: Sequence[Sequence[int]], members: Sequence[int], max_tokens: int, batch_size: int
) -> list[Batch]:
    batches: list[Batch] = []
    longest = 0
    for member in sorted(members, key=lambda index: -len(sequences[index])):
        full = not batches or len(batches[-1]) == batch_size
        if full or (len(batches[-1]) + 1) * longest > max_tokens:
            batches.append([])
            longest = len(sequences[member])
        batches[-1].append(tree_of(sequences, [member]))
    return batches


def batch_tokens(batch: Batch, way: Way) -> int:
    """Count the tokens that a batch puts through the linear layers, padding included."""
    if way == "padded" or (way == "cache" and not batch[0].shared):
        return len(batch) * max(tree.num_tokens for tree in batch)
    return sum(tree.num_tokens for tree in batch)
