"""What scoring asks of a model, wherever it runs: in this process or on a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from hidden_context.data.responses import ScoringRow
from hidden_context.likelihood import Likelihood
from hidden_context.scoring.config import OverLength, StreamOptions
from hidden_context.scoring.partial import PartialScores

Rows = Callable[[], Iterable[ScoringRow]]


@dataclasses.dataclass(frozen=True)
class HowToScore:
    """How the rows of a file are scored, whichever model does it.

    Attributes:
        options: Rows per window, and how a window's texts are run.
        over_length: ``truncate``, or anything else to leave too long texts without a reward.
        on_malformed: Whether a text that the chat template refuses is an error, or left without a
            reward.
    """

    options: StreamOptions
    over_length: OverLength
    on_malformed: Literal["error", "skip"] = "skip"


class Running(Protocol):
    """A model that is loaded and ready to score."""

    @property
    def likelihood(self) -> Likelihood:
        """How its raw outputs are read."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells this scoring from another (see ``identity.describe_run``)."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What else the record's first line says, such as the threads."""

    def score(self, rows: Rows, record: PartialScores, progress: Callable[[int], Any]) -> None:
        """Score all rows, and append them to a record window by window, in order.

        Args:
            rows: Gives the rows, anew at each call.
            record: The record; windows that it has are not scored again.
            progress: Called with the number of rows done.
        """


class Scorer(Protocol):
    """A model that is loaded when its turn comes."""

    def running(self, how: HowToScore) -> AbstractContextManager[Running]:
        """Hold the model in memory inside the block."""
