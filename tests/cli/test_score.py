from __future__ import annotations

import pytest
import yaml

from hidden_context import heads
from hidden_context.cli.main import main
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from support.builders import preference_rows
from support.paper_layout import (
    jailbroken_rows,
    one_thread,
    read_rows,
    reward_checkpoint,
    write_rows,
)

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return reward_checkpoint(tmp_path_factory.mktemp("models") / "normal")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", preference_rows(6))
    return tmp_path


def score(*argv):
    return main(["score", *argv, "--disable_tqdm"])


def test_it_prints_where_the_scores_lie_and_what_became_of_the_rows(here, checkpoint, capsys):
    assert score("pairs.jsonl", "--models", checkpoint, "--output", "out.jsonl") == 0
    assert capsys.readouterr().out == "out.jsonl: 6 of 6 rows written\n"
    options = ("--max_length=12", "--over_length=drop", "--output=cut.jsonl")
    assert score("pairs.jsonl", "--models", checkpoint, *options) == 0
    assert capsys.readouterr().out == (
        "cut.jsonl: 0 of 6 rows written; 6 dropped: a text is too long or empty, or its reward "
        "not finite\n"
    )


def test_the_config_written_beside_the_output_gives_the_same_run(here, checkpoint):
    flags = ["--models", checkpoint, "--output=out.jsonl", "--risk", "mean", "cvar:0.05"]
    assert score("pairs.jsonl", *flags, "--batch_size=3") == 0
    first = (here / "out.jsonl").read_bytes()
    (here / "out.jsonl").unlink()
    assert main(["score", "--config", "out.jsonl.config.yaml"]) == 0
    assert (here / "out.jsonl").read_bytes() == first
    assert main(["score", "--config", "out.jsonl.config.yaml", "--output=b.jsonl"]) == 0
    assert (here / "b.jsonl").read_bytes() == first
    assert yaml.safe_load((here / "b.jsonl.config.yaml").read_text())["output"] == "b.jsonl"


def test_whose_risk_measures_are_written_is_a_flag(here, capsys):
    head = heads.make("factor", num_factors=1)
    folder = reward_checkpoint(here / "factor", "factor", num_factors=1)
    options = LikelihoodOptions(inference="variational", names=("ann", "bob"))
    save_likelihood(folder, make_likelihood(head, options))
    (here / "groups.json").write_text('{"a": ["ann"], "b": ["bob"]}')
    flags = ["--models", folder, "--output=o.jsonl", "--risk", "relative_quantile:0.1"]
    assert score("pairs.jsonl", *flags, "--annotator", "zoe", "--groups", "groups.json") == 0
    captured = capsys.readouterr()
    assert captured.err.count("warning: ") == 1
    assert "factor does not know the annotator zoe" in captured.err
    row = read_rows("o.jsonl")[0]
    of_groups = row["rewards_groups_chosen"]["relative_quantile:0.1"]
    assert of_groups["worst_group"] == min(of_groups["a"], of_groups["b"])
    assert list(row["rewards_rejected"]) == ["relative_quantile:0.1"]
    (here / "groups.json").write_text('{"a": ["ann", "eve"]}')
    assert score("pairs.jsonl", *flags, "--groups", "groups.json") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --groups groups.json, ")
    assert error.endswith("the group 'a' has annotators that the model does not know: eve.\n")
    write_rows("texts.jsonl", [{"text": "one"}])
    assert score("texts.jsonl", *flags) == 2
    assert "texts.jsonl holds single texts" in capsys.readouterr().err


def test_interrupted_and_run_again(here, checkpoint, capsys, monkeypatch):
    flags = ("pairs.jsonl", "--models", checkpoint, "--window=2", "--output")
    assert score(*flags, "whole.jsonl") == 0
    original, calls = SequenceRewardModel.try_raw_outputs, []

    def stop_at_second(self, *args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", stop_at_second)
    assert score(*flags, "out.jsonl") == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert (here / "out.jsonl.normal.partial").exists()
    assert not (here / "out.jsonl").exists()
    assert score(*flags, "out.jsonl") == 0
    assert len(calls) == 4
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()

    calls.clear()
    assert score(*flags, "out.jsonl") == 130
    assert score(*flags, "out.jsonl", "--resume", "false") == 0
    assert len(calls) == 2 + 3


@pytest.mark.real_data
def test_the_paper_s_prompts_keep_their_columns_and_order(real_data, tmp_path, checkpoint):
    source, output = real_data / "jailbroken_responses.jsonl", tmp_path / "out.jsonl"
    flags = ("--models", checkpoint, "--names", "m", "--over_length=truncate", "--batch_size=64")
    assert score(str(source), *flags, "--output", str(output)) == 0
    rows = read_rows(output)
    evaluated = read_rows(real_data / "jailbroken_evaluations_base.jsonl")
    assert len(rows) == len(evaluated) == 187
    for row, published in zip(rows, evaluated, strict=True):
        assert (row["prompt"], row["responses"]) == (published["prompt"], published["responses"])
        assert [len(raw) for raw in row["reward_outputs_m"]] == [2, 2]


def test_responses_by_the_verb_and_by_the_paper_s_command_agree(here, checkpoint):
    from hidden_context import evaluate_assistant_responses

    write_rows("prompts.jsonl", jailbroken_rows())
    verb = ["--models", checkpoint, "--output=a.jsonl", "--names=m", "--prompt_from_first_human"]
    assert score("prompts.jsonl", *verb) == 0
    paper = ["--input=prompts.jsonl", "--output=b.jsonl", "--reward_model_checkpoints", checkpoint]
    paper += ["--reward_model_names=m", "--bf16=false", "--disable_tqdm", "--batch_size=16"]
    assert evaluate_assistant_responses.main(paper) == 0
    assert (here / "a.jsonl").read_bytes() == (here / "b.jsonl").read_bytes()
