"""A summary of a preference data set: columns, subsets, lengths, repeated prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from hidden_context.data.dialogue import to_text
from hidden_context.data.example import Example
from hidden_context.data.splits.division import BY_FIRST_TURN, SplitOptions


@dataclass(frozen=True)
class LengthSummary:
    """Lengths in characters."""

    minimum: int
    median: float
    mean: float
    percentile_95: float
    maximum: int


@dataclass(frozen=True)
class DataSummary:
    """Counts over a set of examples.

    Attributes:
        rows: Number of examples.
        columns: How many rows have each column.
        data_subsets: Examples per ``data_subset``.
        objectives: Examples per ``objective``.
        responses: Number of responses.
        judgements: Number of judgements that are votes.
        abstentions: Number of abstentions.
        annotators: Number of distinct annotators, 0 where none is given.
        prompts: Number of distinct prompts (by ``prompt_key``).
        repeated_prompt_rows: Examples whose prompt an earlier example has.
        groups: Examples of each group that a division leaves together, the largest first.
        lengths: Characters of each example's prompt, and of each response's whole text.
    """

    rows: int
    columns: dict[str, int]
    data_subsets: dict[str, int]
    objectives: dict[str, int]
    responses: int
    judgements: int
    abstentions: int
    annotators: int
    prompts: int
    repeated_prompt_rows: int
    groups: list[int]
    lengths: dict[str, LengthSummary]


def summarize_lengths(lengths: Sequence[int]) -> LengthSummary:
    """Summarize a non-empty list of lengths."""
    cuts = quantiles(lengths, n=20, method="inclusive") if len(lengths) > 1 else [lengths[0]] * 19
    return LengthSummary(min(lengths), cuts[9], fmean(lengths), cuts[18], max(lengths))


def summarize_examples(
    examples: Sequence[Example], options: SplitOptions = BY_FIRST_TURN
) -> DataSummary:
    """Summarize a non-empty set of examples.

    Args:
        examples: The examples.
        options: What a group is.

    Returns:
        Counts and lengths.

    Raises:
        DataError: If an example belongs to no group.
    """
    prompts = {example.prompt_key for example in examples}
    judgements = [judgement for example in examples for judgement in example.judgements]
    abstentions = sum(judgement.abstains for judgement in judgements)
    lengths = {
        "prompt": [len(to_text(example.prompt)) for example in examples],
        "text": [len(to_text(text)) for example in examples for text in example.texts],
    }
    return DataSummary(
        rows=len(examples),
        columns=dict(Counter(name for e in examples for name in e.columns)),
        data_subsets=dict(Counter(e.data_subset for e in examples if e.data_subset is not None)),
        objectives=dict(Counter(e.objective for e in examples if e.objective is not None)),
        responses=sum(len(example.responses) for example in examples),
        judgements=len(judgements) - abstentions,
        abstentions=abstentions,
        annotators=len({judgement.annotator for judgement in judgements} - {None}),
        prompts=len(prompts),
        repeated_prompt_rows=len(examples) - len(prompts),
        groups=[count for _, count in Counter(options.keys(examples)).most_common()],
        lengths={name: summarize_lengths(values) for name, values in lengths.items()},
    )
