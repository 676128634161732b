"""Scoring a stream of rows window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

from hidden_context.data.responses import ScoringRow
from hidden_context.models.reward_model import RawOutputs, RewardModel
from hidden_context.scoring.config import ModelOptions, OverLength
from hidden_context.scoring.partial import PartialScores

T = TypeVar("T")

BLANK = "nothing but white space follows the prompt"


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of ``size`` items, the last one shorter.

    >>> list(windows(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def reasons_of(outputs: RawOutputs) -> list[str | None]:
    """Why texts have no reward, or None; a raw output that is not finite is none either."""
    finite = outputs.raw.isfinite().all(-1).tolist()
    return [
        reason if reason is not None or good else "the model's raw output is not finite"
        for reason, good in zip(outputs.reasons, finite, strict=True)
    ]


def score_rows(
    model: RewardModel,
    rows: Iterable[ScoringRow],
    partial: PartialScores,
    *,
    options: ModelOptions,
    over_length: OverLength,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Score rows and append them to a record, skipping those it already has.

    Within a window of rows, texts are put together by what they share and by length; they are
    written at its end, so that memory is bounded, order kept, and little lost at an interruption.

    Args:
        model: The reward model.
        rows: The rows, from the first on.
        partial: The record.
        options: Rows per window, and how a window's texts are run.
        over_length: ``truncate``, or anything else to leave too long texts without a reward.
        progress: Called with the number of rows done.
    """
    done = partial.rows_done
    if progress is not None and done:
        progress(done)
    for part in windows(islice(iter(rows), done, None), options.window):
        lines, truncated = _score_window(
            model, part, options, "truncate" if over_length == "truncate" else "drop"
        )
        partial.append(lines, truncated)
        if progress is not None:
            progress(len(part))


def _score_window(
    model: RewardModel,
    rows: Sequence[ScoringRow],
    options: ModelOptions,
    over_length: Literal["truncate", "drop"],
) -> tuple[list[dict[str, Any]], int]:
    """Return the record's lines for a window of rows, and how many texts were cut."""
    texts = [text for row in rows for place, text in enumerate(row.texts) if place not in row.blank]
    scores: Iterator[tuple[list[float], str | None]] = iter(())
    truncated = 0
    if texts:
        outputs = model.try_raw_outputs(
            texts,
            options.batch_size,
            over_length,
            engine=options.engine,
            tokens_per_batch=options.tokens_per_batch,
        )
        scores = zip(outputs.raw.tolist(), reasons_of(outputs), strict=True)
        truncated = outputs.truncated
    lines = []
    for row in rows:
        own = [
            (None, BLANK) if place in row.blank else next(scores) for place in range(len(row.texts))
        ]
        line: dict[str, Any] = {
            "raw": [None if reason is not None else value for value, reason in own]
        }
        if any(reason is not None for _, reason in own):
            line["reasons"] = [reason for _, reason in own]
        lines.append(line)
    return lines, truncated
