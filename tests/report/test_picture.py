from __future__ import annotations

import pytest

from hidden_context.report.picture import Scale, scale_of


def labels(*numbers, is_share=False):
    found = [{"estimate": n, "low": None, "high": None} for n in numbers]
    return [tick.label for tick in scale_of(found, is_share=is_share).ticks]


def test_ticks_are_round_and_hold_every_number():
    assert labels(0.31, is_share=True) == ["0 %", "10 %", "20 %", "30 %", "40 %"]
    assert labels(0.031, is_share=True) == ["0 %", "1 %", "2 %", "3 %", "4 %"]
    assert labels(0.0031, is_share=True) == ["0.0 %", "0.1 %", "0.2 %", "0.3 %", "0.4 %"]
    assert labels(0.41, is_share=True)[-1] == "50 %"
    assert labels(0.51, is_share=True) == ["0 %", "20 %", "40 %", "60 %"]
    assert labels(-0.6, 0.3) == ["−0.6", "−0.4", "−0.2", "0.0", "0.2", "0.4"]
    assert labels(30.0) == ["0", "10", "20", "30"]
    assert labels() == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_a_share_ends_at_one():
    found = [{"estimate": 0.97, "low": 0.9, "high": 1.02}]
    scale = scale_of(found, is_share=True)
    assert scale.high == 1.0
    assert scale.place(1.02) == "100.00%"


def test_places_are_in_percent_of_the_width():
    scale = Scale(-1.0, 3.0, 1.0, False)
    assert [scale.place(value) for value in (-2, -1, 0, 3)] == [
        "0.00%",
        "0.00%",
        "25.00%",
        "100.00%",
    ]
    assert [tick.place for tick in scale.ticks] == [f"{n}.00%" for n in (0, 25, 50, 75, 100)]


def test_intervals_count_for_the_scale_and_what_is_missing_does_not():
    found = [{"estimate": 0.1, "low": -0.15, "high": 0.7}, {"estimate": None, "low": 9, "high": 9}]
    assert scale_of([found[0], None], is_share=False).low == pytest.approx(-0.2)
    assert scale_of([found[0]], is_share=False).high == pytest.approx(0.8)
