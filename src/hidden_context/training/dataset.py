"""Tokenized preference pairs as a dataset, and batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from hidden_context.data.labels import labels_of
from hidden_context.data.preferences import Preference
from hidden_context.data.report import ReadReport
from hidden_context.data.token_cache import TokenCache
from hidden_context.data.tokenize import OverLength, tokenize_preferences
from hidden_context.objectives import Labels


class PreferenceDataset(Dataset[dict[str, Any]]):
    """Tokenized pairs; each item knows the row it came from.

    Args:
        preferences: The pairs.
        tokenizer: A Transformers tokenizer.
        max_length: Longest text in tokens.
        over_length: What happens to pairs with a longer side, ``drop`` or ``truncate``.
        report: Brought up to date with what was dropped.
        sort_by_length: Order by length, so that evaluation pads little.
        cache: Where the token ids are kept from one run to the next.
        labels: What annotators said of all ``preferences``; None takes their preference alone.
        member_weight: How often each member of an ensemble sees each of them, ``(N, M)``.
    """

    def __init__(
        self,
        preferences: Sequence[Preference],
        tokenizer: Any,
        max_length: int,
        over_length: OverLength = "drop",
        *,
        report: ReadReport | None = None,
        sort_by_length: bool = False,
        cache: TokenCache | None = None,
        labels: Labels | None = None,
        member_weight: torch.Tensor | None = None,
    ) -> None:
        self.preferences = preferences
        self.labels = labels_of(preferences) if labels is None else labels
        self.member_weight = member_weight
        self.tokens = tokenize_preferences(
            preferences, tokenizer, max_length, over_length, report=report, cache=cache
        )
        self._order = list(range(len(self.tokens)))
        if sort_by_length:
            lengths = self.tokens.lengths
            self._order.sort(key=lambda position: -lengths[position])

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        position = self._order[index]
        row = self.tokens.indices[position]
        return {
            "chosen": self.tokens.input_ids_chosen[position],
            "rejected": self.tokens.input_ids_rejected[position],
            "row": row,
        }

    @property
    def sizes(self) -> list[int]:
        """Tokens of each item, both sides together."""
        lengths = self.tokens.lengths
        return [lengths[position] for position in self._order]

    def line_of(self, row: int) -> int:
        """Where a row stood in its source: the line of a file or row of a table, from 1."""
        line = self.preferences[row].source_line
        return row + 1 if line is None else line

    def group_of_rows(self, column: str) -> dict[int, str]:
        """Value of ``data_subset`` or ``objective`` of every row that has one."""
        values = {row: getattr(self.preferences[row], column) for row in self.tokens.indices}
        return {row: str(value) for row, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class PairTokens:
    """Token ids of a batch of pairs, as they are: nothing is padded yet.

    Not a list or mapping, so that what moves batches to devices passes it through untouched.

    Attributes:
        chosen: Ids of the preferred text of each of P pairs.
        rejected: Ids of the other one.
    """

    chosen: list[list[int]]
    rejected: list[list[int]]


def collate_pairs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collect pairs into a batch: ``row`` of shape ``(P,)``, and ``tokens``."""
    return {
        "row": torch.tensor([item["row"] for item in items]),
        "tokens": PairTokens(
            [item["chosen"] for item in items], [item["rejected"] for item in items]
        ),
    }
