"""Keeps to a server's limits: when the next request may go, and how long to wait."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

LONGEST_BACKOFF: Final = 60.0
"""Most seconds between two attempts, where the server does not say."""
_MINUTE: Final = 60.0


class StoppedError(Exception):
    """The run was stopped."""


class Pace:
    """Spaces requests evenly to keep within the requests and tokens allowed per minute.

    Args:
        requests: The maximum number of requests per minute; None for no limit.
        tokens: The maximum number of tokens per minute; None for no limit.
        clock: Returns the time in seconds, from any start.
    """

    def __init__(
        self, requests: float | None, tokens: float | None, clock: Callable[[], float]
    ) -> None:
        self._per_request = 0.0 if requests is None else _MINUTE / requests
        self._per_token = 0.0 if tokens is None else _MINUTE / tokens
        self._clock = clock
        self._next_request = self._next_token = self._paused = -float("inf")

    def delay(self, tokens: float) -> float:
        """Take the next free moment; return the seconds until then."""
        now = self._clock()
        at = max(now, self._next_request, self._next_token, self._paused)
        self._next_request = at + self._per_request
        self._next_token = at + self._per_token * tokens
        return at - now

    def pause(self, seconds: float) -> None:
        """Send nothing for some seconds, as the server asked."""
        self._paused = max(self._paused, self._clock() + seconds)

    def remaining_pause(self) -> float:
        """Seconds that are left of a pause."""
        return max(0.0, self._paused - self._clock())

    def settle(self, tokens: float) -> None:
        """Correct for the difference between expected and used tokens."""
        self._next_token += self._per_token * tokens


async def wait(seconds: float, stop: asyncio.Event) -> None:
    """Wait, unless the run is stopped.

    Raises:
        StoppedError: If it is.
    """
    if seconds > 0:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
    if stop.is_set():
        raise StoppedError


def backoff(attempt: int, first: float, generator: random.Random) -> float:
    """Return the seconds to wait after an attempt: doubled each time, with jitter.

    Args:
        attempt: The number of the attempt that failed, from 0.
        first: The seconds to wait after the first attempt.
        generator: Draws the jitter: half to all of the wait.
    """
    longest = min(first * 2.0 ** min(attempt, 30), LONGEST_BACKOFF)
    return longest * generator.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a server asks to wait; None if it does not say.

    The header ``Retry-After`` holds seconds or a date; ``retry-after-ms`` milliseconds.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            date = email.utils.parsedate_tz(text)
            seconds = max(0.0, email.utils.mktime_tz(date) - time.time()) if date else -1.0
        if 0 <= seconds < float("inf"):
            return seconds
    return None
