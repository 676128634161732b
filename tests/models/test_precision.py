"""Devices, precisions and threads: what is timed, what is chosen, and what is warned of."""

import math
import os
import time
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.models.network import precision, threads
from support.runs import spied

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def timings(float32, other, name="bfloat16", **options):
    return precision.Timings("cpu", 1, {"float32": float32, name: other}, **options)


@pytest.fixture
def measured(monkeypatch):
    """Replace the measurement by ``measured(float32, bfloat16)`` milliseconds; lists its calls."""
    calls = []

    def measured(float32, other):
        def measure(device, name="bfloat16", *, backward=False):
            calls.append((device.type, name, backward))
            return timings(float32 / 1000, other / 1000, name, backward=backward)

        monkeypatch.setattr(precision, "measure", measure)
        return calls

    return measured


def test_timings_tell_what_was_measured():
    found = timings(1.2e-3, 0.4e-3, backward=True)
    assert found.speedup("bfloat16") == pytest.approx(3)
    assert found.speedup("float32") == 1
    shown = {"cpu": "a layer on 4 threads: float32 3 ms", "cuda": "a layer on cuda: float32 3 ms"}
    for device, text in shown.items():
        assert str(precision.Timings(device, 4, {"float32": 3e-3})) == text


@pytest.mark.parametrize(
    ("width", "float32", "bfloat16", "chosen"),
    [
        (576, 1.31, 1.0, "bfloat16"),
        (576, 1.29, 1.0, "float32"),  # within the margin
        (576, 1.0, 1.0, "float32"),
        (576, 1.0, math.inf, "float32"),
        (precision.MIN_WIDTH, 6.0, 1.0, "bfloat16"),
        (precision.MIN_WIDTH - 1, 6.0, 1.0, None),  # nothing is measured for a small model
        (None, 6.0, 1.0, None),
    ],
)
def test_a_training_on_a_processor_takes_what_is_faster(measured, width, float32, bfloat16, chosen):
    calls = measured(float32, bfloat16)
    found, told = precision.for_training(CPU, width)
    assert found == (chosen or "float32")
    assert (told is None) == (chosen is None)
    assert calls == [("cpu", "bfloat16", True)] * (chosen is not None)  # backward too


def test_a_slow_precision_is_obeyed_with_a_warning_of_the_numbers(measured):
    calls = measured(1.2, 9.48)
    with pytest.warns(HiddenContextWarning) as caught:
        precision.warn_if_slow(torch.bfloat16, CPU, 576, backward=True)
    with pytest.warns(HiddenContextWarning) as other:
        precision.warn_if_slow(torch.float16, CUDA, 576, remedy="so")
    assert [str(each.message) for each in (*caught, *other)] == [
        "bfloat16 is 7.9 times slower than float32 on this processor (measured: a layer forward "
        "and backward on 1 thread: float32 1.2 ms, bfloat16 9.48 ms); take --precision float32.",
        "float16 is 7.9 times slower than float32 on this cuda device (measured: a layer on 1 "
        "thread: float32 1.2 ms, float16 9.48 ms); so.",
    ]
    assert calls == [("cpu", "bfloat16", True), ("cuda", "float16", False)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "slow", "width", "asked"),
    [
        (torch.bfloat16, 1.29, 576, 1),  # within the margin
        (torch.bfloat16, 0.2, 576, 1),
        (torch.bfloat16, 9.0, precision.MIN_WIDTH - 1, 0),
        (torch.bfloat16, 9.0, None, 0),
        (torch.float32, 9.0, 576, 0),
        (torch.float64, 9.0, 576, 0),
    ],
)
def test_what_is_not_slow_is_not_warned_of(measured, dtype, slow, width, asked):
    calls = measured(1.0, slow)
    precision.warn_if_slow(dtype, CPU, width)
    assert len(calls) == asked


def test_a_device_is_measured_once_for_each_number_of_threads(monkeypatch):
    calls, seconds = [], {"float32": 0.5, "bfloat16": 2.0}

    def layer(device, dtype, rows, *, backward, clock):
        assert clock is not time.perf_counter
        calls.append((device, dtype, backward))
        return seconds[str(dtype).removeprefix("torch.")]

    monkeypatch.setattr(precision, "seconds_of_layer", layer)
    monkeypatch.setattr(precision, "_measured", lru_cache(precision._measured.__wrapped__))
    for number, backward in ((7, False), (8, True)):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=number: count)
        expected = precision.Timings("cpu", number, seconds, backward)
        assert [precision.measure(CPU, backward=backward) for _ in range(3)] == [expected] * 3
        both = [(CPU, dtype, backward) for dtype in (torch.float32, torch.bfloat16)]
        assert [calls.pop(0) for _ in range(2)] == both
        assert not calls


def test_the_width_of_a_model_is_its_text_part_s():
    inner = SimpleNamespace(hidden_size=576)
    assert precision.width_of(SimpleNamespace(get_text_config=lambda: inner, hidden_size=3)) == 576
    assert precision.width_of(inner) == 576
    assert precision.width_of(SimpleNamespace()) is None


@pytest.mark.parametrize("count", [0, 2])
def test_devices(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert precision.resolve_device("cpu") == precision.resolve_device(CPU) == CPU
    assert precision.resolve_device("auto") == (CUDA if count else CPU)
    for there in ("cuda", "cuda:0", "cuda:1")[: count + 1 if count else 0]:
        assert precision.resolve_device(there) == torch.device(there)
    for missing in ("cuda:2", "mps") if count else ("cuda", "cuda:0", "mps"):
        has = 0 if missing == "mps" else count
        with pytest.raises(ConfigError, match=f"number of {missing[:4]}.* devices .* {has};"):
            precision.resolve_device(missing)
    with pytest.raises(ConfigError, match="not known"):
        precision.resolve_device("abacus")


@pytest.mark.parametrize("has", [True, False])
def test_precisions_are_those_a_gpu_has_not_what_it_imitates(measured, monkeypatch, has):
    calls = measured(1.0, 0.1)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation
    )
    expected = torch.bfloat16 if has else torch.float32
    assert precision.resolve_dtype("auto", CUDA) == expected
    assert precision.for_training(CUDA, 4096) == (str(expected).removeprefix("torch."), None)
    assert not calls
    assert precision.resolve_dtype("auto", CPU) == torch.float32
    for name in ("bf16", "bfloat16"):
        assert precision.resolve_dtype(name, CPU) == torch.bfloat16
    assert precision.resolve_dtype(torch.float64, CPU) == torch.float64
    with pytest.raises(ConfigError, match="not known"):
        precision.resolve_dtype("int3", CPU)


@pytest.mark.parametrize(
    ("runs", "budget", "expected", "count"),
    [
        ((9, 1, 3, 2, 8), 100, 2.5, 5),  # the first pays for preparations
        ((9, 1, 3, 2), 12, 2.0, 3),  # no more after 13 seconds
        ((9, 1), 9, 9.0, 1),  # so slow that it is all there is
    ],
)
def test_the_median_of_runs_within_a_budget(runs, budget, expected, count):
    taken, left = [], [*runs, *[1.0] * 9]
    found = precision.seconds_of(
        lambda: taken.append(left.pop(0)), budget, most=4, clock=lambda: 100.0 + sum(taken)
    )
    assert (found, len(taken)) == (expected, count)


def test_a_layer_is_timed_forward_and_if_asked_backward(monkeypatch):
    forward, back = (
        spied(monkeypatch, owner, name, lambda inputs, _: (tuple(inputs.shape), inputs.dtype))
        for owner, name in ((precision.functional, "linear"), (torch, "mm"))
    )
    shape = (3, precision.WIDTH)
    assert 0 < precision.seconds_of_layer(CPU, torch.float32, 3) < math.inf
    assert (set(forward), back) == ({(shape, torch.float32)}, [])
    forward.clear()
    precision.seconds_of_layer(CPU, torch.bfloat16, 3, backward=True)
    assert forward == back
    assert set(back) == {(shape, torch.bfloat16)}


def test_work_is_told_by_the_processor_time_of_a_thread_and_waiting_is_not(monkeypatch):
    monkeypatch.setattr(time, "process_time", lambda: 12.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert precision.work_clock(CPU)() == 3.0
    assert precision.work_clock(CUDA) is time.perf_counter
    coarse = SimpleNamespace(resolution=0.0156)  # as on Windows
    monkeypatch.setattr(time, "get_clock_info", lambda name: coarse)
    assert precision.work_clock(CPU) is time.perf_counter


def test_a_layer_is_timed_by_the_clock_given_and_what_a_device_lacks_takes_for_ever(monkeypatch):
    ticks = iter(range(100))
    assert precision.seconds_of_layer(CPU, torch.float32, 2, clock=lambda: next(ticks)) == 1.0

    refuse = Mock(side_effect=RuntimeError("not implemented for 'BFloat16'"))
    monkeypatch.setattr(precision.functional, "linear", refuse)
    assert precision.seconds_of_layer(CPU, torch.bfloat16, 3) == math.inf


def test_an_accelerator_is_waited_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", waited := Mock())
    precision.synchronize(CUDA)
    precision.synchronize(CPU)
    waited.assert_called_once_with()


def test_threads_are_set_for_the_block_only():
    before = torch.get_num_threads()
    with threads.cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with threads.cpu_threads(None), threads.cpu_threads(0):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),  # of a part of a processor a thread is made too
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "900000 100000\n"}, 6),
        ({"cpu.max": "broken\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "0\n"}, 6),
    ],
)
def test_processors_are_counted_by_affinity_and_quota(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert threads.usable_cpus(tmp_path) == expected
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on other systems
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.usable_cpus(tmp_path) == expected


@pytest.fixture
def settle(monkeypatch):
    """``settle(wanted, cpus, seconds, environment)``: of 8 threads; and what was measured."""

    def settle(wanted, cpus, seconds, environment=None):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if environment is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", environment)
        monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(threads, "measure", measured := Mock(return_value=seconds))
        return threads.settle_threads(wanted), [call.args[0] for call in measured.call_args_list]

    return settle


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("wanted", "cpus", "seconds", "environment", "expected", "asked"),
    [
        # left open it is what is measured
        (None, 2, {8: 9.0, 2: 1.0, 1: 1.5}, None, 2, [(8, 2, 1)]),
        (None, 8, {8: 1.29, 4: 1.0, 1: 3.0}, None, 8, [(8, 4, 1)]),  # within the margin
        (None, 8, {8: 1.31, 4: 1.0, 1: 3.0}, None, 4, [(8, 4, 1)]),
        (None, 8, {8: 9.0, 4: 2.0, 1: 2.0}, None, 1, [(8, 4, 1)]),  # of equals the fewer
        (None, 64, {8: 1.0, 4: 2.0, 1: 8.0}, None, 8, [(8, 4, 1)]),
        (None, 1, {8: 9.0, 1: 1.0}, None, 1, [(8, 1)]),
        # an environment that says no number says nothing
        *((None, 1, {8: 9.0, 1: 1.0}, text, 1, [(8, 1)]) for text in ("", "x", "0", "-2")),
        # no more than the machine has is taken as meant
        *((wanted, 8, {}, None, wanted, []) for wanted in (1, 4, 8)),
        (None, 8, {}, "8", 8, []),
        # more than the machine has are no matter where they are as fast
        (8, 2, {8: 1.4, 2: 1.0, 1: 1.5}, None, 8, [(8, 2, 1)]),
    ],
)
def test_the_number_that_is_settled(settle, wanted, cpus, seconds, environment, expected, asked):
    assert settle(wanted, cpus, seconds, environment) == (expected, asked)


@pytest.mark.parametrize(
    ("wanted", "environment", "name"),
    [(8, None, "--threads is"), (None, "8,2", "OMP_NUM_THREADS is"), (8, "3", "--threads is")],
)
def test_more_than_the_machine_has_are_obeyed_with_a_warning_where_they_are_slow(
    settle, wanted, environment, name
):
    with pytest.warns(HiddenContextWarning) as caught:
        assert settle(wanted, 2, {8: 9e-3, 2: 2e-3, 1: 3e-3}, environment)[0] == 8
    assert [str(each.message) for each in caught] == [
        f"{name} 8, but 2 threads are 4.5 times as fast on this machine, where this process may "
        "use 2 (measured: a layer's products, 8: 9 ms, 2: 2 ms, 1: 3 ms); use --threads 2."
    ]


def test_each_number_is_measured_once_with_its_threads(monkeypatch):
    seen = []

    def layer(device, dtype, rows):
        seen.append((device.type, dtype, torch.get_num_threads()))
        return 0.25

    monkeypatch.setattr(threads, "seconds_of_layer", layer)
    measure = lru_cache(threads.measure.__wrapped__)
    assert [measure((2, 1)) for _ in range(2)] == [{2: 0.25, 1: 0.25}] * 2
    assert seen == [("cpu", torch.float32, 2), ("cpu", torch.float32, 1)]
