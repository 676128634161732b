"""What is timed of a device: medians within a budget, and a layer's products."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from hidden_context.models import timing
from hidden_context.models.timing import seconds_of, seconds_of_layer, synchronize


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
    cpu, shape = torch.device("cpu"), (3, timing.WIDTH)
    assert 0 < seconds_of_layer(cpu, torch.float32, 3) < math.inf
    assert set(shapes) == {("forward", shape, torch.float32)}
    shapes.clear()
    seconds_of_layer(cpu, torch.bfloat16, 3, backward=True)
    assert shapes[:2] == [(way, shape, torch.bfloat16) for way in ("forward", "backward")]
    assert len(shapes) % 2 == 0


def test_work_is_told_by_the_processor_time_of_a_thread_and_waiting_is_not(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(timing.time, "process_time", lambda: 12.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert timing.work_clock(cpu)() == 3.0
    assert timing.work_clock(torch.device("cuda")) is timing.time.perf_counter
    coarse = SimpleNamespace(resolution=0.0156)  # as on Windows
    monkeypatch.setattr(timing.time, "get_clock_info", lambda name: coarse)
    assert timing.work_clock(cpu) is timing.time.perf_counter


def test_a_layer_is_timed_by_the_clock_given():
    ticks = iter(range(100))
    found = seconds_of_layer(torch.device("cpu"), torch.float32, 2, clock=lambda: next(ticks))
    assert found == 1.0


def test_what_a_device_cannot_multiply_takes_for_ever(monkeypatch):
    def refuse(*_):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(timing.functional, "linear", refuse)
    assert seconds_of_layer(torch.device("cpu"), torch.bfloat16, 3) == math.inf


def test_an_accelerator_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(1))
    synchronize(torch.device("cuda"))
    synchronize(torch.device("cpu"))
    assert waited == [1]
