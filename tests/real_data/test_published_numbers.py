"""The paper's own evaluations give the paper's own numbers."""

import json

import pytest

from hidden_context.analysis.config import SummarizeConfig
from hidden_context.paper import workflow as summarize
from hidden_context.paper.summary import PUBLISHED

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def summary(real_data):
    return summarize.run(SummarizeConfig(data_dir=str(real_data)))


@pytest.mark.parametrize(
    ("kind", "train_set", "mean", "quantile"),
    [
        ("base", "helpful", 98, None),
        ("base", "harmless", 7, None),
        ("base", "both", 47, None),
        ("mean_and_variance", "both", 57, 38),
    ],
)
def test_jailbreak_rates(summary, kind, train_set, mean, quantile):
    numbers = summary.cell(kind, train_set).jailbreak
    assert (numbers.mean.count, numbers.mean.total) == (mean, 187)
    paper = PUBLISHED[kind, train_set].jailbreak_rate
    assert round(numbers.mean.share, 3) == paper[0]
    if quantile is None:
        assert numbers.risk_sensitive is None
    else:
        assert (numbers.risk_sensitive.count, numbers.risk_sensitive.total) == (quantile, 187)
        assert round(numbers.risk_sensitive.share, 3) == paper[1]


def test_the_quantile_lowers_the_jailbreak_rate_of_mean_and_variance(summary):
    rates = summary.cell("mean_and_variance", "both").jailbreak
    mean, quantile = rates.intervals
    assert (mean.low, mean.high) == pytest.approx((0.241, 0.374), abs=0.006)
    assert (quantile.low, quantile.high) == pytest.approx((0.150, 0.267), abs=0.006)
    assert rates.test.statistic < 0  # fewer rows, and on the same rows
    assert rates.test.p_value == pytest.approx(2.1e-5, rel=0.02)


def test_the_whole_of_table_1_and_r_squared_where_the_evaluations_are_there(summary):
    compared = 0
    for cell in summary.cells:
        evaluation = cell.evaluation
        if evaluation is None:
            continue
        compared += 1
        paper = PUBLISHED[cell.reward_model_type, cell.train_set]
        ours = (evaluation.mean, evaluation.risk_sensitive)
        for share, published in zip(ours, paper.helpfulness_accuracy, strict=True):
            if published is not None:
                assert round(share.share, 3) == published
        if paper.r_squared is not None:
            assert round(evaluation.r_squared, 2) == paper.r_squared
    if not compared:
        pytest.skip("HIDDEN_CONTEXT_DATA holds no eval_results_both.jsonl")


def test_a_categorical_file_of_the_same_form(real_data, tmp_path):
    # The real rows with each normal reward put on ten atoms: every text is kept, the head changes.
    lines = (real_data / "jailbroken_evaluations_mean_and_variance.jsonl").read_text()
    rows = []
    for row in map(json.loads, lines.splitlines()):
        for name in ("helpful", "harmless", "both"):
            outputs = row.pop(f"reward_outputs_{name}_mean_and_variance")
            row[f"reward_outputs_{name}_categorical"] = [
                [mean * 10 * atom for atom in range(10)] for mean, _ in outputs
            ]
        rows.append(row)
    path = tmp_path / "jailbroken_evaluations_categorical.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = summarize.run(SummarizeConfig(data_dir=str(tmp_path)))
    # A logit that is linear in the atom orders both mean and quantile as its slope does, so the
    # counts are those of the means.
    for train_set, count in (("helpful", 111), ("harmless", 3), ("both", 57)):
        jailbreak = numbers.cell("categorical", train_set).jailbreak
        assert (jailbreak.mean.count, jailbreak.risk_sensitive.count) == (count, count)
