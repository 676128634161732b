from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hidden_context.data.storage.files import iter_jsonl, write_jsonl
from hidden_context.relabel import RelabelConfig, run
from relabel.fake_endpoint import BASE, Asked, FakeEndpoint, Response


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the test's own, and no settings of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Asked], Response]], FakeEndpoint]]:
    """Start endpoints that are closed when the test ends."""
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(FakeEndpoint(respond))


@pytest.fixture
def relabel() -> Callable[..., Any]:
    """Relabel rows at an endpoint; return the result and the rows written."""

    def relabelled(
        rows: list[dict[str, Any]], endpoint: FakeEndpoint, confirm: Any = None, **options: Any
    ) -> tuple[Any, list[dict[str, Any]]]:
        write_jsonl("in.jsonl", rows)
        usual = {"base_url": endpoint.url, "retry_wait": 0.01, "yes": True, "disable_tqdm": True}
        result = run(RelabelConfig(**BASE | usual | options), confirm)
        rows = [] if result.path is None else [row for _, row in iter_jsonl(result.path)]
        return result, rows

    return relabelled
