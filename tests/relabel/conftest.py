from __future__ import annotations

from contextlib import ExitStack

import pytest

from hidden_context.data.storage.files import iter_jsonl, write_jsonl
from hidden_context.relabel import RelabelConfig, run
from relabel.fake_endpoint import BASE, FakeEndpoint, better, says


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the test's own, and no settings of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def serve():
    """Start endpoints that are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(FakeEndpoint(respond))


@pytest.fixture
def endpoint(serve):
    """An endpoint that is always right."""
    return serve(lambda asked: says(better(asked)))


@pytest.fixture
def relabel():
    """Relabel rows at an endpoint; return the result and the rows written."""

    def relabelled(rows, endpoint, confirm=None, **options):
        write_jsonl("in.jsonl", rows)
        usual = {"base_url": endpoint.url, "retry_wait": 0.01, "yes": True, "disable_tqdm": True}
        result = run(RelabelConfig(**BASE | usual | options), confirm)
        rows = [] if result.path is None else [row for _, row in iter_jsonl(result.path)]
        return result, rows

    return relabelled
