"""What a preference data set is like: columns, subsets, lengths, repeated prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from hidden_context.data.dialogue import to_text
from hidden_context.data.preferences import Preference


@dataclass(frozen=True)
class LengthSummary:
    """Lengths in characters."""

    minimum: int
    median: float
    mean: float
    percentile_95: float
    maximum: int


@dataclass(frozen=True)
class PreferenceSummary:
    """Counts over a set of preferences.

    Attributes:
        rows: Number of pairs.
        columns: In how many rows each column stands.
        data_subsets: Pairs per ``data_subset``.
        objectives: Pairs per ``objective``.
        annotators: Number of distinct annotators, 0 where none is given.
        prompts: Number of distinct prompts (by ``prompt_key``).
        repeated_prompt_rows: Pairs whose prompt stands in an earlier pair.
        lengths: Characters of prompts and of full chosen and rejected texts.
    """

    rows: int
    columns: dict[str, int]
    data_subsets: dict[str, int]
    objectives: dict[str, int]
    annotators: int
    prompts: int
    repeated_prompt_rows: int
    lengths: dict[str, LengthSummary]


def summarize_lengths(lengths: Sequence[int]) -> LengthSummary:
    """Summarize a non-empty list of lengths."""
    cuts = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else [lengths[0]] * 19
    return LengthSummary(min(lengths), cuts[9], fmean(lengths), cuts[18], max(lengths))


def summarize_preferences(preferences: Sequence[Preference]) -> PreferenceSummary:
    """Summarize a non-empty set of preferences.

    Args:
        preferences: The pairs.

    Returns:
        Counts and lengths.
    """
    prompts = {preference.prompt_key for preference in preferences}
    lengths = {
        name: summarize_lengths([len(to_text(getattr(p, name))) for p in preferences])
        for name in ("prompt", "chosen", "rejected")
    }
    return PreferenceSummary(
        rows=len(preferences),
        columns=dict(Counter(name for p in preferences for name in p.columns)),
        data_subsets=dict(Counter(p.data_subset for p in preferences if p.data_subset is not None)),
        objectives=dict(Counter(p.objective for p in preferences if p.objective is not None)),
        annotators=len({a.annotator for p in preferences for a in p.annotations} - {None}),
        prompts=len(prompts),
        repeated_prompt_rows=len(preferences) - len(prompts),
        lengths=lengths,
    )
