"""Asks every unanswered question, and stores each answer before it is used."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hidden_context.relabel.cache import AnswerCache
from hidden_context.relabel.cost import Meter
from hidden_context.relabel.endpoint import Endpoint
from hidden_context.relabel.local import LocalJudge
from hidden_context.relabel.pacing import StoppedError
from hidden_context.relabel.questions import Question
from hidden_context.relabel.replies import Reply

Keep = Callable[["Pending", Reply], None]
"""Commits an answer."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A question without an answer.

    Attributes:
        question: The question.
        key: Its key in the cache.
        tokens: Tokens that it is expected to take.
    """

    question: Question
    key: str
    tokens: int


def keeper(cache: AnswerCache, meter: Meter, asked: dict[str, Any]) -> Keep:
    """Make the function that stores an answer and then counts its cost."""

    def keep(pending: Pending, reply: Reply) -> None:
        question = pending.question
        description = question.description(asked, question.text())
        cache.put(pending.key, description, reply.to_dict())
        meter.add(reply, pending.tokens)

    return keep


def ask_local(
    judge: LocalJudge, pending: Sequence[Pending], keep: Keep, step: Callable[[int], object]
) -> None:
    """Ask a local model all questions, one after the other."""
    for one in pending:
        keep(one, judge.ask(one.question))
        step(1)


def ask_endpoint(
    endpoint: Endpoint,
    pending: Sequence[Pending],
    keep: Keep,
    meter: Meter,
    concurrency: int,
    step: Callable[[int], object],
) -> bool:
    """Ask an endpoint all questions, several at a time.

    On an error that ends the run, and on the first Ctrl-C, no request goes out any more; those
    under way are waited for and kept.

    Args:
        endpoint: Whom to ask.
        pending: The questions.
        keep: Commits an answer.
        meter: Says what may still be spent.
        concurrency: Most questions under way.
        step: Called with 1 after each answer.

    Returns:
        Whether all were asked; false where the limit of the cost was reached.

    Raises:
        EndpointError: If the endpoint refused a request, or gave no answer.
        KeyboardInterrupt: After Ctrl-C.
    """
    return asyncio.run(_Run(endpoint, keep, meter, step, iter(pending)).run(concurrency))


@dataclass
class _Run:
    """The workers of one run, and what they share."""

    endpoint: Endpoint
    keep: Keep
    meter: Meter
    step: Callable[[int], object]
    left: Iterator[Pending]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    freed: asyncio.Condition = field(default_factory=asyncio.Condition)
    error: Exception | None = None
    interrupted: bool = False
    too_dear: bool = False

    async def run(self, concurrency: int) -> bool:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, self._interrupt)
        async with self.endpoint:
            await asyncio.gather(*(self._work() for _ in range(concurrency)))
        if self.error is not None:
            raise self.error
        if self.interrupted:
            raise KeyboardInterrupt
        return not self.too_dear

    def _interrupt(self) -> None:
        if self.interrupted:  # the second time: at once
            raise KeyboardInterrupt
        self.interrupted = True
        self.stop.set()

    async def _work(self) -> None:
        for one in self.left:
            if not await self._may_start(one):
                return
            put_by = self.meter.start(one.tokens)
            try:
                self.keep(one, await self.endpoint.ask(one.question, one.tokens, self.stop))
                self.step(1)
            except StoppedError:
                return
            except Exception as error:  # ends all workers, and is raised when they have ended
                self.error = self.error or error
                self.stop.set()
            finally:
                self.meter.finish(put_by)
                async with self.freed:
                    self.freed.notify_all()

    async def _may_start(self, one: Pending) -> bool:
        """Wait until the question fits the cost limit; false if it never will."""
        async with self.freed:
            while not self.stop.is_set():
                if self.meter.fits(one.tokens):
                    return True
                if not self.meter.under_way:
                    self.too_dear = True
                    self.stop.set()
                else:
                    await self.freed.wait()
        return False
