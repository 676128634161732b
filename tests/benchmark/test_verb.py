"""``hidden-context benchmark`` from rows to numbers, on tiny models."""

import dataclasses
import json

import pytest
import torch

from benchmark.given_scores import judge_row, rm_row
from hidden_context import risk
from hidden_context.benchmark import BenchmarkConfig, run
from hidden_context.benchmark.benchmarks import make
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, DataError
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.requests import Scorer
from support.builders import (
    CHAT_TEMPLATE,
    preference_rows,
    tiny_backbone,
    tiny_tokenizer,
    train_config,
)
from support.paper_layout import read_rows, reward_checkpoint, write_rows
from support.rows import assistant, user

LABELS, SIDES = ("A>B", "B>A"), ("response_A", "response_B")


def _pairs(count=8, long=()):
    """Rows of JudgeBench, of which some have a right answer that no model here can read."""
    rows = []
    for number in range(count):
        source = ("mmlu-pro-law", "livecodebench")[number // 2 % 2]
        rows.append(judge_row(f"p{number}", source, LABELS[number % 2]))
        if number in long:
            rows[-1][SIDES[number % 2]] = "word " * 300
    return rows


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A head with a variance and a factor head, both with a chat template."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = tiny_tokenizer(bos="<s>", chat_template=CHAT_TEMPLATE)
    return [
        reward_checkpoint(folder / "normal", tokenizer=tokenizer),
        reward_checkpoint(folder / "factor", "factor", seed=1, num_factors=2, tokenizer=tokenizer),
    ]


def _config(tmp_path, rows, models, **options):
    given = {"benchmark": "judge_bench", "risk": ["mean", "cvar:0.1"], "disable_tqdm": True}
    given |= {"input": write_rows(tmp_path / "rows.jsonl", rows), "models": models}
    return BenchmarkConfig(**{"output": str(tmp_path / "out.json"), **given, **options})


def test_scores_are_those_of_the_models_and_metrics_those_of_the_scores(models, tmp_path):
    rows = _pairs()
    config = _config(tmp_path, rows, models)
    result = run(config)
    assert [model.name for model in result.models] == ["normal", "factor"]
    for checkpoint, found in zip(models, result.models, strict=True):
        scorer = Scorer(load_model(checkpoint, ModelOptions()))
        right, wrong = (
            scorer.raw([_chat(row, LABELS.index(row["label"]) ^ other) for row in rows]).complete()
            for other in (0, 1)
        )
        for measure in ("mean", "cvar:0.1"):
            high, low = (risk.parse(measure)(scorer.rewards(raw)) for raw in (right, wrong))
            share = (high > low).double().mean().item()
            assert found.measures[measure].records[0].accuracy["accuracy"].estimate == share
        p = scorer.rewards(right).log_prob_greater(scorer.rewards(wrong)).exp()
        everything = found.distribution[0]
        assert (everything.part, everything.n) == ("all", 8)
        assert everything.preferred == pytest.approx(p.mean().item(), abs=1e-5)
        assert everything.right == pytest.approx((p > 0.5).double().mean().item())
        deviations = torch.cat([scorer.rewards(raw).stddev for raw in (right, wrong)])
        assert everything.stddev == pytest.approx(deviations.mean().item(), rel=1e-5)
        parts = {spread.part: spread.n for spread in found.distribution[1:]}
        assert parts == {"mmlu-pro-law": 4, "livecodebench": 4}


def _chat(row, side):
    return [user(row["question"]), assistant(row[SIDES[side]])]


def test_what_is_too_long_or_empty_is_counted_named_and_left_out_or_cut(models, tmp_path):
    rows = _pairs(long=(1, 3))
    rows[5]["response_A"] = "  "
    config = _config(tmp_path, rows, models[:1])
    (model,) = run(config).models
    assert (model.rows_left_out, model.measures["mean"].records[0].n) == (3, 5)
    assert [(text.row, text.id, text.response) for text in model.unscored] == [
        (2, "p1", "chosen[0]"), (4, "p3", "chosen[0]"), (6, "p5", "rejected[0]")
    ]  # fmt: skip
    long, also, empty = (text.reason for text in model.unscored)
    assert "tokens, more than 128" in long
    assert "tokens, more than 128" in also
    assert empty == "nothing but white space follows the prompt"
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["models"][0]["unscored"][0]["id"] == "p1"
    kept = read_rows(config.scores_path)[1]
    assert (kept["reward_output_chosen"], kept["reward_output_chosen_reason"]) == (None, long)
    cut = run(_config(tmp_path, _pairs(long=(1,)), models, over_length="truncate"))
    assert cut.texts_cut == 2  # of two models
    assert [(m.rows_left_out, m.measures["mean"].records[0].n) for m in cut.models] == [(0, 8)] * 2


def test_the_command_prints_models_measures_and_what_is_missing(models, tmp_path, capsys):
    source = write_rows(tmp_path / "rows.jsonl", _pairs(16, long=range(6)))
    output = tmp_path / "out.json"
    command = ["benchmark", "judge_bench", source, "--output", str(output), "--models", *models]
    assert main([*command, "--risk", "mean", "quantile:0.05", "--disable_tqdm", "true"]) == 0
    printed = capsys.readouterr().out
    for text in ("JudgeBench", "normal", "factor", "quantile:0.05", "Knowledge", "mmlu-pro-law"):
        assert text in printed
    assert "normal: 6 of 16 rows left out; texts without a score: 6" in printed
    assert "row 5 (p4), chosen[0]: it has" in printed
    assert "row 6 (p5)" not in printed  # five are named, the file has all
    assert "…" in printed
    assert f"{output}; scores: {tmp_path / 'out.scores.jsonl'}" in printed
    written = json.loads(output.read_text())
    assert (written["format"], written["version"]) == ("hidden_context.benchmark", 1)
    assert len(written["models"][1]["unscored"]) == 6
    assert list(written["models"][0]["measures"]) == ["mean", "quantile:0.05"]
    assert (tmp_path / "out.json.config.yaml").exists()


def test_rm_bench_prints_a_column_for_each_metric_and_how_many_texts_were_cut(
    models, tmp_path, capsys
):
    row = rm_row("x", "chat")
    row["rejected"][1] = "No " * 200
    path = tmp_path / "total_dataset.json"
    path.write_text(json.dumps([row]))
    command = ["benchmark", "rm_bench", str(path), "--output", str(tmp_path / "o.json")]
    options = ["--over_length", "truncate", "--disable_tqdm", "true"]
    assert main([*command, "--models", models[0], *options]) == 0
    printed = capsys.readouterr().out
    for name in ("easy", "normal", "hard", "average"):
        assert name in printed
    assert "texts whose beginning was cut: 1" in printed
    assert "without section code, math, safety, which has no row" in printed


def test_a_parquet_file_gives_the_same_numbers(models, tmp_path):
    import pyarrow
    import pyarrow.parquet

    first = run(_config(tmp_path, _pairs(), models[:1]))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_pairs()), path)
    config = _config(tmp_path, _pairs(), models[:1], output=str(tmp_path / "second.json"))
    assert run(dataclasses.replace(config, input=str(path))).models == first.models


def test_a_template_of_chats_that_is_given_is_used(tmp_path):
    checkpoint = reward_checkpoint(tmp_path / "m")
    config = _config(tmp_path, _pairs(2), [checkpoint], chat_template=CHAT_TEMPLATE)
    run(config)
    model = load_model(checkpoint, ModelOptions())
    model.tokenizer.chat_template = CHAT_TEMPLATE
    row = _pairs(2)[0]
    raw = Scorer(model).raw([_chat(row, 0)]).complete()[0]
    assert read_rows(config.scores_path)[0]["reward_output_chosen"] == pytest.approx(raw.tolist())


def test_a_model_on_a_frozen_backbone_needs_no_template(tmp_path):
    from hidden_context.training import run as train

    rows = preference_rows(24, seed=1)
    options = {"freeze_backbone": True, "probe_members": 1}
    options["reward_model_type"] = "mean_and_variance"
    config = train_config(tiny_backbone(tmp_path / "backbone"), tmp_path / "run", **options)
    folder = str(train(config, rows, rows[:8]).path)
    config = _config(tmp_path, _pairs(4), [folder], names=["probe"])
    (model,) = run(config).models
    assert (model.name, model.rows_left_out) == ("probe", 0)
    raw = load_model(folder, ModelOptions()).raw_outputs([_chat(_pairs(1)[0], 0)])[0].tolist()
    assert read_rows(config.scores_path)[0]["reward_output_chosen"] == pytest.approx(raw, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*_pairs(2), _pairs(3)[2] | {"label": "A=B"}],
         r"rows\.jsonl.*line 3.*label.*ScalerLab/JudgeBench"),
        ([], "no rows"),
        (_pairs(2, long=(0, 1)), r"out\.scores\.jsonl"),  # every row has a text without a score
    ],
)  # fmt: skip
def test_files_without_a_number_are_errors(models, tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        run(_config(tmp_path, rows, models[:1]))
    assert not (tmp_path / "out.json").exists()


GIVEN = {
    "benchmark": "rm_bench", "input": "f", "output": "o", "models": ["m"], "risk": ["mean"]
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"benchmark": ""}, "benchmark needs a benchmark, as in"),
        ({"input": ""}, "benchmark needs a file, as in"),
        ({"output": ""}, "benchmark needs --output, as in"),
        ({"models": []}, "benchmark needs --models, as in"),
        ({"risk": []}, "benchmark needs --risk, as in"),
        ({"risk": ["mean", "mean"]}, "names a measure twice"),
    ],
)
def test_options_that_cannot_work(options, words):
    with pytest.raises(ConfigError, match=words):
        BenchmarkConfig(**GIVEN | options)


def test_names_that_are_unknown_are_refused():
    with pytest.raises(ConfigError, match="choose one of reward_bench_2, rm_bench, judge_bench"):
        make("reward_bench")
