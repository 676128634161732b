import json
from pathlib import Path

import pytest
import yaml

from hidden_context import RewardModel, train_llm_preference_model
from hidden_context.cli.arguments import parse
from hidden_context.cli.main import main
from hidden_context.training.config import TrainConfig
from support.builders import preference_rows, tiny_backbone
from support.paper_layout import one_thread, read_rows, write_relabeled, write_rows

__all__ = ["one_thread"]

FAST = ["--num_train_epochs=1", "--disable_tqdm", "--learning_rate=1e-2", "--min_judgements=0"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("backbones") / "tiny")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", preference_rows(20))
    return tmp_path


def test_defaults_that_differ_from_the_paper_s():
    config = parse(TrainConfig, [], prog="", description="")
    assert (config.likelihood, config.precision, config.optim) == ("probit", "auto", "adamw_torch")
    assert (config.learning_rate, config.pad_to_multiple_of) == (1e-4, 8)


def test_it_prints_what_was_read_the_metrics_and_where_the_model_lies(here, backbone, capsys):
    argv = ["--model_name", backbone, "--data_path=pairs.jsonl", "--output_dir=run", *FAST]
    assert main(["train", *argv, "--reward_model_type=mean_and_variance"]) == 0
    printed = capsys.readouterr().out
    stored = json.loads(Path("run/metrics.json").read_text())
    kept = {name: report["kept"] for name, report in stored["read"].items()}
    assert sum(kept.values()) == 20
    assert kept["test"] > 0
    assert f"train: pairs.jsonl: {kept['train']} of {kept['train']} examples kept." in printed
    assert f"test: pairs.jsonl (held out for eval): {kept['test']} of {kept['test']}" in printed
    assert printed.endswith("reward model saved to run/final\n")
    lines = [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]
    names = ("loss", "accuracy", "reward_mean", "reward_stddev", "r2")
    assert "all " + " ".join(f"{stored['metrics'][name]:.4f}" for name in names) in lines
    assert RewardModel.from_pretrained("run/final").head.likelihood == "probit"


def test_the_config_written_beside_the_run_gives_the_same_run(here, backbone):
    """By this command, and by the paper's."""
    write_relabeled("data")
    argv = [f"--model_name={backbone}", "--data_path=data", "--log_dir=logs", "--no_bf16", *FAST]
    assert train_llm_preference_model.main([*argv, "--seed=5", "--train_dataset_size=6"]) == 0
    run = Path("logs/both/base_tiny__6_0.01_cosine_1")
    texts = [row["chosen"] for row in preference_rows(5)]
    first = RewardModel.from_pretrained(f"{run}_peft_last_checkpoint").raw_outputs(texts)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    again = ["--config", str(run / "config.yaml"), "--output_dir=again", "--final_dir=again/final"]
    for command in (lambda flags: main(["train", *flags]), train_llm_preference_model.main):
        assert command(again) == 0
        second = RewardModel.from_pretrained("again/final").raw_outputs(texts)
        assert second.tolist() == first.tolist()
        assert json.loads(Path("again/metrics.json").read_text())["metrics"] == metrics
    stored = yaml.safe_load(Path("again/final/training_config.yaml").read_text())
    assert (stored["seed"], stored["output_dir"]) == (5, "again")


@pytest.mark.parametrize("divided", [[], ["--split_by=who", "--split_balance"]])
def test_what_is_held_out_is_evaluated_alone(here, backbone, capsys, divided):
    """By prompt, or of data with one prompt by annotator and balanced."""
    rows = preference_rows(40)
    if divided:
        rows = [
            {"prompt": "Tea?", "chosen": f" {n}", "rejected": " no", "who": str(n * n % 35 % 5)}
            for n in range(40)
        ]
    write_rows("votes.jsonl", rows)
    argv = ["train", f"--model_name={backbone}", "--data_path=votes.jsonl", *FAST]
    argv += ["--output_dir=run"]
    flags = ["evaluate", "run/final", "--data_path=votes.jsonl", "--disable_tqdm", *divided]
    if divided:
        assert main(argv) == 2
        assert "--split_by annotator" in capsys.readouterr().err
        assert main(flags) == 2
        assert "--split_by needs --eval_fraction" in capsys.readouterr().err
    assert main([*argv, *divided, "--eval_fraction=0.3"]) == 0
    trained = json.loads(Path("run/metrics.json").read_text())
    assert main([*flags, "--eval_fraction=0.3"]) == 0
    results = Path("run/final/eval_results_both.jsonl")
    evaluated = json.loads(results.with_name(f"{results.name}.metrics.json").read_text())
    assert evaluated["counts"]["rows"] == trained["read"]["test"]["kept"] > 0
    assert evaluated["metrics"]["loss"] == pytest.approx(trained["metrics"]["loss"], abs=1e-5)
    if divided:
        assert {row["who"] for row in read_rows(results)} < {row["who"] for row in rows}


def test_too_few_judgements_stop_the_training_and_the_paper_s_command_warns(here, backbone, capsys):
    argv = [f"--model_name={backbone}", "--data_path=pairs.jsonl", "--output_dir=run"]
    argv += ["--disable_tqdm", "--eval_fraction=0", "--no_bf16"]
    assert main(["train", *argv, "--train_dataset_size=19"]) == 2
    error = capsys.readouterr().err
    assert "error: 19 judgements are left to train on, fewer than --min_judgements 20" in error
    assert train_llm_preference_model.main([*argv, "--train_dataset_size=4"]) == 0
    assert "warning: only 4 judgements are left to train on" in capsys.readouterr().err


def test_labels_of_every_kind_have_flags(here, backbone, capsys):
    rows = preference_rows(20)
    for number, row in enumerate(rows):
        row |= {"strength": (1, 2, 0, -1)[number % 4], "judge": "ab"[number % 2]}
        row |= {"rating_chosen": 4.0, "rating_rejected": 4.0 - row["strength"]}
    write_rows("labelled.jsonl", rows)
    argv = [f"--model_name={backbone}", "--data_path=labelled.jsonl", "--output_dir=run", *FAST]
    argv += ["--reward_model_type=factor", "--outcomes=five_levels", "--annotators=variational"]
    argv += ["--annotator_column=judge", "--anchor_weight=0.5", "--objective_learning_rate=0.1"]
    argv += ["--ensemble=heads", "--ensemble_members=2"]
    assert main(["train", *argv]) == 0
    assert "reward model saved to run/final" in capsys.readouterr().out
    stored = json.loads(Path("run/final/likelihood.json").read_text())
    names = ("levels", "inference", "taste", "habits", "names", "column", "rating_weight")
    expected = [5, "variational", True, ["readiness"], ["a", "b"], "judge", 0.5]
    assert [stored[name] for name in names] == expected
    model = RewardModel.from_pretrained("run/final")
    texts = [row["chosen"] for row in rows]
    means = [model.score(texts, annotator=name).mean for name in ("a", "b")]
    assert float((means[0] - means[1]).abs().max()) > 1e-4
    # the config written beside the run has them all
    again = ["--config", "run/config.yaml", "--output_dir=again", "--final_dir=again/final"]
    assert main(["train", *again]) == 0
    second = RewardModel.from_pretrained("again/final")
    assert second.raw_outputs(texts).tolist() == model.raw_outputs(texts).tolist()
    for name, values in model.likelihood.state_dict().items():
        assert second.likelihood.state_dict()[name].tolist() == values.tolist(), name
