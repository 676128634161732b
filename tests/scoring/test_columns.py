from __future__ import annotations

import math

import pytest

from hidden_context import heads, risk
from hidden_context.scoring.columns import added_columns, risk_values

NORMAL = heads.make("mean_and_variance")
SIGMA_ONE = math.log(math.expm1(1.0))
MEASURES = [risk.parse("mean"), risk.parse("mean_minus_std:2")]


def test_columns_of_pairs():
    line = {"raw": [[1.0, 0.0], [2.0, 0.5]]}
    assert added_columns("pair", "m", line, NORMAL) == {
        "reward_output_chosen": [1.0, 0.0],
        "reward_output_rejected": [2.0, 0.5],
    }
    assert list(added_columns("pair", "m", line, NORMAL, several_models=True)) == [
        "reward_output_chosen_m",
        "reward_output_rejected_m",
    ]


def test_columns_of_responses_always_carry_the_name():
    line = {"raw": [[1.0, 0.0], None], "reasons": [None, "too long"]}
    expected = {
        "reward_outputs_m": [[1.0, 0.0], None],
        "reward_outputs_m_reason": [None, "too long"],
    }
    assert added_columns("responses", "m", line, NORMAL) == expected
    assert added_columns("responses", "m", line, NORMAL, several_models=True) == expected


def test_columns_of_texts():
    assert added_columns("text", "m", {"raw": [[3.0, 1.0]]}, NORMAL) == {
        "reward_output": [3.0, 1.0]
    }
    line = {"raw": [None], "reasons": ["empty"]}
    assert added_columns("text", "m", line, NORMAL, several_models=True) == {
        "reward_output_m": None,
        "reward_output_m_reason": "empty",
    }


def test_only_the_side_without_a_reward_gets_a_reason():
    line = {"raw": [None, [2.0, 0.5]], "reasons": ["too long", None]}
    assert added_columns("pair", "m", line, NORMAL) == {
        "reward_output_chosen": None,
        "reward_output_chosen_reason": "too long",
        "reward_output_rejected": [2.0, 0.5],
    }


def test_risk_columns_hold_closed_forms_by_name():
    line = {"raw": [[1.0, SIGMA_ONE], None], "reasons": [None, "too long"]}
    columns = added_columns("pair", "m", line, NORMAL, MEASURES)
    assert columns["rewards_chosen"] == {
        "mean": pytest.approx(1.0, abs=1e-12),
        "mean_minus_std:2": pytest.approx(-1.0, abs=1e-12),
    }
    assert columns["rewards_rejected"] is None
    of_responses = added_columns("responses", "m", line, NORMAL, MEASURES)["rewards_m"]
    assert of_responses == [columns["rewards_chosen"], None]
    of_text = added_columns("text", "m", {"raw": line["raw"][:1]}, NORMAL, MEASURES)
    assert of_text["rewards"] == columns["rewards_chosen"]


def test_a_column_per_measure_even_where_nothing_was_scored():
    assert risk_values(NORMAL, [None, None], MEASURES) == [None, None]
    assert risk_values(NORMAL, [[1.0, 0.0]], []) == [None]
