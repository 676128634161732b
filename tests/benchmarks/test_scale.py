"""Costs at scale on paper: closed forms, and numbers that change as what is assumed changes."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from scale import check, cost, hardware, tokens
from scale.driver import driver_rate
from scale.hardware import H100, Cluster, Times, shape_of
from scale.tokens import Amount, Plan
from throughput.data import load_pairs, sample, triangle, work_of
from throughput.models import LLAMA_SHAPES, configuration
from transformers import AutoModelForSequenceClassification

SMALL = Plan(processes=4, comparisons=12, steps=1, corpora=4)
FEW = ("--gpus", "8", "--comparisons_per_gpu", "12", "--steps", "1", "--corpora", "2")


def one_way(groups: Any, way: str, task: str, plan: Plan = SMALL) -> Amount:
    if task == "scoring":
        return tokens.scoring(groups, way, plan.budget)
    return tokens.training(groups, way, plan)


@pytest.mark.parametrize("task", ["scoring", "training"])
@pytest.mark.parametrize(("prompt", "response", "n"), [(40, 9, 2), (40, 9, 4), (7, 30, 5)])
def test_equal_lengths_have_closed_forms(task: str, prompt: int, response: int, n: int) -> None:
    count, length = 24, prompt + response
    groups = tokens.groups_of([(prompt, [response - 1] * n)] * count)
    texts, context = n * (n - 1), length * (length + 1) / 2
    expected = dict.fromkeys(
        ("random padded", "sorted padded", "padding-free"), (texts * length, texts * context)
    )
    expected["responses"] = (n * length, n * context)
    if prompt >= 8 or task == "training":  # scoring does not look for shorter beginnings
        shared = prompt * (prompt + 1) / 2
        expected["tree"] = (prompt + n * response, n * context - (n - 1) * shared)
    for way, (run, attended) in expected.items():
        found = one_way(groups, way, task, dataclasses.replace(SMALL, responses=n))
        assert (found.tokens, found.context) == (count * run, count * attended), way


def test_sharing_among_the_pairs_of_a_ranking_by_hand() -> None:
    assert [tokens.comparisons_in(n) for n in (2, 3, 4, 8)] == [1, 3, 6, 28]
    groups = tokens.groups_of([(50, [10, 20, 30, 40])] * 6)
    assert len(tokens.pairs_of(groups)) == 36
    apart = tokens.training(groups, "tree of pairs", dataclasses.replace(SMALL, responses=4))
    # each response stands in three pairs, and each pair has the prompt once; an EOS each
    assert apart.tokens == 6 * (6 * 50 + 3 * (10 + 20 + 30 + 40 + 4))
    groups = tokens.groups_of([(200, [9, 9, 9, 9])] * 5)
    for way in ("tree of pairs", "tree"):  # scoring finds what came from one ranking
        assert tokens.scoring(groups, way, 8192).tokens == 5 * (200 + 4 * 10)
    assert tokens.scoring(groups, "padding-free", 8192).tokens == 5 * 12 * 210


@pytest.mark.parametrize("n", [2, 4])
def test_counts_are_those_of_work_of(n: int) -> None:
    groups = tokens.draw_groups(200, n, seed=1)
    work, plan = work_of(groups), dataclasses.replace(SMALL, responses=n)
    apart = tokens.scoring(groups, "responses", 8192)
    assert (apart.tokens, apart.context) == (work.tokens, work.context)
    for task in ("scoring", "training"):
        shared = one_way(groups, "tree", task, plan)
        assert (shared.tokens, shared.context) == (work.unique_tokens, work.unique_context)


@pytest.mark.slow
def test_the_real_pairs_share_as_much_as_those_drawn(real_data: Path, tmp_path: Path) -> None:
    real, _ = load_pairs(tmp_path)
    shares = [tokens.unique_share(tokens.draw_groups(len(real), 2, seed)) for seed in range(6)]
    assert abs(tokens.unique_share(real) - statistics.mean(shares)) < 0.01


@pytest.mark.parametrize("task", ["scoring", "training"])
def test_each_way_runs_no_more_than_the_one_before_and_waiting_is_not_negative(task: str) -> None:
    plan = dataclasses.replace(SMALL, responses=4)
    groups = tokens.draw_groups(120, 4, seed=2)
    found = {way: one_way(groups, way, task, plan) for way in tokens.WAYS}
    order = ["random padded", "sorted padded", "padding-free", "tree of pairs", "tree"]
    amounts = [found[way].tokens for way in order]
    assert amounts == sorted(amounts, reverse=True)
    for amount in found.values():
        assert amount.slowest >= amount.slowest_step >= amount.tokens * (1 - 1e-12)
    alone = one_way(groups, "tree", task, dataclasses.replace(plan, processes=1))
    assert alone.slowest == alone.slowest_step == alone.tokens


def test_processes_wait_in_each_pass_or_once_a_step_and_errors_are_standard_errors() -> None:
    ranks = [[tokens.one_pass(10, 0), tokens.one_pass(1, 0)], [tokens.one_pass(4, 0)] * 2]
    assert tokens.step_of(ranks) == Amount(19, 0, 4, 2 * (10 + 4), 2 * 11, 1)
    values = [Amount(v, 0, 0, 0, 0, 0) for v in (1.0, 2.0, 3.0, 6.0)]
    assert tuple(tokens.estimates(values)["tokens"]) == pytest.approx((3, (14 / 3) ** 0.5 / 2))


@pytest.mark.parametrize("name", LLAMA_SHAPES)
def test_shapes_have_the_weights_of_the_models(name: str) -> None:
    with torch.device("meta"):
        backbone = AutoModelForSequenceClassification.from_config(configuration(name)).base_model
    linear = [m for m in backbone.modules() if isinstance(m, torch.nn.Linear)]
    shape = shape_of(name)
    assert shape.cost().weights == sum(layer.weight.numel() for layer in linear)
    whole = sum(p.numel() for p in backbone.parameters())  # norms are left out
    assert shape.parameters == pytest.approx(whole, rel=0.02 if name.startswith("tiny") else 0.003)


def test_the_70b_has_its_published_sizes_and_fits_on_few_gpus() -> None:
    shape = shape_of("llama-70b")
    embedding = 128256 * 8192
    assert shape.parameters + embedding == pytest.approx(70.55e9, rel=1e-3)  # with a language head
    assert shape.trained("lora") == 80 * 8 * (8192 + 8192 + 8192 + 1024)
    used = hardware.training_memory(shape, 8192, 8, "lora", True)
    assert used.weights == 2 * shape.parameters / 8
    assert used.optimiser == 16 * shape.trained("lora") / 8
    assert used.activations == 2 * 8192 * (80 * 8192 + shape.activations)
    fewest = [hardware.fewest_gpus(shape, H100, 8192, tuning) for tuning in ("lora", "full")]
    assert fewest == [4, 32]
    assert hardware.fewest_gpus(shape, H100, 10**6, "lora") is None
    assert hardware.gpus_of_a_copy(shape, H100) == 2
    assert not hardware.fits(shape, H100, 8192, 64, "lora", False)
    small = shape_of("llama-8b")
    full = hardware.training_memory(small, 0, 1, "full", False)
    assert sum(full) == 16 * small.parameters  # weights, gradients and two moments in float32


def times_of(amount: Amount, device: Any = H100, **changes: Any) -> Times:
    cluster = Cluster(device, **changes)
    return hardware.training_times(shape_of("llama-8b"), amount, cluster, "lora", False)


def test_a_ring_moves_all_but_the_part_that_a_gpu_has() -> None:
    assert [hardware.ring_bytes(800.0, n) for n in (8, 1)] == [700, 0]
    shape, amount = shape_of("llama-8b"), Amount(6.4e6, 0.0, 6400, 6.4e6, 6.4e6, 50)
    weights, trained = 2 * shape.parameters, 4 * shape.trained("lora")
    expected = {
        64: 100 * 63 / 64 * (2 * weights + trained) / H100.network,
        8: 100 * 7 / 8 * (2 * weights + trained) / H100.link
        + 50 * 2 * 7 / 8 * trained / 8 / H100.network,
        1: 50 * 2 * 63 / 64 * trained / H100.network,
    }
    for shard, seconds in expected.items():
        assert times_of(amount, shard=shard).interconnect == pytest.approx(seconds)


def test_waiting_is_that_of_steps_where_weights_are_whole_and_of_passes_where_not() -> None:
    amount = Amount(1e9, 0.0, 1e5, 1.4e9, 1.1e9, 1e3)
    shares = [(t := times_of(amount, shard=shard)).waiting / t.compute for shard in (1, 64)]
    assert shares == pytest.approx([0.1, 0.4])


@pytest.mark.parametrize(
    ("changes", "bottleneck"),
    [
        ({}, "compute"),
        ({"network": 1e9}, "interconnect"),
        ({"bandwidth": 1e9}, "memory"),
        ({"network": 1e9, "rate": 1e9}, "compute"),
    ],
)
def test_the_bottleneck_is_what_is_made_slow(changes: Any, bottleneck: str) -> None:
    cluster = Cluster(dataclasses.replace(H100, **changes))
    amount = Amount(1e9, 1e11, 1e5, 1.1e9, 1.05e9, 1e3)
    times = hardware.training_times(shape_of("llama-70b"), amount, cluster, "lora", True)
    assert times.slowest[1] == bottleneck


def test_gathering_takes_as_long_as_computing_at_the_break_even() -> None:
    shape, cluster = shape_of("llama-70b"), Cluster(H100)
    least = hardware.break_even(shape, cluster, "lora", True)
    amount = Amount(least * 64, 0.0, 64, least * 64, least * 64, 0)
    times = hardware.training_times(shape, amount, cluster, "lora", True)
    assert times.interconnect == pytest.approx(times.compute, rel=1e-6)
    faster = dataclasses.replace(cluster, mfu=0.8)
    assert hardware.break_even(shape, faster, "lora", True) == pytest.approx(2 * least)


def test_flops_are_those_of_a_step() -> None:
    shape = shape_of("tiny-llama")
    weights, width = 2 * (2 * 64 * (64 + 32) + 3 * 64 * 192), 2 * 64
    amount = Amount(1000, 5000, 1, 1000, 1000, 1)
    forward = 2 * weights * 1000 + 4 * width * 5000
    expected = {
        ("lora", False): 4 * weights * 1000 + 12 * width * 5000,
        ("lora", True): 4 * weights * 1000 + 12 * width * 5000 + forward,
        ("full", False): 3 * forward,
        ("full", True): 4 * forward,
    }
    for given, flops in expected.items():
        assert hardware.training_flops(shape.cost(), amount, *given) == flops
    assert shape.cost().weights - shape.cost(True).weights == 3 * 64 * 192


def test_costs_are_proportional_to_the_comparisons_and_the_price() -> None:
    def options(*more: str) -> Any:
        return cost.options_of(["--model", "llama-8b", *FEW, *more])

    amounts = cost.simulate_all(options())
    one, ten, dear = (
        cost.costs(options(*more), amounts)
        for more in ([], ["--comparisons", "1e10"], ["--price", "5"])
    )
    for a, b, c in zip(one, ten, dear, strict=True):
        for name in ("tokens", "tokens_error", "flops", "seconds", "gpu_hours", "price"):
            assert b[name] == pytest.approx(10 * a[name], rel=1e-6)
        assert a["bottleneck"] == b["bottleneck"]
        assert c["price"] == pytest.approx(2 * a["price"])
        assert a["price"] == pytest.approx(2.5 * a["gpu_hours"])
    shared = {(r["job"], r["corpus"], r["way"]): r["flops"] for r in one}
    for job in ("scoring", "lora"):
        for corpus in ("pairs", "rankings"):
            assert shared[job, corpus, "tree"] < shared[job, corpus, "padding-free"]


def test_the_command_is_measured_by_its_own_code() -> None:
    found = driver_rate(600, 4, rounds=1)  # more than a window
    assert found["rows_per_second"] > 0
    assert 0 < found["output_bytes"] - found["input_bytes"] < 400


def test_measured_texts_are_laid_out_again_and_a_wrong_prediction_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flops(tokens: int, context: int, shares: bool, forward: int = 2) -> float:
        weights = (24 - 8 * shares) * 64**2  # 2 layers of width 64; one feed-forward block less
        return 2 * forward * weights * tokens + (4 if forward == 1 else 12) * 128 * context

    drawn = sample(load_pairs(tmp_path, 512, toy=True)[0], 4, 512, seed=0)
    work, lengths = work_of(drawn), [len(text) for pair in drawn for text in pair]
    alone = [-(-length // 64) * 64 for length in lengths]
    paper = flops(sum(alone), sum(map(triangle, alone)), False, 1)
    scored = flops(work.unique_tokens, work.unique_context, True, 1)
    padded = flops(8 * max(lengths), 8 * triangle(max(lengths)), False)
    trained = flops(work.unique_tokens, work.unique_context, True)
    # two rankings of 3: a prompt of 40 tokens, responses of 10
    trl = flops(12 * 50, 12 * triangle(50), False)
    pairs = flops(6 * 60, 12 * triangle(50) - 6 * triangle(40), True)
    ranking = flops(2 * 70, 6 * triangle(50) - 4 * triangle(40), True)
    rate, part = 1e9, "rankings of 3"
    seconds = {  # the tree reaches half of the rate, TRL all of it on pairs and half on rankings
        ("scoring", "paper"): paper / rate,
        ("scoring", "tree"): 2 * scored / rate,
        ("training", "trl"): padded / rate,
        ("training", "tree"): 2 * trained / rate,
        (part, "pairs"): 2 * pairs / rate,
        (part, "trl"): 2 * trl / rate,
        (part, "ranking"): 2 * ranking / rate,
    }
    common = {"model": "tiny", "precision": "float32"}
    rows = [
        {"part": part, "row": row, "skipped": None, "seconds": [taken], **common}
        for (part, row), taken in seconds.items()
    ]
    measurement = {
        "options": {"toy": "True", "rankings_per_step": "2", "row": "None", "part": ["scoring"]},
        "data": "64 short synthetic pairs",
        "rows": [*rows, {**rows[0], "skipped": "no"}, {**rows[0], "row": "padding-free"}],
        "roofline": [
            {"part": part, "matrix_flops_per_second": rate, **common}
            for part in dict.fromkeys(part for part, _ in seconds)
        ],
    }

    def measured(arguments: list[str]) -> int:
        assert time.perf_counter is time.process_time
        assert arguments[-4:] == ["--threads", "1", "--device", "cpu"]
        path.write_text(json.dumps(measurement))
        return 0

    monkeypatch.setattr("throughput.run.main", measured)
    path, output = tmp_path / "measured.json", tmp_path / "checks.json"
    assert check.main(["measure", "--toy", "--output", str(path)]) == 0
    assert json.loads(path.read_text())["clock"] == "processor time of one thread"
    assert check.main(["--checked", str(path), "--rows", "64", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    checks = {(c["part"], c["row"], c["what"]): c for c in found["checks"]}
    tokens_alone, by_flops, fitted = "ratio, tokens alone", "ratio, FLOPs", "ratio, fitted"
    expected = {  # what is predicted, and what was measured
        ("scoring", "paper", tokens_alone): (work.tokens / work.unique_tokens, paper / scored / 2),
        ("scoring", "paper", by_flops): (paper / scored, paper / scored / 2),
        ("training", "trl", tokens_alone): (work.tokens / work.unique_tokens, padded / trained / 2),
        ("training", "trl", by_flops): (padded / trained, padded / trained / 2),
        (part, "pairs", tokens_alone): (360 / 140, pairs / ranking),
        (part, "pairs", by_flops): (pairs / ranking, pairs / ranking),
        (part, "pairs", fitted): (pairs / ranking, pairs / ranking),
        (part, "trl", tokens_alone): (600 / 140, trl / ranking),
        (part, "trl", by_flops): (trl / ranking, trl / ranking),
        (part, "trl", fitted): (trl / ranking / 2, trl / ranking),
        (part, "pairs", "seconds"): (2 * pairs / rate, 2 * pairs / rate),
        (part, "trl", "seconds"): (trl / rate, 2 * trl / rate),
        (part, "ranking", "seconds"): (2 * ranking / rate, 2 * ranking / rate),
    }
    assert list(checks) == list(expected)
    for key, (predicted, taken) in expected.items():
        numbers = [checks[key][name] for name in ("predicted", "measured", "error")]
        assert numbers == pytest.approx([predicted, taken, predicted / taken - 1], abs=1e-9), key
        assert checks[key]["within"] == (abs(predicted / taken - 1) <= 0.25), key
    assert [(s["what"], s["checks"], s["within"]) for s in found["checks_summary"]][1:] == [
        (by_flops, 4, 2),
        (fitted, 2, 1),
        ("seconds", 3, 2),
    ]
    assert found["training_bytes_per_pair"] == pytest.approx(19_000, rel=0.25)
    assert found["tokens_per_second"] > 0
    for content, said in (
        (json.dumps({**measurement, "data": "other pairs"}), "measured on other pairs, but"),
        ("[]", f"{path} has no options, data, rows, roofline. Give a file that"),
        ("{", f"--checked: {path}.* Give a file that"),
    ):
        path.write_text(content)
        with pytest.raises(SystemExit, match=said):
            check.main(["--checked", str(path)])


@pytest.mark.slow
def test_the_script_prints_tables_and_writes_all_numbers(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "scale.json"
    printed = script("scale/cost.py", *FEW, "--driver_rows", "64", "--output", path)
    found = json.loads(path.read_text())
    wanted = {("llama-8b", "lora", 1), ("llama-70b", "lora", 8), ("llama-70b", "scoring", None)}
    assert wanted < {(row["model"], row["job"], row["shard"]) for row in found["costs"]}
    assert len(found["amounts"]) == 2 * (len(tokens.OF_PAIRS) + len(tokens.WAYS))
    assert [row["rows"] for row in found["around"]] == pytest.approx([1e9, 1e9 / 6])
    assert "the whole run" in printed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--model", "llama-9b"), "--model: llama-9b is not known"),
        (("--responses", "2"), "--responses: a ranking has 3 or more"),
        *(
            ((f"--{name}", number), "GPUs, comparisons, corpora and steps are at least 1")
            for name in ("gpus", "comparisons", "corpora", "steps")
            for number in ("0", "-5")
        ),
    ],
)
def test_wrong_options_are_named(wrong: Any, message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cost.options_of(wrong)
    assert message in capsys.readouterr().err
