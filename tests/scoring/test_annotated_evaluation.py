"""Evaluating what annotators said: votes, strengths, ties, rankings, and annotators by name."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hidden_context import RewardModel, heads
from hidden_context.analysis import workflow as score_analysis
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.analysis.sections.read import read_section_scores
from hidden_context.cli.main import main
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import DataError, StorageError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.head_file import HeadFile, heads_folder, save_heads
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring.evaluation import measure
from hidden_context.scoring.rows import read_scored
from hidden_context.statistics.evaluation.judgement_metrics import grouped_judgement_metrics
from support.builders import preference_rows, tiny_backbone
from support.paper_layout import reward_checkpoint, write_rows
from support.score_rows import pair
from support.scoring import evaluate

BASE = heads.make("base")
SIDES = ("reward_output_chosen", "reward_output_rejected")


def votes_of(path, rows):
    """Write rows with raw outputs of a base head, and compare them with their votes."""
    write_rows(path, rows)
    return measure(read_scored(path), make_likelihood(BASE), path)[1]


SAID = [
    {"strength": -2},
    {"strength": 0},
    {"annotations": [{"preference": 1}, {"strength": 3}, {"annotator": 7, "preference": 0}]},
    {"preference": 0.25, "strength": -1},
    # what training learns from goes before a summary of it
    {"preference": 1, "annotations": [{"strength": -1}, {"preference": 0.5}]},
    # an abstention is no vote
    {"annotations": [{"annotator": "ann"}, {"preference": 1}]},
    {},
]
RANKED = {"prompt": "Tea?", "responses": ["No.", "Yes, kindly.", "Exactly."], "ranks": [2, 1, 1]}
RATED = [
    {"text": "\n\nHuman: Tea?\n\nAssistant: Yes, kindly.", "rating": 4, "more": 1},
    {"prompt": "Tea?", "response": "No.", "ratings": [{"rating": 1.5}, {"rating": None}]},
    {
        "prompt": "Rain?",
        "responses": ["It is so.", "No.", "Perhaps."],
        "judgements": [
            {"comparison": [0, 1]},
            {"response": 0, "rating": 5},
            {"response": 2, "rating": 2, "annotator": "ann"},
            {"response": 2, "rating": 3, "annotator": "bob"},
            {"abstains": True},
        ],
        "more": 3,
    },
]
PEOPLE = [
    row | {"annotator": ("ann", "bob", "zoe", None)[number % 4]}
    for number, row in enumerate(preference_rows(12, 3))
]
PEOPLE[3]["annotations"] = [{"annotator": name, "preference": 0} for name in ("bob", "ann", None)]
STRENGTHS = [
    row | {"strength": s} for row, s in zip(preference_rows(5), (-2, 2, 1, 0, -1), strict=True)
]
FACTOR = heads.make("factor", num_factors=1)
CASES = {
    "votes": (BASE, {}, [row | own for row, own in zip(preference_rows(7), SAID, strict=True)]),
    "ranking": (BASE, {}, [RANKED]),
    "ratings": (
        BASE, {"rating_weight": 0.5, "rating_location": 3.0, "rating_scale": 2.0}, RATED
    ),
    "ties": (BASE, {"levels": 3}, STRENGTHS),
    "strengths": (BASE, {"levels": 5}, STRENGTHS),
    "people": (FACTOR, {"inference": "variational", "names": ("ann", "bob")}, PEOPLE),
    "another column": (
        FACTOR, {"inference": "map", "names": ("helpful",), "column": "objective"}, PEOPLE
    ),
    "mixture": (heads.make("mixture", num_components=2), {}, PEOPLE),
    "quantile": (heads.make("quantile", num_atoms=4), {}, PEOPLE),
    "ensemble": (
        heads.make("ensemble", member=FACTOR, num_members=2),
        {"inference": "map", "names": ("ann", "bob")},
        PEOPLE[4:],  # one vote each, as an analysis counts pairs
    ),
}  # fmt: skip


def learned(name, tmp_path):
    """A model with the likelihood of a case, as if it had learned, and a file of its rows."""
    head, options, rows = CASES[name]
    likelihood, folder = make_likelihood(head, LikelihoodOptions(**options)), tmp_path / "model"
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    tiny_backbone(folder, num_labels=head.num_outputs)
    HeadFile(head).save(folder)
    save_likelihood(folder, likelihood)
    return folder, write_rows(tmp_path / "rows.jsonl", rows)


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_those_of_the_judgements_by_the_model_s_own_likelihood(name, tmp_path):
    """Whatever was said of whatever responses, in rows that are written and read back."""
    head, options, rows = CASES[name]
    folder, data = learned(name, tmp_path)
    result = evaluate(folder, data)
    model = RewardModel.from_pretrained(folder)
    examples, names = [read_row(row) for row in rows], model.likelihood.names
    raw = model.raw_outputs([text for example in examples for text in example.inputs]).double()
    levels = model.likelihood.options.levels
    labels = labels_of(examples, names.index, names.column, levels, "rows")
    groups = {"objective": [example.objective for example in examples]}
    with torch.no_grad():
        expected = grouped_judgement_metrics(model.likelihood, raw, labels, groups)
        plain = grouped_judgement_metrics(make_likelihood(head), raw, labels, groups)
    for metrics in (expected, result.metrics):
        for key in [key for key in metrics if "reward" in key or key.endswith("r2")]:
            del metrics[key]  # of the rows' texts, which may be fewer or more than the responses
    found = {key: value for key, value in result.metrics.items() if "data_subset" not in key}
    assert found == pytest.approx(expected, abs=1e-5)
    assert result.metrics["loss"] != pytest.approx(plain.get("loss"), abs=1e-3) or not options


def test_what_the_model_cannot_read_is_told_before_anything_is_scored(tmp_path, monkeypatch):
    likelihood = make_likelihood(BASE, LikelihoodOptions(5))
    folder = reward_checkpoint(tmp_path / "five", "base")
    save_likelihood(folder, likelihood)
    rows = preference_rows(3)
    rows[1]["strength"] = 3
    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", None)
    with pytest.raises(DataError, match=r"pairs.jsonl, line 2, field 'strength'"):
        evaluate(folder, write_rows(tmp_path / "pairs.jsonl", rows))
    said = ({}, {}, {"annotations": [{"strength": 1}, {"strength": 3}]})
    path = write_rows(tmp_path / "scores.jsonl", [pair([0.5], [0.0], **one) for one in said])
    with pytest.raises(DataError, match=r"line 3, field 'strength': strength 3 is beyond 5 le"):
        measure(read_scored(path), likelihood, path)


def voted(rows, people=4):
    generator = np.random.default_rng(0)
    for row in rows:
        row["annotations"] = [
            {"annotator": f"a{n}", "preference": float(generator.choice([0, 0.5, 1]))}
            for n in range(people)
        ]
    return rows


def scored(rows):
    generator = np.random.default_rng(1)
    return [row | {side: [float(generator.normal())] for side in SIDES} for row in rows]


def test_votes_agree_with_an_analysis_of_the_same_file(tmp_path):
    found = votes_of(tmp_path / "r.jsonl", scored(voted(preference_rows(40))))
    config = AnalyzeConfig(files=[str(tmp_path / "r.jsonl")], resamples=1000, head="base")
    (analysis,) = score_analysis.run(config).analyses
    assert found == analysis.votes.metrics
    assert (found.votes, found.annotators) == (160, 4)


def test_rated_texts_and_rows_without_rewards_have_no_votes(tmp_path):
    rows = scored(voted(preference_rows(12)))
    rows[3]["reward_output_chosen"] = None
    rated = {"text": "Tea.", "ratings": [{"rating": 3}], "reward_output": [0.5]}
    found = votes_of(tmp_path / "r.jsonl", [rated, *rows])
    assert (found.items, found.votes) == (11, 44)
    for others in ([rated], scored(preference_rows(4))):
        assert votes_of(tmp_path / "r.jsonl", others) is None


def test_votes_of_one_annotator_each_are_put_together_over_rows(tmp_path):
    row = {**preference_rows(1)[0], **pair([1.0], [0.0]), "annotator": "a"}
    names = (("chosen", "rejected"), SIDES)
    turned = row | {a: row[b] for one, two in names for a, b in ((one, two), (two, one))}
    found = votes_of(tmp_path / "r.jsonl", [row, turned | {"annotator": "b"}])
    assert (found.items, found.votes, found.several) == (1, 2, 1)
    losses = {row.name: row.two_way.estimate for row in found.loss}
    assert losses["model"] == pytest.approx(math.log(2 * math.cosh(0.5)))
    assert losses["floor"] == pytest.approx(math.log(2))
    assert found.disagreement.observed.estimate == 1


def test_evaluate_prints_and_writes_votes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_rows("pairs.jsonl", voted(preference_rows(8)))
    folder = reward_checkpoint("factors/final", "factor", num_factors=1)
    assert main(["evaluate", folder, "--data_path=pairs.jsonl", "--disable_tqdm"]) == 0
    printed = capsys.readouterr().out
    votes = json.loads(Path(f"{folder}/eval_results_both.jsonl.metrics.json").read_text())["votes"]
    assert (votes["items"], votes["votes"], votes["annotators"]) == (8, 32, 4)
    assert "32 votes on 8 pairs, 8 with several" in printed
    loss = {row["name"]: row["two_way"]["estimate"] for row in votes["loss"]}
    assert f"{loss['floor']:.4f}" in printed
    assert loss["floor"] < loss["model"]
    assert printed.endswith("eval_results_both.jsonl: 8 of 8 rows written\n")


def test_a_moved_file_of_a_checkpoint_that_is_gone_has_the_numbers_of_its_evaluation(tmp_path):
    folder, rows = learned("ensemble", tmp_path)
    evaluated = evaluate(folder, rows, output=str(tmp_path / "own" / "scores.jsonl"))
    shutil.rmtree(folder)
    shutil.move(evaluated.path.parent, tmp_path / "moved")
    config = AnalyzeConfig(files=[str(tmp_path / "moved" / "scores.jsonl")], resamples=99)
    (found,) = score_analysis.run(config).analyses
    record = found.groups[0].record
    assert (found.head["type"], found.with_likelihood) == ("ensemble", True)
    assert record.loss == pytest.approx(evaluated.metrics["loss"], abs=1e-6)
    assert record.accuracy.share == pytest.approx(evaluated.metrics["accuracy"], abs=1e-9)
    assert set(record.variance_shares) == {"shared_context", "noise", "ignorance"}


def test_a_benchmark_s_rewards_are_read_by_the_head_beside_them(tmp_path):
    """Of two logits the mean rises with the second minus the first."""
    path = tmp_path / "s.jsonl"
    write_rows(path, [pair([1.0, 3.0], [2.0, -3.0], prompt="a", subset="math-prm")])
    assert read_section_scores(path)[0].right["accuracy"].tolist() == [0]
    save_heads(path, {"m": make_likelihood(heads.make("categorical", num_atoms=2))})
    assert read_section_scores(path)[0].right["accuracy"].tolist() == [1]


def test_an_analysis_does_not_overwrite_heads(tmp_path):
    (tmp_path / "t.jsonl.heads.partial").write_text("")
    with pytest.raises(StorageError, match=r"t\.jsonl\.heads could not be written"):
        save_heads(tmp_path / "t.jsonl", {"m": make_likelihood(BASE)})
    path = tmp_path / "s.jsonl"
    write_rows(path, [pair([1.0], [0.0])])
    save_heads(path, {"m": make_likelihood(BASE)})
    kept = heads_folder(path) / "m" / "reward_head.json"
    assert main(["analyze", str(path), "--output", str(kept)]) == 2
    assert json.loads(kept.read_text())["head"]["type"] == "base"
