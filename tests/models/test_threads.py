"""How many threads are chosen by given timings, and when a number is warned of."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from hidden_context.errors import HiddenContextWarning
from hidden_context.models import threads
from hidden_context.models.threads import (
    candidates,
    choose,
    cpu_threads,
    settle_threads,
    usable_cpus,
)


@pytest.fixture
def unlimited(monkeypatch):
    """PyTorch has 8 threads, and nothing says how many to take."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_threads_are_set_for_the_block_only():
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with cpu_threads(None), cpu_threads(0):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("most", "cpus", "expected"),
    [
        (8, 8, [8, 4, 1]),
        (8, 3, [8, 3, 1]),
        (8, 64, [8, 4, 1]),
        (2, 2, [2, 1]),
        (3, 1, [3, 1]),
        (1, 64, [1]),
    ],
)
def test_what_is_compared_is_all_that_are_usable_half_and_one(most, cpus, expected):
    assert candidates(most, cpus) == expected


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({8: 1.0, 4: 1.9, 1: 7.0}, 8),
        ({8: 1.29, 4: 1.0, 1: 3.0}, 8),  # within the margin
        ({8: 1.31, 4: 1.0, 1: 3.0}, 4),
        ({8: 9.0, 4: 2.0, 1: 2.0}, 1),  # of equals the fewer
    ],
)
def test_the_most_are_taken_unless_fewer_are_clearly_faster(seconds, chosen):
    assert choose(seconds) == chosen


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
    assert usable_cpus(tmp_path) == expected


def test_where_there_is_no_affinity_all_processors_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert usable_cpus(tmp_path) == 5


def test_left_open_it_is_what_is_measured(unlimited, quiet):
    asked = []

    def timed(counts):
        asked.append(counts)
        return {8: 9.0, 2: 1.0, 1: 1.5}

    assert settle_threads(None, cpus=2, timed=timed) == 2
    assert asked == [(8, 2, 1)]
    assert settle_threads(None, cpus=8, timed=lambda _: {8: 1.0, 4: 2.0, 1: 8.0}) == 8


@pytest.mark.parametrize(("wanted", "environment"), [(1, None), (4, None), (8, None), (None, "8")])
def test_no_more_than_the_machine_has_is_taken_as_meant(
    unlimited, quiet, monkeypatch, wanted, environment
):
    def timed(_):
        raise AssertionError("nothing is to be measured")

    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert settle_threads(wanted, cpus=8, timed=timed) == (wanted or 8)


@pytest.mark.parametrize(
    ("wanted", "environment", "name"),
    [(8, None, "--threads is"), (None, "8,2", "OMP_NUM_THREADS is"), (8, "3", "--threads is")],
)
def test_more_than_the_machine_has_are_obeyed_with_a_warning_where_they_are_slow(
    unlimited, monkeypatch, wanted, environment, name
):
    if environment:
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
    slow = {8: 9e-3, 2: 2e-3, 1: 3e-3}
    with pytest.warns(HiddenContextWarning) as caught:
        assert settle_threads(wanted, cpus=2, timed=lambda _: slow) == 8
    assert [str(each.message) for each in caught] == [
        f"{name} 8, but 2 threads are 4.5 times as fast on this machine, which has 2 to give "
        "(measured: a layer's products, 8: 9 ms, 2: 2 ms, 1: 3 ms); take --threads 2."
    ]


def test_more_than_the_machine_has_are_no_matter_where_they_are_as_fast(unlimited, quiet):
    assert settle_threads(8, cpus=2, timed=lambda _: {8: 1.4, 2: 1.0, 1: 1.5}) == 8


@pytest.mark.parametrize("text", ["", "x", "0", "-2"])
def test_an_environment_that_says_no_number_says_nothing(unlimited, quiet, monkeypatch, text):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert settle_threads(None, cpus=2, timed=lambda _: {8: 9.0, 2: 1.0, 1: 5.0}) == 2


def test_each_number_is_measured_once_with_its_threads(monkeypatch):
    seen = []

    def layer(device, dtype, rows):
        seen.append((device.type, dtype, torch.get_num_threads()))
        return 0.25

    monkeypatch.setattr(threads, "seconds_of_layer", layer)
    threads.measure.cache_clear()
    try:
        assert [threads.measure((2, 1)) for _ in range(2)] == [{2: 0.25, 1: 0.25}] * 2
        assert seen == [("cpu", torch.float32, 2), ("cpu", torch.float32, 1)]
    finally:
        threads.measure.cache_clear()
