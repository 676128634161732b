from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from hidden_context import risk
from hidden_context.data.dialogue import join
from hidden_context.data.model_input import with_context
from hidden_context.integrations.sources import _opened
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.app import make_app
from hidden_context.serve.config import ServeConfig
from hidden_context.serve.service import Served
from support.builders import CHAT_TEMPLATE, tiny_tokenizer
from support.paper_layout import one_thread, reward_checkpoint

__all__ = ["one_thread"]

PROMPT = [{"role": "user", "content": "What helps?"}]


@pytest.fixture(autouse=True, scope="session")
def _forget_models():
    """Leave no model behind in the cache of the process."""
    yield
    _opened.cache_clear()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of a mean-and-variance model with a BOS, and a factor model with shared context."""
    root = tmp_path_factory.mktemp("trained")
    tokenizer = tiny_tokenizer(bos="<s>", frame="<s> $A", chat_template=CHAT_TEMPLATE)
    return {
        "normal": reward_checkpoint(root / "normal", tokenizer=tokenizer),
        "factor": reward_checkpoint(root / "factor", "factor", num_factors=2, tokenizer=tokenizer),
    }


@pytest.fixture(scope="session")
def models(folders):
    """The two models, loaded once."""
    return {name: RewardModel.from_pretrained(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def expected(models):
    """Score whole texts in this process: ``expected(texts, "cvar:0.05", "normal")``."""

    def score(texts, measure="cvar:0.05", name="normal"):
        scorer = Scorer(models[name])
        raw = scorer.raw(texts).complete()
        return scorer.values(raw, risk.parse(measure)).tolist()

    return score


@pytest.fixture(scope="session")
def expected_of(expected):
    """Score responses to prompts in this process."""

    def score(prompts, responses, measure="cvar:0.05", name="normal"):
        pairs = zip(prompts, responses, strict=True)
        texts = [with_context(join(prompt, one), join(prompt, []), None) for prompt, one in pairs]
        return expected(texts, measure, name)

    return score


@pytest.fixture(scope="session")
def serving(folders, models):
    """Serve models on loopback: ``with serving(risk="cvar:0.05") as url``."""

    @contextmanager
    def serve(token=None, **options):
        config = ServeConfig(models=list(folders.values()), **options)
        served = [Served(name, folders[name], Scorer(models[name], config)) for name in folders]
        settings = uvicorn.Config(make_app(served, config, token), port=0, log_config=None)
        server = uvicorn.Server(settings)
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
