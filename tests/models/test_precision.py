"""Which precision is chosen by given timings, and when a slow one is warned of."""

from __future__ import annotations

import math
import time
import warnings
from types import SimpleNamespace

import pytest
import torch

from hidden_context.errors import HiddenContextWarning
from hidden_context.models import precision
from hidden_context.models.precision import Timings, choose, for_training, warn_if_slow, width_of

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


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [
        (1.3, 1.0, "bfloat16"),
        (1.29, 1.0, "float32"),
        (1.0, 1.0, "float32"),
        (1.0, 8.0, "float32"),
        (6.0, 1.0, "bfloat16"),
        (1.0, math.inf, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster_by_a_margin(float32, bfloat16, chosen):
    assert choose(timings(float32, bfloat16)) == chosen
    assert choose(timings(float32, bfloat16), margin=float32 / bfloat16 + 0.01) == "float32"


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
    ("width", "bfloat16", "chosen", "asked"),
    [
        (576, 0.3, "bfloat16", 1),
        (576, 1.0, "float32", 1),
        (precision.MIN_WIDTH, 0.3, "bfloat16", 1),
        (precision.MIN_WIDTH - 1, 0.3, "float32", 0),  # nothing is measured for a small model
        (None, 0.3, "float32", 0),
    ],
)
def test_a_training_on_a_processor_takes_what_is_measured(measured, width, bfloat16, chosen, asked):
    calls = measured(1.0, bfloat16)
    found, told = for_training(CPU, width)
    assert (found, told is not None) == (chosen, bool(asked))
    assert calls == [("cpu", "bfloat16", True)] * asked  # backward too


@pytest.mark.parametrize(("has", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_a_training_on_a_gpu_takes_what_it_has_not_what_it_imitates(
    measured, monkeypatch, has, chosen
):
    calls = measured(1.0, 0.1)
    supported = lambda including_emulation=True: has or including_emulation  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert for_training(CUDA, 4096) == (chosen, None)
    assert not calls


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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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
