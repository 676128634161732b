from __future__ import annotations

import math

import pytest
import torch

from hidden_context import heads, risk
from hidden_context.errors import ConfigError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.scoring.columns import People, added_columns, group_risk_values, risk_values

NORMAL = heads.make("mean_and_variance")
EVERYBODY = People(make_likelihood(NORMAL))
SIGMA_ONE = math.log(math.expm1(1.0))
MEASURES = [risk.parse("mean"), risk.parse("mean_minus_std:2")]


def test_columns_of_pairs():
    line = {"raw": [[1.0, 0.0], [2.0, 0.5]]}
    assert added_columns("pair", "m", line, EVERYBODY) == {
        "reward_output_chosen": [1.0, 0.0],
        "reward_output_rejected": [2.0, 0.5],
    }
    assert list(added_columns("pair", "m", line, EVERYBODY, several_models=True)) == [
        "reward_output_chosen_m",
        "reward_output_rejected_m",
    ]


def test_columns_of_responses_always_carry_the_name():
    line = {"raw": [[1.0, 0.0], None], "reasons": [None, "too long"]}
    expected = {
        "reward_outputs_m": [[1.0, 0.0], None],
        "reward_outputs_m_reason": [None, "too long"],
    }
    assert added_columns("responses", "m", line, EVERYBODY) == expected
    assert added_columns("responses", "m", line, EVERYBODY, several_models=True) == expected


def test_columns_of_texts():
    assert added_columns("text", "m", {"raw": [[3.0, 1.0]]}, EVERYBODY) == {
        "reward_output": [3.0, 1.0]
    }
    line = {"raw": [None], "reasons": ["empty"]}
    assert added_columns("text", "m", line, EVERYBODY, several_models=True) == {
        "reward_output_m": None,
        "reward_output_m_reason": "empty",
    }


def test_only_the_side_without_a_reward_gets_a_reason():
    line = {"raw": [None, [2.0, 0.5]], "reasons": ["too long", None]}
    assert added_columns("pair", "m", line, EVERYBODY) == {
        "reward_output_chosen": None,
        "reward_output_chosen_reason": "too long",
        "reward_output_rejected": [2.0, 0.5],
    }


def test_risk_columns_hold_closed_forms_by_name():
    line = {"raw": [[1.0, SIGMA_ONE], None], "reasons": [None, "too long"]}
    columns = added_columns("pair", "m", line, EVERYBODY, MEASURES)
    assert columns["rewards_chosen"] == {
        "mean": pytest.approx(1.0, abs=1e-12),
        "mean_minus_std:2": pytest.approx(-1.0, abs=1e-12),
    }
    assert columns["rewards_rejected"] is None
    of_responses = added_columns("responses", "m", line, EVERYBODY, MEASURES)["rewards_m"]
    assert of_responses == [columns["rewards_chosen"], None]
    of_text = added_columns("text", "m", {"raw": line["raw"][:1]}, EVERYBODY, MEASURES)
    assert of_text["rewards"] == columns["rewards_chosen"]


def test_a_column_per_measure_even_where_nothing_was_scored():
    assert risk_values([None, None], MEASURES, EVERYBODY) == [None, None]
    assert risk_values([[1.0, 0.0]], [], EVERYBODY) == [None]


FACTOR = heads.make("factor", num_factors=1)
# means 0, 3 and loadings 2, −1 of the two candidates; the noise is 1
CANDIDATES = [[0.0, 2.0, SIGMA_ONE], [3.0, -1.0, SIGMA_ONE]]


def people(annotator=None, groups=None):
    """Annotators whose contexts are known exactly: ann 1, bob −2."""
    likelihood = make_likelihood(FACTOR, LikelihoodOptions(inference="map", names=("ann", "bob")))
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[1.0], [-2.0]]))
    return People(likelihood, annotator, groups)


def test_risk_columns_of_an_annotator_and_raw_outputs_as_ever():
    line = {"raw": CANDIDATES}
    columns = added_columns("pair", "m", line, people("bob"), [risk.parse("mean")])
    assert columns == {
        "reward_output_chosen": CANDIDATES[0],
        "rewards_chosen": {"mean": pytest.approx(0 - 2 * 2, abs=1e-6)},
        "reward_output_rejected": CANDIDATES[1],
        "rewards_rejected": {"mean": pytest.approx(3 + 2, abs=1e-6)},
    }
    unknown = added_columns("pair", "m", line, people("zoe"), MEASURES)
    assert unknown == added_columns("pair", "m", line, people(), MEASURES)


def test_columns_of_groups_hold_each_group_and_the_one_that_fares_worst():
    groups = {"first": ["ann"], "both": ["ann", "bob"]}
    line = {"raw": [CANDIDATES[0], None, CANDIDATES[1]], "reasons": [None, "too long", None]}
    measures = [risk.parse("mean"), risk.parse("mean_minus_std:1")]
    columns = added_columns("responses", "m", line, people(None, groups), measures)
    assert list(columns) == [
        "reward_outputs_m",
        "reward_outputs_m_reason",
        "rewards_m",
        "rewards_groups_m",
    ]
    assert columns["rewards_m"] == risk_values(line["raw"], measures, people())  # the population's
    first, missing, third = columns["rewards_groups_m"]
    assert missing is None
    # u = μ + L z: ann 2 and 2, bob −4 and 5
    assert first["mean"] == pytest.approx({"first": 2.0, "both": -1.0, "worst_group": -1.0})
    assert third["mean"] == pytest.approx({"first": 2.0, "both": 3.5, "worst_group": 2.0})
    assert third["mean_minus_std:1"] == pytest.approx(
        {"first": 1.0, "both": 2.5, "worst_group": 1.0}
    )
    of_pair = added_columns("pair", "m", {"raw": CANDIDATES}, people(None, groups), measures)
    assert of_pair["rewards_groups_rejected"] == third
    single = {"raw": CANDIDATES[:1]}
    of_text = added_columns(
        "text", "m", single, people(None, groups), measures, several_models=True
    )
    assert of_text["rewards_groups_m"] == first
    assert group_risk_values([None], measures, people(None, groups)) == [None]


def test_relative_measures_take_the_texts_with_a_reward_as_candidates():
    measures = [risk.parse("relative_quantile:0.1")]
    raw = [CANDIDATES[0], None, CANDIDATES[1]]
    first, missing, third = risk_values(raw, measures, people())
    # halves of the differences of means, −1.5, and of loadings, 1.5
    z = -1.2815515655446004
    assert first["relative_quantile:0.1"] == pytest.approx(-1.5 + 1.5 * z, abs=1e-6)
    assert third["relative_quantile:0.1"] == pytest.approx(1.5 + 1.5 * z, abs=1e-6)
    assert missing is None
    # bob, who is known exactly: −4 and 5, about their mean ½
    of_bob = risk_values(raw, measures, people("bob"))
    assert of_bob[0]["relative_quantile:0.1"] == pytest.approx(-4.5, abs=1e-6)
    alone = risk_values(raw[:2], measures, people())
    assert alone == [{"relative_quantile:0.1": pytest.approx(0.0, abs=1e-12)}, None]
    with pytest.raises(ConfigError, match="NormalReward has no shared context"):
        risk_values([[1.0, 0.0]], measures, EVERYBODY)


@pytest.mark.parametrize("kind", ["factor", "mixture", "quantile", "ensemble"])
def test_every_head_has_its_columns(kind):
    head = heads.make(kind)
    raw = torch.linspace(-1, 1, head.num_outputs).tolist()
    columns = added_columns(
        "text", "m", {"raw": [raw]}, People(make_likelihood(head)), [risk.parse("cvar:0.3")]
    )
    expected = head.distribution(torch.tensor(raw, dtype=torch.float64)).cvar(0.3).item()
    assert columns["reward_output"] == raw
    assert columns["rewards"]["cvar:0.3"] == pytest.approx(expected, abs=1e-12)
