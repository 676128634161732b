from __future__ import annotations

from hidden_context.cli.metrics_table import print_baselines, print_metrics, split_by_group

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


def test_the_causes_of_variance_have_a_table_of_their_own(capsys):
    causes = {"shared_context_share": 0.5, "noise_share": 0.375, "ignorance_share": 0.125}
    of_group = {f"objective_helpful_{name}": value for name, value in causes.items()}
    print_metrics({"loss": 0.5, **causes, "objective_helpful_loss": 0.25, **of_group}, "pairs")
    printed = capsys.readouterr().out
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.split("\n")]
    assert "all 0.5000" in lines
    assert "all 50.0% 37.5% 12.5%" in lines
    assert "objective helpful 50.0% 37.5% 12.5%" in lines
    assert any(line.endswith("shared context ┃ noise ┃ ignorance ┃") for line in lines)
    print_metrics({"loss": 0.5, "unsplit_share": 0.75, "ignorance_share": 0.25}, "pairs")
    assert "shared context and noise" in capsys.readouterr().out


def test_heads_with_a_variance_show_it(capsys):
    print_metrics({"loss": 0.5, "reward_stddev": 2.0, "r2": 0.25}, "pairs")
    printed = capsys.readouterr().out
    assert "mean σ" in printed
    assert "r²" in printed
    assert "0.2500" in printed


def test_baselines_have_a_row_each(capsys):
    print_baselines(
        {
            "constant": {"loss": 0.69314, "accuracy": 0.5, "brier": 0.25},
            "probe": {"loss": 0.5, "accuracy": 0.75, "brier": 0.2, "contested_auroc": 0.625},
        }
    )
    lines = [
        " ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.split("\n")
    ]
    assert "constant 0.6931 0.5000 0.2500 –" in lines
    assert "probe 0.5000 0.7500 0.2000 0.6250" in lines
    assert any("nats per vote" in line and "model" in line for line in lines)
    print_baselines({})
    assert capsys.readouterr().out == ""
