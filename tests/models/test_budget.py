"""How many tokens fit into one forward pass: tuning, defaults, and errors of memory."""

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
        if self.runs.count(tokens) == 1:  # the first pass of a size is not timed
            self.now += 60.0
        done = min(tokens, self.available)
        self.now += done / self.throughput(done)
        return done

    def tune(self, start, **options):
        return tune(self.run, start, clock=lambda: self.now, **options)


def saturating(tokens):
    """Throughput with half of its highest value at 1000 tokens."""
    return 1e5 * tokens / (tokens + 1000)


def growing(tokens):
    return float(tokens)


@pytest.mark.parametrize(
    ("throughput", "limits", "start", "budget"),
    [
        # doubling n gains (2n + 2000) / (2n + 1000) - 1: 5.8 % at 8,192 and 3.0 % at 16,384
        (saturating, {}, 1024, 16_384),
        (lambda tokens: 1000.0, {}, 512, 512),
        (lambda tokens: tokens if tokens <= 400 else 10.0, {}, 100, 400),
        (growing, {"memory": 5000}, 1024, 4096),
        (saturating, {"memory": 100}, 1024, 1024),  # none for the first budget either
        (growing, {"available": 3000}, 1024, 4096),
    ],
    ids=["saturating", "constant", "falling", "memory", "no memory", "no more to run"],
)
def test_the_budget_is_where_throughput_stops_growing(throughput, limits, start, budget):
    device = Device(throughput, **limits)
    assert device.tune(start) == budget
    assert max(device.runs) <= 2 * budget
    assert device.runs[:2] == [start, start][: len(device.runs)]


def test_no_more_than_the_most():
    assert Device(growing).tune(1000, most=4500) == 4000


def test_other_errors_of_tuning_are_raised():
    def run(tokens):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        tune(run, 10)


ALLOCATOR = "DefaultCPUAllocator: "


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("whatever"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError(f"[enforce fail at alloc] {ALLOCATOR}can't allocate memory"), True),
        (RuntimeError(f"{ALLOCATOR}not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`"), True),
        (RuntimeError("CUDA error: device-side assert"), False),
        (ValueError("out of memory"), False),
        (OSError(), False),
    ],
)
def test_errors_of_memory(error, memory):
    assert is_out_of_memory(error) == memory


def test_memory_that_cannot_be_had_is_such_an_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_half_of_what_was_too_much(caplog):
    budget = TokenBudget(1000)
    assert budget.limit is None
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


@pytest.mark.parametrize(
    ("device", "dtype", "kind", "factor"),
    [
        ("cpu", torch.float32, "cpu", 1),
        ("cpu", torch.bfloat16, "cpu", 2),
        ("cuda:1", torch.float32, "cuda", 1),
        ("cuda", torch.bfloat16, "cuda", 1),
        ("xpu", torch.float32, "cuda", 1),
    ],
)
def test_defaults(device, dtype, kind, factor):
    assert default_tokens(torch.device(device), dtype) == factor * DEFAULT_TOKENS[kind]
