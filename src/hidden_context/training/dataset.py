"""Tokenized examples as a dataset, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from hidden_context.data.example import Example
from hidden_context.data.report import ReadReport
from hidden_context.data.token_cache import TokenCache
from hidden_context.data.tokenize import OverLength, tokenize_examples
from hidden_context.likelihood import Labels
from hidden_context.training.links import Linker, Links

Tokens = list[list[int]]


class ExampleDataset(Dataset["Tokens"]):
    """Tokenized examples, each response once, with what was said of them.

    Args:
        examples: The examples.
        tokenizer: A Transformers tokenizer.
        max_length: Longest text in tokens.
        labels_of: Makes the labels of the examples that are left, given their places among those
            given and themselves.
        over_length: What happens to responses that are longer, ``drop`` or ``truncate``.
        report: Brought up to date with what was dropped.
        sort_by_length: Order by length, so that evaluation pads little.
        cache: Where the token ids are kept from one run to the next.
        linker: Makes what draws comparisons between examples, of the ratings of those that are
            left and their number; None for none.

    Attributes:
        examples: Those that are left, in the dataset's order.
        labels: Their labels, in that order.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        labels_of: Callable[[Sequence[int], Sequence[Example]], Labels],
        over_length: OverLength = "drop",
        *,
        report: ReadReport | None = None,
        sort_by_length: bool = False,
        cache: TokenCache | None = None,
        linker: Callable[[Sequence[Example]], Linker] | None = None,
    ) -> None:
        tokens = tokenize_examples(
            examples, tokenizer, max_length, over_length, report=report, cache=cache
        )
        order = list(range(len(tokens.examples)))
        if sort_by_length:
            order.sort(key=lambda place: -sum(map(len, tokens.input_ids[place])))
        self.examples = [tokens.examples[place] for place in order]
        self._tokens = [tokens.input_ids[place] for place in order]
        self.labels = labels_of([tokens.indices[place] for place in order], self.examples)
        self.linker = None if linker is None else linker(self.examples)
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
