"""The throughput benchmark runs at toy size and writes every row; speed itself is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "throughput.py"
ALL_PARTS = "equality,scoring,responses,training,curve,memory,roofline"
PADDED = ["sorted 1024", "sorted 4096", "padded"]


def run(output: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--toy", "--device", "cpu", "--threads", "1", *options]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def rows_of(found: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    return {row["row"]: row for row in found["rows"] if row["part"] == part}


def check_rows(found: dict[str, Any], precision: str) -> None:
    expected = {
        "scoring": ["paper", *PADDED, "padding-free", "tree"],
        "responses": ["paper", *PADDED, "padding-free", "tree"],
        "training": ["paper", "trl", *PADDED, "tree"],
    }
    for part, names in expected.items():
        rows = rows_of(found, part)
        assert list(rows) == names
        for name, row in rows.items():
            assert row["precision"] == precision
            if name == "trl" and find_spec("trl") is None:
                assert row["skipped"] == "TRL is not installed (pip install trl)"
                continue
            assert row["skipped"] is None
            for number in ("groups_per_second", "tokens_per_second", "ratio_to_paper"):
                assert 0 < row[number]["low"] <= row[number]["median"] <= row[number]["high"]
        assert rows["paper"]["ratio_to_paper"]["median"] == 1
    limits = {row["part"]: row for row in found["roofline"]}
    assert set(limits) == set(expected)
    for limit in limits.values():
        # the share of text tokens that are not shared, of FLOPs per token, of the matrix rate
        assert limit["tokens_per_unique_token"] > 1
        seconds = limit["unique_tokens"] * limit["flops_per_unique_token"]
        seconds /= limit["matrix_flops_per_second"]
        groups = {"scoring": 4, "responses": 1, "training": 4}[limit["part"]]
        assert limit["groups_per_second"] == pytest.approx(groups / seconds)


def check_memory(measured: list[dict[str, Any]]) -> None:
    rows = {row["row"]: row for row in measured}
    assert set(rows) == ({"tree"} if find_spec("trl") is None else {"trl", "tree"})
    for row in rows.values():
        assert row["skipped"] is None
        # a step of a tiny model: more than nothing, less than the process itself
        assert 0 < row["peak_bytes"] < row["model_bytes"]


@pytest.mark.slow
def test_toy_run_has_every_row_and_equal_losses(tmp_path: Path) -> None:
    found = run(tmp_path / "toy.json", "--model", "tiny,llama-8b", "--part", ALL_PARTS)
    check_rows(found, "float32")
    assert any("llama-8b: it needs a GPU" in reason for reason in found["skipped"])
    check_memory(found["memory"])
    for row in rows_of(found, "scoring").values():
        assert row["difference_to_paper"] < 1e-4
    losses = found["curve"]["losses"]
    assert len(losses["tree"]) == 4
    assert len(set(losses["tree"])) == 4  # it learns, or at least sees other pairs
    for name in ("padded", "paper"):
        assert losses[name] == pytest.approx(losses["tree"], abs=1e-3)
    if find_spec("trl") is not None:
        assert losses["trl"] == pytest.approx(losses["tree"], abs=1e-3)
    assert all(row["rewards"] < 1e-4 and row["gradients"] < 1e-4 for row in found["equality"])
    wanted = [row["target"] for row in found["targets"]]
    assert "scoring, tiny: tree, float32, against paper, float32" in wanted
    assert "training, tiny: tree, float32, against best padded, float32" in wanted


@pytest.mark.slow
def test_rankings_and_their_pairs_have_equal_losses(tmp_path: Path) -> None:
    options = ("--part", "rankings,roofline", "--responses_per_ranking", "3,4")
    found = run(tmp_path / "rankings.json", *options, "--rankings_per_step", "2")
    rows = ["pairs", "trl", "ranking"]
    losses_of_rows = rows if find_spec("trl") else ["pairs", "ranking"]
    # prompt of 40 tokens, responses of 10
    tokens = {3: (2 * 3 * 50, 2 * 70, 6), 4: (2 * 4 * 50, 2 * 80, 12)}
    for each, limit in zip(found["rankings"], found["roofline"], strict=True):
        separate, unique, pairs = tokens[each["responses"]]
        assert limit["unique_tokens"] == unique
        assert limit["tokens_per_unique_token"] == pytest.approx(separate / unique)
        assert each["pairs_per_step"] == pairs
        assert list(rows_of(found, each["part"])) == rows
        assert sorted(each["losses"]) == sorted(losses_of_rows)
        first, *others = each["losses"].values()
        assert len(first) == 1
        for losses in others:
            assert losses == pytest.approx(first, abs=1e-5)
        assert each["difference"] <= 1e-5
    wanted = {row["target"]: row["wanted"] for row in found["targets"]}
    assert wanted["rankings of 4, tiny: ranking, float32, against pairs, float32"] == "≥ 4.2"


@pytest.mark.slow
def test_the_way_of_a_gpu_runs_on_a_tiny_llama(tmp_path: Path) -> None:
    found = run(tmp_path / "llama.json", "--model", "tiny-llama", "--precision", "bfloat16")
    check_rows(found, "bfloat16")
    checked = {row["precision"]: row for row in found["equality"]}
    assert checked["float32"]["rewards"] < 1e-4
    assert checked["float32"]["gradients"] < 1e-4
    assert checked["bfloat16"]["rewards"] < 5e-2
    assert checked["bfloat16"]["gradients"] < 5e-2
