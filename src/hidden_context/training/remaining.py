"""Whether enough is left to train on, once everything was dropped that has to be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

from hidden_context.data.example import Example, Rating
from hidden_context.data.held_out import Splits
from hidden_context.errors import DataError, HiddenContextWarning
from hidden_context.likelihood import Likelihood
from hidden_context.training.config import TrainConfig

FEW_JUDGEMENTS: Final = 20


def check_remaining(
    config: TrainConfig,
    likelihood: Likelihood,
    splits: Splits,
    left: Mapping[str, Sequence[Example]],
) -> None:
    """Warn where much is lost, or little is left, and stop below ``config.min_judgements``.

    Args:
        config: The options.
        likelihood: Whether ratings are read.
        splits: The sets as they were read.
        left: What is left of each, by its name; all that are left out are empty.

    Raises:
        DataError: If fewer judgements are left to train on than the configuration asks for.
    """
    ratings = bool(likelihood.options.rating_weight or config.max_comparisons)
    for name, report in splits.reports.items():
        before, after = getattr(splits, name), left.get(name, ())
        share = _judgements(after, ratings) / max(_judgements(before, ratings), 1)
        report.warn_of_losses(len(before) - len(after), share)
    count, read = _judgements(left["train"], ratings), splits.reports.get("train")
    if count < config.min_judgements:
        raise DataError(
            f"{count} judgements are left to train on, fewer than --min_judgements "
            f"{config.min_judgements}: {str(read).rstrip('.')}",
            remedy="Give more data, look at what was dropped and why, or take --min_judgements 0",
        )
    if count < FEW_JUDGEMENTS:
        warnings.warn(
            f"only {count} judgements are left to train on: {read}",
            HiddenContextWarning,
            stacklevel=2,
        )


def _judgements(examples: Sequence[Example], ratings: bool) -> int:
    """Count the judgements that say something of a reward."""
    return sum(
        not judgement.abstains and (ratings or not isinstance(judgement.answer, Rating))
        for example in examples
        for judgement in example.judgements
    )
