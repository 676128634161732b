"""Running an optimiser step or an evaluation in passes that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch import Tensor

from hidden_context.errors import DivergedError
from hidden_context.models.engine.budget import TokenBudget, tune
from hidden_context.models.engine.forward import tree_attention_in
from hidden_context.training.dataset import Batch, ExampleDataset
from hidden_context.training.module import PassOutput, Totals
from hidden_context.training.passes import Pass, bring_to, divide, tokens_too_many
from hidden_context.training.sharding.base import Sharding


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
        return found if self.alone else self._equally_many(found, batch.together)

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
        if not self.alone:
            sums = self.accelerator.reduce(sums, "sum")
        votes, comparisons = sums.tolist()
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
                    raise NotFiniteError(_not_finite(output, part))
                # gradients are averaged over processes, so a part is scaled by their number
                self.sharding.backward(
                    output.loss * (each.weight * self.accelerator.num_processes), last=last
                )
            if each.weight:
                loss += output.loss.detach()
                parts = output.raw.detach().split([len(tokens) for tokens in part.tokens])
                raw.update(zip(each.examples, parts, strict=True))
        if not self.alone:
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
            rows: Which examples, in increasing order; None for all.

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
        if not self.alone:
            found = gather_object(found)
        once = dict(found)
        return torch.cat([once[row] for row in wanted])

    def _evaluate(self, model: Any, batch: Batch) -> list[tuple[int, Tensor]]:
        """Return the rows and raw outputs of a batch's examples."""
        while True:
            passes = divide(batch.tokens, self.module.way, self.budget.tokens)
            if self.sharding.divides and not self.alone:
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


def _not_finite(output: PassOutput, batch: Batch) -> list[int]:
    """Return the rows whose loss is not finite; all rows if the cause is elsewhere."""
    wrong = set(batch.labels.example[~torch.isfinite(output.nats).cpu()].tolist())
    rows = [row for place, row in enumerate(batch.rows) if place in wrong]
    return rows or batch.rows
