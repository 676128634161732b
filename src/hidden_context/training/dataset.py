"""Tokenized examples as a dataset, batches of examples, and the sampler of optimiser steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from hidden_context.data.example import Example
from hidden_context.data.tokens.chat import install_chat_template
from hidden_context.data.tokens.tokenize import TokenizedExamples
from hidden_context.likelihood import Labels
from hidden_context.models.network.tokenizer import load_tokenizer
from hidden_context.training.config import BackboneOptions
from hidden_context.training.links import Linker, Links

Tokens = list[list[int]]


def load_run_tokenizer(options: BackboneOptions) -> Any:
    """Load the tokenizer that the options name, with the chat template if it has none."""
    tokenizer = load_tokenizer(
        options.tokenizer_name or options.model_name,
        revision=None if options.tokenizer_name else options.revision,
        trust_remote_code=options.trust_remote_code,
    )
    install_chat_template(tokenizer, options.chat_template)
    return tokenizer


def groups_of(examples: Sequence[Example]) -> dict[str, list[str | None]]:
    """Return each example's data subset and objective (or None), by which metrics are grouped."""
    return {name: [getattr(e, name) for e in examples] for name in ("data_subset", "objective")}


class ExampleDataset(Dataset["Tokens"]):
    """Tokenized examples with their labels, each response once.

    Args:
        tokens: The examples and their token ids.
        labels: Their labels, in that order.
        linker: Draws comparisons between examples; None for none.
        sort_by_length: Order by length, so that evaluation pads little; not with a linker.

    Attributes:
        examples: The examples, in the dataset's order.
        labels: Their labels, in that order.
    """

    def __init__(
        self,
        tokens: TokenizedExamples,
        labels: Labels,
        linker: Linker | None = None,
        *,
        sort_by_length: bool = False,
    ) -> None:
        self.examples, self._tokens = tokens.examples, tokens.input_ids
        self.labels, self.linker = labels, linker
        if sort_by_length:
            sizes = self.sizes
            order = sorted(range(len(labels)), key=lambda place: -sizes[place])
            self.examples = [tokens.examples[place] for place in order]
            self._tokens = [tokens.input_ids[place] for place in order]
            self.labels = labels.select(torch.tensor(order, dtype=torch.long))
        self.num_votes = float(self.labels.votes.sum())
        if self.linker is not None:
            self.num_votes += self.linker.num_votes

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Tokens:
        """Return the token ids of an example's responses, each with the prompt."""
        return self._tokens[index]

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each example, summed over its responses."""
        return [sum(map(len, tokens)) for tokens in self._tokens]

    @property
    def votes(self) -> list[float]:
        """Number of votes of each example; at least 1 with a linker."""
        return self.labels.votes_by_example.clamp(min=0.0 if self.linker is None else 1.0).tolist()

    def batch(self, rows: Sequence[int], step: int | None = None) -> Batch:
        """Collect examples into a batch.

        Args:
            rows: Indices of the examples.
            step: Number of the training step, for comparisons between examples; None for none.
        """
        labels = self.labels.select(torch.tensor(list(rows), dtype=torch.long))
        links = None
        if self.linker is not None and step is not None:
            links = self.linker.links(list(rows), step)
        return Batch(list(rows), [self._tokens[row] for row in rows], labels, links)

    def lines_of(self, row: int) -> str:
        """Return the source lines of an example as text, counted from 1."""
        return ", ".join(map(str, self.examples[row].source_lines or (row + 1,)))


@dataclasses.dataclass(frozen=True)
class Batch:
    """Batch of examples with their tokens, labels and links.

    It is neither a list nor a mapping, so code that moves batches to devices leaves it untouched.

    Attributes:
        rows: Indices of the examples in the dataset.
        tokens: Token ids of each response of each of them.
        labels: Their labels.
        links: Comparisons of responses of different examples; None for none.
    """

    rows: list[int]
    tokens: list[Tokens]
    labels: Labels
    links: Links | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def together(self) -> list[list[int]] | None:
        """Groups of examples that must share a pass; None if every example may stand alone."""
        return None if self.links is None else self.links.groups(len(self))

    def part(self, places: Sequence[int]) -> Batch:
        """Take some of the examples, and the links between them."""
        labels = self.labels.select(torch.tensor(places))
        if self.links is not None:
            labels = self.links.added_to(labels, places)
        return Batch(
            [self.rows[place] for place in places], [self.tokens[place] for place in places], labels
        )


class StepSampler:
    """Sampler of optimiser steps with a fixed number of votes and examples of similar length.

    Examples are shuffled. Windows of many steps are sorted by length and cut into steps, and the
    steps are shuffled. So every example comes once an epoch, the examples of a step need little
    padding, and all processes have a similar amount of work. An example is never divided: a step
    ends with the example that fills it. The order depends on the seed and the epoch alone, not on
    the number of processes: each of n processes takes every n-th example of a step.

    Args:
        sizes: Tokens of each example.
        votes_per_step: Votes of an optimiser step, over all processes.
        votes: Votes of each example, > 0; None for one each.
        window: Steps whose examples are sorted together; 0 leaves them in random order.
        seed: Seed of the order.
        world_size: Number of processes.
        rank: This process.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        votes_per_step: int,
        votes: Sequence[float] | None = None,
        *,
        window: int = 50,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self.sizes, self.votes_per_step, self.window = sizes, votes_per_step, window
        # an example with more votes than a step fills one step, and takes no votes from later steps
        self.votes = (
            [1.0] * len(sizes) if votes is None else [min(v, votes_per_step) for v in votes]
        )
        self.seed, self.world_size, self.rank = seed, world_size, rank
        self.epoch = 0
        # rounding errors in the votes must not add a step
        wanted = math.ceil(sum(self.votes) / votes_per_step - 1e-6)
        self._count = min(max(wanted, 1), len(sizes))

    def __len__(self) -> int:
        """Return the number of steps, the same in every epoch."""
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's examples of each step of the epoch; a partial step comes last.

        If a step has fewer examples than there are processes, its first examples are used again.
        """
        for step in self.steps():
            if len(step) < self.world_size:
                step = (step * self.world_size)[: self.world_size]
            yield step[self.rank :: self.world_size]

    def steps(self) -> list[list[int]]:
        """Return all steps of the epoch, each with the examples of all processes.

        Examples of a step are sorted longest first, except in a partial step or with ``window`` 0.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.sizes), generator=generator).tolist()
        groups = self._cut(order, self._count)
        filled = sum(self.votes[index] for index in groups[-1])
        last = [groups.pop()] if filled < self.votes_per_step - 1e-6 else []
        steps: list[list[int]] = []
        for start in range(0, len(groups), max(self.window, 1)):
            window = groups[start : start + max(self.window, 1)]
            part = [index for group in window for index in group]
            if self.window:
                part.sort(key=lambda index: -self.sizes[index])
            steps += self._cut(part, len(window))
        shuffled = torch.randperm(len(steps), generator=generator).tolist()
        return [steps[number] for number in shuffled] + last

    def _cut(self, order: Sequence[int], count: int) -> list[list[int]]:
        """Cut an order into non-empty groups, at multiples of a step's votes."""
        groups: list[list[int]] = []
        seen, place = 0.0, 0
        for number in range(count):
            start, left = place, count - number - 1
            end_at = (number + 1) * self.votes_per_step - 1e-6
            while place < len(order) - left and (place == start or seen < end_at or not left):
                seen += self.votes[order[place]]
                place += 1
            groups.append(list(order[start:place]))
        return groups
