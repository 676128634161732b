"""The throughput benchmark runs at toy size and writes every row; speed itself is not tested."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any
from unittest import mock

import pytest
import torch
from throughput.attention import variable_length_lacks
from throughput.measure import peak_rate
from throughput.parity import compare

PADDED = ["sorted 1024", "sorted 4096", "padded"]
SCORED = ["paper", *PADDED, "padding-free", "tree"]
ROWS = {"scoring": SCORED, "responses": SCORED, "training": ["paper", "trl", *PADDED, "tree"]}
RANKINGS = {f"rankings of {n}": ["pairs", "trl", "ranking"] for n in (3, 4)}
HAS_TRL = find_spec("trl") is not None
TOY = ("--toy", "--device", "cpu", "--threads", 1)
PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def found(script: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("throughput") / "toy.json"
    parts = "equality,scoring,responses,training,rankings,curve,roofline"
    script(
        "throughput/run.py",
        *(*TOY, "--model", "tiny,tiny-llama,llama-8b", "--precision", ",".join(PRECISIONS)),
        *("--part", parts, "--responses_per_ranking", "3,4", "--rankings_per_step", 2),
        *("--output", output),
    )
    return json.loads(output.read_text())


def rows_of(found: dict[str, Any], **wanted: str) -> dict[str, dict[str, Any]]:
    chosen = [row for row in found["rows"] if wanted.items() <= row.items()]
    return {row["row"]: row for row in chosen}


@pytest.mark.slow
@pytest.mark.parametrize("part", [*ROWS, *RANKINGS])
@pytest.mark.parametrize("model", ["tiny", "tiny-llama"])
def test_every_row_is_there_and_the_roofline_follows_from_its_parts(
    found: dict[str, Any], part: str, model: str
) -> None:
    base = "pairs" if part in RANKINGS else "paper"
    for precision in PRECISIONS if part in ROWS else PRECISIONS[:1]:
        rows = rows_of(found, part=part, model=model, precision=precision)
        assert list(rows) == {**ROWS, **RANKINGS}[part]
        for name, row in rows.items():
            if name == "trl" and not HAS_TRL:
                assert row["skipped"] == "TRL is not installed (pip install trl)"
                continue
            assert row["skipped"] is None
            for number in ("groups_per_second", "tokens_per_second", f"ratio_to_{base}"):
                assert 0 < row[number]["low"] <= row[number]["median"] <= row[number]["high"]
        assert rows[base][f"ratio_to_{base}"]["median"] == 1
        if part == "scoring":
            limit = {"float32": 1e-4, "bfloat16": 5e-2}[precision]
            assert all(row["difference_to_paper"] < limit for row in rows.values())
    limits = [r for r in found["roofline"] if (r["part"], r["model"]) == (part, model)]
    assert [limit["precision"] for limit in limits] == list(PRECISIONS)
    groups = {"scoring": 4, "responses": 1, "training": 4}.get(part, 2)
    for limit in limits:
        seconds = limit["unique_tokens"] * limit["flops_per_unique_token"]
        seconds /= limit["matrix_flops_per_second"]
        assert limit["groups_per_second"] == pytest.approx(groups / seconds)
        assert limit["tokens_per_unique_token"] > 1
        if part in RANKINGS:  # prompt of 40 tokens, responses of 10
            n = int(part[-1])
            assert limit["unique_tokens"] == 2 * (40 + 10 * n)
            assert limit["tokens_per_unique_token"] == pytest.approx(50 * n / (40 + 10 * n))


@pytest.mark.slow
def test_losses_and_gradients_are_equal_and_what_needs_a_gpu_is_skipped(
    found: dict[str, Any],
) -> None:
    assert found["skipped"][0].startswith("llama-8b: it needs a GPU")
    losses = found["curve"]["losses"]
    assert len(set(losses["tree"])) == 4  # it learns, or at least sees other pairs
    for name in ("padded", "paper", *(["trl"] if HAS_TRL else [])):
        assert losses[name] == pytest.approx(losses["tree"], abs=1e-3)
    for each in found["rankings"]:
        n = each["responses"]
        assert each["pairs_per_step"] == n * (n - 1)
        assert sorted(each["losses"]) == sorted(["pairs", "ranking", *(["trl"] if HAS_TRL else [])])
        first, *others = each["losses"].values()
        assert len(first) == 1
        assert all(other == pytest.approx(first, abs=1e-5) for other in others)
        assert each["difference"] <= 1e-5
    checked = {(row["model"], row["precision"]) for row in found["equality"]}
    assert checked == {(m, p) for m in ("tiny", "tiny-llama") for p in PRECISIONS}
    for row in found["equality"]:
        limit = 1e-4 if row["precision"] == "float32" else 5e-2
        assert max(row["rewards"], row["gradients"]) < limit
    assert found["targets"]
    assert all(row["reached"] for row in found["targets"])


@pytest.mark.slow
def test_a_step_needs_more_memory_than_nothing_and_less_than_the_process(script: Any) -> None:
    printed = script(
        "throughput/run.py",
        *(*TOY, "--model", "tiny", "--precision", "float32", "--memory_of", "tree"),
    )
    measured = json.loads(printed.splitlines()[-1])
    assert 0 < measured["peak_bytes"] < measured["model_bytes"]


def test_rounding_is_judged_by_that_of_the_plain_way() -> None:
    right = torch.full((4,), 2.0, dtype=torch.float64)
    found = {
        "transformers": right * 1.01,
        "padded": right * 1.019,
        "cache": "it keeps no keys",
        "tree": right * 1.021,
    }
    rows = compare("rewards", "toy", "bfloat16", found, right)
    off = [pytest.approx(0.01), pytest.approx(0.019), None, pytest.approx(0.021)]
    assert [row["difference"] for row in rows] == off
    assert [row["tolerance"] for row in rows] == [0.05, *[pytest.approx(0.02)] * 3]
    assert [row["reached"] for row in rows] == [True, True, False, False]
    assert rows[2]["note"] == "it keeps no keys"
    exact = compare("rewards", "toy", "float32", found, right)
    assert [row["reached"] for row in exact] == [False] * 4


def test_a_kernel_of_another_version_is_named() -> None:
    def older(query: Any, key: Any, value: Any, *, scale: Any = None) -> None:
        """As a release before grouped queries and windows had it."""

    varlen = pytest.importorskip("torch.nn.attention.varlen")
    with mock.patch.object(varlen, "varlen_attn", older):
        assert variable_length_lacks() == (
            f"varlen_attn of PyTorch {torch.__version__} does not take window_size, enable_gqa"
        )


def test_the_rate_of_a_data_sheet_is_looked_up_or_told() -> None:
    assert peak_rate(torch.device("cpu")) is None
    assert peak_rate(torch.device("cpu"), 2.3) == 2.3e12
    with mock.patch("torch.cuda.get_device_name", return_value="NVIDIA H200"):
        assert peak_rate(torch.device("cuda")) == 989e12
