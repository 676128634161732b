from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.analysis import score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.tables import analysis_title, print_analysis
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError, DataError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.head_file import HeadFile
from hidden_context.models.likelihood_file import save_likelihood
from hidden_context.scoring.evaluation import metrics_of_file
from hidden_context.statistics.judgement_metrics import judgement_values


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
    assert (saved["format"], saved["version"]) == ("hidden_context.analysis", 3)
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
    assert "1 row without a reward or a vote left out" in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "data_subset=helpful 2 0.5032 75.0 % 0.250 0.000 – – 75.0 % 75.0 %" in lines


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
    assert "all 1 0.000 0.693 0.000 0.000 100.0 % 1/1" in lines


def test_rows_with_any_number_of_responses_are_summarised_but_not_compared(tmp_path, capsys):
    rows = [{"reward_outputs_a": [[1.0]]}, {"reward_outputs_a": [[2.0], [3.0]]}]
    config = AnalyzeConfig(files=[write(tmp_path / "s.jsonl", rows)])
    analysis = score_analysis.run(config)
    record = analysis.analyses[0].groups[0].record
    assert (record.n, record.num_responses, record.reward_mean) == (2, 3, 2.0)
    print_analysis(analysis)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "all 2 2.000 0.000 – –" in lines


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


@pytest.mark.parametrize(
    "head",
    [
        heads.make("categorical", num_atoms=2),
        heads.make("mean_and_variance", likelihood="logistic"),
        heads.make("mean_and_variance", likelihood="probit"),
    ],
    ids=["categorical", "logistic", "probit"],
)
def test_a_file_in_a_checkpoint_s_folder_gives_what_evaluate_gives(tmp_path, head):
    # Shares that single precision holds too: 1, ½, ¾, 0, and none at all
    preferences = [1.0, 0.5, 0.75, 0.0, None] * 6
    raw = np.random.default_rng(3).normal(size=(30, 2, 2))
    rows = [
        pair(*sides.tolist(), preference=w, objective=i % 2, data_subset="helpful")
        for i, (sides, w) in enumerate(zip(raw, preferences, strict=True))
    ]
    HeadFile(head).save(tmp_path)
    path = tmp_path / "eval_results_both.jsonl"
    write(path, rows)
    expected = metrics_of_file(path, make_likelihood(head))
    (scores,) = score_analysis.run(AnalyzeConfig(files=[str(path)])).analyses
    assert scores.head == head.to_dict()
    for group in scores.groups:
        if "data_subset" in group.labels:
            continue  # all rows are of one, which evaluate does not repeat
        prefix = "".join(f"{name}_{value}_" for name, value in group.labels.items())
        for name in ("loss", "reward_mean", "reward_stddev", "r2"):
            found = getattr(group.record, name)
            assert found == pytest.approx(expected[prefix + name], rel=1e-12), (prefix, name)
        assert group.record.accuracy.share == pytest.approx(expected[f"{prefix}accuracy"])
    assert {"objective": "1"} in [group.labels for group in scores.groups]


def known_annotators(head):
    options = LikelihoodOptions(3, inference="variational", names=("ann", "7"), column="who")
    return make_likelihood(head, options)


@pytest.mark.parametrize(
    "likelihood",
    [
        known_annotators(heads.make("factor", num_factors=1)),
        known_annotators(heads.make("ensemble", member=heads.make("factor"), num_members=2)),
        make_likelihood(heads.make("mixture", num_components=2)),
        make_likelihood(heads.make("quantile", num_atoms=3), LikelihoodOptions(3)),
    ],
    ids=["factor", "ensemble", "mixture", "quantile"],
)
def test_a_checkpoint_s_annotators_and_answers_are_read_as_evaluate_reads_them(
    tmp_path, likelihood, capsys
):
    head, learned = likelihood.head, likelihood.options != LikelihoodOptions()
    said = [
        {"who": "ann"},
        {"who": 7, "preference": 0.5},
        {"annotations": [{"who": "7", "preference": 0}]},
        {"strength": -1},
        {},
    ] * 4
    raw = np.random.default_rng(3).normal(size=(20, 2, head.num_outputs))
    rows = [
        pair(*sides.tolist(), **columns, objective=i % 3)
        for i, (sides, columns) in enumerate(zip(raw, said, strict=True))
    ]
    HeadFile(head).save(tmp_path)
    save_likelihood(tmp_path, likelihood)
    path = tmp_path / "eval_results_both.jsonl"
    write(path, rows)
    expected = metrics_of_file(path, likelihood)
    output = tmp_path / "analysis.json"
    analysis = score_analysis.run(AnalyzeConfig(files=[str(path)], output=str(output)))
    (scores,) = analysis.analyses
    (saved,) = json.loads(output.read_text())["analyses"]
    assert scores.with_likelihood == saved["with_objective"] == learned
    for group, written in zip(scores.groups, saved["groups"], strict=True):
        prefix = "".join(f"{name}_{value}_" for name, value in group.labels.items())
        for name in ("loss", "reward_mean", "reward_stddev", "r2"):
            found = getattr(group.record, name)
            assert found == pytest.approx(expected[prefix + name], rel=1e-12), (prefix, name)
            assert written[name] == found
        assert group.record.accuracy.share == pytest.approx(expected[f"{prefix}accuracy"])
        shares = {
            cause: expected[f"{prefix}{cause}_share"]
            for cause in ("shared_context", "noise", "ignorance")
            if f"{prefix}{cause}_share" in expected
        }
        assert (group.record.variance_shares or {}) == pytest.approx(shares)
        assert written["variance_shares"] == group.record.variance_shares
    assert len(scores.groups) == 4

    print_analysis(analysis)
    printed = capsys.readouterr().out
    assert ("with its likelihood.json" in printed) == learned
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    if shares:
        percents = [f"{100 * s:.1f} %" for s in scores.groups[1].record.variance_shares.values()]
        assert " ".join(["objective=0", *percents]) in lines
        assert " ".join(["variance", *shares]) in lines
        assert "Variance: of the difference between the two sides" in printed
    else:
        assert "Variance" not in printed
    # another head than the checkpoint's has none of what it learned
    if head.type == "quantile":
        config = AnalyzeConfig(files=[str(path)], head="factor")
        assert not score_analysis.run(config).analyses[0].with_likelihood


def test_votes_of_several_known_annotators_make_one_pair(tmp_path):
    likelihood = known_annotators(heads.make("factor", num_factors=1))
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[1.5], [-1.0]]))
    said = [
        {"annotations": [{"who": "ann", "preference": 0}, {"who": "zoe", "preference": 1}]},
        {"who": 7},
        {
            "annotations": [
                {"who": "7", "strength": 1},
                {"who": "ann", "abstains": True},
                {"who": "x", "strength": 0},
            ]
        },
    ] * 3
    raw = np.random.default_rng(3).normal(size=(9, 2, 3))
    rows = [pair(*sides.tolist(), **one) for sides, one in zip(raw, said, strict=True)]
    HeadFile(likelihood.head).save(tmp_path)
    save_likelihood(tmp_path, likelihood)
    path = write(tmp_path / "s.jsonl", rows)
    (scores,) = score_analysis.run(AnalyzeConfig(files=[path])).analyses
    examples = [read_row({"chosen": "", "rejected": "", **row}) for row in rows]
    labels = labels_of(examples, likelihood.names.index, "who", 3)
    assert (len(labels), len(labels.comparisons)) == (9, 15)
    values = judgement_values(likelihood, torch.from_numpy(raw).flatten(0, 1), labels)
    loss, right = (labels.mean_by_example(each).mean().item() for each in values)
    record = scores.groups[0].record
    assert record.loss == pytest.approx(loss, rel=1e-9)
    assert record.accuracy.share == pytest.approx(right, rel=1e-9)


def test_what_lies_beside_belongs_to_a_single_model_only(tmp_path):
    likelihood = known_annotators(heads.make("factor", num_factors=1))
    HeadFile(likelihood.head).save(tmp_path)
    save_likelihood(tmp_path, likelihood)
    row = {"reward_output_chosen": [1.0, 0.0, 0.0], "reward_output_rejected": [0.0, 0.0, 0.0]}
    both = [row | {"reward_outputs_m": [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]}]
    path = write(tmp_path / "s.jsonl", both)
    pairs, responses = score_analysis.run(AnalyzeConfig(files=[path], head="factor")).analyses
    assert (pairs.with_likelihood, responses.with_likelihood) == (False, False)
    responses_alone = write(tmp_path / "r.jsonl", [{"reward_outputs_m": [[0.0, 1.0, 0.0]]}])
    (scores,) = score_analysis.run(AnalyzeConfig(files=[responses_alone])).analyses
    assert (scores.head["type"], scores.with_likelihood) == ("factor", False)
    sigma = math.log(2)
    assert scores.groups[0].record.variance_shares == {
        "shared_context": pytest.approx(1 / (1 + sigma**2)),
        "noise": pytest.approx(sigma**2 / (1 + sigma**2)),
    }


def test_an_ensemble_is_named_with_its_members(tmp_path):
    member = heads.make("mean_and_variance", likelihood="logistic")
    HeadFile(heads.make("ensemble", member=member, num_members=2)).save(tmp_path)
    path = write(tmp_path / "s.jsonl", [pair([0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 0.0, 1.0])])
    (scores,) = score_analysis.run(AnalyzeConfig(files=[path])).analyses
    title = analysis_title(scores)
    assert title.endswith("s.jsonl: pairs (ensemble of 2, mean_and_variance, logistic)")
    assert list(scores.groups[0].record.variance_shares) == ["unsplit", "ignorance"]


def test_a_relative_measure_needs_a_head_with_shared_context(tmp_path):
    path = write(tmp_path / "s.jsonl", [pair([0.0, 1.0, 0.5], [1.0, 0.0, 0.5])])
    options = {"files": [path], "risk": ["relative_cvar:0.1"]}
    (scores,) = score_analysis.run(AnalyzeConfig(head="factor", **options)).analyses
    assert scores.groups[0].record.accuracy_at["relative_cvar:0.1"].count == 0
    words = r"relative_cvar:0.1 needs .* reward_output_chosen in .*s.jsonl is of a categorical"
    with pytest.raises(ConfigError, match=words):
        score_analysis.run(AnalyzeConfig(head="categorical", **options))


def test_pairs_of_several_models_have_a_record_each(tmp_path, capsys):
    HeadFile(heads.make("categorical", num_atoms=2)).save(tmp_path)
    row = {
        "reward_output_chosen_a": [1.0],
        "reward_output_rejected_a": [0.0],
        "reward_output_chosen_b": [0.0, 0.0],
        "reward_output_rejected_b": [1.0, 0.0],
    }
    analysis = score_analysis.run(AnalyzeConfig(files=[write(tmp_path / "s.jsonl", [row])]))
    found = {
        (a.kind, a.name): (a.head["type"], a.groups[0].record.accuracy.share)
        for a in analysis.analyses
    }
    # a checkpoint's head is not that of several models
    assert found == {("pairs", "a"): ("base", 1.0), ("pairs", "b"): ("mean_and_variance", 0.0)}
    print_analysis(analysis)
    assert "s.jsonl: pairs b (mean_and_variance, probit)" in capsys.readouterr().out


def test_no_input_is_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    write(path, [pair([1.0], [0.0])])
    before = path.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for output in (str(path), "s.jsonl", "../" + tmp_path.name + "/s.jsonl", "link.jsonl"):
        with pytest.raises(ConfigError, match="is an input too"):
            score_analysis.run(AnalyzeConfig(files=["s.jsonl"], output=output))
    for output in ("reward_head.json", "likelihood.json", "likelihood.safetensors"):
        with pytest.raises(ConfigError, match="is an input too"):
            score_analysis.run(AnalyzeConfig(files=["s.jsonl"], output=output))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        {"files": ["s.jsonl"], "alpha": 0.05},
        {"files": ["s.jsonl"], "data_dir": "elsewhere"},
        {"files": ["s.jsonl"], "reward_models_dir": "elsewhere"},
        {"files": ["s.jsonl"], "jailbreak_dir": "elsewhere"},
        {"head": "base"},
        {"likelihood": "logistic"},
        {"risk": ["mean"]},
    ],
)
def test_an_option_of_the_other_job_is_refused(options):
    name = list(options)[-1]
    with pytest.raises(ConfigError, match=rf"^only .* use --{name}\b"):
        AnalyzeConfig(**options)


def test_options_at_their_defaults_are_taken_anywhere():
    risk = ["mean", "quantile:0.01"]
    assert AnalyzeConfig(alpha=0.01, risk=risk, head=None) == AnalyzeConfig()
    assert AnalyzeConfig(files=["s.jsonl"], alpha=0.01, data_dir="data").files == ["s.jsonl"]


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


def test_reading_a_checkpoint_s_head_loads_no_transformers(tmp_path):
    HeadFile(heads.make("base")).save(tmp_path)
    path = write(tmp_path / "s.jsonl", [pair([1.0], [0.0])])
    code = (
        "import sys\n"
        "from hidden_context.analysis import score_analysis\n"
        "from hidden_context.analysis.config import AnalyzeConfig\n"
        f"score_analysis.run(AnalyzeConfig(files=[{path!r}]))\n"
        "print([m for m in ('transformers', 'peft', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
