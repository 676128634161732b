"""Scoring a stream of rows window by window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal, TypeVar

from hidden_context.data.model_input import Text
from hidden_context.data.responses import ScoringRow
from hidden_context.errors import DataError
from hidden_context.models.reward_model import RawOutputs, RewardModel
from hidden_context.scoring.config import OverLength, StreamOptions
from hidden_context.scoring.identity import digest_tokens
from hidden_context.scoring.partial import TOKENS, PartialScores

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
    options: StreamOptions,
    over_length: OverLength,
    on_malformed: Literal["error", "skip"] = "skip",
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Score rows and append them to a record, skipping those it already has.

    The finished windows of a record are tokenized again: from the first one on whose tokens are
    others by now, all are scored anew. Within a window of rows, texts are put together by what
    they share and by length; they are written at its end, so that memory is bounded, order kept,
    and little lost at an interruption.

    Args:
        model: The reward model.
        rows: The rows, from the first on.
        partial: The record.
        options: Rows per window, and how a window's texts are run.
        over_length: ``truncate``, or anything else to leave too long texts without a reward.
        on_malformed: Whether a text that the chat template refuses is an error, or left without a
            reward.
        progress: Called with the number of rows done.

    Raises:
        DataError: If the template refuses a text and that is an error, or the model cannot tell
            the texts of most of the first window's rows apart.
    """
    rows = iter(rows)
    again = recheck(rows, partial, lambda part: digest_rows(model, part, over_length))
    if progress is not None and partial.rows_done:
        progress(partial.rows_done)
    for number, part in enumerate(windows(chain(again, rows), options.window)):
        if number == 0:
            check_rows(model, part)
        partial.append(*score_window(model, part, options, over_length, on_malformed))
        if progress is not None:
            progress(len(part))


def recheck(
    rows: Iterator[ScoringRow],
    partial: PartialScores,
    digest: Callable[[Sequence[ScoringRow]], str],
) -> list[ScoringRow]:
    """Keep of a record the windows whose tokens are what they were when it was written.

    Args:
        rows: The rows, from the first on; those of the finished windows are taken.
        partial: The record.
        digest: Digests the tokens of a window (see ``digest_rows``).

    Returns:
        The rows of the first window that is other by now, which are to be scored anew.
    """
    for number, (size, expected) in enumerate(partial.windows):
        part = list(islice(rows, size))
        if digest(part) != expected:
            partial.keep(number)
            return part
    return []


def check_rows(model: RewardModel, rows: Sequence[ScoringRow]) -> None:
    """Stop where the model cannot tell the texts of most of a window's rows apart.

    Raises:
        DataError: If that is so.
    """
    model.check_rows([own for own in map(_inputs, rows) if own], rows[0].file)


def digest_rows(model: RewardModel, rows: Sequence[ScoringRow], over_length: OverLength) -> str:
    """Tokenize a window of rows and digest the tokens."""
    return _digest(rows, iter(model.token_ids(_texts(rows), _how(over_length))))


def _how(over_length: OverLength) -> Literal["truncate", "drop"]:
    return "truncate" if over_length == "truncate" else "drop"


def _inputs(row: ScoringRow) -> list[Text]:
    """List the texts of a row that are run, which leaves out blank ones."""
    return [text for place, text in enumerate(row.inputs) if place not in row.blank]


def _texts(rows: Sequence[ScoringRow]) -> list[Text]:
    return [text for row in rows for text in _inputs(row)]


def _digest(rows: Sequence[ScoringRow], token_ids: Iterator[Any]) -> str:
    return digest_tokens(
        [
            [None if place in row.blank else next(token_ids) for place in range(len(row.texts))]
            for row in rows
        ]
    )


def score_window(
    model: RewardModel,
    rows: Sequence[ScoringRow],
    options: StreamOptions,
    over_length: OverLength,
    on_malformed: Literal["error", "skip"] = "skip",
) -> tuple[list[dict[str, Any]], int]:
    """Score a window of rows (see ``score_rows``).

    Returns:
        The record's lines, one for each row, and how many texts were cut.

    Raises:
        DataError: If the template refuses a text and that is an error.
    """
    texts = _texts(rows)
    scores: Iterator[tuple[list[float], str | None]] = iter(())
    truncated, token_ids, refusals = 0, iter(()), Counter[int]()
    if texts:
        outputs = model.try_raw_outputs(
            texts,
            options.batch_size,
            _how(over_length),
            engine=options.engine,
            tokens_per_batch=options.tokens_per_batch,
        )
        owners = [row for row in rows for _ in _inputs(row)]
        if outputs.refused and on_malformed == "error":
            refused = outputs.refused[0]
            row, problem = owners[refused], str(outputs.reasons[refused])
            remedy = "Leave such rows out with --on_malformed skip"
            raise DataError(problem, file=row.file, line=row.line, remedy=remedy)
        refusals = Counter(owners[place].index for place in outputs.refused)
        scores = zip(outputs.raw.tolist(), reasons_of(outputs), strict=True)
        truncated, token_ids = outputs.truncated, iter(outputs.token_ids)
    lines = []
    for row in rows:
        own = [
            (None, BLANK) if place in row.blank else next(scores) for place in range(len(row.texts))
        ]
        line: dict[str, Any] = {
            "row": row.index,
            "raw": [None if reason is not None else value for value, reason in own],
        }
        if any(reason is not None for _, reason in own):
            line["reasons"] = [reason for _, reason in own]
        if refusals[row.index]:
            line["refused"] = refusals[row.index]
        lines.append(line)
    lines[-1][TOKENS] = _digest(rows, token_ids)
    return lines, truncated
