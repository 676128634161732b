from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.tables import analysis_title, print_analysis
from hidden_context.errors import ConfigError, DataError


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pair(chosen, rejected, **columns):
    return {"reward_output_chosen": chosen, "reward_output_rejected": rejected, **columns}


def test_numbers_of_each_part_of_a_pair_file(tmp_path, capsys):
    rows = [
        pair([1.0], [0.0], data_subset="helpful"),
        pair([0.0], [0.0], data_subset="helpful"),
        pair([0.0], [2.0], data_subset="harmless"),
        pair(None, [2.0], data_subset="harmless"),
    ]
    output = tmp_path / "analysis.json"
    config = AnalyzeConfig(files=[write(tmp_path / "s.jsonl", rows)], output=str(output))
    analysis = score_analysis.run(config)
    saved = json.loads(output.read_text())
    assert (saved["format"], saved["version"]) == ("hidden_context.analysis", 1)
    (scores,) = saved["analyses"]
    assert (scores["kind"], scores["name"], scores["rows_left_out"]) == ("pairs", "", 1)
    assert scores["head"] == {"type": "base", "num_outputs": 1, "version": 1}
    everything, harmless, helpful = scores["groups"]
    assert [g["labels"] for g in scores["groups"]] == [
        {},
        {"data_subset": "harmless"},
        {"data_subset": "helpful"},
    ]
    assert everything["accuracy"] == {"share": 0.5, "count": 1.5, "total": 3}
    assert harmless["loss"] == pytest.approx(math.log1p(math.exp(2)), abs=1e-12)
    expected = (math.log1p(math.exp(-1)) + math.log(2)) / 2
    assert helpful["loss"] == pytest.approx(expected, abs=1e-12)
    assert helpful["accuracy_at"]["mean"] == {"share": 0.75, "count": 1.5, "total": 2}
    print_analysis(analysis)
    printed = capsys.readouterr().out
    assert "1 row without a reward left out" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "data_subset=helpful 2 0.5032 75.0 % 0.250 0.000 – 75.0 % 75.0 %" in lines


def test_every_column_of_responses_has_its_own_head(tmp_path, capsys):
    row = {
        "reward_outputs_both": [[0.0], [1.0]],
        "reward_outputs_both_categorical": [[0.0, 9.0], [9.0, 0.0]],
        "reward_outputs_both_mean_and_variance": [[0.0, 0.0], [0.0, 0.0]],
        "reward_outputs_many": [[0.0], [0.0]],
    }
    config = AnalyzeConfig(
        files=[write(tmp_path / "s.jsonl", [row])], likelihood="logistic", risk=["mean", " mean"]
    )
    analysis = score_analysis.run(config)
    found = {
        a.name: (a.head["type"], a.groups[0].record.second_at_least["mean"].count)
        for a in analysis.analyses
    }
    assert found == {
        "both": ("base", 1),
        "both_categorical": ("categorical", 0),
        "both_mean_and_variance": ("mean_and_variance", 1),
        "many": ("base", 1),
    }
    titles = [analysis_title(a) for a in analysis.analyses]
    assert titles[2].endswith("responses both_mean_and_variance (mean_and_variance, logistic)")
    print_analysis(analysis)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "all 1 0.000 0.693 0.000 100.0 % 1/1" in lines


def test_rows_with_any_number_of_responses_are_summarised_but_not_compared(tmp_path, capsys):
    rows = [{"reward_outputs_a": [[1.0]]}, {"reward_outputs_a": [[2.0], [3.0]]}]
    config = AnalyzeConfig(files=[write(tmp_path / "s.jsonl", rows)])
    analysis = score_analysis.run(config)
    record = analysis.analyses[0].groups[0].record
    assert (record.n, record.num_responses, record.mean_reward) == (2, 3, 2.0)
    print_analysis(analysis)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "all 2 2.000 0.000 –" in lines


def test_a_head_that_is_named_wins_and_has_to_fit(tmp_path):
    path = write(tmp_path / "s.jsonl", [pair([0.0, 1.0], [1.0, 0.0])])
    (named,) = score_analysis.run(AnalyzeConfig(files=[path], head="categorical")).analyses
    assert named.head["type"] == "categorical"
    # p = (.269, .731) against its mirror: wins .731², ties 2·.269·.731
    p = 1 / (1 + math.exp(-1))
    expected = -math.log(p * p + p * (1 - p))
    assert named.groups[0].record.loss == pytest.approx(expected, abs=1e-12)
    with pytest.raises(DataError, match="2 numbers per text, but a base head writes 1"):
        score_analysis.run(AnalyzeConfig(files=[path], head="base"))


def test_a_wrong_risk_measure_is_told_before_any_file_is_read():
    with pytest.raises(ConfigError, match="quantle"):
        score_analysis.run(AnalyzeConfig(files=["absent.jsonl"], risk=["quantle:0.01"]))
    with pytest.raises(ConfigError, match="no score file"):
        score_analysis.run(AnalyzeConfig())


def test_configs_and_command_load_no_heavy_library():
    code = (
        "import sys, hidden_context.analysis, hidden_context.analysis.config, "
        "hidden_context.cli.analyze, hidden_context.summarize_results\n"
        "print([m for m in ('torch', 'numpy', 'rich', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
