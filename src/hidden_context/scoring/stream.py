"""Scoring a stream of rows window by window."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, TypeVar

import torch

from hidden_context.data.example import Text
from hidden_context.data.responses import ScoringRow
from hidden_context.errors import DataError
from hidden_context.likelihood import Likelihood
from hidden_context.models.reward_model import RawOutputs, RewardModel
from hidden_context.scoring.config import EvaluateConfig, StreamOptions
from hidden_context.scoring.record import TOKENS, PartialScores, describe_run, digest_tokens

T = TypeVar("T")

BLANK = "nothing but white space follows the prompt"

Rows = Callable[[], Iterable[ScoringRow]]
"""Gives the rows of a file, from the first one at each call."""

Progress = Callable[[int], Any]
"""Called with the number of rows that are done."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A model that is ready to score, in this process or on a cluster.

    Attributes:
        likelihood: How its raw outputs are read.
        identity: What identifies this scoring (see ``record.describe_run``).
        threads: Threads of a forward pass on the CPU: they change how rewards are rounded.
        score: Scores all rows and appends them to a record, window by window and in order. Windows
            that the record holds are not scored again.
    """

    likelihood: Likelihood
    identity: Mapping[str, Any]
    threads: int
    score: Callable[[Rows, PartialScores, Progress], None]


Runner = Callable[[StreamOptions], AbstractContextManager[Running]]
"""Holds a model in memory inside a block."""


@contextlib.contextmanager
def run_here(
    load: Callable[[], RewardModel], checkpoint: str, options: StreamOptions
) -> Iterator[Running]:
    """Load a model, and let it score in this process inside the block."""
    model = load()
    score = partial(score_rows, model, options)
    identity = describe_run(checkpoint, model, options)
    yield Running(model.likelihood, identity, torch.get_num_threads(), score)


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of ``size`` items, the last one shorter.

    >>> list(windows(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def reasons_of(outputs: RawOutputs) -> list[str | None]:
    """Return why each text has no reward, or None; a raw output that is not finite is no reward."""
    finite = outputs.raw.isfinite().all(-1).tolist()
    return [
        reason if reason is not None or good else "the model's raw output is not finite"
        for reason, good in zip(outputs.reasons, finite, strict=True)
    ]


def score_rows(
    model: RewardModel,
    options: StreamOptions,
    rows: Rows,
    record: PartialScores,
    progress: Progress,
) -> None:
    """Score rows and append them to a record, except the rows that it already has.

    The finished windows of a record are tokenized again: from the first window with other tokens
    on, all rows are scored anew. Within a window, texts are put together by what they share and by
    length. Scores are written at the end of each window. So memory is bounded, order is kept, and
    an interruption loses little.

    Raises:
        DataError: If the template refuses a text and that is an error, or the model cannot tell
            the texts of most of the first window's rows apart.
    """
    left = recheck(rows, record, lambda part: digest_rows(model, part, options), progress)
    for number, part in enumerate(windows(left, options.window)):
        if number == 0:
            check_rows(model, part)
        record.append(*score_window(model, part, options))
        progress(len(part))


def recheck(
    rows: Rows,
    record: PartialScores,
    digest: Callable[[Sequence[ScoringRow]], str],
    progress: Progress,
) -> Iterator[ScoringRow]:
    """Keep the windows of a record whose tokens have not changed since it was written.

    Args:
        rows: Gives the rows.
        record: The record.
        digest: Digests the tokens of a window (see ``digest_rows``).
        progress: Called with the number of rows that need not be scored again.

    Returns:
        The rows that are left to be scored, from the first window on that has changed.
    """
    left = iter(rows())
    for number, (size, expected) in enumerate(record.windows):
        part = list(islice(left, size))
        if digest(part) != expected:
            record.keep(number)
            left = chain(part, left)
            break
    if record.rows_done:
        progress(record.rows_done)
    return left


def check_rows(model: RewardModel, rows: Sequence[ScoringRow]) -> None:
    """Raise an error if the model cannot tell the texts of most of a window's rows apart.

    Raises:
        DataError: If that is so.
    """
    model.check_rows([own for own in map(_inputs, rows) if own], rows[0].file)


def digest_rows(model: RewardModel, rows: Sequence[ScoringRow], options: StreamOptions) -> str:
    """Tokenize a window of rows and digest the tokens."""
    texts = [text for row in rows for text in _inputs(row)]
    return _digest(rows, iter(model.token_ids(texts, _how(options))))


def _how(options: StreamOptions) -> Literal["truncate", "drop"]:
    return "truncate" if options.over_length == "truncate" else "drop"


def _inputs(row: ScoringRow) -> list[Text]:
    """List the texts of a row that are run, without blank texts."""
    return [text for place, text in enumerate(row.inputs) if place not in row.blank]


def _digest(rows: Sequence[ScoringRow], token_ids: Iterator[Any]) -> str:
    return digest_tokens([_with_blanks(row, token_ids, None) for row in rows])


def _with_blanks(row: ScoringRow, found: Iterator[T], blank: T) -> list[T]:
    """List the results of a row's texts, with ``blank`` in the place of blank texts."""
    return [blank if place in row.blank else next(found) for place in range(len(row.texts))]


def score_window(
    model: RewardModel, rows: Sequence[ScoringRow], options: StreamOptions
) -> tuple[list[dict[str, Any]], int]:
    """Score a window of rows (see ``score_rows``).

    Returns:
        The record's lines, one for each row, and how many texts were cut.

    Raises:
        DataError: If the template refuses a text and that is an error.
    """
    asked = [(row, text) for row in rows for text in _inputs(row)]
    outputs = RawOutputs(torch.empty(0, 1), [])
    if asked:
        outputs = model.try_raw_outputs(
            [text for _, text in asked],
            options.batch_size,
            _how(options),
            engine=options.engine,
            tokens_per_batch=options.tokens_per_batch,
        )
    is_error = isinstance(options, EvaluateConfig) and options.on_malformed == "error"
    if outputs.refused and is_error:
        row, problem = asked[outputs.refused[0]][0], str(outputs.reasons[outputs.refused[0]])
        remedy = "Leave such rows out with --on_malformed skip"
        raise DataError(problem, file=row.file, line=row.line, remedy=remedy)
    refusals = Counter(asked[place][0].index for place in outputs.refused)
    scores = iter(zip(outputs.raw.tolist(), reasons_of(outputs), strict=True))
    lines = []
    for row in rows:
        own = _with_blanks(row, scores, (None, BLANK))
        line: dict[str, Any] = {
            "row": row.index,
            "raw": [None if reason is not None else value for value, reason in own],
        }
        if any(reason is not None for _, reason in own):
            line["reasons"] = [reason for _, reason in own]
        if refusals[row.index]:
            line["refused"] = refusals[row.index]
        lines.append(line)
    lines[-1][TOKENS] = _digest(rows, iter(outputs.token_ids))
    return lines, outputs.truncated
