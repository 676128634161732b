from __future__ import annotations

import math

import numpy as np
import pytest

from hidden_context.quickstart.truth import (
    best_accuracy,
    contested,
    mean_absolute_error,
    preference_table,
)
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import (
    ALTERNATIVE,
    COMPLIANCE,
    FULL_ANSWER,
    KINDS,
    PARTIAL_ANSWER,
    REFUSAL,
    Annotators,
)

WORLD = World(seed=1)
MIXED = WORLD.annotators("both")
ROWS = WORLD.generate_comparisons(1500, split="test")


def _truth() -> np.ndarray:
    return np.array([row["true_probability"] for row in ROWS])


def test_the_truth_itself_has_no_error() -> None:
    assert mean_absolute_error(ROWS, _truth(), MIXED) == pytest.approx(0, abs=1e-12)
    table = preference_table(ROWS, _truth(), MIXED)
    assert len(table) == 6 + 3
    assert sum(pair.count for pair in table) == len(ROWS)
    for pair in table:
        assert pair.learned == pytest.approx(pair.true)
        assert pair.spread == pytest.approx(0, abs=1e-9)


def test_a_row_counts_the_same_whichever_side_was_chosen() -> None:
    swapped = [
        {"chosen_kind": row["rejected_kind"], "rejected_kind": row["chosen_kind"]} for row in ROWS
    ]
    learned = np.linspace(0.1, 0.9, len(ROWS))
    first = preference_table(ROWS, learned, MIXED)
    second = preference_table(swapped, 1 - learned, MIXED)
    assert [pair.learned for pair in first] == pytest.approx([pair.learned for pair in second])


def test_a_constant_shift_shows_as_the_error() -> None:
    truth = _truth()
    learned = np.where(truth > 0.5, truth - 0.1, truth + 0.1)
    assert mean_absolute_error(ROWS, learned, MIXED) == pytest.approx(0.1)


def test_a_pair_without_comparisons_is_not_a_number() -> None:
    rows = [row for row in ROWS if "compliance" not in (row["chosen_kind"], row["rejected_kind"])]
    table = preference_table(rows, [0.5] * len(rows), MIXED)
    assert math.isnan(table[0].learned)
    assert table[0].count == 0


def test_only_pairs_with_compliance_are_contested() -> None:
    assert contested(COMPLIANCE, ALTERNATIVE)
    assert contested(REFUSAL, COMPLIANCE)
    assert not contested(ALTERNATIVE, REFUSAL)
    assert not contested(FULL_ANSWER, PARTIAL_ANSWER)
    found = {pair.first for pair in preference_table(ROWS, _truth(), MIXED) if pair.contested}
    assert found == {"compliance"}


def test_best_accuracy_is_what_knowing_the_kinds_gives() -> None:
    assert best_accuracy(ROWS, MIXED) == pytest.approx(
        float(np.maximum(_truth(), 1 - _truth()).mean())
    )
    rows = WORLD.generate_comparisons(6000)
    right = np.mean(
        [MIXED.probability(KINDS[r["chosen_kind"]], KINDS[r["rejected_kind"]]) > 0.5 for r in rows]
    )
    assert right == pytest.approx(best_accuracy(rows, MIXED), abs=0.02)


def test_one_objective_can_be_predicted_better_than_both() -> None:
    assert best_accuracy(ROWS, Annotators(1.0)) > best_accuracy(ROWS, MIXED) + 0.05
