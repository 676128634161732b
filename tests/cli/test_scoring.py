"""``score`` and ``evaluate`` from flags to files, what they print, and how they run models."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from hidden_context import evaluate_assistant_responses, evaluate_llm_preference_model
from hidden_context.cli.main import main
from hidden_context.models.engine import runner
from support.builders import preference_rows
from support.paper_layout import (
    jailbroken_rows,
    one_thread,
    read_rows,
    reward_checkpoint,
    write_relabeled,
    write_rows,
)
from support.runs import spied

__all__ = ["one_thread"]

RESULTS = Path("run/final/eval_results_both.jsonl")
ON_PAIRS = ("run/final", "--data_path=pairs.jsonl")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with eight pairs, three prompts with responses, and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", preference_rows(8))
    write_rows("prompts.jsonl", jailbroken_rows())
    reward_checkpoint("run/final")


def score(source, *flags):
    return main(["score", source, *flags, "--disable_tqdm"])


def evaluate(*flags):
    return main(["evaluate", *flags, "--disable_tqdm"])


def lines_of(capsys):
    printed = capsys.readouterr().out
    return printed, [" ".join(line.replace("│", " ").split()) for line in printed.splitlines()]


def test_score_prints_where_the_scores_lie_and_what_became_of_the_rows(capsys):
    assert score("pairs.jsonl", "--models", "run/final", "--output", "out.jsonl") == 0
    flags = ("--max_length=12", "--over_length=drop", "--output=cut.jsonl")
    assert score("pairs.jsonl", "--models", "run/final", *flags) == 0
    assert capsys.readouterr().out == (
        "out.jsonl: 8 of 8 rows written\n"
        "cut.jsonl: 0 of 8 rows written; 8 dropped: a text is too long or empty, or its reward "
        "not finite\n"
    )


def test_evaluate_prints_what_was_read_the_metrics_and_where_the_scores_lie(capsys):
    assert evaluate(*ON_PAIRS) == 0
    printed, lines = lines_of(capsys)
    assert printed.startswith("pairs.jsonl: 8 of 8 examples kept.\n")
    assert printed.endswith(f"{RESULTS}: 8 of 8 rows written\n")
    metrics = json.loads(Path(f"{RESULTS}.metrics.json").read_text())["metrics"]
    names = ("loss", "accuracy", "reward_mean", "reward_stddev", "r2")
    assert "all " + " ".join(f"{metrics[name]:.4f}" for name in names) in lines
    assert any(line.startswith("objective helpful ") for line in lines)


@pytest.mark.parametrize(
    ("command", "flags", "written"),
    [
        ("score", ["pairs.jsonl", "--models", "run/final", "--output=out.jsonl", "--batch_size=3",
                   "--risk", "mean", "cvar:0.05"], "out.jsonl"),
        ("evaluate", [*ON_PAIRS, "--eval_dataset_size=5", "--seed=3"], RESULTS),
        (evaluate_llm_preference_model.main,
         ["--reward_model_checkpoint=run/final", "--data_path=data", "--data_subset=harmless",
          "--num_outputs=2"], "run/final/eval_results_harmless.jsonl"),
    ],
)  # fmt: skip
def test_the_config_written_beside_the_results_gives_the_same_run(command, flags, written):
    write_relabeled("data", test=4)
    flags, written = [*flags, "--disable_tqdm"], Path(written)
    if callable(command):  # a command of the paper, whose config the verb reads
        assert command(flags) == 0
        command = "evaluate"
    else:
        assert main([command, *flags]) == 0
    first, config = written.read_bytes(), f"{written}.config.yaml"
    written.unlink()
    assert main([command, "--config", config]) == 0
    assert written.read_bytes() == first
    assert main([command, "--config", config, "--output=b.jsonl"]) == 0
    assert Path("b.jsonl").read_bytes() == first
    assert yaml.safe_load(Path("b.jsonl.config.yaml").read_text())["output"] == "b.jsonl"


def test_evaluate_takes_a_subset_and_skips_malformed_rows_when_asked(capsys):
    with Path("pairs.jsonl").open("a") as file:
        file.write('{"chosen": 1}\n')
    assert evaluate(*ON_PAIRS, "--data_subset=helpful", "--on_malformed=skip") == 0
    rows = read_rows("run/final/eval_results_helpful.jsonl")
    assert [row["data_subset"] for row in rows] == ["helpful"] * 4
    assert evaluate(*ON_PAIRS, "--on_malformed=skip") == 0
    printed = capsys.readouterr().out
    assert "8 of 9 examples kept (1 skipped as malformed). " in printed
    assert " Malformed: pairs.jsonl, line 9" in printed


@pytest.mark.real_data
def test_the_paper_s_prompts_keep_their_columns_and_order(real_data):
    source = real_data / "jailbroken_responses.jsonl"
    flags = ("--models", "run/final", "--names", "m", "--over_length=truncate", "--batch_size=64")
    assert score(str(source), *flags, "--output", "out.jsonl") == 0
    rows = read_rows("out.jsonl")
    evaluated = read_rows(real_data / "jailbroken_evaluations_base.jsonl")
    assert len(rows) == len(evaluated) == 187
    for row, published in zip(rows, evaluated, strict=True):
        assert (row["prompt"], row["responses"]) == (published["prompt"], published["responses"])
        assert [len(raw) for raw in row["reward_outputs_m"]] == [2, 2]


def test_responses_by_the_verb_and_by_the_paper_s_command_agree():
    verb = ["--models", "run/final", "--output=a.jsonl", "--names=m", "--prompt_from_first_human"]
    assert score("prompts.jsonl", *verb) == 0
    paper = ["--input=prompts.jsonl", "--output=b.jsonl", "--reward_model_checkpoints=run/final"]
    paper += ["--reward_model_names=m", "--bf16=false", "--disable_tqdm", "--batch_size=16"]
    assert evaluate_assistant_responses.main(paper) == 0
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes()


@pytest.fixture
def forward_passes(monkeypatch):
    """The way and number of tokens of every forward pass of scoring."""
    return spied(
        monkeypatch,
        runner.Runner,
        "_run",
        lambda _, sequences, batch, way, most: (way, runner.batch_tokens(batch, way)),
    )


COMMANDS = {"score": ("pairs.jsonl", "--models=run/final"), "evaluate": ON_PAIRS}


def by_engine(verb, output, *flags):
    """Run a verb on pairs.jsonl; return the rewards that it wrote."""
    assert main([verb, *COMMANDS[verb], f"--output={output}", "--disable_tqdm", *flags]) == 0
    columns = ("reward_output_chosen", "reward_output_rejected")
    return torch.tensor([[row[column] for column in columns] for row in read_rows(output)])


@pytest.mark.parametrize("verb", ["score", "evaluate"])
@pytest.mark.parametrize("engine", ["padded", "tree", "cache", "auto"])
def test_engines_and_budgets_reach_the_forward_passes_and_change_no_reward(
    forward_passes, verb, engine
):
    expected = by_engine(verb, "padded.jsonl", "--engine=padded")
    assert expected.shape == (8, 2, 2)
    assert expected.std(0).min() > 0.01
    found = []
    for budget in (1, 150, 10**6):
        forward_passes.clear()
        flags = (f"--engine={engine}", f"--tokens_per_batch={budget}", "--batch_size=100")
        again = by_engine(verb, "out.jsonl", *flags)
        assert torch.allclose(again, expected, atol=1e-5, rtol=0)
        assert {way for way, _ in forward_passes} == {"tree" if engine == "auto" else engine}
        found.append([tokens for _, tokens in forward_passes])
    if engine != "cache":  # which runs each beginning by itself
        smallest, some, whole = found
        assert len(smallest) > len(some) > len(whole) == 1
        assert 100 < max(some) <= 150


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_a_compiled_backbone_gives_the_same_rewards(monkeypatch, verb):
    """With kernels as they are: what is tested is that the backbone can be traced."""
    original, traced = torch.nn.Module.compile, []

    def without_kernels(self, **options):
        assert options == {"dynamic": True}
        traced.append(type(self).__name__)
        return original(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", without_kernels)
    plain = by_engine(verb, "plain.jsonl", "--engine=padded")
    assert traced == []
    compiled = by_engine(verb, "compiled.jsonl", "--engine=padded", "--compile")
    torch.compiler.reset()
    assert traced == ["GPT2Model"]
    assert torch.allclose(plain, compiled, atol=1e-5)
