"""Running an optimiser step or an evaluation in passes that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor

from hidden_context.data.tokens.trees import fill_batches, tree_of
from hidden_context.errors import DivergedError, HiddenContextError
from hidden_context.models.engine.budget import TokenBudget, is_out_of_memory, tune
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.forward import tree_attention_in
from hidden_context.training.dataset import Batch, ExampleDataset, Tokens
from hidden_context.training.module import PassOutput, Totals
from hidden_context.training.sharding.base import Sharding


class Pass(NamedTuple):
    """Examples of one forward pass.

    Attributes:
        examples: Indices of the examples in the step.
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
        trees = [tree_of(own, range(len(own))).num_tokens for own in tokens]
        sized = sorted(((sum(trees[e] for e in own), own) for own in groups), key=lambda g: -g[0])
        batches = fill_batches([size for size, _ in sized], budget)
        found = [[sized[place] for place in batch] for batch in batches]
        return [
            Pass([e for _, own in batch for e in own], sum(size for size, _ in batch))
            for batch in found
        ]
    passes: list[tuple[list[int], int, int]] = []  # examples, responses, longest of them
    # in this order a pass's first group has its longest text, to which all are padded
    for group in sorted(groups, key=lambda own: -max(len(ids) for e in own for ids in tokens[e])):
        count = sum(len(tokens[e]) for e in group)
        if passes and (passes[-1][1] + count) * passes[-1][2] <= budget:
            examples, responses, length = passes.pop()
            passes.append(([*examples, *group], responses + count, length))
        else:
            longest = max(len(ids) for e in group for ids in tokens[e])
            passes.append((list(group), count, longest))
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
        error: Exception that was raised while the passes were run.
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
    count, tokens = len(largest.examples), largest.tokens
    if not alone:
        said = (
            f"a forward pass of {tokens} tokens (examples: {count}). With several processes passes "
            "are not made smaller automatically: choose a smaller --tokens_per_batch (with "
            "DeepSpeed --per_device_train_batch_size)"
        )
    elif count == 1:
        said = (
            f"one example of {tokens} tokens. Take a smaller --max_length, "
            "--gradient_checkpointing, or a smaller model"
        )
    elif len(_groups_of(largest, together)) == 1:
        said = (
            f"{count} examples of {tokens} tokens that are compared with each other. Take a "
            "smaller --max_comparisons or --per_device_train_batch_size, --gradient_checkpointing, "
            "or a smaller model"
        )
    else:
        return tokens
    raise HiddenContextError(f"there is no memory for {said}.") from error


class StepResult(NamedTuple):
    """Result of an optimiser step.

    Attributes:
        loss: Its loss over all processes, in nats per vote.
        raw: Raw outputs of this process's responses, of shape ``(R, K)``.
        tokens: Tokens that ran through the linear layers of this process.
    """

    loss: float
    raw: Tensor
    tokens: int


class NotFiniteError(DivergedError):
    """Error for a loss that is not finite.

    Args:
        rows: Examples of the dataset that have one.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__("the loss is not finite")
        self.rows = list(rows)


class StepRunner:
    """Runner of steps and evaluations, with smaller passes after memory ran out.

    Args:
        sharding: The module, as it is divided over the processes and prepared.
        budget: Most tokens of a pass.
    """

    def __init__(self, sharding: Sharding, budget: TokenBudget) -> None:
        self.sharding, self.budget, self.accelerator = sharding, budget, sharding.accelerator
        self.module, self.model = sharding.module, sharding.model
        self.device = self.accelerator.device
        self.alone = self.accelerator.num_processes == 1

    def attention(self) -> AbstractContextManager[None]:
        """Use the attention of the chosen engine inside the block, forward and backward."""
        return (
            tree_attention_in(self.module.network) if self.module.way == "tree" else nullcontext()
        )

    def passes(self, batch: Batch) -> list[Pass]:
        """Divide a step into forward passes, the same number in every process."""
        found = divide(batch.tokens, self.module.way, self.budget.tokens, batch.together)
        return self._equally_many(found, batch.together)

    def _equally_many(
        self, passes: list[Pass], together: Sequence[Sequence[int]] | None = None
    ) -> list[Pass]:
        """Divide passes further, so that every process has the same number."""
        count = torch.tensor([len(passes)], device=self.device)
        most: Any = self.accelerator.gather(count)
        return bring_to(int(most.max()), passes, together)

    def step(self, batch: Batch, prior: float) -> StepResult:
        """Run a step's passes forward and backward.

        Args:
            batch: This process's examples of the step.
            prior: Weight of the likelihood's prior in the step's loss, per nat.

        Returns:
            The loss and raw outputs; gradients are in the parameters.

        Raises:
            NotFiniteError: If the loss is not finite.
            HiddenContextError: If there is no memory for a single example.
        """
        whole = batch.part(range(len(batch))).labels
        sums = torch.tensor([float(whole.votes.sum()), len(whole.comparisons)], device=self.device)
        votes, comparisons = self.accelerator.reduce(sums, "sum").tolist()
        # a step may have no votes, for example if no annotator rated two of its examples
        totals = Totals(votes or 1.0, comparisons or 1.0, prior)
        while True:
            passes = self.passes(batch)
            try:
                with self.attention():
                    return self._accumulate(batch, passes, totals)
            except Exception as error:
                alone = self.alone and self.sharding.begins_anew
                tried = tokens_too_many(error, passes, alone, batch.together)
            self.model.zero_grad()  # of passes that had run
            self.budget.halve(tried)

    def _accumulate(self, batch: Batch, passes: Sequence[Pass], totals: Totals) -> StepResult:
        loss = torch.zeros((), device=self.device)
        raw: dict[int, Tensor] = {}
        for number, each in enumerate(passes):
            part = batch.part(each.examples)
            share = float(part.labels.votes.sum()) / totals.votes
            own = totals._replace(prior=totals.prior * share)
            last = number == len(passes) - 1
            with nullcontext() if last else self.sharding.no_sync():
                output: PassOutput = self.model(part.tokens, part.labels, own)
                if not bool(torch.isfinite(output.loss)):
                    wrong = part.labels.example[~torch.isfinite(output.nats).cpu()].tolist()
                    rows = [row for place, row in enumerate(part.rows) if place in wrong]
                    raise NotFiniteError(rows or part.rows)  # all where the cause is elsewhere
                # gradients are averaged over processes, so a part is scaled by their number
                self.sharding.backward(
                    output.loss * (each.weight * self.accelerator.num_processes), last=last
                )
            if each.weight:
                loss += output.loss.detach()
                parts = output.raw.detach().split([len(tokens) for tokens in part.tokens])
                raw.update(zip(each.examples, parts, strict=True))
        loss = self.accelerator.reduce(loss, "sum")
        outputs = torch.cat([raw[place] for place in range(len(batch))])
        return StepResult(float(loss), outputs, sum(each.tokens for each in passes))

    def tune(self, batch: Batch) -> None:
        """Find a good token budget on a GPU by running some examples."""
        if self.device.type != "cuda" or not self.alone:
            return

        def run(budget: int) -> int:
            each = divide(batch.tokens, self.module.way, budget)[0]
            with self.attention():
                raw = self.model([batch.tokens[place] for place in each.examples])
                self.accelerator.backward(raw.sum())
            self.model.zero_grad()
            torch.cuda.synchronize(self.device)
            return each.tokens

        with torch.random.fork_rng(devices=[self.device]):  # keeps dropout's random draws
            self.budget.tokens = tune(run, self.budget.tokens)

    def raw_outputs_of(
        self, data: ExampleDataset, size: int, rows: Sequence[int] | None = None
    ) -> Tensor:
        """Compute the raw outputs of a dataset's responses, without gradients.

        Args:
            data: The examples, of which each process runs its share.
            size: Examples that are looked at together.
            rows: Indices of the examples, in increasing order; None for all.

        Returns:
            Float32 of shape ``(R, K)`` on the CPU, the same in every process.
        """
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        # without gradients nothing is exchanged, so the module itself can run; a divided module has
        # to run equally often in every process, so every process gets as many examples
        divided = self.sharding.divides
        model = self.model if divided else self.module
        wanted = list(range(len(data)) if rows is None else rows)
        own = wanted[rank::count]
        if divided and len(own) < -(-len(wanted) // count):
            own.append(wanted[0])
        training = self.module.training
        model.eval()
        found: list[tuple[int, Tensor]] = []
        for start in range(0, len(own), size):
            found += self._evaluate(model, data.batch(own[start : start + size]))
        model.train(training)
        once = dict(gather_object(found))
        return torch.cat([once[row] for row in wanted])

    def _evaluate(self, model: Any, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the rows and raw outputs of a batch's examples."""
        while True:
            passes = divide(batch.tokens, self.module.way, self.budget.tokens)
            if self.sharding.divides:
                passes = self._equally_many(passes)
            found: list[tuple[int, Tensor]] = []
            try:
                with torch.no_grad(), self.attention():
                    for each in passes:
                        tokens = [batch.tokens[place] for place in each.examples]
                        parts = model(tokens).float().cpu().split([len(ids) for ids in tokens])
                        found += zip((batch.rows[p] for p in each.examples), parts, strict=True)
                return found
            except Exception as error:
                tried = tokens_too_many(error, passes, self.alone)
            self.budget.halve(tried)
