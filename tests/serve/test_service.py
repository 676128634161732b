"""The gate, the queue and the log: tokens, limits, overload, coalescing, leaving, draining."""

import asyncio
import io
import json
import logging
import threading

import httpx2
import pytest
import torch
from starlette.testclient import TestClient

from hidden_context.scoring.requests import Scorer
from hidden_context.serve import gate as gates
from hidden_context.serve.logs import JsonLines, configure, log
from support.builders import sample_texts

TEXTS = sample_texts(24, 5)


class Counting(Scorer):
    """A scorer that keeps what is run together, and waits where it is told to."""

    def __init__(self, model):
        super().__init__(model)
        self.batches, self.held, self.started = [], threading.Event(), threading.Event()
        self.held.set()
        self.fail_with = None

    def run(self, ready):
        self.started.set()
        assert self.held.wait(10)
        self.batches.append([one.asked for one in ready])
        if self.fail_with is not None and any("bad" in str(one.asked) for one in ready):
            raise self.fail_with
        return super().run(ready)


@pytest.fixture
def counting(models):
    return Counting(models["normal"])


def inside(app, work):
    """Run ``work(client)`` within the application's life, on one event loop."""

    async def run():
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
                return await work(client)

    return asyncio.run(run())


def embed(client, text):
    return client.post("/v1/embeddings", json={"input": text})


def test_single_requests_that_arrive_together_are_run_together(serving, counting, models):
    app = serving("normal", scorers={"normal": counting}, coalesce_ms=40)

    async def work(client):
        return await asyncio.gather(*(embed(client, text) for text in TEXTS))

    replies = inside(app, work)
    found = [reply.json()["data"][0]["embedding"][0] for reply in replies]
    alone = [models["normal"].score([text]).mean.item() for text in TEXTS]
    assert found == pytest.approx(alone, abs=1e-5)
    warm_up, *batches = counting.batches
    assert len(warm_up) == 2
    assert [len(batch) for batch in batches] == [24]


def test_a_batch_holds_no_more_tokens_than_the_budget_and_one_models_texts(
    serving, counting, models
):
    other = Counting(models["factor"])
    scorers = {"normal": counting, "factor": other}
    app = serving(scorers=scorers, coalesce_tokens=60, coalesce_ms=40)

    async def work(client):
        def ask(name, text):
            return client.post("/v1/embeddings", json={"model": name, "input": text})

        counting.held.clear()
        counting.started.clear()
        first = asyncio.create_task(ask("normal", "wait"))
        await asyncio.to_thread(counting.started.wait, 10)
        tasks = [asyncio.create_task(ask(("normal", "factor")[n % 2], "ab " * 9)) for n in range(8)]
        while app.state.service.batcher.pending < 9:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # all of them are tokenized by now
        counting.held.set()
        return await asyncio.gather(first, *tasks)

    replies = inside(app, work)
    assert all(reply.status_code == 200 for reply in replies)
    size = len(models["normal"].tokenizer("ab " * 9)["input_ids"])
    most = 60 // size
    assert 1 < most < 4  # so that the four of a model need several batches
    assert max(map(len, counting.batches[2:])) == max(map(len, other.batches[1:])) == most
    assert sum(map(len, other.batches[1:])) == 4


def test_one_requests_failure_is_not_anothers(serving, counting):
    counting.fail_with = RuntimeError("a text: secret")
    app = serving("normal", scorers={"normal": counting}, coalesce_ms=40)
    lines = io.StringIO()
    configure(lines)

    async def work(client):
        return await asyncio.gather(*(embed(client, text) for text in ("good", "bad", "fine")))

    good, bad, fine = inside(app, work)
    assert (good.status_code, bad.status_code, fine.status_code) == (200, 500, 200)
    assert bad.json()["error"]["type"] == "internal"
    assert "secret" not in bad.text + lines.getvalue()
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    error = next(event for event in events if event["event"] == "error")
    assert error["error"] == "RuntimeError"
    assert any("requests" in place or "test_service" in place for place in error["places"])
    request = [event for event in events if event["event"] == "request"]
    assert {event["status"] for event in request} == {200, 500}
    assert request[0]["route"] == "/v1/embeddings"
    assert {"id", "method", "seconds", "model", "texts"} <= set(request[0])


def test_a_full_queue_answers_503_at_once(serving, counting):
    app = serving("normal", scorers={"normal": counting}, max_queue=3, max_items=3)

    async def work(client):
        counting.held.clear()
        counting.started.clear()
        first = asyncio.create_task(embed(client, ["a", "b"]))
        await asyncio.to_thread(counting.started.wait, 10)
        refused = await embed(client, ["c", "d"])
        second = asyncio.create_task(embed(client, "c"))
        while app.state.service.batcher.pending < 3:
            await asyncio.sleep(0.005)
        others = [asyncio.create_task(embed(client, "e")) for _ in range(2)]
        refused_more = await asyncio.gather(*others)
        counting.held.set()
        return refused, refused_more, await first, await second

    refused, more, first, second = inside(app, work)
    assert (first.status_code, second.status_code) == (200, 200)
    for reply in (refused, *more):
        assert reply.status_code == 503
        assert reply.json()["error"]["type"] == "overloaded"
        assert 1 <= int(reply.headers["Retry-After"]) <= 30
    assert app.state.service.batcher.pending == 0


def test_a_request_that_waits_too_long_is_given_up_and_not_run(serving, counting):
    app = serving("normal", scorers={"normal": counting}, timeout=0.3)

    async def work(client):
        counting.held.clear()
        counting.started.clear()
        first = asyncio.create_task(embed(client, "first"))
        await asyncio.to_thread(counting.started.wait, 10)
        second = await embed(client, "second")
        counting.held.set()
        return await first, second, await embed(client, "third")

    first, second, third = inside(app, work)
    assert (first.status_code, second.status_code, third.status_code) == (503, 503, 200)
    assert second.json()["error"]["type"] == "timeout"
    assert second.headers["Retry-After"] == "1"
    assert counting.batches[1:] == [["first"], ["third"]]


def test_texts_of_a_client_that_left_are_not_run(serving, counting):
    app = serving("normal", scorers={"normal": counting})

    async def leave(path="/v1/embeddings"):
        """Post as a client that is gone once its body is sent."""
        sent, parts = [], [b'{"input": "gone"}']

        async def receive():
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""}
        await app(scope, receive, send)
        return sent[0]["status"]

    async def work(client):
        counting.held.clear()
        counting.started.clear()
        first = asyncio.create_task(embed(client, "first"))
        await asyncio.to_thread(counting.started.wait, 10)
        left = await leave()
        waiting = app.state.service.batcher.pending
        counting.held.set()
        return left, waiting, (await first).status_code, (await embed(client, "last")).status_code

    assert inside(app, work) == (499, 1, 200, 200)
    assert counting.batches[1:] == [["first"], ["last"]]
    assert "hidden_context_clients_left_total 1.0" in app.state.service.metrics.page().decode()


def test_what_was_accepted_is_answered_and_nothing_more(serving, counting):
    app = serving("normal", scorers={"normal": counting})
    service = app.state.service

    async def work(client):
        counting.held.clear()
        counting.started.clear()
        first = asyncio.create_task(embed(client, "first"))
        await asyncio.to_thread(counting.started.wait, 10)
        assert not await service.drain(0.01)
        draining = asyncio.create_task(service.drain(10))
        await asyncio.sleep(0)
        refused, ready = await embed(client, "late"), await client.get("/ready")
        alive = await client.get("/health")
        counting.held.set()
        return await first, refused, ready, alive, await draining, await service.drain(0)

    first, refused, ready, alive, drained, again = inside(app, work)
    assert (first.status_code, refused.status_code, ready.status_code) == (200, 503, 503)
    assert alive.status_code == 200
    assert refused.json()["error"]["type"] == "draining"
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["Connection"] == "close"
    assert drained
    assert again
    assert (service.accepted, service.under_way) == (1, 0)


def test_a_token_is_asked_for_everywhere_but_at_the_probes(serving):
    with TestClient(serving("normal", token="long-and-random")) as client:
        for path in ("/metrics", "/docs", "/openapi.json", "/v1/models", "/nowhere"):
            reply = client.get(path)
            assert reply.status_code == 401
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            assert reply.json()["error"]["type"] == "unauthorized"
        body = {"input": "a"}
        for given in ("Bearer wrong", "long-and-random", "Basic long-and-random", "Bearer é"):
            headers = {"Authorization": given.encode()}
            assert client.post("/v1/embeddings", json=body, headers=headers).status_code == 401
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        right = {"Authorization": "bearer long-and-random"}
        assert client.post("/v1/embeddings", json=body, headers=right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200


def test_limits_are_answered_413(serving):
    with TestClient(serving("normal", max_body=400, max_items=2)) as client:
        reply = client.post("/v1/embeddings", json={"input": ["a", "b", "c"]})
        assert (reply.status_code, reply.json()["error"]["item"]) == (413, 2)
        large = {"input": "a" * 500}
        assert client.post("/v1/embeddings", json=large).status_code == 413
        headers = {"Content-Type": "application/json"}
        chunks = (b"x" * 300 for _ in range(3))
        reply = client.post("/v1/embeddings", content=chunks, headers=headers)
        assert reply.status_code == 413
        assert "more than 400 bytes" in reply.json()["error"]["message"]


def test_no_origin_is_let_in(serving):
    with TestClient(serving("normal")) as client:
        headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        reply = client.options("/get_reward", headers=headers)
        assert reply.status_code == 405
        assert not [name for name in reply.headers if name.startswith("access-control")]
        plain = {"Content-Type": "text/plain"}  # what a page may send without asking
        assert client.post("/get_reward", content='{"query": []}', headers=plain).is_client_error


def test_a_body_that_is_no_json_or_nested_too_deeply(client):
    headers = {"Content-Type": "application/json"}
    for content in (b"{", b"[" * 90000, b'{"input": ' + b"1" * 5000 + b"}", b"\xff", b""):
        reply = client.post("/v1/embeddings", content=content, headers=headers)
        assert reply.is_client_error
        assert set(reply.json()["error"]) == {"message", "type", "item"}
    nested = {"a": None}
    for _ in range(300):
        nested = {"a": nested}
    body = {"prompt": [{"role": "user", "content": nested}], "responses": ["a"]}
    assert client.post("/v1/distribution", json=body).is_client_error


@pytest.mark.parametrize("slow", [True, False])
def test_a_body_that_does_not_come(serving, monkeypatch, slow):
    monkeypatch.setattr(gates, "_BODY_SECONDS", 0.02)
    app = serving("normal")
    sent = []

    async def receive():
        if slow:
            await asyncio.sleep(5)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/get_reward", "headers": []}
    asyncio.run(app.build_middleware_stack()({**scope, "app": app}, receive, send))
    assert sent[0]["status"] == (408 if slow else 499)


def test_an_answer_that_has_begun_is_not_followed_by_another(serving):
    app = serving("normal")
    sent = []

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    async def send(message):
        sent.append(message)

    gate = gates.Gate(broken, app.state.service, None, 10)
    with pytest.raises(RuntimeError):
        asyncio.run(gate({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
    assert len(sent) == 1


def test_rewards_do_not_depend_on_the_company(serving, models):
    app = serving("normal", coalesce_ms=20)
    prompt = "\n\nHuman: What about rivers and maps, and the roads?\n\nAssistant: "
    texts = [prompt + " ".join(["It is kind."] * n) for n in range(1, 9)]

    async def work(client):
        together = await asyncio.gather(*(embed(client, text) for text in texts))
        alone = [await embed(client, text) for text in texts]
        one = await embed(client, texts)
        return together, alone, one

    together, alone, one = inside(app, work)
    expected = [models["normal"].score([text]).mean.item() for text in texts]
    for replies in (together, alone):
        found = [reply.json()["data"][0]["embedding"][0] for reply in replies]
        assert found == pytest.approx(expected, abs=1e-5)
    found = [item["embedding"][0] for item in one.json()["data"]]
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_log_line_is_json_without_the_errors_words():
    lines = io.StringIO()
    configure(lines)
    log("hello", port=1)
    try:
        raise ValueError("secret")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it failed")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (first["event"], first["port"], first["level"]) == ("hello", 1, "info")
    assert (second["event"], second["error"], second["level"]) == (
        "it failed",
        "ValueError",
        "error",
    )
    assert "secret" not in lines.getvalue()
    assert isinstance(logging.getLogger("uvicorn").handlers[0].formatter, JsonLines)


def test_the_wait_that_is_advised_follows_the_speed(serving):
    batcher = serving("normal").state.service.batcher
    assert batcher.retry_after == 1
    batcher._texts_a_second, batcher.pending = 10.0, 45
    assert batcher.retry_after == 5
    batcher.pending = 10**6
    assert batcher.retry_after == 30
    assert torch.get_num_threads() == 1
