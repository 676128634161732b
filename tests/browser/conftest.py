from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import pages


# Playwright keeps an event loop running, in which no other file's coroutines could run.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; a skip that says what is missing otherwise."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 400 comparisons of a generated world."""
    return pages.write_page(tmp_path_factory.mktemp("report"), pages.score_rows(400))


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page offline; at the end, anything it did that it must not do fails the test."""
    opened = []

    def visit(path: Path, **options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        context = chromium.new_context(offline=True, **options)
        opened.append(pages.watch(context, path))
        return opened[-1][0]

    yield visit
    for page, misdeeds in opened:
        assert misdeeds == page.evaluate("window.__violations") == []
    for page, _ in opened:
        page.context.close()
