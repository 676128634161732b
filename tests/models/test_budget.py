from __future__ import annotations

import logging

import pytest
import torch

from hidden_context.models.engine.budget import (
    DEFAULT_TOKENS,
    TokenBudget,
    default_tokens,
    is_out_of_memory,
    tune,
)


class Device:
    """Runs tokens in a time that a curve of throughput gives, and keeps that time."""

    def __init__(self, throughput, available=10**9, memory=10**9):
        self.throughput, self.available, self.memory = throughput, available, memory
        self.now = 0.0
        self.runs = []

    def run(self, tokens):
        self.runs.append(tokens)
        if tokens > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        done = min(tokens, self.available)
        self.now += done / self.throughput(done)
        return done

    def tune(self, start, **options):
        return tune(self.run, start, clock=lambda: self.now, **options)


def saturating(tokens):
    """Throughput with half of its highest value at 1000 tokens."""
    return 1e5 * tokens / (tokens + 1000)


def test_the_budget_is_where_throughput_stops_growing():
    device = Device(saturating)
    # doubling n gains (2n + 2000) / (2n + 1000) - 1: 5.8 % at 8,192 and 3.0 % at 16,384
    assert device.tune(1024) == 16_384
    assert device.runs == [size for size in (1024, 2048, 4096, 8192, 16_384, 32_768) for _ in "12"]


def test_constant_throughput_keeps_the_first_budget():
    assert Device(lambda tokens: 1000.0).tune(512) == 512


def test_throughput_that_falls_keeps_the_best_budget():
    assert Device(lambda tokens: tokens if tokens <= 400 else 10.0).tune(100) == 400


def test_the_first_pass_of_a_size_is_not_timed():
    device = Device(saturating)

    def run(tokens):
        done = device.run(tokens)
        if device.runs.count(tokens) == 1:
            device.now += 60.0
        return done

    assert tune(run, 1024, clock=lambda: device.now) == 16_384


def test_memory_that_runs_out_ends_the_search():
    assert Device(lambda tokens: float(tokens), memory=5000).tune(1024) == 4096


def test_memory_that_runs_out_at_once_leaves_the_first_budget():
    assert Device(saturating, memory=100).tune(1024) == 1024


def test_no_more_than_there_is_to_run():
    device = Device(lambda tokens: float(tokens), available=3000)
    assert device.tune(1024) == 4096
    assert max(device.runs) <= 8192


def test_no_more_than_the_most():
    assert Device(lambda tokens: float(tokens)).tune(1000, most=4500) == 4000


def test_other_errors_are_raised():
    def run(tokens):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        tune(run, 10)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("whatever"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_errors_of_memory(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: device-side assert"), ValueError("out of memory"), OSError()],
)
def test_other_errors(error):
    assert not is_out_of_memory(error)


def test_memory_that_cannot_be_had_is_such_an_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_half_of_what_was_too_much(caplog):
    budget = TokenBudget(1000)
    with caplog.at_level(logging.WARNING, "hidden_context"):
        budget.halve(900)
    assert (budget.tokens, budget.limit) == (450, 450)
    assert caplog.messages == [
        "out of memory with 900 tokens in one forward pass; tokens_per_batch goes from 1000 to 450"
    ]
    budget.halve(3000)  # a longer text, or several that share a beginning
    assert (budget.tokens, budget.limit) == (225, 225)
    for _ in range(20):
        budget.halve(3000)
    assert (budget.tokens, budget.limit) == (1, 1)


def test_a_budget_begins_without_limit():
    assert TokenBudget(7).limit is None


def test_defaults():
    assert default_tokens(torch.device("cpu")) == DEFAULT_TOKENS["cpu"]
    assert default_tokens(torch.device("cuda", 1)) == DEFAULT_TOKENS["cuda"]
    assert default_tokens(torch.device("xpu")) == DEFAULT_TOKENS["cuda"]
    half = default_tokens(torch.device("cpu"), torch.bfloat16)
    assert half == 2 * DEFAULT_TOKENS["cpu"]
    assert default_tokens(torch.device("cuda"), torch.bfloat16) == DEFAULT_TOKENS["cuda"]
