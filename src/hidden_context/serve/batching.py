"""Batching requests: a bounded queue, a few milliseconds of waiting, one model thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from hidden_context.scoring.prepare import Asked, Prepared
from hidden_context.scoring.requests import Answers, Scorer
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.monitoring import Metrics
from hidden_context.serve.schema import RequestError

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    """The texts of one request, and the future of their answers."""

    scorer: Scorer
    ready: Sequence[Prepared]
    promise: asyncio.Future[Answers]
    arrived: float

    @property
    def tokens(self) -> int:
        return sum(one.num_tokens for one in self.ready)


class Batcher:
    """A runner of all models' requests on one thread; requests to one model run together.

    Another thread tokenizes texts and computes answers, so that the event loop does neither.

    Args:
        options: How requests are put together, and how many may wait.
        metrics: Where batches and the queue are counted.
    """

    def __init__(self, options: ServeConfig, metrics: Metrics) -> None:
        self.options, self.metrics = options, metrics
        self.pending = 0
        self._jobs = deque[_Job]()
        self._wake = asyncio.Event()
        self._texts_a_second = 0.0
        self._model_thread = ThreadPoolExecutor(1, "hidden-context-model")
        self._side_thread = ThreadPoolExecutor(1, "hidden-context-text")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run requests; called in the event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop without running the requests that still wait."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._model_thread.shutdown(wait=True)
        self._side_thread.shutdown(wait=True)

    async def aside(self, function: Callable[[], T]) -> T:
        """Run a small function outside the event loop, in the order of the calls."""
        return await asyncio.get_running_loop().run_in_executor(self._side_thread, function)

    async def on_model(self, function: Callable[[], T]) -> T:
        """Run a function on the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._model_thread, function)

    async def submit(
        self, scorer: Scorer, asked: Sequence[Asked]
    ) -> tuple[Sequence[Prepared], Answers]:
        """Run texts together with the texts of other requests; cancelled texts are not run.

        Args:
            scorer: The model.
            asked: The texts.

        Returns:
            The texts as they were run, and their raw outputs.

        Raises:
            RequestError: With status 503 if too many texts wait already, or it took too long.
            ConfigError: If the model cannot read such texts.
        """
        if self.pending + len(asked) > self.options.max_queue:
            raise self.overloaded()
        self.pending += len(asked)
        self.metrics.queue.set(self.pending)
        try:
            return await asyncio.wait_for(self._run(scorer, asked), self.options.timeout)
        except asyncio.TimeoutError:
            message = f"no answer within {self.options.timeout:g} seconds"
            raise RequestError(503, "timeout", message, retry_after=self.retry_after) from None
        finally:
            self.pending -= len(asked)
            self.metrics.queue.set(self.pending)

    @property
    def retry_after(self) -> int:
        """Seconds until the waiting texts will probably be done, from 1 to 30."""
        if not self._texts_a_second:
            return 1
        return max(1, min(30, math.ceil(self.pending / self._texts_a_second)))

    def overloaded(self) -> RequestError:
        """Make the error for a request that finds no room in the queue."""
        most = self.options.max_queue
        message = f"the queue is full: {self.pending} texts wait, and at most {most} may wait"
        return RequestError(503, "overloaded", message, retry_after=self.retry_after)

    async def _run(
        self, scorer: Scorer, asked: Sequence[Asked]
    ) -> tuple[Sequence[Prepared], Answers]:
        ready = await self.aside(functools.partial(scorer.prepare, asked))
        loop = asyncio.get_running_loop()
        job = _Job(scorer, ready, loop.create_future(), loop.time())
        self._jobs.append(job)
        self._wake.set()
        try:
            return ready, await job.promise
        finally:
            job.promise.cancel()
            if job in self._jobs:
                self._jobs.remove(job)

    async def _work(self) -> None:
        while True:
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            started = time.perf_counter()
            found = await self.on_model(functools.partial(_answers, batch))
            self._count(batch, time.perf_counter() - started)
            for job, result in zip(batch, found, strict=True):
                if job.promise.done():
                    continue
                if isinstance(result, Answers):
                    job.promise.set_result(result)
                else:
                    job.promise.set_exception(result)

    async def _gather(self) -> None:
        """Wait for a request, then a little longer for others to run with it."""
        while not self._jobs:
            self._wake.clear()
            await self._wake.wait()
        until = self._jobs[0].arrived + self.options.coalesce_ms / 1000
        while sum(job.tokens for job in self._jobs) < self.options.coalesce_tokens:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            self._wake.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)
        await self.aside(lambda: None)  # include requests that are being tokenized

    def _take(self) -> list[_Job]:
        """Take the oldest requests to one model, as many as the budget of tokens holds."""
        batch: list[_Job] = []
        tokens = 0
        for job in list(self._jobs):
            if batch and job.scorer is not batch[0].scorer:
                continue
            tokens += job.tokens
            if batch and tokens > self.options.coalesce_tokens:
                break
            batch.append(job)
        for job in batch:
            self._jobs.remove(job)
        return batch

    def _count(self, batch: Sequence[_Job], seconds: float) -> None:
        texts = sum(len(job.ready) for job in batch)
        speed = texts / max(seconds, 1e-6)
        before = self._texts_a_second or speed
        self._texts_a_second = 0.8 * before + 0.2 * speed
        self.metrics.batch_texts.observe(texts)
        self.metrics.batch_tokens.observe(sum(job.tokens for job in batch))
        self.metrics.model_seconds.observe(seconds)


def _answers(batch: Sequence[_Job]) -> list[Answers | Exception]:
    """Run jobs of one model together; if that fails, run each alone, so that only one fails."""
    try:
        whole = batch[0].scorer.run([one for job in batch for one in job.ready])
    except Exception as error:  # whatever a model's code raises
        return [error] if len(batch) == 1 else [_answers([job])[0] for job in batch]
    ends = accumulate(len(job.ready) for job in batch)
    return [whole.part(end - len(job.ready), end) for job, end in zip(batch, ends, strict=True)]
