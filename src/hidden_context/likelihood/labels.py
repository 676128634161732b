"""Annotators' judgements of a batch of responses, as tensors that index the responses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, TypeVar

import torch
from torch import Tensor

from hidden_context.errors import ConfigError

UNKNOWN: Final = -1


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """C comparisons of two responses each.

    Attributes:
        first: Index of one response, of shape ``(C,)``.
        second: Index of the other, of shape ``(C,)``.
        preference: Share of votes for the first, of shape ``(C,)``: 1, ½ a tie, or any share.
        strength: By how many levels the first is better, of shape ``(C,)``; negative for the
            second, NaN where not said.
        margin: By how much in the data's units, of shape ``(C,)``.
        annotator: Index of the annotator, of shape ``(C,)``; −1 where not known.
        weight: How much each counts, of shape ``(C,)``.
        votes: How many votes each stands for, of shape ``(C,)``: 1, or 2/n for the pairs of a
            ranking of n responses, which together are n − 1 votes.
        example: Which example each is of, of shape ``(C,)``, ascending.
    """

    first: Tensor
    second: Tensor
    preference: Tensor
    strength: Tensor
    margin: Tensor
    annotator: Tensor
    weight: Tensor
    votes: Tensor
    example: Tensor

    def __len__(self) -> int:
        """Return the number C of comparisons."""
        return len(self.first)


@dataclasses.dataclass(frozen=True)
class RatingLabels:
    """D ratings of one response each.

    Attributes:
        response: Index of the response, of shape ``(D,)``.
        value: The rating in the data's units, of shape ``(D,)``.
        annotator: Index of the annotator, of shape ``(D,)``; −1 where not known.
        weight: How much each counts, of shape ``(D,)``.
        votes: How many votes each stands for, of shape ``(D,)``.
        example: Which example each is of, of shape ``(D,)``, ascending.
    """

    response: Tensor
    value: Tensor
    annotator: Tensor
    weight: Tensor
    votes: Tensor
    example: Tensor

    def __len__(self) -> int:
        """Return the number D of ratings."""
        return len(self.response)


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of E examples with R responses in all: J = C + D judgements.

    Attributes:
        comparisons: The C comparisons.
        ratings: The D ratings.
        offsets: Where each example's responses begin, of shape ``(E + 1,)``; the last is R.
        draws: How often each of M members of an ensemble sees each example, of shape ``(E, M)``;
            None for once each.
    """

    comparisons: Comparisons
    ratings: RatingLabels
    offsets: Tensor
    draws: Tensor | None = None

    @classmethod
    def of_pairs(cls, preference: Tensor, annotator: Tensor | None = None) -> Labels:
        """Label E pairs once each; responses 2e and 2e + 1 are the sides of pair e.

        Args:
            preference: Share of votes for the first side, of shape ``(E,)``.
            annotator: Indices of shape ``(E,)``; None for annotators who are not known.

        Returns:
            The labels.

        Raises:
            ConfigError: If the shapes do not fit.
        """
        if preference.dim() != 1 or (annotator is not None and annotator.shape != preference.shape):
            raise ConfigError("preferences and annotators must be two lists of the same length.")
        count, device = len(preference), preference.device
        place = torch.arange(count, device=device)
        ones = torch.ones_like(preference)
        unknown = torch.full((count,), UNKNOWN, device=device)
        return cls(
            Comparisons(
                first=2 * place,
                second=2 * place + 1,
                preference=preference,
                strength=torch.full_like(preference, torch.nan),
                margin=torch.zeros_like(preference),
                annotator=unknown if annotator is None else annotator,
                weight=ones,
                votes=ones,
                example=place,
            ),
            no_ratings(device),
            torch.arange(0, 2 * count + 1, 2, device=device),
        )

    def __len__(self) -> int:
        """Return the number E of examples."""
        return len(self.offsets) - 1

    @property
    def num_responses(self) -> int:
        """Number R of responses."""
        return int(self.offsets[-1])

    @property
    def num_judgements(self) -> int:
        """Number J = C + D of judgements: comparisons first, then ratings."""
        return len(self.comparisons) + len(self.ratings)

    @property
    def weight(self) -> Tensor:
        """How much each judgement counts, of shape ``(J,)``."""
        return torch.cat([self.comparisons.weight, self.ratings.weight])

    @property
    def votes(self) -> Tensor:
        """How many votes each judgement stands for, of shape ``(J,)``."""
        return torch.cat([self.comparisons.votes, self.ratings.votes])

    @property
    def example(self) -> Tensor:
        """Example of each judgement, of shape ``(J,)``."""
        return torch.cat([self.comparisons.example, self.ratings.example])

    @property
    def annotator(self) -> Tensor:
        """Annotator of each judgement, of shape ``(J,)``."""
        return torch.cat([self.comparisons.annotator, self.ratings.annotator])

    @property
    def votes_by_example(self) -> Tensor:
        """How many votes each example has, of shape ``(E,)``."""
        votes = self.votes
        return votes.new_zeros(len(self)).index_add(0, self.example, votes)

    def select(self, examples: Tensor) -> Labels:
        """Select examples in the order given, each with all its responses and judgements.

        Args:
            examples: Indices of shape ``(S,)``, which may repeat, or a mask of shape ``(E,)``.

        Returns:
            Labels of S examples, whose responses are numbered anew.
        """
        if examples.dtype == torch.bool:
            examples = examples.nonzero().squeeze(-1)
        sizes = self.offsets[examples + 1] - self.offsets[examples]
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        shift = offsets[:-1] - self.offsets[examples]

        def rows(example: Tensor) -> tuple[Tensor, Tensor]:
            start = torch.searchsorted(example, examples)
            count = torch.searchsorted(example, examples, right=True) - start
            place = torch.arange(len(examples), device=examples.device).repeat_interleave(count)
            before = count.cumsum(0) - count
            within = torch.arange(len(place), device=examples.device) - before[place]
            return start[place] + within, place

        order, place = rows(self.comparisons.example)
        compared = take_rows(self.comparisons, order)
        compared = dataclasses.replace(
            compared,
            first=compared.first + shift[place],
            second=compared.second + shift[place],
            example=place,
        )
        order, place = rows(self.ratings.example)
        rated = take_rows(self.ratings, order)
        rated = dataclasses.replace(rated, response=rated.response + shift[place], example=place)
        draws = None if self.draws is None else self.draws[examples]
        return Labels(compared, rated, offsets, draws)

    def take(self, judgements: Tensor) -> tuple[Labels, Tensor]:
        """Select judgements and the responses that they name.

        Args:
            judgements: Indices of shape ``(S,)`` below J.

        Returns:
            Labels of S judgements, comparisons first, whose responses are numbered anew; and which
            response each was, of shape ``(R',)``. Examples stay numbered as they were.
        """
        count = len(self.comparisons)
        compared = take_rows(self.comparisons, judgements[judgements < count])
        rated = take_rows(self.ratings, judgements[judgements >= count] - count)
        named = torch.cat([compared.first, compared.second, rated.response])
        responses, place = torch.unique(named, return_inverse=True)
        first, second, response = place.split([len(compared), len(compared), len(rated)])
        # the examples' own responses are no longer in one piece, so nothing may be selected again
        offsets = torch.zeros_like(self.offsets)
        offsets[-1] = len(responses)
        return (
            Labels(
                dataclasses.replace(compared, first=first, second=second),
                dataclasses.replace(rated, response=response),
                offsets,
                self.draws,
            ),
            responses,
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Labels:
        """Apply a function to every tensor, such as a move to a device."""
        return Labels(
            _map(self.comparisons, function),
            _map(self.ratings, function),
            function(self.offsets),
            None if self.draws is None else function(self.draws),
        )

    def by_example(self) -> Labels:
        """Give every example one vote in total, however many votes it has."""
        share = 1 / self.votes_by_example.clamp(min=torch.finfo(torch.float32).tiny)

        def shared(part: Comparisons | RatingLabels) -> dict[str, Tensor]:
            own = share[part.example]
            return {"weight": part.weight * own, "votes": part.votes * own}

        ratings = dataclasses.replace(self.ratings, **shared(self.ratings))
        return dataclasses.replace(self, ratings=ratings).with_comparisons(
            **shared(self.comparisons)
        )

    def with_comparisons(self, **values: Tensor) -> Labels:
        """Return the same labels with new values for some fields of the comparisons."""
        return dataclasses.replace(
            self, comparisons=dataclasses.replace(self.comparisons, **values)
        )

    def judged_by(self, annotator: int | None) -> Labels:
        """Return the same comparisons by one annotator; None is an unknown annotator."""
        number = UNKNOWN if annotator is None else annotator
        return self.with_comparisons(annotator=torch.full_like(self.comparisons.annotator, number))

    def swapped(self) -> Labels:
        """Return the same comparisons with only the two responses exchanged."""
        return self.with_comparisons(first=self.comparisons.second, second=self.comparisons.first)

    def without_ratings(self) -> Labels:
        """Return the labels without ratings."""
        return dataclasses.replace(self, ratings=take_rows(self.ratings, self.offsets[:0]))

    def mean_by_example(self, values: Tensor) -> Tensor:
        """Average values of judgements, ``(J,)``, over each example's votes: ``(E,)``."""
        votes = self.votes.to(values)
        total = values.new_zeros(len(self)).index_add(0, self.example, values * votes)
        return total / self.votes_by_example.to(values)

    @property
    def vote_share(self) -> Tensor:
        """Mean preference over each pair's comparisons, of shape ``(E,)``."""
        return self.without_ratings().mean_by_example(self.comparisons.preference)


def no_ratings(device: torch.device | None = None) -> RatingLabels:
    """Make an empty set of ratings."""
    none = torch.zeros(0, device=device)
    index = none.long()
    return RatingLabels(index, none, index, none, none, index)


def join_comparisons(parts: list[Comparisons]) -> Comparisons:
    """Concatenate sets of comparisons."""
    names = [field.name for field in dataclasses.fields(Comparisons)]
    return Comparisons(**{n: torch.cat([getattr(part, n) for part in parts]) for n in names})


_Part = TypeVar("_Part", Comparisons, RatingLabels)


def _map(part: _Part, function: Callable[[Tensor], Tensor]) -> _Part:
    values = {f.name: function(getattr(part, f.name)) for f in dataclasses.fields(part)}
    return dataclasses.replace(part, **values)


def take_rows(part: _Part, order: Tensor) -> _Part:
    """Select comparisons or ratings by indices or a mask."""
    return _map(part, lambda values: values[order])
