"""Tokenized examples as a dataset, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

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
        """Token ids of an example's responses, each with the prompt."""
        return self._tokens[index]

    @property
    def sizes(self) -> list[int]:
        """Tokens of each example, all its responses together."""
        return [sum(map(len, tokens)) for tokens in self._tokens]

    @property
    def votes(self) -> list[float]:
        """Votes of each example; with a linker, at least one."""
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
        """Lines of the source that an example comes from, counted from 1."""
        lines = self.examples[row].source_lines or (row + 1,)
        return ", ".join(map(str, lines))

    def groups(self, columns: Sequence[str] = ("data_subset", "objective")) -> dict[str, list[Any]]:
        """Values of some columns of every example; None if it has no value."""
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
