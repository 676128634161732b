"""Run ``throughput.py`` in one thread by processor time, for ``scale.py --checked``.

On a machine that others use, seconds of the clock tell what others left. One thread's processor
time does not count what it waited or stood still. Caches and memory are still shared.

    python benchmarks/scale_measure.py --part scoring,training,rankings,roofline
        --model small,gpt2 --precision float32 --rounds 2 --train_rounds 1
        --responses_per_ranking 4 --output measured.json
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

PROCESSOR = "processor time of one thread"


def main(argv: Sequence[str] | None = None) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = [*(sys.argv[1:] if argv is None else argv), "--threads", "1", "--device", "cpu"]
    import throughput

    output = throughput.parser().parse_args(arguments).output
    with mock.patch.object(time, "perf_counter", time.process_time):
        done = throughput.main(arguments)
    if output is not None:
        found = json.loads(Path(output).read_text())
        Path(output).write_text(json.dumps({**found, "clock": PROCESSOR}, indent=2) + "\n")
    return done


if __name__ == "__main__":
    sys.exit(main())
