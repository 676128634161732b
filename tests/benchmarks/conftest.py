"""Scripts run as a user runs them: as files, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def script() -> Callable[..., str]:
    """Run a script of ``benchmarks/`` to its end, and return what it prints."""

    def run(name: str, *options: object) -> str:
        done = subprocess.run(
            [sys.executable, str(FOLDER / name), *map(str, options)],
            capture_output=True,
            text=True,
            timeout=500,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
