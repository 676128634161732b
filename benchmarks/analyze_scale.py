"""Analyse a million scored rows: wall time and peak memory.

    python benchmarks/analyze_scale.py --rows 1000000

Rows are written once (about 700 bytes each), then `hidden-context analyze` reads them in a process
of its own, whose peak resident memory is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write pairs of a mean_and_variance model, four of each prompt on average."""
    generator = np.random.default_rng(seed)
    raw = generator.normal(size=(rows, 4)).round(6)
    prompts = generator.integers(rows // 4 + 1, size=rows)
    words = np.array(
        ["the", "of", "and", "to", "in", "is", "that", "was", "for", "on", "are", "with"]
    )
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = " ".join(words[generator.integers(len(words), size=60)])
            prompt = f"Human: question {prompts[number]}, please\n\nAssistant:"
            row = {
                "prompt": prompt,
                "chosen": f"{prompt} {text} yes",
                "rejected": f"{prompt} {text[::-1]} no",
                "data_subset": "helpful" if number % 2 else "harmless",
                "reward_output_chosen": raw[number, :2].tolist(),
                "reward_output_rejected": raw[number, 2:].tolist(),
            }
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scores.jsonl")
        write_rows(path, options.rows, options.seed)
        print(f"{options.rows} rows, {path.stat().st_size / 1e6:.0f} MB", flush=True)
        command = "from hidden_context.cli.main import main; import sys; sys.exit(main())"
        output = str(Path(folder, "analysis.json"))
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", command, "analyze", str(path), "--output", output], check=True
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{seconds:.1f} s, peak resident memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
