"""Workers of a cluster: models that score windows of rows, and the answers they send back.

Errors and warnings travel as data. An exception that a worker raised would arrive as the cluster's
exception, wrapped in its traces, and a warning would be printed where nobody looks.
"""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hidden_context.data.responses import ScoringRow
from hidden_context.errors import HiddenContextError, HiddenContextWarning
from hidden_context.likelihood import Likelihood
from hidden_context.models.network.precision import resolve_device, resolve_dtype
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import StreamOptions
from hidden_context.scoring.record import describe_run
from hidden_context.scoring.stream import Rows, check_rows, digest_rows, score_window, windows

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

COLUMN = "parcel"
"""The one column of the tables that travel; each row holds one pickled object."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Rows that are scored together.

    Attributes:
        number: Its place among the windows of this run, from 0.
        rows: Its rows, without the columns that scoring does not read.
    """

    number: int
    rows: list[ScoringRow]


@dataclasses.dataclass(frozen=True)
class ScoredWindow:
    """The scores of a window.

    Attributes:
        number: The window's place.
        lines: The record's lines, one for each row.
        truncated: Number of texts that were cut.
        place: Device and precision that it was scored in.
    """

    number: int
    lines: list[dict[str, Any]]
    truncated: int
    place: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Answer(Generic[T]):
    """A worker's answer: a value or an error of this package, and warnings.

    Attributes:
        value: The value; None where there is an error.
        error: The error's class, arguments and attributes, which pickling an exception loses.
        warnings: Messages of the warnings.
    """

    value: T | None = None
    error: tuple[type[HiddenContextError], tuple[Any, ...], dict[str, Any]] | None = None
    warnings: tuple[str, ...] = ()

    def open(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            kind, arguments, attributes = self.error
            error = kind.__new__(kind, *arguments)
            error.args = arguments
            error.__dict__.update(attributes)
            raise error
        assert self.value is not None
        return self.value


def answer(work: Callable[[], T]) -> Answer[T]:
    """Run a function, and return its value or this package's error; other errors are raised."""
    value: T | None = None
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HiddenContextWarning)
        try:
            value = work()
        except HiddenContextError as problem:
            error = (type(problem), problem.args, dict(problem.__dict__))
    said = [str(one.message) for one in caught if issubclass(one.category, HiddenContextWarning)]
    return Answer(value, error, tuple(dict.fromkeys(said)))


def pack(parcels: Sequence[Any]) -> pa.Table:
    """Put objects into a table, one per row."""
    import pyarrow as pa

    return pa.table({COLUMN: pa.array([pickle.dumps(one) for one in parcels], pa.large_binary())})


def unpack(table: Mapping[str, Any]) -> list[Any]:
    """Take the objects out of a table."""
    return [pickle.loads(one.as_py()) for one in table[COLUMN]]


def read_windows(rows: Rows, skip: int, size: int) -> Iterator[Answer[Window]]:
    """Read the rows that are to be scored, in windows.

    Args:
        rows: Gives all rows.
        skip: Rows that are scored already.
        size: Rows of a window.

    Yields:
        The windows, in order. A window that cannot be read is replaced by its error, which is the
        last answer.
    """
    parts = windows(islice(rows(), skip, None), size)

    def read(number: int) -> Window:
        part = next(parts, [])
        return Window(number, [dataclasses.replace(row, columns={}) for row in part])

    for number in count():
        found = answer(partial(read, number))
        if found.value is not None and not found.value.rows:
            return
        yield found
        if found.error is not None:
            return


class LoadedModel:
    """A model in the memory of one worker.

    Args:
        load: Loads it.
        options: How rows are scored.
        threads: Threads of a forward pass on the CPU; None leaves them as they are.
    """

    def __init__(
        self, load: Callable[[], RewardModel], options: StreamOptions, threads: int | None = None
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.options = options
        self._loaded = answer(load)
        self._said = self._loaded.warnings

    def score(self, window: Window) -> ScoredWindow:
        """Score a window."""
        model, options = self._loaded.open(), self.options
        if window.number == 0:
            check_rows(model, window.rows)
        lines, truncated = score_window(model, window.rows, options)
        device = resolve_device(options.device)
        place = device.type, str(resolve_dtype(options.precision, device))
        return ScoredWindow(window.number, lines, truncated, place)

    def digest(self, rows: Sequence[ScoringRow]) -> Answer[str]:
        """Digest the tokens of a window's texts."""
        return answer(lambda: digest_rows(self._loaded.open(), rows, self.options))

    def describe(self, checkpoint: str) -> Answer[tuple[dict[str, Any], Likelihood]]:
        """Return the facts that identify a run of this model, and its likelihood."""

        def work() -> tuple[dict[str, Any], Likelihood]:
            model = self._loaded.open()
            return describe_run(checkpoint, model, self.options), model.likelihood

        return self._with_warnings(answer(work))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Score the windows in a table; a window that could not be read stays an error."""
        return pack([self._with_warnings(self._scored(window)) for window in unpack(table)])

    def _scored(self, window: Answer[Window]) -> Answer[ScoredWindow]:
        """Score a window, and keep the warnings of reading it."""
        scored = answer(lambda: self.score(window.open()))
        return dataclasses.replace(scored, warnings=(*window.warnings, *scored.warnings))

    def _with_warnings(self, found: Answer[T]) -> Answer[T]:
        """Add the warnings of loading the model, once."""
        said, self._said = self._said, ()
        return dataclasses.replace(found, warnings=(*said, *found.warnings))
