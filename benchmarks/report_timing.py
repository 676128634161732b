"""Time a report of 10 000 comparisons in Chromium: size, first paint, ready, search and sort.

    python benchmarks/report_timing.py --pairs 10000 --slowdown 4

Texts are as long as HH-RLHF's (about 90 words of prompt and 70 of response, Zipf's frequencies).
`--slowdown` has Chromium run scripts that many times slower, as a slow machine would.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hidden_context.report.config import ReportConfig
from hidden_context.report.workflow import run

_WORDS = 8000
_SYLLABLES = (
    *("ba", "con", "de", "er", "fi", "gan", "ho", "in", "ju", "ka", "lo", "men", "no", "ou"),
    *("per", "qui", "re", "sti", "ti", "un", "ver", "wa", "ex", "ly"),
)

_LONGEST_TASKS = """
window.__tasks = [];
new PerformanceObserver((list) => window.__tasks.push(...list.getEntries().map((e) => e.duration)))
  .observe({ type: 'longtask', buffered: true });
new MutationObserver((_, observer) => {
  if (document.documentElement?.dataset.ready) {
    window.__ready = performance.now();
    observer.disconnect();
  }
}).observe(document, { attributes: true, subtree: true, childList: true });
"""

# from the keystroke to the new count in the document, the wait for the next keystroke included
_SEARCH = """
(query) => new Promise((resolve) => {
  const count = document.getElementById('count');
  const before = performance.now();
  new MutationObserver((_, observer) => {
    observer.disconnect();
    resolve(performance.now() - before);
  }).observe(count, { childList: true, characterData: true, subtree: true });
  const search = document.getElementById('search');
  search.value = query;
  search.dispatchEvent(new Event('input', { bubbles: true }));
})
"""
_FILTER = """
(filters) => {
  const before = performance.now();
  HC.grid.filter(filters);
  return performance.now() - before;
}
"""
_SORT = """
(key) => {
  const before = performance.now();
  HC.grid.sortBy(key);
  return performance.now() - before;
}
"""


def write_scores(path: Path, pairs: int, seed: int) -> None:
    """Write comparisons of a mean_and_variance model, three of each prompt on average."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 4, size=_WORDS)
    vocabulary = np.array(["".join(draw.choice(_SYLLABLES, size=length)) for length in lengths])
    frequency = 1.0 / np.arange(1, _WORDS + 1)
    frequency /= frequency.sum()

    def text(mean: float) -> str:
        length = max(3, int(draw.gamma(2.0, mean / 2.0)))
        return " ".join(draw.choice(vocabulary, size=length, p=frequency))

    prompts = [f"Human: {text(90)}\n\nAssistant:" for _ in range(max(1, pairs // 3))]
    raw = draw.normal(size=(pairs, 4)).round(6)
    with path.open("w", encoding="utf-8") as file:
        for number in range(pairs):
            prompt = prompts[int(draw.integers(len(prompts)))]
            row = {
                "prompt": prompt,
                "chosen": f"{prompt} {text(70)}",
                "rejected": f"{prompt} {text(70)}",
                "data_subset": ("helpful", "harmless")[number % 2],
                "reward_output_chosen": raw[number, :2].tolist(),
                "reward_output_rejected": raw[number, 2:].tolist(),
            }
            file.write(json.dumps(row) + "\n")


def measure(page: Any, url: str, slowdown: float) -> dict[str, float]:
    """Open the report and use it; times in milliseconds."""
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    page.add_init_script(_LONGEST_TASKS)
    page.goto(url)
    page.wait_for_function("window.__ready", timeout=120_000)
    paints = page.evaluate(
        "performance.getEntriesByType('paint').map((each) => [each.name, each.startTime])"
    )
    times = {name: float(start) for name, start in paints}
    times["ready"] = page.evaluate("window.__ready")
    times["longest task while loading"] = page.evaluate("Math.max(0, ...window.__tasks)")
    common, rare = "conde", "wahofi"
    times["first search, count updated"] = page.evaluate(_SEARCH, common)
    times["search, count updated"] = page.evaluate(_SEARCH, rare)
    for name, filters in (
        ("search", {"search": "nolo"}),
        ("subset", {"subset": "helpful"}),
        ("search, subset, contested", {"search": "con", "subset": "helpful", "contested": True}),
    ):
        times[f"filter by {name}"] = max(page.evaluate(_FILTER, filters) for _ in range(5))
    page.evaluate(_FILTER, {})
    times["sort by P"] = page.evaluate(_SORT, "p")
    times["sort by chosen, first time"] = page.evaluate(_SORT, "chosen")
    times["sort by chosen, again"] = page.evaluate(_SORT, "chosen")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--slowdown", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        scores, output = Path(folder, "scores.jsonl"), Path(folder, "report.html")
        write_scores(scores, options.pairs, options.seed)
        started = time.perf_counter()
        run(ReportConfig(files=[str(scores)], output=str(output), max_pairs=options.pairs))
        print(f"{options.pairs} pairs, {scores.stat().st_size / 1e6:.1f} MB of scores")
        print(f"report written in {time.perf_counter() - started:.1f} s", flush=True)
        print(f"report {output.stat().st_size / 1e6:.2f} MB")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page()
        for name, milliseconds in measure(page, output.as_uri(), options.slowdown).items():
            print(f"{name:32} {milliseconds:8.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
