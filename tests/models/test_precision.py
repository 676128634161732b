"""Devices and precisions: what is timed of them, what is chosen, and what is warned of."""

import math
import time
from types import SimpleNamespace

import pytest
import torch

from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.models.network import precision, timing
from hidden_context.models.network.precision import (
    Timings,
    for_training,
    resolve_device,
    resolve_dtype,
    warn_if_slow,
    width_of,
)
from hidden_context.models.network.timing import seconds_of, seconds_of_layer, synchronize

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def timings(float32, other, name="bfloat16", **options):
    return Timings("cpu", 1, {"float32": float32, name: other}, **options)


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
    assert str(found) == (
        "a layer forward and backward on 1 thread: float32 1.2 ms, bfloat16 0.4 ms"
    )
    assert str(Timings("cpu", 4, {"float32": 2.0})) == "a layer on 4 threads: float32 2e+03 ms"
    assert str(Timings("cuda", 4, {"float32": 1e-5})) == "a layer on cuda: float32 0.01 ms"


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
    found, told = for_training(CPU, width)
    assert found == (chosen or "float32")
    assert (told is None) == (chosen is None)
    assert calls == [("cpu", "bfloat16", True)] * (chosen is not None)  # backward too


def test_a_slow_precision_is_obeyed_with_a_warning_of_the_numbers(measured):
    calls = measured(1.2, 9.48)
    with pytest.warns(HiddenContextWarning) as caught:
        warn_if_slow(torch.bfloat16, CPU, 576, backward=True)
    assert [str(each.message) for each in caught] == [
        "bfloat16 is 7.9 times slower than float32 on this processor (measured: a layer forward "
        "and backward on 1 thread: float32 1.2 ms, bfloat16 9.48 ms); take --precision float32."
    ]
    with pytest.warns(
        HiddenContextWarning, match=r"^float16 is 7\.9 .* this cuda device .*; so\.$"
    ):
        warn_if_slow(torch.float16, CUDA, 576, remedy="so")
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
    warn_if_slow(dtype, CPU, width)
    assert len(calls) == asked


def test_a_device_is_measured_once_for_each_number_of_threads(monkeypatch):
    seconds = {torch.float32: 0.5, torch.bfloat16: 2.0}
    calls = []

    def layer(device, dtype, rows, *, backward, clock):
        assert clock is not time.perf_counter
        calls.append((device, dtype, backward))
        return seconds[dtype]

    monkeypatch.setattr(precision, "seconds_of_layer", layer)
    precision._measured.cache_clear()
    try:
        found = [precision.measure(CPU) for _ in range(3)]
        assert calls == [(CPU, torch.float32, False), (CPU, torch.bfloat16, False)]
        assert found[0] == Timings(
            "cpu", torch.get_num_threads(), {"float32": 0.5, "bfloat16": 2.0}, False
        )
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        assert precision.measure(CPU, backward=True).threads == 7
        assert calls[2:] == [(CPU, torch.float32, True), (CPU, torch.bfloat16, True)]
    finally:
        precision._measured.cache_clear()


def test_the_width_of_a_model_is_its_text_part_s():
    inner = SimpleNamespace(hidden_size=576)
    assert width_of(SimpleNamespace(get_text_config=lambda: inner, hidden_size=3)) == 576
    assert width_of(inner) == 576
    assert width_of(SimpleNamespace()) is None


def test_devices(monkeypatch):
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == CUDA
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="has 2 cuda devices"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    for missing in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ConfigError, match="this machine has 0"):
            resolve_device(missing)
    with pytest.raises(ConfigError, match="not known"):
        resolve_device("abacus")


@pytest.mark.parametrize("has", [True, False])
def test_precisions_are_those_a_gpu_has_not_what_it_imitates(measured, monkeypatch, has):
    calls = measured(1.0, 0.1)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation
    )
    expected = torch.bfloat16 if has else torch.float32
    assert resolve_dtype("auto", CUDA) == expected
    assert for_training(CUDA, 4096) == (str(expected).removeprefix("torch."), None)
    assert not calls
    assert resolve_dtype("auto", CPU) == torch.float32
    assert resolve_dtype("bf16", CPU) == resolve_dtype("bfloat16", CPU) == torch.bfloat16
    assert resolve_dtype(torch.float64, CPU) == torch.float64
    with pytest.raises(ConfigError, match="not known"):
        resolve_dtype("int3", CPU)


class Clock:
    """A clock that goes on by the seconds that each run takes."""

    def __init__(self, *runs):
        self.now, self.left, self.runs = 100.0, list(runs), 0

    def run(self):
        self.now += self.left.pop(0)
        self.runs += 1

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("runs", "budget", "expected", "count"),
    [
        ((9, 1, 3, 2, 8), 100, 2.5, 5),  # the first pays for preparations
        ((9, 1, 3, 2), 12, 2.0, 3),  # no more after 13 seconds
        ((9, 1), 9, 9.0, 1),  # so slow that it is all there is
    ],
)
def test_the_median_of_runs_within_a_budget(runs, budget, expected, count):
    clock = Clock(*runs, *[1.0] * 9)
    assert seconds_of(clock.run, budget, most=4, clock=clock) == expected
    assert clock.runs == count


def test_a_layer_is_timed_forward_and_if_asked_backward(monkeypatch):
    shapes = []
    linear, mm = torch.nn.functional.linear, torch.mm

    def forward(inputs, weight):
        shapes.append(("forward", tuple(inputs.shape), inputs.dtype))
        return linear(inputs, weight)

    def back(gradient, weight):
        shapes.append(("backward", tuple(gradient.shape), gradient.dtype))
        return mm(gradient, weight)

    monkeypatch.setattr(timing.functional, "linear", forward)
    monkeypatch.setattr(torch, "mm", back)
    shape = (3, timing.WIDTH)
    assert 0 < seconds_of_layer(CPU, torch.float32, 3) < math.inf
    assert set(shapes) == {("forward", shape, torch.float32)}
    shapes.clear()
    seconds_of_layer(CPU, torch.bfloat16, 3, backward=True)
    assert shapes[:2] == [(way, shape, torch.bfloat16) for way in ("forward", "backward")]
    assert len(shapes) % 2 == 0


def test_work_is_told_by_the_processor_time_of_a_thread_and_waiting_is_not(monkeypatch):
    monkeypatch.setattr(timing.time, "process_time", lambda: 12.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert timing.work_clock(CPU)() == 3.0
    assert timing.work_clock(CUDA) is timing.time.perf_counter
    coarse = SimpleNamespace(resolution=0.0156)  # as on Windows
    monkeypatch.setattr(timing.time, "get_clock_info", lambda name: coarse)
    assert timing.work_clock(CPU) is timing.time.perf_counter


def test_a_layer_is_timed_by_the_clock_given_and_what_a_device_lacks_takes_for_ever(monkeypatch):
    ticks = iter(range(100))
    assert seconds_of_layer(CPU, torch.float32, 2, clock=lambda: next(ticks)) == 1.0

    def refuse(*_):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(timing.functional, "linear", refuse)
    assert seconds_of_layer(CPU, torch.bfloat16, 3) == math.inf


def test_an_accelerator_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    synchronize(CUDA)
    synchronize(CPU)
    assert waited == [1]
