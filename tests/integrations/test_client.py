"""The client: what is tried again, what is not, and what errors say."""

import asyncio
import json
import pickle
import sys
from types import SimpleNamespace

import httpx2
import pytest

from hidden_context.errors import ConfigError, HiddenContextError, MissingDependencyError
from hidden_context.integrations import client as module
from hidden_context.integrations.client import (
    TOKEN_VARIABLE,
    ClientOptions,
    RewardClient,
    RewardServerError,
    UnscoredItemError,
)
from support.models import refusal

URL = "http://127.0.0.1:9"
REQUEST = {"prompt": "p", "responses": ["a", "b"], "items": [4, 7]}


def failed(status, message="no", item=None, headers=None):
    error = {"error": {"message": message, "type": "t", "item": item}}
    return httpx2.Response(status, json=error, headers=headers or {})


class Server:
    """Answers with what it is given, one after another, then with rewards."""

    def __init__(self, *replies):
        self.replies, self.seen = list(replies), []

    def __call__(self, request):
        self.seen.append(request)
        if not self.replies:
            lengths = [float(len(one)) for one in json.loads(request.content)["responses"]]
            return httpx2.Response(200, json={"mean": lengths})
        if isinstance(self.replies[0], Exception):
            raise self.replies.pop(0)
        return self.replies.pop(0)


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited, without waiting; the client's clock and dice are fixed."""
    waited = []

    async def wait(seconds):
        waited.append(seconds)

    # stand-ins in this module alone: servers of other tests wait too
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": wait}))
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda low, high: high))
    return waited


@pytest.fixture(params=["sync", "async"])
def ask(request, waits):
    """Ask a stand-in of a server: ``ask(server, requests, **options)``."""

    def sync_ask(server, requests=(REQUEST,), **options):
        client = RewardClient(URL, ClientOptions(**options), transport=httpx2.MockTransport(server))
        if request.param == "async":
            return asyncio.run(client.ask_async(requests))
        try:
            return client.ask(requests)
        finally:
            client.close()
            client.close()

    return sync_ask


def test_answers_keep_the_order_of_requests_and_items_are_not_sent(ask):
    server = Server()
    requests = [{"prompt": str(n), "responses": ["x" * n]} for n in range(1, 7)]
    answers = ask(server, [*requests, REQUEST], concurrency=3)
    assert [answer["mean"] for answer in answers] == [*([float(n)] for n in range(1, 7)), [1, 1]]
    bodies = [json.loads(request.content) for request in server.seen]
    assert {"prompt": "p", "responses": ["a", "b"]} in bodies
    assert {request.url.path for request in server.seen} == {"/v1/distribution"}
    assert ask(server, []) == []


def test_overload_and_broken_connections_are_tried_again(ask, waits):
    busy, broken = failed(503, headers={"Retry-After": "3"}), httpx2.ConnectError("refused")
    server = Server(busy, broken, failed(500), httpx2.ReadTimeout(""))
    assert ask(server)[0]["mean"] == [1, 1]
    assert waits == [3.0, 1.0, 2.0, 4.0]
    ask(Server(failed(503, headers={"Retry-After": "600"})), longest_wait=20)
    assert waits[4:] == [20.0]


def test_a_server_that_never_answers_is_an_error_that_names_the_items(ask, waits):
    server = Server(*[httpx2.ConnectError("refused\nlong")] * 3)
    expected = r"no answer came from http://127.0.0.1:9 \(refused\), for items 4, 7. Check that"
    with pytest.raises(RewardServerError, match=expected):
        ask(server, retries=2)
    assert (len(server.seen), waits) == (3, [0.5, 1.0])
    with pytest.raises(RewardServerError, match=r"ReadTimeout\), for item 0\."):
        ask(Server(httpx2.ReadTimeout("")), [{"responses": ["a"]}], retries=0)
    with pytest.raises(RewardServerError, match=r"with 503 for items 4, 7: busy\."):
        ask(Server(failed(503, "busy")), retries=0)
    many = [{"responses": ["a"] * 12}]
    with pytest.raises(RewardServerError, match="items 0, 1, 2, 3, 4, 5, 6, 7 …: HTTP 502"):
        ask(Server(httpx2.Response(502, text="bad gateway")), many, retries=0)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refused_request_is_not_tried_again(ask, waits, status):
    server = Server(failed(status, "not known."))
    with pytest.raises(ConfigError, match=f"refused items 4, 7 with {status}: not known."):
        ask(server)
    assert (len(server.seen), waits) == (1, [])


def test_a_refused_response_is_an_error_of_its_item(ask):
    (answer,) = ask(Server(failed(422, "it is blank", item=1)))
    assert isinstance(answer, UnscoredItemError)
    assert (answer.item, str(answer)) == (7, "item 7 cannot be scored: it is blank.")
    assert pickle.loads(pickle.dumps(answer)).item == 7
    with pytest.raises(ConfigError, match="refused items 4, 7 with 422"):
        ask(Server(failed(422, item=9)))


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (lambda: httpx2.Response(200, text="<html>"), "the answer holds no rewards"),
        (lambda: httpx2.Response(200, json=[1]), "the answer holds no rewards"),
        (lambda: httpx2.Response(200, json={"mean": [1.0]}), "answered 1 rewards for 2 responses"),
        (lambda: httpx2.Response(400, json={"error": "another form"}), "with 400: another form"),
    ],
)
def test_an_answer_that_cannot_be_right_is_an_error(ask, reply, problem):
    with pytest.raises(HiddenContextError, match=problem):
        ask(Server(reply()))


def test_the_token_comes_from_the_environment(ask, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    server = Server(failed(401, "no token"))
    assert "environment variable HIDDEN_CONTEXT_TOKEN" in refusal(ask, server, error=ConfigError)
    assert "Authorization" not in server.seen[0].headers
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    server = Server()
    ask(server)
    assert server.seen[0].headers["Authorization"] == "Bearer secret"


def test_a_client_can_be_sent_to_another_process_and_closed():
    client = RewardClient(f"{URL}/v1/distribution", ClientOptions(retries=1))
    other = pickle.loads(pickle.dumps(client))
    assert (other.url, other.options) == (URL, ClientOptions(retries=1))
    other.close()


def test_bad_options_and_a_missing_package_are_errors(monkeypatch):
    with pytest.raises(ConfigError, match="is not the address of a server"):
        RewardClient("localhost:8000")
    for bad in ({"retries": -1}, {"concurrency": 0}, {"timeout": 0}):
        assert "a client's waits" in refusal(ClientOptions, **bad, error=ConfigError)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert "hidden-context[client]" in refusal(RewardClient, URL, error=MissingDependencyError)
