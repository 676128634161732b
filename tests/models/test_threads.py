"""How many threads are chosen by given timings, and when a number is warned of."""

import os

import pytest
import torch

from hidden_context.errors import HiddenContextWarning
from hidden_context.models.network import threads
from hidden_context.models.network.threads import (
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


def test_threads_are_set_for_the_block_only():
    before = torch.get_num_threads()
    with cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with cpu_threads(None), cpu_threads(0):
            assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


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
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on other systems
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cpus(tmp_path) == expected


@pytest.fixture
def settle(monkeypatch):
    """``settle(wanted, cpus, seconds, environment)``: the number, and what was measured."""

    def settle(wanted, cpus, seconds, environment=None):
        asked = []

        def timed(counts):
            asked.append(counts)
            return seconds

        if environment is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", environment)
        monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(threads, "measure", timed)
        return settle_threads(wanted), asked

    return settle


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("wanted", "cpus", "seconds", "environment", "expected", "asked"),
    [
        # left open it is what is measured
        (None, 2, {8: 9.0, 2: 1.0, 1: 1.5}, None, 2, [(8, 2, 1)]),
        (None, 8, {8: 1.0, 4: 2.0, 1: 8.0}, None, 8, [(8, 4, 1)]),
        (None, 64, {8: 1.0, 4: 2.0, 1: 8.0}, None, 8, [(8, 4, 1)]),
        (None, 1, {8: 9.0, 1: 1.0}, None, 1, [(8, 1)]),
        # an environment that says no number says nothing
        *(
            (None, 2, {8: 9.0, 2: 1.0, 1: 5.0}, text, 2, [(8, 2, 1)])
            for text in ("", "x", "0", "-2")
        ),
        # no more than the machine has is taken as meant
        *((wanted, 8, {}, None, wanted, []) for wanted in (1, 4, 8)),
        (None, 8, {}, "8", 8, []),
        # more than the machine has are no matter where they are as fast
        (8, 2, {8: 1.4, 2: 1.0, 1: 1.5}, None, 8, [(8, 2, 1)]),
    ],
)
def test_the_number_that_is_settled(
    unlimited, settle, wanted, cpus, seconds, environment, expected, asked
):
    assert settle(wanted, cpus, seconds, environment) == (expected, asked)


@pytest.mark.parametrize(
    ("wanted", "environment", "name"),
    [(8, None, "--threads is"), (None, "8,2", "OMP_NUM_THREADS is"), (8, "3", "--threads is")],
)
def test_more_than_the_machine_has_are_obeyed_with_a_warning_where_they_are_slow(
    unlimited, settle, wanted, environment, name
):
    with pytest.warns(HiddenContextWarning) as caught:
        assert settle(wanted, 2, {8: 9e-3, 2: 2e-3, 1: 3e-3}, environment)[0] == 8
    assert [str(each.message) for each in caught] == [
        f"{name} 8, but 2 threads are 4.5 times as fast on this machine, which has 2 to give "
        "(measured: a layer's products, 8: 9 ms, 2: 2 ms, 1: 3 ms); take --threads 2."
    ]


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
