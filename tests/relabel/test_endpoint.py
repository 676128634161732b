"""Limits, failures that pass and those that do not, and keys that are seen nowhere."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import sys

import pytest

from hidden_context.errors import ConfigError, MissingDependencyError
from hidden_context.relabel import RelabelConfig
from hidden_context.relabel.endpoint import Endpoint, EndpointError, read_key
from hidden_context.relabel.pacing import Pace, StoppedError, backoff, retry_after, wait
from relabel.fake_endpoint import BASE, HANGS_UP, Response, better, fails, numbered_rows, says

KEY = "sk-very-secret-1234567890"


def config(**options):
    return RelabelConfig(**BASE | options)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (fails(401, f"Incorrect API key {KEY}."), r"401: Incorrect API key \[key\]\. .*--key_vari"),
        (fails(403, "no"), "403: no. Ask whoever gave the key"),
        (fails(404, "no model m"), "404: no model m. Check --model and --base_url"),
        (fails(400, "unknown field"), "400: unknown field. Some servers refuse a field"),
        (fails(429, "no money", "insufficient_quota"), "The account has no money left"),
        (fails(429, "later", retry_after="4000"), "asks to wait for 4000 seconds"),
    ],
)
def test_what_cannot_pass_ends_the_run_at_once(serve, relabel, monkeypatch, here, response, said):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = serve(lambda asked: response)
    with pytest.raises(EndpointError, match=said):
        relabel(numbered_rows(20), endpoint, concurrency=2)
    assert len(endpoint.asked) <= 2
    assert not (here / "out.jsonl").exists()


def test_after_an_error_what_was_under_way_is_kept(serve, relabel):
    """The fourth question fails while three others are under way, whose answers come later."""

    def respond(asked):
        fourth = len(endpoint.asked) == 4
        return fails(401, "no") if fourth else says(better(asked), delay=0.2)

    endpoint = serve(respond)
    with pytest.raises(EndpointError, match="401"):
        relabel(numbered_rows(10), endpoint, concurrency=4)
    assert (len(endpoint.asked), len(endpoint.answered)) == (4, 3)
    result, rows = relabel(numbered_rows(10), endpoint, concurrency=4)
    assert (result.known, result.asked, len(rows)) == (3, 17, 10)
    assert len(endpoint.answered) == len(set(endpoint.answered)) == 20


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (HANGS_UP, "gave no answer in 3 attempts"),
        (fails(500, f"{KEY} broke"), r"status 500: \[key\] broke"),
        (fails(429, "slow", retry_after="0.01"), "status 429: slow"),
        (Response("<html>"), "the response is not a reply"),
        (Response({"choices": []}), "the response is not a reply"),
        (says("A", delay=5), "gave no answer in 3 attempts"),
    ],
)
def test_what_may_pass_is_tried_again_a_number_of_times(
    serve, relabel, monkeypatch, response, said
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = serve(lambda asked: response)
    with pytest.raises(EndpointError, match=said) as caught:
        relabel(numbered_rows(1), endpoint, concurrency=1, retries=2, timeout=0.3)
    assert len(endpoint.asked) == 3
    assert "run the same command again" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_server_that_asks_for_a_pause_gets_it_from_all(serve, relabel):
    def respond(asked):
        slow = fails(429, "slow", retry_after="0.5")
        return slow if len(endpoint.asked) == 1 else says(better(asked))

    endpoint = serve(respond)
    relabel(numbered_rows(4), endpoint, concurrency=1)
    assert endpoint.requests[1].time - endpoint.requests[0].time >= 0.5
    assert len(endpoint.asked) == 9


def test_no_more_than_so_many_requests_go_out(serve, relabel):
    endpoint = serve(lambda asked: says(better(asked)))
    relabel(numbered_rows(4), endpoint, concurrency=8, requests_per_minute=1200)
    assert endpoint.requests[-1].time - endpoint.requests[0].time >= 7 * 0.05 - 0.02
    endpoint = serve(lambda asked: says(better(asked), delay=0.05))
    relabel(numbered_rows(8), endpoint, concurrency=3, output="b.jsonl")
    assert endpoint.most == 3


def test_a_request_says_what_was_asked_for(endpoint, relabel, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", KEY)
    relabel(numbered_rows(1), endpoint, orders="first", key_variable="OTHER_KEY")
    (asked,) = endpoint.requests
    assert asked.body == {
        "messages": [{"role": "user", "content": asked.text}],
        "model": "m",
        "max_tokens": 16,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    request = {"max_tokens": None, "max_completion_tokens": 9, "seed": 1}
    relabel(numbered_rows(1), endpoint, orders="first", logprobs=False, request=request)
    assert endpoint.requests[1].body == {
        "messages": asked.body["messages"],
        "model": "m",
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "seed": 1,
    }
    assert endpoint.requests[1].headers["authorization"] == "Bearer none"


def test_errors_about_one_question_are_abstentions(serve, relabel):
    def respond(asked):
        if "number 0" in asked.reply("A"):
            return fails(400, "maximum context length is 8", "context_length_exceeded")
        return fails(400, "filtered", "content_filter")

    result, (row,) = relabel(numbered_rows(1), serve(respond))
    entry = row["annotations"][1]
    assert [one["reason"] for one in entry["answers"]] == ["too_long", "filter"]
    assert (entry["abstains"], entry["answers"][1]["text"]) == (True, "filtered")
    assert "one_order" not in entry
    assert (result.judged, result.abstained) == (0, 1)


def test_the_key_stands_in_no_file(serve, relabel, monkeypatch, here, capsys):
    """Not even where the server repeats it."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = serve(lambda asked: says(f"Your key is {KEY}."))
    _, (row,) = relabel(numbered_rows(1), endpoint)
    assert row["annotations"][1]["answers"][0]["text"] == "Your key is [key]."
    files = [path for path in here.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"out.jsonl", "out.jsonl.cache.sqlite"}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY not in "".join(capsys.readouterr())


def test_a_key_is_needed_where_openai_is_asked_or_a_variable_was_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY holds no API key for api\.openai\.com"):
        read_key(config())
    with pytest.raises(ConfigError, match="MINE holds no API key for localhost:1"):
        read_key(config(base_url="http://localhost:1/v1", key_variable="MINE"))
    assert read_key(config(base_url="http://localhost:1/v1")) is None
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert read_key(config()) == KEY
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nx")
    with pytest.raises(ConfigError, match="text that is not an API key") as caught:
        read_key(config())
    assert KEY not in str(caught.value)


def test_the_address_comes_from_the_option_then_from_the_environment(monkeypatch):
    assert config().url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://there:2/v1")
    assert config().url == "http://there:2/v1"
    assert Endpoint(config()).host == "there:2"
    assert config(base_url="http://here:1/v1").url == "http://here:1/v1"


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependencyError, match=r"hidden-context\[relabel\]"):
        Endpoint(config(base_url="http://here:1/v1"))


def test_openai_itself_is_told_the_limit_by_its_newer_name(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    body = Endpoint(config())._body("x")
    assert (body["max_completion_tokens"], "max_tokens" in body) == (16, False)
    assert asyncio.iscoroutinefunction(Endpoint.ask)


@pytest.mark.parametrize(
    ("limits", "steps", "delays"),
    [
        ((120, None), [1000] * 4, [0.0, 0.5, 1.0, 1.5]),
        ((None, 600), [100, 50, 10], [0.0, 10.0, 15.0]),
        ((60, 600), [5, 20, 1], [0.0, 1.0, 3.0]),  # the stricter limit counts
        ((None, None), [10**9] * 3, [0.0] * 3),
        # time that passes is not saved up
        ((60, None), [1, ("pass", 30), 1, 1], [0.0, 0.0, 1.0]),
        # the tokens that a reply took are settled afterwards; requests stay spaced
        ((None, 60), [10, ("settle", -4), 1], [0.0, 6.0]),
        ((60, 60), [10, ("settle", -10), 1], [0.0, 1.0]),
        # the longest pause holds everybody
        ((60, None), [("pause", 5), ("pause", 2), ("held", 5.0), 1, 1], [5.0, 6.0]),
        ((60, None), [("pause", 5), ("pass", 6), ("held", 0.0), 1], [0.0]),
    ],
)
def test_requests_keep_to_the_limits_and_pauses(limits, steps, delays):
    now, found = [100.0], []
    pace = Pace(*limits, lambda: now[0])
    for step in steps:
        if not isinstance(step, tuple):
            found.append(pace.delay(step))
        elif step[0] == "pass":
            now[0] += step[1]
        elif step[0] == "held":
            assert pace.remaining_pause() == step[1]
        else:
            getattr(pace, step[0])(step[1])
    assert found == delays


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
