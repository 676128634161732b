from __future__ import annotations

import asyncio
import datetime
import email.utils
import random

import pytest

from hidden_context.relabel.pacing import Pace, StoppedError, backoff, retry_after, wait


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("limits", "tokens", "delays"),
    [
        ((120, None), [1000] * 4, [0.0, 0.5, 1.0, 1.5]),
        ((None, 600), [100, 50, 10], [0.0, 10.0, 15.0]),
        ((60, 600), [5, 20, 1], [0.0, 1.0, 3.0]),  # the stricter limit counts
        ((None, None), [10**9] * 3, [0.0] * 3),
    ],
)
def test_no_minute_has_more_requests_or_tokens_than_allowed(limits, tokens, delays):
    pace = Pace(*limits, Clock())
    assert [pace.delay(count) for count in tokens] == delays


def test_time_that_passes_is_not_saved_up():
    clock = Clock()
    pace = Pace(60, None, clock)
    pace.delay(1)
    clock.now += 30
    assert [pace.delay(1), pace.delay(1)] == [0.0, 1.0]


def test_the_tokens_that_a_reply_took_are_settled_afterwards():
    pace = Pace(None, 60, Clock())
    pace.delay(10)
    pace.settle(-4)
    assert pace.delay(1) == 6.0
    pace = Pace(60, 60, Clock())
    pace.delay(10)
    pace.settle(-10)
    assert pace.delay(1) == 1.0  # requests stay spaced


def test_a_pause_holds_everybody():
    clock = Clock()
    pace = Pace(60, None, clock)
    pace.pause(5)
    pace.pause(2)
    assert pace.remaining_pause() == 5.0
    assert [pace.delay(1), pace.delay(1)] == [5.0, 6.0]
    clock.now += 6
    assert pace.remaining_pause() == 0.0


def test_waits_double_up_to_a_minute_with_jitter():
    draw = random.Random(0)
    for attempt, longest in ((0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (2000, 60.0)):
        waits = [backoff(attempt, 1.0, draw) for _ in range(200)]
        assert longest / 2 <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest


def test_the_server_s_wish_is_read_in_every_spelling():
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    now = datetime.datetime.now(datetime.timezone.utc)
    later = email.utils.format_datetime(now + datetime.timedelta(seconds=90), usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(89.5, abs=1.5)
    earlier = email.utils.format_datetime(now - datetime.timedelta(hours=1), usegmt=True)
    assert retry_after({"retry-after": earlier}) == 0.0
    for text in ("soon", "-1", "inf", "nan", ""):
        assert retry_after({"retry-after": text}) is None
    assert retry_after({}) is None


def test_waiting_ends_at_once_when_all_is_stopped():
    async def stopped_while_waiting() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, stop.set)
        await wait(60, stop)

    with pytest.raises(StoppedError):
        asyncio.run(asyncio.wait_for(stopped_while_waiting(), 10))

    async def waits() -> None:
        await wait(0.001, asyncio.Event())

    asyncio.run(waits())
