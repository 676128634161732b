"""The questions about a file of preferences: two responses, objective, order, vote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

from hidden_context.data.dialogue import Conversation, to_text
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.usable import blank_responses
from hidden_context.relabel.objectives import Objective

Orders: TypeAlias = Literal["both", "first"]


@dataclass(frozen=True, slots=True)
class Item:
    """A row to be judged.

    Attributes:
        example: The row as an example with all its responses.
        places: Places of the responses that hold text.
    """

    example: Example
    places: tuple[int, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of responses that are not blank, by their places."""
        return list(combinations(self.places, 2))


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a language model.

    Attributes:
        item: The row.
        objective: What is judged.
        shown: Places of the response shown as A and of the one shown as B.
        vote: Number of the vote, from 0.
    """

    item: Item
    objective: Objective
    shown: tuple[int, int]
    vote: int = 0

    @property
    def dialogue(self) -> str | None:
        """The conversation before both responses; None if unknown."""
        prompt = self.item.example.known_prompt
        return None if prompt is None else _without_mark(to_text(prompt))

    @property
    def responses(self) -> tuple[str, str]:
        """The texts shown as A and as B."""
        first, second = self.shown
        return self._response(first), self._response(second)

    def text(self, dialogue: str | None = None) -> str:
        """Write the question.

        Args:
            dialogue: What to show of the conversation; the whole of it if None.
        """
        return self.objective.question(
            self.dialogue if dialogue is None else dialogue, *self.responses
        )

    def description(self, asked: Mapping[str, Any], text: str) -> dict[str, Any]:
        """Describe what identifies this question.

        Args:
            asked: Who is asked, and how: model, host, temperature and the like.
            text: The words of the question.
        """
        prompt = hashlib.sha256(text.encode("utf-8")).hexdigest()
        return {
            **asked,
            "objective": self.objective.name,
            "prompt": prompt,
            "order": "first" if self.shown[0] < self.shown[1] else "swapped",
            "vote": self.vote,
        }

    def _response(self, place: int) -> str:
        example = self.item.example
        whole = example.known_prompt is None
        return _spoken(example.text(place) if whole else example.responses[place])


def key_of(description: Mapping[str, Any]) -> str:
    """Digest a question's description: the key of its answer, 40 hexadecimal digits."""
    words = json.dumps(description, sort_keys=True)
    return hashlib.blake2b(words.encode("utf-8"), digest_size=20).hexdigest()


def items_of(examples: Iterable[Example]) -> list[Item]:
    """Read rows again with all responses, and note which are not blank."""
    items = []
    for example in examples:
        line = example.source_lines[0] if example.source_lines else None
        whole = read_row(example.columns, file=example.source_file, line=line)
        blank = blank_responses(whole)
        places = tuple(n for n in range(len(whole.responses)) if n not in blank)
        items.append(Item(whole, places))
    return items


def questions_of(
    items: Iterable[Item], objectives: Sequence[Objective], orders: Orders, votes: int
) -> Iterator[Question]:
    """List every question, pair by pair."""
    for item in items:
        for pair in item.pairs:
            for objective in objectives:
                yield from questions_about(item, pair, objective, orders, votes)


def questions_about(
    item: Item, pair: tuple[int, int], objective: Objective, orders: Orders, votes: int
) -> list[Question]:
    """List the questions about one pair under one objective."""
    first, second = pair
    shown = [(first, second), (second, first)][: 2 if orders == "both" else 1]
    return [Question(item, objective, one, vote) for one in shown for vote in range(votes)]


def _spoken(response: Conversation) -> str:
    """Write a response without the speaker's name."""
    if not isinstance(response, str) and len(response) == 1:
        return to_text(response).split(": ", 1)[-1].strip()
    return to_text(response).strip().removeprefix("Assistant:").strip()


def _without_mark(prompt: str) -> str:
    """Remove the speaker's name that announces a response."""
    return prompt.strip().removesuffix("Assistant:").strip()


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenize a question by the tokenizer's chat template, up to where the answer begins.

    Args:
        tokenizer: A Transformers tokenizer with a chat template.
        text: The question.

    Returns:
        The ids, neither padded nor truncated.
    """
    found = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_dict=True,
        tokenizer_kwargs={"verbose": False},  # lengths are looked at by the caller
    )
    return list(found["input_ids"])
