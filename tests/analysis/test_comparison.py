from __future__ import annotations

import json

import numpy as np
import pytest

from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.tables import print_analysis
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, DataError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of(gaps, **columns):
    return [
        {
            "prompt": f"p{number // 2}",
            "chosen": f"yes {number}",
            "rejected": "no",
            "reward_output_chosen": [float(gap)],
            "reward_output_rejected": [0.0],
            **columns,
        }
        for number, gap in enumerate(gaps)
    ]


@pytest.fixture
def gaps():
    generator = np.random.default_rng(0)
    return generator.normal(0.3, 1, size=200), generator.normal(0.3, 1, size=200)


def compare(tmp_path, first, second, **options):
    files = [write(tmp_path / "a.jsonl", first), write(tmp_path / "b.jsonl", second)]
    return score_analysis.run(AnalyzeConfig(compare=files, resamples=199, **options))


def test_the_second_model_minus_the_first_on_the_same_pairs(tmp_path, gaps, capsys):
    first, second = gaps
    analysis = compare(tmp_path, rows_of(first), rows_of(second + 0.8))
    (found,) = analysis.comparisons
    assert (found.pairs, found.clusters) == (200, 100)
    by_name = {each.metric: each for each in found.differences}
    assert set(by_name) == {
        "accuracy",
        "loss",
        "brier",
        "accuracy_at/mean",
        "accuracy_at/quantile:0.01",
    }
    accuracy = by_name["accuracy"]
    assert accuracy.first == pytest.approx((first > 0).mean())
    assert accuracy.second == pytest.approx((second > -0.8).mean())
    assert accuracy.difference.estimate == pytest.approx(accuracy.second - accuracy.first)
    assert accuracy.difference.low > 0
    assert accuracy.p_value == pytest.approx(1 / 200)
    loss = by_name["loss"]
    assert loss.first == pytest.approx(np.log1p(np.exp(-first)).mean())
    assert loss.difference.high < 0
    assert analysis.to_dict()["comparisons"][0]["differences"][0]["difference"]["level"] == 0.95
    print_analysis(analysis)
    printed = capsys.readouterr().out
    assert "b.jsonl against" in printed
    assert f"{accuracy.difference.estimate:+.4f} [" in printed


def test_a_model_against_itself_differs_by_nothing(tmp_path, gaps):
    analysis = compare(tmp_path, rows_of(gaps[0]), rows_of(gaps[0]))
    for each in analysis.comparisons[0].differences:
        assert each.difference.estimate == each.difference.low == each.difference.high == 0
        assert each.p_value == 1


def test_rows_that_either_left_out_are_left_out_of_both(tmp_path, gaps):
    first, second = rows_of(gaps[0]), rows_of(gaps[1])
    first[3]["reward_output_chosen"] = None
    second[8]["reward_output_rejected"] = None
    (found,) = compare(tmp_path, first, second).comparisons
    assert found.pairs == 198
    kept = np.delete(gaps[1], [3, 8])
    assert found.differences[0].second == pytest.approx((kept > 0).mean())


def test_other_texts_or_labels_in_a_row_are_refused(tmp_path, gaps):
    first, second = rows_of(gaps[0]), rows_of(gaps[1])
    second[4]["chosen"] = "something else"
    with pytest.raises(DataError, match=r"b\.jsonl.*line 5.*not those of"):
        compare(tmp_path, first, second)
    second = rows_of(gaps[1])
    second[6]["preference"] = 0.0
    with pytest.raises(DataError, match=r"b\.jsonl.*line 7.*label"):
        compare(tmp_path, first, second)
    with pytest.raises(DataError, match="no row has rewards"):
        compare(
            tmp_path,
            [*first[:1], {**first[1], "reward_output_chosen": None}],
            [{**second[0], "reward_output_chosen": None}, second[1]],
        )


def test_two_files_of_one_model_each_are_needed(tmp_path, gaps):
    with pytest.raises(ConfigError, match="two score files"):
        AnalyzeConfig(compare=["a.jsonl"])
    with pytest.raises(ConfigError, match="two score files"):
        AnalyzeConfig(compare=["a.jsonl", "a.jsonl"])
    several = rows_of(gaps[0])
    for row in several:
        row["reward_output_chosen_x"] = row.pop("reward_output_chosen")
        row["reward_output_rejected_x"] = row.pop("reward_output_rejected")
        row.update(reward_output_chosen_y=[1.0], reward_output_rejected_y=[0.0])
    with pytest.raises(DataError, match="scored by 2 models"):
        compare(tmp_path, several, rows_of(gaps[1]))


def test_by_command(tmp_path, gaps, capsys):
    files = [
        write(tmp_path / f"{name}.jsonl", rows_of(each))
        for name, each in zip("ab", gaps, strict=True)
    ]
    output = str(tmp_path / "analysis.json")
    assert main(["analyze", "--compare", *files, "--resamples", "99", "--output", output]) == 0
    saved = json.loads((tmp_path / "analysis.json").read_text())
    assert [each["file"] for each in saved["analyses"]] == files
    assert saved["comparisons"][0]["second"] == files[1]
    assert main(["analyze", "--compare", files[0]]) == 2
    assert "two score files" in capsys.readouterr().err
