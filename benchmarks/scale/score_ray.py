"""What scoring on a Ray cluster loses, doubles or changes when it is killed, and how fast it is.

    python benchmarks/scale/score_ray.py --output score_ray.json

20 000 texts (5 000 prompts with four responses) and a small model of random weights, one thread per
process. (``--width 64`` makes it tiny: then what the cluster and the command do for each row weighs
as much as a worker's share of the model.) Scored

- *one*: by one process;
- *ray*: by two workers on a cluster that is started here;
- *killed*: the same, with a worker killed twice and then the driver (SIGKILL), which is started
  again and goes on;
- *other windows*: by two workers, with windows of another size.

The first two are run in turn, round after round. Throughput is counted from the first window in
the record to the last, so without the start of processes: by the clock, which on a busy machine
tells what others left, and by the processor time of the command and all that it started. Two
workers on two free cores are twice as fast as one process, less what the cluster itself takes.
Bytes of *one*, *ray* and *killed* have to be the same, and rewards of *other windows* within 1e-5.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import processor, script_parser
from tiny import WORDS, tiny_folder

from hidden_context.data.storage.files import write_json, write_jsonl

TOLERANCE, GOAL, WORKERS = 1e-5, 0.9, 2
POLL_SECONDS = 0.02
WINDOW, OTHER_WINDOW = 64, "50"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_worker_niceness": "0",  # as one process has; Ray's own 15 loses on a busy machine
}


def write_prompts(path: Path, rows: int) -> None:
    """Write prompts with four responses each; a row depends on its number alone."""

    def row(number: int) -> dict[str, Any]:
        draw = random.Random(number)

        def words(least: int, most: int) -> str:
            return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

        responses = [f" {words(2, 12)}" for _ in range(4)]
        return {"id": number, "prompt": words(5, 30), "responses": responses}

    write_jsonl(path, map(row, range(rows)))


class Scoring:
    """A ``score`` command that runs.

    Args:
        source: The rows.
        output: The scores.
        model: The checkpoint.
        options: Further flags.
    """

    def __init__(self, source: Path, output: Path, model: str, *options: str) -> None:
        self.output = output
        self.record = output.with_name(f"{output.name}.model.partial")
        flags = ["--models", model, "--names", "model", "--output", str(output), "--disable_tqdm"]
        command = [sys.executable, "-m", "hidden_context", "score", str(source), *flags, *options]
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL, text=True
        )
        self.marks: list[tuple[float, float, int]] = []
        self._seen = self._lines = 0
        self._used: dict[psutil.Process, float] = {}

    def rows_done(self) -> int:
        """Count the rows in the record."""
        with contextlib.suppress(OSError), self.record.open("rb") as file:
            file.seek(self._seen)  # a record only grows, and reading all of it takes a core
            new = file.read()
            self._seen, self._lines = self._seen + len(new), self._lines + new.count(b"\n")
        return max(self._lines - 1, 0)

    def watch(self, until: Callable[[int], bool] = lambda rows: False) -> None:
        """Note when rows arrive, until so many are done or the command has ended."""
        while self.process.poll() is None:
            rows = self.rows_done()
            if rows and (not self.marks or rows > self.marks[-1][-1]):
                self.marks.append((time.monotonic(), self.processor_seconds(), rows))
            if until(rows):
                return
            time.sleep(POLL_SECONDS)
        if self.process.returncode != 0:
            raise SystemExit(f"score ended with {self.process.returncode}")

    def processor_seconds(self) -> float:
        """Processor time of the command and of all that it started, ended or not."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    used = each.cpu_times()
                    self._used[each] = used.user + used.system
        return sum(self._used.values())

    @property
    def rates(self) -> dict[str, float]:
        """Rows by second of the clock and of the processor, from the first window to the last."""
        (start, used, first), (end, used_then, last) = self.marks[0], self.marks[-1]
        rows = last - first
        return {
            "by_clock": rows / (end - start),
            "by_processor": rows / (used_then - used),
            "cores_used": (used_then - used) / (end - start),
        }

    def worker(self) -> psutil.Process:
        """Find a worker of the cluster that has the model."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "MapWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return random.choice(found)


def killed_run(
    source: Path, output: Path, model: str, rows: int, options: list[str]
) -> dict[str, float]:
    """Kill a worker, another one, and the driver; then let the same command finish."""
    first = Scoring(source, output, model, *options)
    for share in (0.15, 0.35):
        first.watch(lambda done, share=share: done >= share * rows)
        worker = first.worker()
        worker.kill()
        print(f"killed worker {worker.pid} at {first.rows_done()} rows", file=sys.stderr)
    first.watch(lambda done: done >= 0.55 * rows)
    orphans = psutil.Process(first.process.pid).children(recursive=True)
    first.process.kill()
    first.process.wait()
    kept = first.rows_done()
    killed = time.monotonic()
    alive = psutil.wait_procs(orphans, timeout=120)[1]
    ended = time.monotonic() - killed
    print(f"killed the driver at {kept} rows", file=sys.stderr)
    second = Scoring(source, output, model, *options)
    second.watch()
    return {
        "kills": 3,
        "rows_kept_by_the_driver": kept,
        "rows_at_first_mark_after": second.marks[0][-1],
        "processes_of_the_cluster": len(orphans),
        "processes_left": len(alive),
        "seconds_until_they_ended": ended,
    }


def compare(expected: Path, found: Path, rows: int) -> dict[str, Any]:
    """Compare scores row by row, by their ids."""
    one = [json.loads(line) for line in expected.open()]
    other = [json.loads(line) for line in found.open()]
    ids = [row["id"] for row in other]
    by_id = {row["id"]: row["reward_outputs_model"] for row in other}
    expected_raw = np.array([row["reward_outputs_model"] for row in one])
    difference = np.abs(expected_raw - np.array([by_id[row["id"]] for row in one])).max()
    return {
        "rows": len(other),
        "lost": len(set(range(rows)) - set(ids)),
        "doubled": len(ids) - len(set(ids)),
        "in_order": ids == list(range(rows)),
        "same_bytes": expected.read_bytes() == found.read_bytes(),
        "greatest_difference": float(difference),
    }


def measure(
    folder: Path, source: Path, model: str, rounds: int, options: list[str], ray: list[str]
) -> dict[str, list[dict[str, float]]]:
    """Measure both ways in turn."""
    found: dict[str, list[dict[str, float]]] = {"one": [], "ray": []}
    for number in range(rounds):
        for name, flags in (("one", options), ("ray", [*options, *ray])):
            scoring = Scoring(source, folder / f"{name}_{number}.jsonl", model, *flags)
            scoring.watch()
            found[name].append(scoring.rates)
            print(name, scoring.rates, file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512, help="the model's, a multiple of 8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.width < 8 or options.width % 8:
        parser.error(f"--width: {options.width} is not a multiple of 8, which four heads need")
    rows = options.texts // 4
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = tiny_folder(folder / "model", width=options.width)
        source = folder / "prompts.jsonl"
        write_prompts(source, rows)
        flags = ["--window", str(WINDOW)]
        ray = ["--engine_cluster", "ray", "--workers", str(WORKERS)]
        found = measure(folder, source, model, options.rounds, flags, ray)
        killed = killed_run(source, folder / "killed.jsonl", model, rows, [*flags, *ray])
        Scoring(source, folder / "other.jsonl", model, "--window", OTHER_WINDOW, *ray).watch()
        one = folder / "one_0.jsonl"
        compared = {
            name: compare(one, folder / f"{name}.jsonl", rows)
            for name in ("ray_0", "killed", "other")
        }
    rounds = list(zip(found["one"], found["ray"], strict=True))
    by_clock, by_processor = (
        statistics.median(ray[kind] / one[kind] for one, ray in rounds)
        for kind in ("by_clock", "by_processor")
    )
    result = {
        "texts": options.texts,
        "width": options.width,
        "window": WINDOW,
        "killed_run": killed,
        "compared_with_one_process": compared,
        "rows_per_second": found,
        "processor": processor(),
        "ray_to_one_by_clock": by_clock,
        "ray_to_one_by_processor_on_free_cores": WORKERS * by_processor,
        "goal": GOAL * WORKERS,
        "as_promised": all(
            part["lost"] == part["doubled"] == 0
            and part["in_order"]
            and part["greatest_difference"] <= TOLERANCE
            and (part["same_bytes"] or name == "other")
            for name, part in compared.items()
        ),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        write_json(options.output, result)
    return 0 if result["as_promised"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
