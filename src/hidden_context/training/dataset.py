"""Tokenized examples as a dataset, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from hidden_context.data.tokenize import TokenizedExamples
from hidden_context.likelihood import Labels
from hidden_context.training.links import Linker, Links

Tokens = list[list[int]]


class ExampleDataset(Dataset["Tokens"]):
    """Tokenized examples, each response once, with what was said of them.

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
        """Token ids of an example's responses, each with the prompt."""
        return self._tokens[index]

    @property
    def sizes(self) -> list[int]:
        """Tokens of each example, all its responses together."""
        return [sum(map(len, tokens)) for tokens in self._tokens]

    @property
    def votes(self) -> list[float]:
        """Votes of each example; one that is there to be compared with others counts as one."""
        least = 0.0 if self.linker is None else 1.0
        return self.labels.votes_by_example.clamp(min=least).tolist()

    def batch(self, rows: Sequence[int], step: int | None = None) -> Batch:
        """Collect examples.

        Args:
            rows: Which ones.
            step: Number of the training step, for comparisons between examples; None for none.
        """
        labels = self.labels.select(torch.tensor(list(rows), dtype=torch.long))
        links = None
        if self.linker is not None and step is not None:
            links = self.linker.links(list(rows), step)
        return Batch(list(rows), [self._tokens[row] for row in rows], labels, links)

    def lines_of(self, row: int) -> str:
        """Where an example stood in its source: lines of a file or rows of a table, from 1."""
        lines = self.examples[row].source_lines or (row + 1,)
        return ", ".join(map(str, lines))

    def groups(self, columns: Sequence[str] = ("data_subset", "objective")) -> dict[str, list[Any]]:
        """Value of columns of every example, None where it has none."""
        return {name: [getattr(each, name) for each in self.examples] for name in columns}


@dataclasses.dataclass(frozen=True)
class Batch:
    """Examples that are run together.

    Not a list or mapping, so that what moves batches to devices passes it through untouched.

    Attributes:
        rows: Which examples of the dataset they are.
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
        """Groups of examples that have to be run in one pass; None where each may stand alone."""
        return None if self.links is None else self.links.groups(len(self))

    def part(self, places: Sequence[int]) -> Batch:
        """Take some of the examples, and the links between them."""
        labels = self.labels.select(torch.tensor(places))
        if self.links is not None:
            labels = self.links.added_to(labels, places)
        return Batch(
            [self.rows[place] for place in places], [self.tokens[place] for place in places], labels
        )
