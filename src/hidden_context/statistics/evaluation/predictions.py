"""Judged items: a table of their votes, and a model's predictions for every vote and item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from hidden_context.errors import ConfigError
from hidden_context.likelihood import Labels, Likelihood
from hidden_context.statistics.checks import Booleans, Codes, Floats, numbered
from hidden_context.statistics.evaluation.expected_answers import ExpectedAnswers, expected_answers
from hidden_context.statistics.votes.table import VoteTable

_BLOCK: Final = 16_384


@dataclass(frozen=True, eq=False)
class VotePredictions:
    """Predictions of V votes on I items; first and second are the item's sides.

    Attributes:
        own: Log-probabilities of first, equal and second for each vote's annotator, if the model
            knows the annotator, ``(V, 3)``, in nats.
        population: The same for an unknown annotator, ``(V, 3)``.
        known: Which votes are by annotators whom the model has learned, ``(V,)``.
        turned: Which votes' comparisons have their item's sides the other way round, ``(V,)``.
        answers: Probabilities of the three answers averaged over annotators, ``(I, 3)``.
        disagreement: Probability that two annotators answer differently, ``(I,)``.
        conflict: Variance of annotators' two-way shares, ``(I,)``.
        same_person: Variance of one person's answer, ``(I,)``.
        has_context: Whether the head has a context that annotators share.
        has_equal: Whether the model has an answer "equal".
        difference: Mean of the first side's reward minus the second's, ``(I,)``, in reward units.
        parts: Variance of that difference by cause, each ``(I,)``.
    """

    own: Floats
    population: Floats
    known: Booleans
    turned: Booleans
    answers: Floats
    disagreement: Floats
    conflict: Floats
    same_person: Floats
    has_context: bool
    has_equal: bool
    difference: Floats
    parts: dict[str, Floats]

    @property
    def probability(self) -> Floats:
        """Expected two-way share for the first side, ``(I,)``."""
        return np.asarray(self.answers[:, 0] + self.answers[:, 1] / 2)

    @property
    def variance(self) -> Floats:
        """Variance of the difference of the two rewards, ``(I,)``."""
        return np.asarray(sum(self.parts.values()))


def table_of(labels: Labels, item: Codes, turned: Booleans, who: Tensor) -> VoteTable:
    """Put the comparisons of pairs into a table of votes.

    Args:
        labels: Labels of E pairs, with V comparisons.
        item: Number of each pair's item, 0 to I − 1 without gaps, ``(E,)``: pairs of the same texts
            are one item.
        turned: Which pairs have their item's sides the other way round, ``(E,)``.
        who: Number of each comparison's annotator, −1 where nobody is named, ``(V,)``.

    Returns:
        The votes, in the order of the comparisons.
    """
    compared = labels.comparisons
    pair = compared.example.numpy()
    share = compared.preference.double().numpy()
    strength = compared.strength.double().numpy()
    said = ~np.isnan(strength)
    share = np.where(said, 0.5 + 0.5 * np.sign(np.where(said, strength, 0.0)), share)
    swapped = turned[pair] ^ (compared.first > compared.second).numpy()
    return VoteTable.of(
        item[pair],
        who.numpy(),
        np.where(swapped, 1 - share, share),
        weight=compared.votes.double().numpy(),
        items=int(item.max()) + 1,
        annotators=max(int(who.max()) + 1, 0),
    )


def predict_votes(
    likelihood: Likelihood, raw: Tensor, labels: Labels, item: Codes, turned: Booleans
) -> VotePredictions:
    """Predict every vote on pairs, and the answers of annotators to every item.

    Args:
        likelihood: The likelihood. Known annotators are predicted individually.
        raw: Raw outputs of shape ``(R, K)``.
        labels: Labels of E pairs, with V comparisons; annotators numbered as in the likelihood.
        item: Number of each pair's item, ``(E,)``; see ``table_of``.
        turned: Which pairs have their item's sides the other way round, ``(E,)``.

    Returns:
        The predictions, in the order of the comparisons and of the items.

    Raises:
        ConfigError: If there is no comparison, or an item without one.
    """
    labels = labels.without_ratings()
    compared = labels.comparisons
    if not len(compared):
        raise ConfigError("there is no vote to predict.")
    pair = compared.example.numpy()
    swapped = turned[pair] ^ (compared.first > compared.second).numpy()
    numbers, first_vote = np.unique(item[pair], return_index=True)
    if len(numbers) <= item.max():
        raise ConfigError("every item needs a vote.")
    with torch.no_grad():
        own = likelihood.outcome_log_probs(raw, labels)
        known = (compared.annotator >= 0).numpy() & likelihood.knows_annotators
        population = own
        if known.any():
            population = likelihood.outcome_log_probs(raw, labels.judged_by(None))
        of_items = [
            _of_items(likelihood, raw, labels, block)
            for block in np.array_split(first_vote, -(-len(first_vote) // _BLOCK))
        ]
    expected, difference, parts = (list(each) for each in zip(*of_items, strict=True))
    turn = swapped[first_vote]
    answers = _joined([each.mean for each in expected])
    gap = _joined(difference)
    averages = {
        name: _joined([getattr(each, name) for each in expected])
        for name in ("disagreement", "conflict", "same_person")
    }
    return VotePredictions(
        own=sides(own.double().numpy(), swapped),
        population=sides(population.double().numpy(), swapped),
        known=known,
        turned=swapped,
        answers=sides(answers, turn),
        **averages,
        has_context=expected[0].has_context,
        has_equal=likelihood.options.levels > 2,
        difference=np.where(turn, -gap, gap),
        parts={name: _joined([part[name] for part in parts]) for name in parts[0]},
    )


def _of_items(
    likelihood: Likelihood, raw: Tensor, labels: Labels, votes: Codes
) -> tuple[ExpectedAnswers, Tensor, dict[str, Tensor]]:
    """Return expected answers, reward differences and their variance by cause, for some votes."""
    own, responses = labels.take(torch.from_numpy(votes))
    raw = raw[responses]
    compared = own.comparisons
    first, second = (
        likelihood.head.distribution(raw[side]) for side in (compared.first, compared.second)
    )
    parts = first.difference_parts(second)
    return expected_answers(likelihood, raw, own), first.mean - second.mean, parts


def sides(answers: Floats, turned: Booleans) -> Floats:
    """Swap first and second of ``(N, 3)`` in rows whose sides are the other way round."""
    return np.where(turned[:, None], answers[:, ::-1], answers)


def _joined(parts: list[Tensor]) -> Floats:
    return np.asarray(torch.cat(parts).double().numpy())


@dataclass(frozen=True, eq=False)
class JudgedItems:
    """Items with a vote.

    Attributes:
        table: The votes on I items.
        predictions: A model's predictions of these votes.
        cluster: Number of each item's prompt, ``(I,)``.
        length: Difference in length of its responses, ``(I,)``; None if a length is not known.
        example: Which example each item was first judged in, ``(I,)``.
        likelihood: The model's likelihood.
        raw: Raw outputs of the pairs, ``(R, K)``.
        labels: Labels of the pairs; annotators numbered as in the likelihood.
    """

    table: VoteTable
    predictions: VotePredictions
    cluster: Codes
    length: Floats | None
    example: Codes
    likelihood: Likelihood
    raw: Tensor
    labels: Labels


def judged_items(
    likelihood: Likelihood,
    raw: Tensor,
    labels: Labels,
    who: Tensor,
    *,
    item: Codes,
    turned: Booleans,
    cluster: Codes,
    length: Floats,
) -> JudgedItems | None:
    """Collect the items that were compared.

    Args:
        likelihood: The likelihood. Known annotators are predicted individually.
        raw: Raw outputs of the E examples' responses, of shape ``(R, K)``.
        labels: Labels of E examples, with V comparisons; annotators numbered as in the likelihood.
        who: Number of each comparison's annotator among all who are named, −1 for nobody, ``(V,)``.
        item: Number of each example's item: examples of the same two texts are one, ``(E,)``.
        turned: Which examples have their item's sides the other way round, ``(E,)``.
        cluster: Number of each example's prompt, ``(E,)``.
        length: Lengths of each example's two responses, ``(E, 2)``; NaN where not known.

    Returns:
        The items; None if no item was judged by several people and the model knows no annotator.
        The votes then say no more than the usual loss.
    """
    if not len(labels.comparisons):
        return None
    compared = torch.zeros(len(labels), dtype=torch.bool)
    compared[labels.comparisons.example] = True
    own = labels.without_ratings().select(compared)
    examples = np.flatnonzero(compared.numpy())
    codes, turned = numbered(item[examples], len(examples)), turned[examples]
    table = table_of(own, codes, turned, who)
    known = likelihood.knows_annotators and bool((own.comparisons.annotator >= 0).any())
    if not (known or table.counts.judged.any()):
        return None
    raw = raw[compared.repeat_interleave(labels.offsets.diff())]
    first = np.unique(codes, return_index=True)[1]
    difference = length[examples[first], 0] - length[examples[first], 1]
    return JudgedItems(
        table,
        predict_votes(likelihood, raw, own, codes, turned),
        cluster[examples[first]],
        None if np.isnan(difference).any() else difference,
        examples[first],
        likelihood,
        raw,
        own,
    )
