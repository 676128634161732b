from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn

from hidden_context import risk
from hidden_context.integrations.client import RewardClient
from hidden_context.integrations.sources import RemoteSource
from hidden_context.scoring.prepare import texts_of
from hidden_context.scoring.requests import Scorer
from support.paper_layout import one_thread
from support.rows import assistant, user
from support.serving import application, folders, models

__all__ = ["application", "folders", "models", "one_thread"]


@pytest.fixture
def clients():
    """The folder of the trainers' own code, which HIDDEN_CONTEXT_CLIENTS names."""
    if not os.environ.get("HIDDEN_CONTEXT_CLIENTS"):
        pytest.skip("HIDDEN_CONTEXT_CLIENTS names no folder of clients")
    return Path(os.environ["HIDDEN_CONTEXT_CLIENTS"])


@pytest.fixture(scope="session")
def expected(models):
    """Score whole texts in this process: ``expected(texts, "cvar:0.05", "normal")``."""

    def score(texts, measure="cvar:0.05", name="normal"):
        scorer = Scorer(models[name])
        return risk.parse(measure)(scorer.rewards(scorer.raw(texts).complete())).tolist()

    return score


@pytest.fixture(scope="session")
def expected_of(expected):
    """Score responses to prompts in this process."""

    def score(prompts, responses, measure="cvar:0.05", name="normal"):
        pairs = zip(prompts, responses, strict=True)
        return expected([texts_of(prompt, [one], None)[0] for prompt, one in pairs], measure, name)

    return score


@pytest.fixture(scope="session")
def chance(models):
    """The probability that the factor model's people prefer "Nothing." to "Sleep."."""
    scorer = Scorer(models["factor"])
    texts = [[user("What helps?"), assistant(text)] for text in ("Sleep.", "Nothing.")]
    p = scorer.describe(scorer.raw(texts).complete()).preferred[1, 0].item()
    assert abs(2 * p - 1) > 0.01
    return p


@pytest.fixture(scope="session")
def answering():
    """A server that answers zeros, except for what is changed: ``answering(200, mean=[1.0])``."""

    def make(status=200, **changes):
        def reply(request):
            row = [0.0] * len(json.loads(request.content)["responses"])
            body = {"mean": row, "stddev": row, "risk": {"name": "mean", "values": row}}
            body |= {"preferred": [[0.5] * len(row)] * len(row), "shares": {"noise": [None]}}
            return httpx2.Response(status, json=body | changes)

        transport = httpx2.MockTransport(reply)
        return RemoteSource(RewardClient("http://127.0.0.1:9", transport=transport))

    return make


@pytest.fixture(scope="session")
def serving(application):
    """Serve models on loopback: ``with serving(risk="cvar:0.05") as url``."""

    @contextmanager
    def serve(**options):
        server = uvicorn.Server(uvicorn.Config(application(**options), port=0, log_config=None))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(30)

    return serve


@pytest.fixture(scope="session")
def url(serving):
    """Address of a server whose single numbers are ``cvar:0.05``."""
    with serving(risk="cvar:0.05") as address:
        yield address
