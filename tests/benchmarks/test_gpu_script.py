"""The script for a GPU machine: its parts on a toy, and what it makes of each way they can end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from throughput import gpu_parts

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "throughput" / "gpu.sh"
NAMES = ["parity", "attention", "budget", "recovery", "scoring", "training", "memory", "qlora"]
pytestmark = pytest.mark.skipif(
    shutil.which("timeout") is None or shutil.which("bash") is None,
    reason="the script needs bash and timeout",
)
RESULTS = {
    "machine": {"gpu": None},
    "targets": [],
    "skipped": ["qlora: why not"],
    "rows": [],
    **{kind: [] for kind in ("parity", "attention", "budget", "recovery")},
}


def gpu(folder: Path, *options: str, python: Path | str = sys.executable) -> Any:
    return subprocess.run(
        [str(SCRIPT), "--toy", "--output", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, "PYTHON": str(python), "OMP_NUM_THREADS": "1"},
    )


def parts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())["parts"]


def states_of(folder: Path) -> dict[str, str]:
    return {name: entry["state"] for name, entry in parts_of(folder).items()}


@pytest.fixture
def stand_in(tmp_path: Path) -> Any:
    """A Python that runs parts as it is told, and is the real one for everything else."""

    def make(run: str, before: str = "") -> Path:
        (tmp_path / "results.json").write_text(json.dumps(RESULTS))
        script = tmp_path / "python"
        script.write_text(
            f"""#!/usr/bin/env bash
done_with() {{ cp {tmp_path}/results.json "$1/$2.json"; }}
{before}
if [ "${{2:-}}" = run ]; then part=$3 folder=$5
{run}
fi
exec {sys.executable} "$@"
"""
        )
        script.chmod(0o755)
        return script

    return make


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    done = gpu(folder, "--only", "parity,recovery")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_way_agrees_with_transformers_in_every_precision(toy: Path) -> None:
    rows = json.loads((toy / "parity.json").read_text())["parity"]
    off = {(row["precision"], row["what"], row["way"]): row["difference"] for row in rows}
    assert list(off) == [
        (precision, what, way)
        for precision in ("float32", "bfloat16", "float16")
        for what in ("rewards", "gradients")[: 1 + (precision != "float16")]
        for way in ("transformers", "padded", "cache", "tree")
        if what == "rewards" or way in ("padded", "tree")
    ]
    assert off["float32", "rewards", "transformers"] == 0
    assert off["float32", "gradients", "padded"] == 0
    for (precision, what, _), value in off.items():
        assert value < {"float32": 1e-5, "bfloat16": 5e-2, "float16": 1e-2}[precision], what
        # the same weights, so that half precision is near, and rounded, so that it is not equal
        assert precision == "float32" or value > 1e-5
    assert all(row["reached"] for row in rows)


@pytest.mark.slow
def test_passes_are_halved_and_rewards_stay_where_memory_runs_out(toy: Path) -> None:
    rows = json.loads((toy / "recovery.json").read_text())["recovery"]
    assert [row["way"] for row in rows] == ["padded", "tree"]
    for row in rows:
        assert row["halved"][0][1] == row["tokens"] // 2
        assert row["difference"] < 1e-2
        assert row["reached"] is True


@pytest.mark.slow
def test_summary_counts_checks_and_a_second_call_runs_nothing_again(toy: Path) -> None:
    assert states_of(toy) == {
        name: "ok" if name in ("parity", "recovery") else "skipped" for name in NAMES
    }
    parts = parts_of(toy)
    assert (parts["parity"]["checks_passed"], parts["recovery"]["checks_passed"]) == (16, 2)
    assert parts["scoring"]["reason"] == "not asked for"
    machine = json.loads((toy / "summary.json").read_text())["machine"]
    assert machine["torch"] == torch.__version__
    before = (toy / "parity.json").stat().st_mtime_ns
    done = gpu(toy, "--only", "parity,recovery")
    assert done.returncode == 0
    assert done.stdout.count("is there already") == 2
    assert (toy / "parity.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_check_that_is_not_passed_is_an_exit_status(toy: Path, tmp_path: Path) -> None:
    found = json.loads((toy / "parity.json").read_text())
    found["targets"].append(
        {"target": "parity, tree", "found": 0.3, "wanted": "within", "reached": False}
    )
    (tmp_path / "parity.json").write_text(json.dumps(found))
    done = gpu(tmp_path, "--only", "parity")
    assert done.returncode == 1
    assert "not within its tolerance: parity, tree: 0.3" in done.stdout
    assert "16 of 17 checks passed" in done.stdout
    assert states_of(tmp_path)["parity"] == "failed"


def test_a_part_that_breaks_is_reported_and_the_others_run(tmp_path: Path, stand_in: Any) -> None:
    broken = 'if [ $part = budget ]; then echo "no room" >&2; exit 7; fi'
    python = stand_in(f"{broken}; done_with $folder $part; exit 0")
    folder = tmp_path / "out"
    done = gpu(folder, "--skip", "memory,qlora", python=python)
    assert done.returncode == 1
    assert states_of(folder) == {
        name: {"budget": "failed", "memory": "skipped", "qlora": "skipped"}.get(name, "ok")
        for name in NAMES
    }
    entry = parts_of(folder)["budget"]
    assert entry["reason"] == "exit status 7, see budget.log"
    assert entry["last_lines"] == ["no room"]
    assert parts_of(folder)["scoring"]["left_out"] == ["qlora: why not"]
    # the next call runs nothing but what is missing
    python = stand_in("done_with $folder $part; exit 0")
    done = gpu(folder, "--skip", "memory,qlora", python=python)
    assert done.returncode == 0
    assert done.stdout.count("at most") == 1
    assert states_of(folder)["budget"] == "ok"


def test_a_part_has_its_share_of_the_time_left(tmp_path: Path, stand_in: Any) -> None:
    python = stand_in("done_with $folder $part; exit 0")
    done = gpu(tmp_path / "all", "--minutes", "25", "--only", "parity,training", python=python)
    assert done.returncode == 0
    limits = [int(line.split()[-2]) for line in done.stdout.splitlines() if "at most" in line]
    # 25 minutes less 5 s: three parts of eight, and then all that is left:
    # 560 and 1495 s, and what the script itself takes on a busy machine
    assert 480 < limits[0] <= 560
    assert 1280 < limits[1] <= 1495


def test_time_that_runs_out_is_an_exit_status_of_its_own(tmp_path: Path, stand_in: Any) -> None:
    done = gpu(tmp_path / "none", "--minutes", "0", "--only", "parity", python=stand_in("exit 0"))
    assert done.returncode == 3
    assert parts_of(tmp_path / "none")["parity"]["reason"] == "it was not begun"
    python = stand_in("exec sleep 300")
    done = gpu(tmp_path / "late", "--minutes", "0.2", "--only", "parity", python=python)
    assert done.returncode == 3
    assert states_of(tmp_path / "late")["parity"] == "out of time"


def test_missing_packages_come_from_wheels_and_pytorch_stays(tmp_path: Path, stand_in: Any) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "trl-1.0-py3-none-any.whl").touch()
    before = (
        f'if [ "${{2:-}}" = unmet ]; then echo "lacking>=2"; exit 0; fi\n'
        f'if [ "${{2:-}}" = pip ]; then echo "$@" >> {tmp_path}/pip; exit 0; fi'
    )
    python = stand_in("done_with $folder $part; exit 0", before)
    folder = tmp_path / "out"
    done = gpu(folder, "--only", "parity", python=python)
    assert done.returncode == 2
    assert "not installed here: lacking>=2; --wheels FOLDER" in done.stderr
    done = gpu(folder, "--only", "parity", "--wheels", str(wheels), python=python)
    assert done.returncode == 0, done.stderr
    common = f"-m pip install --quiet --no-index --find-links {wheels}"
    common += f" --constraint {folder}/constraints.txt"
    assert (tmp_path / "pip").read_text().splitlines() == [f"{common} lacking>=2", f"{common} trl"]
    assert f"torch=={metadata.version('torch')}" in (folder / "constraints.txt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "speed"], "speed is no part; there are: parity attention budget"),
        (["--minutes", "soon"], "--minutes is a number, not 'soon'"),
        (["--weights", "/nowhere"], "--weights: /nowhere has no config.json"),
        (["--wheels", "/nowhere"], "--wheels: there is no folder /nowhere"),
        (["--tody"], "--tody is not known"),
        (["--skip"], "--skip needs a value"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: list[str], message: str) -> None:
    done = gpu(tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_shares_are_the_25_minutes_and_requirements_are_met_here() -> None:
    assert sum(part.minutes for part in gpu_parts.PARTS.values()) == 25
    assert gpu_parts.unmet() == []
    assert not gpu_parts._met("numpy>=1000")
    assert not gpu_parts._met("a-package-that-is-not-there>=1")
    assert all(
        line.startswith(("torch", "triton", "nvidia", "cuda")) for line in gpu_parts.constraints()
    )
