import json
import math
import subprocess
import sys

import numpy as np
import pytest

from hidden_context import heads
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.cli.main import main
from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.card import model_card
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.report.terminal.analysis import analysis_title
from hidden_context.scoring.evaluation import measure
from hidden_context.scoring.rows import read_scored
from support.score_rows import pair, write


def test_numbers_of_each_part_of_a_pair_file(tmp_path, analyze, printed):
    rows = [
        pair([1.0], [0.0], data_subset="helpful"),
        pair([0.0], [0.0], data_subset="helpful"),
        pair([0.0], [2.0], data_subset="harmless"),
        pair(None, [2.0], data_subset="harmless"),
    ]
    output = tmp_path / "analysis.json"
    analysis = analyze(rows, output=str(output))
    saved = json.loads(output.read_text())
    assert (saved["format"], saved["version"]) == ("hidden_context.analysis", 3)
    (scores,) = saved["analyses"]
    assert (scores["kind"], scores["name"], scores["rows_left_out"]) == ("pairs", "", 1)
    assert scores["head"] == {"type": "base", "num_outputs": 1, "version": 1}
    everything, _, helpful = scores["groups"]
    labels = [{}, {"data_subset": "harmless"}, {"data_subset": "helpful"}]
    assert [group["labels"] for group in scores["groups"]] == labels
    assert everything["accuracy"] == {"share": 0.5, "count": 1.5, "total": 3}
    assert helpful["accuracy_at"]["mean"] == {"share": 0.75, "count": 1.5, "total": 2}
    lines = printed(analysis).splitlines()
    assert any(line.startswith("1 row without a reward or a vote left out: ") for line in lines)
    assert "data_subset=helpful 2 0.5032 75.0 % 0.250 0.000 – – 75.0 % 75.0 %" in lines


def test_every_column_of_responses_has_its_own_head(analyze, printed):
    row = {
        "reward_outputs_both": [[0.0], [1.0]],
        "reward_outputs_both_categorical": [[0.0, 9.0], [9.0, 0.0]],
        "reward_outputs_both_mean_and_variance": [[0.0, 0.0], [0.0, 0.0]],
        "reward_outputs_many": [[0.0], [0.0]],
    }
    analysis = analyze([row], likelihood="logistic", risk=["mean", " mean"])
    found = {
        a.name: (a.head["type"], a.groups[0].record.second_at_least["mean"].count)
        for a in analysis.analyses
    }
    assert found == {
        "both": ("base", 1),
        "both_categorical": ("categorical", 0),
        "both_mean_and_variance": ("mean_and_variance", 1),  # a tie
        "many": ("base", 1),
    }
    titles = [analysis_title(a) for a in analysis.analyses]
    assert titles[2].endswith("responses both_mean_and_variance (mean_and_variance, logistic)")
    assert "all 1 0.000 0.693 0.000 0.000 100.0 % 1/1" in printed(analysis).splitlines()


def test_rows_with_any_number_of_responses_are_summarised_but_not_compared(analyze, printed):
    analysis = analyze([{"reward_outputs_a": [[1.0]]}, {"reward_outputs_a": [[2.0], [3.0]]}])
    record = analysis.analyses[0].groups[0].record
    assert (record.n, record.num_responses, record.reward_mean) == (2, 3, 2.0)
    assert "all 2 2.000 0.000 – –" in printed(analysis).splitlines()


def test_an_ensemble_is_named_with_its_members(tmp_path, analyze):
    member = heads.make("mean_and_variance", likelihood="logistic")
    HeadFile(heads.make("ensemble", member=member, num_members=2)).save(tmp_path)
    (scores,) = analyze([pair([0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 0.0, 1.0])]).analyses
    title = analysis_title(scores)
    assert title.endswith("scores.jsonl: pairs (ensemble of 2, mean_and_variance, logistic)")
    assert list(scores.groups[0].record.variance_shares) == ["unsplit", "ignorance"]


def known_annotators(head):
    options = LikelihoodOptions(3, inference="variational", names=("ann", "7"), column="who")
    return make_likelihood(head, options)


FACTORS = heads.make("ensemble", member=heads.make("factor"), num_members=2)
LEARNED = {
    "factor": known_annotators(heads.make("factor", num_factors=1)),
    "ensemble": known_annotators(FACTORS),
    "levels": make_likelihood(heads.make("quantile", num_atoms=3), LikelihoodOptions(3)),
}
PLAIN = {
    "mixture": make_likelihood(heads.make("mixture", num_components=2)),
    "categorical": make_likelihood(heads.make("categorical", num_atoms=2)),
    "logistic": make_likelihood(heads.make("mean_and_variance", likelihood="logistic")),
    "probit": make_likelihood(heads.make("mean_and_variance", likelihood="probit")),
}


def lay_beside(folder, likelihood):
    HeadFile(likelihood.head).save(folder)
    save_likelihood(folder, likelihood)


@pytest.mark.parametrize("name", [*LEARNED, *PLAIN])
def test_a_file_in_a_checkpoint_s_folder_gives_what_evaluate_gives(
    tmp_path, name, analyze, printed
):
    likelihood = (LEARNED | PLAIN)[name]
    said = [
        {"who": "ann"},
        {"who": 7, "preference": 0.5},
        {"annotations": [{"who": "7", "preference": 0}]},
        {"strength": -1},
        {"preference": None},
    ]
    if name in PLAIN:  # shares that single precision holds too
        said += [{"preference": 0.75}, {"preference": 0.0}]
    raw = np.random.default_rng(3).normal(size=(35, 2, likelihood.head.num_outputs))
    rows = [
        pair(*sides.tolist(), **said[i % len(said)], objective=i % 3) for i, sides in enumerate(raw)
    ]
    lay_beside(tmp_path, likelihood)
    path = write(tmp_path / "eval_results_both.jsonl", rows)
    expected, _ = measure(read_scored(path), likelihood, path)
    output = tmp_path / "analysis.json"
    analysis = analyze(files=[path], output=str(output))
    (scores,) = analysis.analyses
    assert scores.head == likelihood.head.to_dict()
    (saved,) = json.loads(output.read_text())["analyses"]
    assert scores.with_likelihood == saved["with_objective"] == (name in LEARNED)
    objectives = [group.labels for group in scores.groups]
    assert objectives == [{}, {"objective": "0"}, {"objective": "1"}, {"objective": "2"}]
    for group, written in zip(scores.groups, saved["groups"], strict=True):
        record = group.record
        prefix = "".join(f"{name}_{value}_" for name, value in group.labels.items())
        for metric in ("loss", "reward_mean", "reward_stddev", "r2"):
            found = getattr(record, metric)
            assert found == pytest.approx(expected[prefix + metric], rel=1e-12), (prefix, metric)
            assert written[metric] == found
        assert record.accuracy.share == pytest.approx(expected[f"{prefix}accuracy"])
        shares = {
            cause: expected[f"{prefix}{cause}_share"]
            for cause in ("shared_context", "noise", "ignorance")
            if f"{prefix}{cause}_share" in expected
        }
        assert (record.variance_shares or {}) == pytest.approx(shares)
        assert written["variance_shares"] == record.variance_shares
    text = printed(analysis)
    assert ("with its likelihood.json" in text) == (name in LEARNED)
    if shares:
        percents = [f"{100 * s:.1f} %" for s in scores.groups[1].record.variance_shares.values()]
        assert " ".join(["objective=0", *percents]) in text.splitlines()
        assert " ".join(["variance", *shares]) in text.splitlines()
        assert "Variance: of the difference between the two sides" in text
    else:
        assert "Variance" not in text
    if name == "levels":  # another head than the checkpoint's has none of what it learned
        assert not analyze(files=[path], head="factor").analyses[0].with_likelihood


def test_what_lies_beside_belongs_to_a_single_model_only(tmp_path, analyze, printed):
    lay_beside(tmp_path, known_annotators(heads.make("factor", num_factors=1)))
    both = pair([1.0, 0.0, 0.0], [0.0] * 3, reward_outputs_m=[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    pairs, responses = analyze([both], head="factor").analyses
    assert (pairs.with_likelihood, responses.with_likelihood) == (False, False)
    (scores,) = analyze([{"reward_outputs_m": [[0.0, 1.0, 0.0]]}]).analyses
    assert (scores.head["type"], scores.with_likelihood) == ("factor", False)
    named = {"chosen_a": [1.0], "rejected_a": [0.0], "chosen_b": [0.0] * 2, "rejected_b": [1.0, 0]}
    analysis = analyze([{f"reward_output_{name}": raw for name, raw in named.items()}])
    found = {
        (a.kind, a.name): (a.head["type"], a.groups[0].record.accuracy.share)
        for a in analysis.analyses
    }
    assert found == {("pairs", "a"): ("base", 1.0), ("pairs", "b"): ("mean_and_variance", 0.0)}
    assert "scores.jsonl: pairs b (mean_and_variance, probit)" in printed(analysis)


def test_no_input_is_overwritten(tmp_path, monkeypatch, analyze):
    path = tmp_path / "s.jsonl"
    write(path, [pair([1.0], [0.0])])
    before = path.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    beside = ["reward_head.json", "likelihood.json", "likelihood.safetensors"]
    same = [str(path), "s.jsonl", f"../{tmp_path.name}/s.jsonl", "link.jsonl"]
    for output in [*same, *beside]:
        with pytest.raises(ConfigError, match="is an input too"):
            analyze(files=["s.jsonl"], output=output)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"files": ["s.jsonl"], name: "elsewhere"}
            for name in ("data_dir", "reward_models_dir", "jailbreak_dir")
        ),
        {"files": ["s.jsonl"], "alpha": 0.05},
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"files": ["absent.jsonl"], "risk": ["quantle:0.01"]}, "quantle"),  # before reading
        ({"files": ["absent.jsonl"], "head": "base"}, "absent.jsonl does not exist"),
        ({"resamples": 999}, "no score file"),
    ],
)
def test_what_cannot_be_analysed_is_refused(analyze, options, words):
    with pytest.raises(HiddenContextError, match=words):
        analyze(**options)


def test_an_analysis_with_a_checkpoint_s_head_loads_no_heavy_library(tmp_path):
    HeadFile(heads.make("base")).save(tmp_path)
    path = write(tmp_path / "s.jsonl", [pair([1.0], [0.0])])
    code = (
        "import sys\nfrom hidden_context.analysis import config, workflow\n"
        f"workflow.run(config.AnalyzeConfig(files=[{path!r}]))\n"
        "print([m for m in ('transformers', 'peft', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def scores(tmp_path):
    high, low = [2.0, 0.0], [0.0, 0.0]
    return write(tmp_path / "scores.jsonl", [pair(high, low), pair(low, high)])


def test_score_files_and_flags_in_any_order(scores, tmp_path, capsys):
    output = tmp_path / "analysis.json"
    flags = ["--head", "mean_and_variance", scores, scores, "--output", str(output)]
    assert main(["analyze", *flags]) == 0
    saved = json.loads(output.read_text())
    assert [a["file"] for a in saved["analyses"]] == [scores, scores]
    # means 0, 2 in equal parts: variance 1; σ² = log²2
    r2 = saved["analyses"][0]["groups"][0]["r2"]
    assert r2 == pytest.approx(1 / (1 + math.log(2) ** 2), abs=1e-12)
    flags = ["--risk", "cvar:0.05", "entropic:1", "--likelihood", "logistic"]
    assert main(["analyze", scores, *flags]) == 0
    text = capsys.readouterr().out
    for words in ("accuracy cvar:0.05", "(mean_and_variance, logistic)", "a tie counts one half"):
        assert words in text
    flags = ["--head", "factor", "--risk", "relative_quantile:0.1"]
    assert main(["analyze", scores, *flags]) == 0
    text = capsys.readouterr().out
    assert "pairs (factor)" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "all 0.0 % 100.0 %" in lines  # of two numbers none is a loading


def test_without_files_it_prints_the_paper_s_tables(tmp_path, capsys):
    row = {"reward_outputs_both": [[0.0], [1.0]]}
    write(tmp_path / "jailbroken_evaluations_base.jsonl", [row])
    assert main(["analyze", "--data_dir", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "base both 100.0 % 1/1 25.1 % – – –" in lines


def test_bad_input_is_one_paragraph_and_code_2(scores, capsys):
    assert main(["analyze", scores, "--risk", "relative_quantile:0.1"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith(
        "error: --risk relative_quantile:0.1 needs a head with shared context: factor, or an "
        f"ensemble of factor heads; reward_output_chosen in {scores} is of a mean_and_variance head"
    )


@pytest.fixture
def card(tmp_path):
    """The card of a checkpoint's folder."""
    head = heads.make("mean_and_variance")
    HeadFile(head).save(tmp_path)
    path, facts = tmp_path / "README.md", {"base_model": None, "max_length": None, "metrics": {}}
    path.write_text(model_card(make_likelihood(head), **facts))
    return path


def rows_of(gaps, **columns):
    return [
        pair([float(gap), 0.0], [0.0, 0.0], prompt=f"p{number}", **columns)
        for number, gap in enumerate(gaps)
    ]


def test_the_card_shows_what_the_analysis_says(card, analyze):
    gaps = np.random.default_rng(0).normal(0.4, 1, size=50)
    before = card.read_text()
    (scores,) = analyze(rows_of(gaps, data_subset="a|b"), card=True).analyses
    text = card.read_text()
    accuracy = scores.groups[0].intervals["accuracy"]
    assert accuracy.estimate == (gaps > 0).mean()
    cell = f"{100 * accuracy.estimate:.1f} % [{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"
    assert f"| all | 50 | {cell} |" in text
    assert r"| data_subset a\|b | 50 |" in text
    assert f"- Expected calibration error: {scores.calibration['ece'].estimate:.3f} [" in text
    assert text.index("analysis: end") < text.index("## Use")
    begin, end = text.index("<!-- analysis: begin"), text.index("## Use")
    assert text[:begin] + text[end:] == before


def test_a_new_analysis_takes_the_place_of_the_old(card, analyze):
    texts = []
    for gaps in (np.ones(30), np.ones(30), -np.ones(40)):
        analyze(rows_of(gaps), card=True)
        texts.append(card.read_text())
    assert texts[0] == texts[1]
    assert texts[2].count("## Analysis of scores.jsonl") == 1
    assert "| all | 40 | 0.0 % [0.0," in texts[2]


def test_a_file_elsewhere_has_no_card(analyze):
    with pytest.raises(ConfigError, match="--card needs a file in a checkpoint"):
        analyze(rows_of(np.ones(5)), card=True)
