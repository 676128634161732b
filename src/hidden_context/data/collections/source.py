"""What a public data set is: where it is published, under which terms, and how it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.example import Example

Kind: TypeAlias = Literal[
    "comparisons", "rankings", "ratings", "ties", "abstentions", "annotators", "covariates"
]
"""What a data set may hold; ``annotators`` where judgements name who made them."""

LeftOut: TypeAlias = "Counter[str]"
"""How many published rows or votes were left out, by the reason in words."""


@dataclass(frozen=True, slots=True)
class Source:
    """A public data set of human judgements.

    Attributes:
        name: What it is called on the command line.
        title: Its own name.
        licence: The licence it is published under.
        citation: Who to cite: authors, year, title, venue.
        published: Where it is found.
        files: Which of its files are read, in words.
        holds: What kinds of judgements it holds, and what is known of who made them.
        gives: What it gives, in words: who judged what, and how.
        read: Reads files into examples, and counts what it leaves out.
        read_annotators: Reads what is known of the annotators; None where nothing is published.
    """

    name: str
    title: str
    licence: str
    citation: str
    published: str
    files: str
    holds: tuple[Kind, ...]
    gives: str
    read: Callable[[Sequence[Path], LeftOut], Iterator[Example]]
    read_annotators: Callable[[Sequence[Path]], Covariates] | None = None
