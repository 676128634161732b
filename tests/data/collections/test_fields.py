from __future__ import annotations

from typing import Any

import pytest

from hidden_context.data.checks import Place
from hidden_context.data.collections.fields import id_of, truth_of
from hidden_context.errors import DataError

PLACE = Place("rows.csv", 3)


@pytest.mark.parametrize(("value", "name"), [("a7", "a7"), (12, "12"), (12.0, "12"), (0, "0")])
def test_what_a_row_goes_by(value: Any, name: str) -> None:
    assert id_of({"id": value}, "id", PLACE) == name


@pytest.mark.parametrize("value", [None, "", 1.5, True, ["a"]])
def test_what_no_row_goes_by(value: Any) -> None:
    with pytest.raises(DataError, match=r"rows.csv, line 3, field 'x\.id': text or an integer is"):
        id_of({"id": value}, "id", PLACE, "x.")


@pytest.mark.parametrize(
    ("value", "truth"), [(True, True), (False, False), ("True", True), ("FALSE", False)]
)
def test_truth_values(value: Any, truth: bool) -> None:
    assert truth_of({"flag": value}, "flag", PLACE) is truth


@pytest.mark.parametrize("value", [None, "", "yes", 1, 0.0])
def test_what_is_no_truth_value(value: Any) -> None:
    with pytest.raises(DataError, match=r"line 3, field 'x\.flag': a truth value is needed, not"):
        truth_of({"flag": value}, "flag", PLACE, "x.")
