"""What annotators said of a batch of pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from hidden_context.errors import ConfigError

UNKNOWN: Final = -1


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of B pairs by A ≥ B annotations: most pairs have one, some have several.

    Attributes:
        preference: Share of annotators for the chosen side, of shape ``(A,)``: 1, ½ a tie, or any
            vote share.
        pair: Which pair each annotation is of, of shape ``(A,)``, ascending; every pair has one.
        strength: By how many levels the chosen side is better, of shape ``(A,)``; negative for the
            other side, NaN where not said.
        margin: Margin in the data's units, of shape ``(A,)``.
        annotator: Index of the annotator, of shape ``(A,)``; −1 where not known.
        weight: How much each pair counts, of shape ``(B,)``.
        rating_chosen: Absolute rating of the chosen text, of shape ``(B,)``; NaN where none.
        rating_rejected: The same of the rejected text.
    """

    preference: Tensor
    pair: Tensor
    strength: Tensor
    margin: Tensor
    annotator: Tensor
    weight: Tensor
    rating_chosen: Tensor
    rating_rejected: Tensor

    @classmethod
    def of_preferences(cls, preference: Tensor, annotator: Tensor | None = None) -> Labels:
        """Label each pair once, by a share of annotators.

        Args:
            preference: Shares of shape ``(B,)``.
            annotator: Indices of shape ``(B,)``; None for annotators who are not known.

        Returns:
            The labels.

        Raises:
            ConfigError: If the shapes do not fit.
        """
        if preference.dim() != 1 or (annotator is not None and annotator.shape != preference.shape):
            raise ConfigError("preferences and annotators have to be two lists of the same length.")
        nan = torch.full_like(preference, torch.nan)
        everyone = torch.full(preference.shape, UNKNOWN, device=preference.device)
        return cls(
            preference,
            torch.arange(len(preference), device=preference.device),
            nan,
            torch.zeros_like(preference),
            everyone if annotator is None else annotator,
            torch.ones_like(preference),
            nan,
            nan,
        )

    def __len__(self) -> int:
        """Number B of pairs."""
        return len(self.weight)

    def select(self, pairs: Tensor) -> Labels:
        """Take pairs, in the order given, each with all its annotations.

        Args:
            pairs: Indices of shape ``(P,)``, which may repeat, or a mask of shape ``(B,)``.

        Returns:
            Labels of P pairs.
        """
        if pairs.dtype == torch.bool:
            pairs = pairs.nonzero().squeeze(-1)
        start = torch.searchsorted(self.pair, pairs)
        count = torch.searchsorted(self.pair, pairs, right=True) - start
        place = torch.arange(len(pairs), device=pairs.device).repeat_interleave(count)
        before = count.cumsum(0) - count
        within = torch.arange(len(place), device=pairs.device) - before[place]
        order = start[place] + within
        by_annotation = {
            name: getattr(self, name)[order]
            for name in ("preference", "strength", "margin", "annotator")
        }
        by_pair = {
            name: getattr(self, name)[pairs]
            for name in ("weight", "rating_chosen", "rating_rejected")
        }
        return Labels(pair=place, **by_annotation, **by_pair)

    def map(self, function: Callable[[Tensor], Tensor]) -> Labels:
        """Apply a function to every tensor, such as a move to a device."""
        values = {field.name: function(getattr(self, field.name)) for field in _FIELDS}
        return Labels(**values)

    def mean_by_pair(self, values: Tensor) -> Tensor:
        """Average values of annotations, ``(A, …)``, over each pair's: ``(B, …)``."""
        shape = (len(self), *values.shape[1:])
        count = torch.bincount(self.pair, minlength=len(self)).to(values)
        total = values.new_zeros(shape).index_add(0, self.pair, values)
        return total / count.reshape(-1, *(1 for _ in shape[1:]))

    @property
    def vote_share(self) -> Tensor:
        """Mean preference over each pair's annotations, of shape ``(B,)``."""
        return self.mean_by_pair(self.preference)


_FIELDS: Final = dataclasses.fields(Labels)
