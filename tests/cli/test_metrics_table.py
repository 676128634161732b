from __future__ import annotations

from hidden_context.cli.metrics_table import print_metrics, split_by_group

METRICS = {
    "loss": 0.69314,
    "accuracy": 0.5,
    "reward_mean": 1.25,
    "data_subset_helpful_loss": 0.25,
    "data_subset_helpful_accuracy": 1.0,
    "objective_[/red]_loss": 0.75,
    "steps": 3.0,
}


def test_metrics_are_sorted_by_group():
    assert split_by_group(METRICS) == {
        "all": {"loss": 0.69314, "accuracy": 0.5, "reward_mean": 1.25},
        "data_subset helpful": {"loss": 0.25, "accuracy": 1.0},
        "objective [/red]": {"loss": 0.75},
    }


def test_the_table_has_a_row_per_group_and_only_columns_that_are_there(capsys):
    print_metrics(METRICS, "pairs")
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.split("\n")
    ]
    assert "all 0.6931 0.5000 1.2500" in lines
    assert "data_subset helpful 0.2500 1.0000 –" in lines
    assert "objective [/red] 0.7500 – –" in lines  # brackets in data are text, not styles
    assert not any("r²" in line or "σ" in line for line in lines)


def test_heads_with_a_variance_show_it(capsys):
    print_metrics({"loss": 0.5, "reward_stddev": 2.0, "r2": 0.25}, "pairs")
    printed = capsys.readouterr().out
    assert "mean σ" in printed
    assert "r²" in printed
    assert "0.2500" in printed
