"""The gate, the queue and the log: tokens, limits, overload, coalescing, leaving, draining."""

import asyncio
import contextlib
import io
import json
import logging
import threading

import httpx2
import pytest
from starlette.testclient import TestClient

from hidden_context.scoring.requests import Scorer
from hidden_context.serve import gate as gates
from hidden_context.serve.monitoring import configure, log
from support.builders import sample_texts

JSON = {"Content-Type": "application/json"}


class Counting(Scorer):
    """A scorer that keeps what is run together, and waits where it is told to."""

    def __init__(self, model):
        super().__init__(model)
        self.batches, self.held, self.started = [], threading.Event(), threading.Event()
        self.held.set()

    def run(self, ready):
        self.started.set()
        assert self.held.wait(10)
        self.batches.append([one.asked for one in ready])
        if any("bad" in str(one.asked) for one in ready):
            raise RuntimeError("a text: secret")
        return super().run(ready)

    @contextlib.asynccontextmanager
    async def busy(self, client, text="first"):
        """Work on a request as long as the block goes on."""
        self.held.clear()
        self.started.clear()
        first = asyncio.create_task(embed(client, text, model="normal"))
        await asyncio.to_thread(self.started.wait, 10)
        yield first
        self.held.set()
        await first


@pytest.fixture
def counting(models):
    return Counting(models["normal"])


@pytest.fixture
def app(application, counting):
    """Make an application of the counting model."""

    def make(*names, **options):
        scorers = {"normal": counting, **options.pop("scorers", {})}
        return application(*(names or ["normal"]), scorers=scorers, **options)

    return make


def inside(app, work):
    """Run ``work(client)`` within the application's life, on one event loop."""

    async def run():
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
                return await work(client)

    return asyncio.run(run())


def embed(client, text, **more):
    return client.post("/v1/embeddings", json={"input": text, **more})


async def until_waiting(app, count):
    while app.state.service.batcher.pending < count:
        await asyncio.sleep(0.005)


def codes(*replies):
    return [reply.status_code for reply in replies]


def rewards(replies):
    return [item["embedding"][0] for reply in replies for item in reply.json()["data"]]


def test_requests_that_arrive_together_are_run_together_with_the_rewards_of_each(
    app, counting, models
):
    prompt = "\n\nHuman: What about rivers and maps, and the roads?\n\nAssistant: "
    texts = [prompt + " ".join(["It is kind."] * n) for n in range(1, 9)] + sample_texts(16, 5)

    async def work(client):
        together = await asyncio.gather(*(embed(client, text) for text in texts))
        return together, [await embed(client, texts)], [await embed(client, t) for t in texts[:8]]

    expected = [models["normal"].score([text]).mean.item() for text in texts]
    for replies in inside(app(coalesce_ms=40), work):
        found = rewards(replies)
        assert found == pytest.approx(expected[: len(found)], abs=1e-5)
    assert [len(batch) for batch in counting.batches] == [2, 24, 24, *[1] * 8]  # two to warm up


def test_a_batch_holds_no_more_tokens_than_the_budget_and_one_models_texts(app, counting, models):
    other = Counting(models["factor"])
    own = app("normal", "factor", scorers={"factor": other}, coalesce_tokens=60, coalesce_ms=40)

    async def work(client):
        async with counting.busy(client):
            names = ["normal", "factor"] * 4
            tasks = [asyncio.create_task(embed(client, "ab " * 9, model=name)) for name in names]
            await until_waiting(own, 9)
            await asyncio.sleep(0.1)  # all of them are tokenized by now
        return await asyncio.gather(*tasks)

    assert codes(*inside(own, work)) == [200] * 8
    most = 60 // len(models["normal"].tokenizer("ab " * 9)["input_ids"])
    assert 1 < most < 4  # so that the four of a model need several batches
    assert max(map(len, counting.batches[2:])) == max(map(len, other.batches[1:])) == most
    assert sum(map(len, other.batches[1:])) == 4


def test_one_requests_failure_is_not_anothers_and_the_log_holds_no_text(app, counting):
    lines = io.StringIO()
    configure(lines)

    async def work(client):
        return await asyncio.gather(*(embed(client, text) for text in ("good", "bad", "fine")))

    good, bad, fine = inside(app(coalesce_ms=40), work)
    assert codes(good, bad, fine) == [200, 500, 200]
    assert bad.json()["error"]["type"] == "internal"
    log("hello", port=1)
    try:
        raise ValueError("secret")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it failed")
    assert "secret" not in bad.text + lines.getvalue()
    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    error = next(event for event in events if event["event"] == "error")
    assert error["error"] == "RuntimeError"
    assert any("requests" in place or "test_service" in place for place in error["places"])
    request = [event for event in events if event["event"] == "request"]
    assert {event["status"] for event in request} == {200, 500}
    assert request[0]["route"] == "/v1/embeddings"
    assert {"id", "method", "seconds", "model", "texts"} <= set(request[0])
    hello, failed = events[-2:]
    assert (hello["event"], hello["port"], hello["level"]) == ("hello", 1, "info")
    assert {"event": "it failed", "error": "ValueError", "level": "error"}.items() <= failed.items()


def test_a_full_queue_answers_503_at_once(app, counting):
    own = app(max_queue=3, max_items=3)

    async def work(client):
        async with counting.busy(client, ["a", "b"]) as first:
            refused = [await embed(client, ["c", "d"])]
            second = asyncio.create_task(embed(client, "c"))
            await until_waiting(own, 3)
            refused += await asyncio.gather(embed(client, "e"), embed(client, "e"))
        return refused, await first, await second

    refused, *answered = inside(own, work)
    assert codes(*answered) == [200, 200]
    for reply in refused:
        assert (reply.status_code, reply.json()["error"]["type"]) == (503, "overloaded")
        assert 1 <= int(reply.headers["Retry-After"]) <= 30
    assert own.state.service.batcher.pending == 0


def test_a_request_that_waits_too_long_is_given_up_and_not_run(app, counting):
    async def work(client):
        async with counting.busy(client) as first:
            second = await embed(client, "second")
        return await first, second, await embed(client, "third")

    first, second, third = inside(app(timeout=0.3), work)
    assert codes(first, second, third) == [503, 503, 200]
    assert second.json()["error"]["type"] == "timeout"
    assert second.headers["Retry-After"] == "1"
    assert counting.batches[1:] == [["first"], ["third"]]


async def send_to(app, receive, path="/v1/embeddings", headers=JSON):
    """Send a request by hand, and return the messages of the answer."""
    sent = []

    async def send(message):
        sent.append(message)

    names = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": names, "app": app}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""}
    await app(scope, receive, send)
    return sent


def test_texts_of_a_client_that_left_are_not_run(app, counting):
    own, parts = app(), [b'{"input": "gone"}']

    async def leaving():
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def work(client):
        async with counting.busy(client) as first:
            left = (await send_to(own, leaving))[0]["status"]
            waiting = own.state.service.batcher.pending
        return left, waiting, codes(await first, await embed(client, "last"))

    assert inside(own, work) == (499, 1, [200, 200])
    assert counting.batches[1:] == [["first"], ["last"]]
    assert "hidden_context_clients_left_total 1.0" in own.state.service.metrics.page().decode()


def test_what_was_accepted_is_answered_and_nothing_more(app, counting):
    own = app()
    service = own.state.service

    async def work(client):
        async with counting.busy(client) as first:
            assert not await service.drain(0.01)
            draining = asyncio.create_task(service.drain(10))
            await asyncio.sleep(0)
            late = [await embed(client, "late")]
            late += [await client.get("/ready"), await client.get("/health")]
        return await first, *late, await draining, await service.drain(0)

    first, refused, ready, alive, *drained = inside(own, work)
    assert codes(first, refused, ready, alive) == [200, 503, 503, 200]
    assert refused.json()["error"]["type"] == "draining"
    assert {"retry-after": "1", "connection": "close"}.items() <= refused.headers.items()
    assert drained == [True, True]
    assert (service.accepted, service.under_way) == (1, 0)


def test_a_token_is_asked_for_everywhere_but_at_the_probes(application):
    with TestClient(application("normal", token="long-and-random")) as client:
        for path in ("/metrics", "/docs", "/openapi.json", "/v1/models", "/nowhere"):
            reply = client.get(path)
            assert (reply.status_code, reply.json()["error"]["type"]) == (401, "unauthorized")
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        for given in ("Bearer wrong", "long-and-random", "Basic long-and-random", "Bearer é"):
            headers = {"Authorization": given.encode()}
            reply = client.post("/v1/embeddings", json={"input": "a"}, headers=headers)
            assert reply.status_code == 401
        assert codes(client.get("/health"), client.get("/ready")) == [200, 200]
        client.headers["Authorization"] = "bearer long-and-random"
        assert embed(client, "a").status_code == 200
        page = client.get("/metrics").text
    assert 'requests_total{route="/v1/embeddings",status="401"} 4.0' in page
    assert 'requests_total{route="other",status="401"} 1.0' in page


def test_limits_are_answered_413(application):
    with TestClient(application("normal", max_body=400, max_items=2)) as client:
        reply = embed(client, ["a", "b", "c"])
        assert (reply.status_code, reply.json()["error"]["item"]) == (413, 2)
        assert embed(client, "a" * 500).status_code == 413
        reply = client.post("/v1/embeddings", content=(b"x" * 300 for _ in range(3)), headers=JSON)
        assert reply.status_code == 413
        assert "more than 400 bytes" in reply.json()["error"]["message"]


def test_no_origin_is_let_in(client):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    reply = client.options("/get_reward", headers=headers)
    assert reply.status_code == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]
    plain = {"Content-Type": "text/plain"}  # what a page may send without asking
    assert client.post("/get_reward", content='{"query": []}', headers=plain).is_client_error


def test_a_body_that_is_no_json_or_nested_too_deeply(client):
    long = (b"[" * 90000, b'{"input": ' + b"1" * 5000 + b"}")
    for content in (b"{", b"\xff", b"", b"\x00", b'"', b"{]", b'{"query": [}', b"nul", *long):
        reply = client.post("/v1/embeddings", content=content, headers=JSON)
        assert reply.is_client_error
        assert set(reply.json()["error"]) == {"message", "type", "item"}
    nested = {"a": None}
    for _ in range(300):
        nested = {"a": nested}
    body = {"prompt": [{"role": "user", "content": nested}], "responses": ["a"]}
    assert client.post("/v1/distribution", json=body).is_client_error


@pytest.mark.parametrize(("seconds", "status"), [(5, 408), (0, 499)])
def test_a_body_that_does_not_come(application, monkeypatch, seconds, status):
    monkeypatch.setattr(gates, "_BODY_SECONDS", 0.02)

    async def receive():
        await asyncio.sleep(seconds)
        return {"type": "http.disconnect"}

    (start, _) = asyncio.run(send_to(application("normal"), receive, headers={}))
    assert start["status"] == status


def test_an_answer_that_has_begun_is_not_followed_by_another(application):
    sent = []

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    async def send(message):
        sent.append(message)

    gate = gates.Gate(broken, application("normal").state.service, None, ())
    with pytest.raises(RuntimeError):
        asyncio.run(gate({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))
    assert len(sent) == 1


@pytest.mark.parametrize(("speed", "pending", "advised"), [(0, 9, 1), (10, 45, 5), (10, 10**6, 30)])
def test_the_wait_that_is_advised_follows_the_speed(application, speed, pending, advised):
    batcher = application("normal").state.service.batcher
    batcher._texts_a_second, batcher.pending = speed, pending
    assert batcher.retry_after == advised
