"""Limits, failures that pass and those that do not, and keys that are seen nowhere."""

import asyncio
import sys
import time

import pytest

from hidden_context.errors import ConfigError, MissingDependencyError
from hidden_context.relabel import RelabelConfig
from hidden_context.relabel.endpoint import Endpoint, EndpointError, read_key
from relabel.fake_endpoint import HANGS_UP, Response, better, fails, numbered_rows, says

KEY = "sk-very-secret-1234567890"


def config(**options):
    return RelabelConfig(
        **{"data_path": "x", "output": "o.jsonl", "model": "m", "objectives": ["helpful"]} | options
    )


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
        if len(endpoint.asked) == 4 and not failed:
            failed.append(asked)
            return fails(401, "no")
        return says(better(asked), delay=0.2)

    failed = []
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
    times = []

    def respond(asked):
        times.append(time.monotonic())
        if len(times) == 1:
            return fails(429, "slow", retry_after="0.5")
        return says(better(asked))

    endpoint = serve(respond)
    relabel(numbered_rows(4), endpoint, concurrency=1)
    assert times[1] - times[0] >= 0.5
    assert len(endpoint.asked) == 9


def test_no_more_than_so_many_requests_go_out(serve, relabel):
    times = []

    def respond(asked):
        times.append(time.monotonic())
        return says(better(asked))

    relabel(numbered_rows(4), serve(respond), concurrency=8, requests_per_minute=1200)
    assert times[-1] - times[0] >= 7 * 0.05 - 0.02
    endpoint = serve(lambda asked: says(better(asked), delay=0.05))
    relabel(numbered_rows(8), endpoint, concurrency=3, output="b.jsonl")
    assert endpoint.most == 3


def test_a_request_says_what_was_asked_for(serve, relabel, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", KEY)
    endpoint = serve(lambda asked: says(better(asked)))
    relabel(numbered_rows(1), endpoint, orders="first", key_variable="OTHER_KEY")
    (body,) = endpoint.bodies
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "m",
        "max_tokens": 16,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    request = {"max_tokens": None, "max_completion_tokens": 9, "seed": 1}
    relabel(numbered_rows(1), endpoint, orders="first", logprobs=False, request=request)
    assert {k: v for k, v in endpoint.bodies[1].items() if k != "messages"} == {
        "model": "m",
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "seed": 1,
    }
    assert endpoint.headers[1]["authorization"] == "Bearer none"


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
