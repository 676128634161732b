"""Tokenized preference pairs as a dataset, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hidden_context.data.preferences import Preference
from hidden_context.data.report import ReadReport
from hidden_context.data.tokenize import OverLength, pad_batch, tokenize_preferences


class PreferenceDataset(Dataset[dict[str, Any]]):
    """Tokenized pairs; each item knows the row it came from.

    Args:
        preferences: The pairs.
        tokenizer: A Transformers tokenizer.
        max_length: Longest text in tokens.
        over_length: What happens to pairs with a longer side, ``drop`` or ``truncate``.
        report: Brought up to date with what was dropped.
        sort_by_length: Order by length, so that evaluation pads little.
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
    ) -> None:
        self.preferences = preferences
        self.tokens = tokenize_preferences(
            preferences, tokenizer, max_length, over_length, report=report
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
            "preference": self.preferences[row].preference,
            "row": row,
        }

    def line_of(self, row: int) -> int:
        """Where a row stood in its source: the line of a file or row of a table, from 1."""
        line = self.preferences[row].source_line
        return row + 1 if line is None else line

    def group_of_rows(self, column: str) -> dict[int, str]:
        """Value of ``data_subset`` or ``objective`` of every row that has one."""
        values = {row: getattr(self.preferences[row], column) for row in self.tokens.indices}
        return {row: str(value) for row, value in values.items() if value is not None}


class PairCollator:
    """Stack pairs into a batch: both sides of each pair, padded to one length.

    Args:
        pad_token_id: Id to pad with.
        pad_to_multiple_of: The length is rounded up to a multiple of this.
    """

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int = 1) -> None:
        self.pad_token_id, self.pad_to_multiple_of = pad_token_id, pad_to_multiple_of

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask`` of shape ``(B, 2, T)``, chosen first."""
        sides = [item[side] for item in items for side in ("chosen", "rejected")]
        input_ids, attention_mask = pad_batch(sides, self.pad_token_id, self.pad_to_multiple_of)
        return {
            "input_ids": input_ids.unflatten(0, (len(items), 2)),
            "attention_mask": attention_mask.unflatten(0, (len(items), 2)),
            "preference": torch.tensor([item["preference"] for item in items]),
            "row": torch.tensor([item["row"] for item in items]),
        }
