"""Costs at scale on paper: closed forms, invariances, and checks that a wrong prediction fails."""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
import scale
import scale_check
import scale_driver
import scale_hardware as hardware
import scale_lengths as lengths
import scale_memory as memory
import scale_tokens as tokens
import throughput_data
import torch
from scale_check import Measured
from scale_hardware import Cluster
from scale_tokens import Amount, Plan
from throughput_models import LLAMA_SHAPES, configuration
from transformers import AutoModelForSequenceClassification

SMALL = Plan(processes=4, comparisons=12, steps=1, corpora=4)
H100 = hardware.DEVICES["h100"]


def one_way(groups: Any, way: str, task: str, plan: Plan = SMALL) -> Amount:
    if task == "scoring":
        return tokens.scoring(groups, way, plan.budget)
    return tokens.training(groups, way, plan)


@pytest.mark.parametrize("task", ["scoring", "training"])
@pytest.mark.parametrize(("prompt", "response", "n"), [(40, 9, 2), (40, 9, 4), (7, 30, 5)])
def test_equal_lengths_have_closed_forms(task: str, prompt: int, response: int, n: int) -> None:
    count, length = 24, prompt + response
    groups = lengths.groups_of([(prompt, [response - 1] * n)] * count)
    pairs = n * (n - 1) // 2
    plan = dataclasses.replace(SMALL, responses=n)
    expected = {
        "random padded": (2 * pairs * length, 2 * pairs * length * (length + 1) / 2),
        "sorted padded": (2 * pairs * length, 2 * pairs * length * (length + 1) / 2),
        "padding-free": (2 * pairs * length, 2 * pairs * length * (length + 1) / 2),
        "responses": (n * length, n * length * (length + 1) / 2),
    }
    shared = prompt * (prompt + 1) / 2
    if prompt >= 8 or task == "training":  # scoring does not look for shorter beginnings
        unique = prompt + n * response
        expected["tree"] = (unique, n * length * (length + 1) / 2 - (n - 1) * shared)
    for way, (run, context) in expected.items():
        found = one_way(groups, way, task, plan)
        assert found.tokens == count * run, way
        assert found.context == count * context, way


def test_rankings_give_all_comparisons_and_a_pair_of_each_runs_alone_in_training() -> None:
    assert [lengths.comparisons_in(n) for n in (2, 3, 4, 8)] == [1, 3, 6, 28]
    groups = lengths.groups_of([(50, [10, 20, 30, 40])] * 6)
    assert len(lengths.pairs_in(groups)) == 36
    apart = tokens.training(groups, "tree of pairs", dataclasses.replace(SMALL, responses=4))
    # each response stands in three pairs, and each pair has the prompt once; an EOS each
    assert apart.tokens == 6 * (6 * 50 + 3 * (10 + 20 + 30 + 40 + 4))


def test_scoring_finds_prompts_and_responses_of_pairs_that_came_from_one_ranking() -> None:
    groups = lengths.groups_of([(200, [9, 9, 9, 9])] * 5)
    for way in ("tree of pairs", "tree"):  # each of the 4 responses stands in 3 of the 6 pairs
        assert tokens.scoring(groups, way, 8192).tokens == 5 * (200 + 4 * 10)
    assert tokens.scoring(groups, "padding-free", 8192).tokens == 5 * 12 * 210


def test_lengths_are_drawn_as_throughput_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(draw: random.Random, vocabulary: int, prompt: int, responses: Any) -> Any:
        return prompt, list(responses)

    monkeypatch.setattr(throughput_data, "branches", bare)
    draw = random.Random(5)
    own = [lengths.draw_lengths(draw, 2) for _ in range(300)]
    expected: list[Any] = throughput_data.synthetic_pairs(300, 32_000, seed=5)
    assert own == expected


@pytest.mark.parametrize("n", [2, 4])
def test_counts_are_those_of_work_of(n: int) -> None:
    groups = lengths.draw_groups(200, n, seed=1)
    work = throughput_data.work_of(groups)
    apart, shared = (tokens.scoring(groups, way, 8192) for way in ("responses", "tree"))
    assert (apart.tokens, apart.context) == (work.tokens, work.context)
    assert (shared.tokens, shared.context) == (work.unique_tokens, work.unique_context)
    assert lengths.unique_share(groups) == work.unique_tokens / work.tokens
    plan = dataclasses.replace(SMALL, responses=n)
    trained = tokens.training(groups, "tree", plan)
    assert (trained.tokens, trained.context) == (work.unique_tokens, work.unique_context)


@pytest.mark.slow
def test_the_real_pairs_share_as_much_as_those_drawn(real_data: Path, tmp_path: Path) -> None:
    real = throughput_data.load_pairs(tmp_path).pairs
    shares = [lengths.unique_share(lengths.draw_groups(len(real), 2, seed)) for seed in range(6)]
    assert abs(lengths.unique_share(real) - statistics.mean(shares)) < 0.01


def test_each_way_runs_no_more_than_the_one_before_and_waiting_is_not_negative() -> None:
    plan = dataclasses.replace(SMALL, responses=4)
    groups = lengths.draw_groups(120, 4, seed=2)
    for task in ("scoring", "training"):
        found = {way: one_way(groups, way, task, plan) for way in tokens.WAYS}
        order = ["random padded", "sorted padded", "padding-free", "tree of pairs", "tree"]
        amounts = [found[way].tokens for way in order]
        assert amounts == sorted(amounts, reverse=True)
        for amount in found.values():
            assert amount.slowest >= amount.slowest_step >= amount.tokens * (1 - 1e-12)
    alone = tokens.training(groups, "tree", dataclasses.replace(plan, processes=1))
    assert alone.slowest == alone.slowest_step == alone.tokens


def test_the_slower_process_is_waited_for_in_each_pass_or_once_a_step() -> None:
    ranks = [[tokens.one_pass(10, 0), tokens.one_pass(1, 0)], [tokens.one_pass(4, 0)] * 2]
    found = tokens.step_of(ranks)
    assert (found.tokens, found.passes, found.steps) == (19, 4, 1)
    assert found.slowest == 2 * (10 + 4)
    assert found.slowest_step == 2 * 11


def test_the_standard_error_shrinks_with_the_root_of_the_corpora() -> None:
    plan = Plan(processes=2, comparisons=20, steps=1)
    found = {
        corpora: tokens.simulate("scoring", ["tree"], dataclasses.replace(plan, corpora=corpora))
        for corpora in (100, 400)
    }
    few, many = (found[corpora]["tree"]["tokens"] for corpora in (100, 400))
    assert few.error / many.error == pytest.approx(2, rel=0.2)
    assert abs(few.mean - many.mean) < 3 * few.error
    values = [Amount(v, 0, 0, 0, 0, 0) for v in (1.0, 2.0, 3.0, 6.0)]
    assert tuple(tokens.estimates(values)["tokens"]) == pytest.approx((3, (14 / 3) ** 0.5 / 2))


@pytest.mark.parametrize("name", ["tiny", "small", "gpt2", *LLAMA_SHAPES])
def test_shapes_have_the_weights_of_the_models(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(configuration(name))
    backbone = model.base_model
    linear = [m for m in backbone.modules() if type(m).__name__ in ("Linear", "Conv1D")]
    shape = hardware.shape_of(name)
    assert shape.cost.weights == sum(layer.weight.numel() for layer in linear)
    # positions of GPT-2, norms and biases are left out
    positions = 1024 * shape.hidden if not shape.gated else 0
    whole = sum(p.numel() for p in backbone.parameters()) - positions
    assert shape.parameters == pytest.approx(whole, rel=0.02 if name.startswith("tiny") else 0.003)


def test_the_70b_has_its_published_sizes() -> None:
    shape = hardware.shape_of("llama-70b")
    embedding = 128256 * 8192
    assert shape.parameters + embedding == pytest.approx(70.55e9, rel=1e-3)  # with a language head
    assert shape.lora == 80 * 8 * (8192 + 8192 + 8192 + 1024)
    with pytest.raises(KeyError):
        hardware.shape_of("llama-9b")


def test_a_ring_moves_all_but_ones_own_part() -> None:
    assert hardware.ring_bytes(800.0, 8) == 700
    assert hardware.ring_bytes(800.0, 1) == 0
    shape, amount = hardware.shape_of("llama-8b"), Amount(6.4e6, 0.0, 6400, 6.4e6, 6.4e6, 50)
    cluster = Cluster(H100, 64, shard=64)
    times = hardware.training_times(shape, amount, cluster, "lora", False)
    moved = 100 * 63 / 64 * (2 * 2 * shape.parameters + 4 * shape.lora)
    assert times.interconnect == pytest.approx(moved / H100.network)
    within = dataclasses.replace(cluster, shard=8)
    times = hardware.training_times(shape, amount, within, "lora", False)
    moved = 100 * 7 / 8 * (2 * 2 * shape.parameters + 4 * shape.lora) / H100.link
    summed = 50 * 2 * 7 / 8 * 4 * shape.lora / 8 / H100.network
    assert times.interconnect == pytest.approx(moved + summed)
    whole = dataclasses.replace(cluster, shard=1)
    times = hardware.training_times(shape, amount, whole, "lora", False)
    assert times.interconnect == pytest.approx(50 * 2 * 63 / 64 * 4 * shape.lora / H100.network)


def test_the_bottleneck_is_what_is_made_slow() -> None:
    shape, amount = hardware.shape_of("llama-70b"), Amount(1e9, 1e11, 1e5, 1.1e9, 1.05e9, 1e3)

    def bottleneck(**changes: Any) -> str:
        device = dataclasses.replace(H100, **changes)
        cluster = Cluster(device, 64, shard=64)
        return hardware.training_times(shape, amount, cluster, "lora", True).bottleneck

    assert bottleneck() == "compute"
    assert bottleneck(network=1e9) == "interconnect"
    assert bottleneck(bandwidth=1e9) == "memory"
    assert bottleneck(network=1e9, rate=1e9) == "compute"


def test_gathering_takes_as_long_as_computing_at_the_break_even() -> None:
    shape = hardware.shape_of("llama-70b")
    cluster = Cluster(H100, 64, shard=64)
    least = hardware.break_even(shape, cluster, "lora", True)
    total = least * 64
    amount = Amount(total, 0.0, 64, total, total, 0)
    times = hardware.training_times(shape, amount, cluster, "lora", True)
    assert times.interconnect == pytest.approx(times.compute, rel=1e-6)
    faster = dataclasses.replace(cluster, training_mfu=0.8)
    assert hardware.break_even(shape, faster, "lora", True) == pytest.approx(2 * least)


def test_flops_are_those_of_a_step() -> None:
    shape = hardware.shape_of("gpt2")
    weights, width = 12 * 12 * 768**2, 12 * 768
    amount = Amount(1000, 5000, 1, 1000, 1000, 1)
    forward = 2 * weights * 1000 + 4 * width * 5000
    counted = {
        (tuning, again): hardware.training_flops(shape.cost, amount, tuning, again)
        for tuning in ("lora", "full")
        for again in (False, True)
    }
    assert counted["lora", False] == 4 * weights * 1000 + 12 * width * 5000
    assert counted["full", False] == 3 * forward
    assert counted["full", True] == 4 * forward
    assert counted["lora", True] - counted["lora", False] == forward
    assert shape.cost.weights - shape.cost_where(True).weights == 8 * 768**2
    assert shape.cost_where(False) == shape.cost


def test_waiting_is_that_of_steps_where_weights_are_whole_and_of_passes_where_not() -> None:
    shape, amount = hardware.shape_of("llama-8b"), Amount(1e9, 0.0, 1e5, 1.4e9, 1.1e9, 1e3)
    shares = {
        shard: (
            times := hardware.training_times(
                shape, amount, Cluster(H100, 64, shard=shard), "lora", False
            )
        ).waiting
        / times.compute
        for shard in (1, 64)
    }
    assert shares == {1: pytest.approx(0.1), 64: pytest.approx(0.4)}


def test_memory_and_the_fewest_gpus() -> None:
    shape = hardware.shape_of("llama-70b")
    used = memory.training_memory(shape, 8192, 8, "lora", True)
    assert used.weights == 2 * shape.parameters / 8
    assert used.optimiser == 16 * shape.lora / 8
    assert used.activations == 2 * 8192 * (80 * 8192 + shape.activations)
    assert memory.fewest_gpus(shape, H100, 8192, "lora", True) == 4
    assert memory.fewest_gpus(shape, H100, 8192, "full", True) == 32
    assert memory.fewest_gpus(shape, H100, 10**6, "lora", True) is None
    assert hardware.gpus_of_a_copy(shape, H100) == 2
    assert not memory.fits(shape, H100, 8192, 64, "lora", False)
    small = hardware.shape_of("llama-8b")
    full = memory.training_memory(small, 0, 1, "full", False)
    assert full.total == 16 * small.parameters  # weights, gradients and two moments in float32
    assert memory.checkpoint_bytes(small, "full")["state"] == 12 * small.parameters


def options(*more: str) -> Any:
    few = ["--model", "llama-8b", "--gpus", "8", "--comparisons_per_gpu", "12", "--steps", "1"]
    return scale.options_of([*few, "--corpora", "2", "--driver_rows", "64", *more])


def test_costs_are_proportional_to_the_comparisons_and_the_price() -> None:
    amounts = scale.simulate_all(options())
    one, ten, dear = (
        scale.costs(options(*more), amounts)
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


def measured(model: str, slow: float, fast: float, part: str = "training") -> list[Measured]:
    """A machine that reaches half of its rate padded, and a quarter with the tree."""
    return [
        Measured(part, model, "padded", slow, 2e12, 1e12, 2000),
        Measured(part, model, "tree", fast, 1e12, 1e12, 1000),
    ]


def test_predictions_that_are_right_hold_and_wrong_ones_are_flagged() -> None:
    rows = [*measured("small", 4, 4), *measured("gpt2", 4, 4), *measured("other", 4, 8)]
    checks = scale_check.check_ratios(rows) + scale_check.check_seconds(rows)
    found = {(c.model, c.row, c.what): c.record(0.25) for c in checks}
    assert found["gpt2", "padded", "seconds"]["predicted"] == pytest.approx(4)
    assert found["gpt2", "tree", "seconds"]["within"]
    assert found["gpt2", "padded", "ratio, fitted"]["predicted"] == pytest.approx(1)
    assert found["gpt2", "padded", "ratio, fitted"]["within"]
    # nothing is fitted here: the tree ought to be twice as fast, and is not
    for what in ("ratio, tokens alone", "ratio, FLOPs"):
        assert found["gpt2", "padded", what]["predicted"] == pytest.approx(2)
        assert found["gpt2", "padded", what]["error"] == pytest.approx(1)
        assert not found["gpt2", "padded", what]["within"]
    assert found["other", "tree", "seconds"]["error"] == pytest.approx(-0.5)
    assert not found["other", "tree", "seconds"]["within"]
    assert ("small", "tree", "seconds") not in found  # it was fitted there
    (seconds,) = (s for s in scale_check.summary(list(found.values())) if s["what"] == "seconds")
    assert (seconds["checks"], seconds["within"]) == (4, 3)
    assert seconds["greatest_error"] == pytest.approx(0.5)


def test_rankings_are_predicted_by_pairs_of_the_same_model() -> None:
    ranking = Measured("rankings of 4", "small", "ranking", 8, 2e12, 1e12, 1000)
    (found,) = scale_check.check_seconds([*measured("small", 4, 4), ranking])
    assert (found.row, found.fitted_on) == ("ranking", "small, training")
    assert found.predicted == pytest.approx(8)


@pytest.mark.slow
def test_a_toy_measurement_is_laid_out_again(tmp_path: Path) -> None:
    from test_benchmarks import run

    parts = "scoring,training,rankings,roofline"
    found = run(tmp_path / "toy.json", "--part", parts, "--responses_per_ranking", "3")
    limits = {(each["part"], each["model"]): each for each in found["roofline"]}
    rows = scale_check.measured_rows(found, tmp_path)
    assert {row.part for row in rows} == {"scoring", "training", "rankings of 3"}
    for row in rows:
        limit = limits[row.part, row.model]
        if row.row in ("tree", "ranking"):
            assert row.tokens == limit["unique_tokens"]
        if row.row == "padded":
            share = limit["tokens_per_unique_token"]
            assert row.tokens == pytest.approx(share * limit["unique_tokens"])
        assert row.flops > 0
    checks = scale_check.check([tmp_path / "toy.json"], tmp_path)
    assert {each["what"] for each in checks} == {
        *("ratio, tokens alone", "ratio, FLOPs", "ratio, fitted", "seconds")
    }
    found["data"] = "other pairs"
    (tmp_path / "other.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit, match="measured on other pairs"):
        scale_check.check([tmp_path / "other.json"], tmp_path)


def test_the_command_is_measured_by_its_own_code() -> None:
    found = scale_driver.driver_rate(600, 4, rounds=1)  # more than a window
    assert found["rows_per_second"] > 0
    assert 0 < found["output_bytes"] - found["input_bytes"] < 400
    assert scale_driver.tokenizing_rate(50) > 0
    assert scale_driver.training_bytes(256) > 0


@pytest.mark.slow
def test_the_script_prints_tables_and_writes_all_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HIDDEN_CONTEXT_DATA", raising=False)
    few = ["--gpus", "8", "--comparisons_per_gpu", "12", "--steps", "1", "--corpora", "2"]
    path = tmp_path / "scale.json"
    assert scale.main([*few, "--driver_rows", "64", "--output", str(path)]) == 0
    found = json.loads(path.read_text())
    jobs = {(row["model"], row["job"], row["shard"]) for row in found["costs"]}
    assert {
        ("llama-8b", "lora", 1),
        ("llama-70b", "lora", 8),
        ("llama-70b", "scoring", None),
    } < jobs
    assert len(found["amounts"]) == 2 * (len(tokens.OF_PAIRS) + len(tokens.WAYS))
    assert found["around"][0]["rows"] == 1e9
    assert found["around"][1]["rows"] == pytest.approx(1e9 / 6)
    assert "the whole run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model", "llama-9b"], "--model: llama-9b is not known"),
        (["--responses", "2"], "--responses: a ranking has 3 or more"),
        (["--gpus", "0"], "GPUs, comparisons, corpora and steps are at least 1"),
    ],
)
def test_wrong_options_are_named(
    wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scale.options_of(wrong)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("", "is not JSON"), ("[]", "machine"), ('{"rows": []}', "roofline")],
)
def test_a_measurement_that_is_none_is_named_before_anything_is_drawn(
    content: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "measured.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=said) as stopped:
        scale.options_of(["--model", "tiny-llama", "--checked", str(path)])
    assert str(path) in str(stopped.value)
    assert "scale_measure.py --output" in str(stopped.value)


@pytest.mark.parametrize("option", ["gpus", "comparisons", "corpora", "steps"])
def test_counts_below_one_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.options_of([f"--{option}", "-5"])
    assert "at least 1" in capsys.readouterr().err
