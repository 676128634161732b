"""Score files that lie apart from their checkpoints: analyses read them by the right head."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from hidden_context import heads, scoring
from hidden_context.analysis import score_analysis
from hidden_context.analysis.benchmark_files import read_section_scores
from hidden_context.analysis.config import AnalyzeConfig
from hidden_context.cli.main import main
from hidden_context.errors import DataError, StorageError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.likelihood_file import members_of, save_likelihood
from hidden_context.models.score_heads import heads_folder, save_heads
from hidden_context.scoring import EvaluateConfig, ScoreConfig
from support.builders import preference_rows
from support.paper_layout import reward_checkpoint, write_rows


@pytest.fixture
def ensemble(tmp_path):
    """Two members of one factor each, which have learned that bob's taste is another than ann's."""
    options = {"member": heads.make("factor", num_factors=1), "num_members": 2}
    folder = reward_checkpoint(tmp_path / "model", "ensemble", **options)
    learned = LikelihoodOptions(inference="map", names=("ann", "bob"))
    likelihood = make_likelihood(heads.make("ensemble", **options), learned)
    with torch.no_grad():
        for member in members_of(likelihood):
            member.annotators.location.copy_(torch.tensor([[1.5], [-1.0]]))
    save_likelihood(folder, likelihood)
    return folder


@pytest.fixture
def pairs(tmp_path):
    rows = preference_rows(24, flip=0.4)
    people = ("ann", "bob", "zoe")
    return write_rows(
        tmp_path / "pairs.jsonl",
        [row | {"annotator": people[n % 3], "prompt": f"{n}"} for n, row in enumerate(rows)],
    )


def analyzed(path, **options):
    config = AnalyzeConfig(files=[str(path)], resamples=99, **options)
    return score_analysis.run(config).analyses


def test_a_moved_file_of_a_checkpoint_that_is_gone_has_the_numbers_of_its_evaluation(
    ensemble, pairs, tmp_path
):
    output = tmp_path / "scores.jsonl"
    config = EvaluateConfig(
        checkpoint=ensemble, data_path=pairs, output=str(output), disable_tqdm=True
    )
    metrics = scoring.evaluate(config).metrics
    shutil.rmtree(ensemble)
    (tmp_path / "moved").mkdir()
    for path in (output, heads_folder(output)):
        shutil.move(path, tmp_path / "moved" / path.name)
    (found,) = analyzed(tmp_path / "moved" / "scores.jsonl")
    record = found.groups[0].record
    assert (found.head["type"], found.with_likelihood) == ("ensemble", True)
    assert record.loss == pytest.approx(metrics["loss"], abs=1e-6)
    assert record.accuracy.share == pytest.approx(metrics["accuracy"], abs=1e-9)
    assert set(record.variance_shares) == {"shared_context", "noise", "ignorance"}


def test_without_its_heads_a_file_is_refused(ensemble, pairs, tmp_path, capsys):
    output = tmp_path / "scores.jsonl"
    config = EvaluateConfig(
        checkpoint=ensemble, data_path=pairs, output=str(output), disable_tqdm=True
    )
    scoring.evaluate(config)
    shutil.rmtree(heads_folder(output))
    words = "field 'reward_output_chosen': 6 numbers per text, and nothing says what head wrote"
    with pytest.raises(DataError, match=words):
        analyzed(output)
    page = tmp_path / "page.html"
    assert main(["report", str(output), "--output", str(page)]) == 2
    assert "Name it with --head" in capsys.readouterr().err
    assert not page.exists()
    (named,) = analyzed(output, head="categorical")
    assert named.head["num_atoms"] == 6


def test_every_model_of_a_scored_file_has_its_own_head(ensemble, pairs, tmp_path):
    atoms = reward_checkpoint(tmp_path / "atoms", "categorical", seed=1, num_atoms=6)
    output = tmp_path / "s.jsonl"
    options = {"input": pairs, "output": str(output), "disable_tqdm": True}
    scoring.score_file(ScoreConfig(models=[ensemble, atoms], names=["a", "x_factor"], **options))
    found = analyzed(output)
    assert [(each.name, each.head["type"]) for each in found] == [
        ("a", "ensemble"),
        ("x_factor", "categorical"),  # whatever its name looks like
    ]
    assert [each.with_likelihood for each in found] == [True, False]
    # the same file by another model has that one's head alone
    scoring.score_file(ScoreConfig(models=[atoms], **options))
    (alone,) = analyzed(output)
    assert alone.head["type"] == "categorical"
    assert [path.name for path in heads_folder(output).iterdir()] == ["atoms"]


def test_a_benchmark_s_rewards_are_read_by_the_head_beside_them(tmp_path):
    """Of two logits the mean rises with the second minus the first."""
    path = tmp_path / "s.jsonl"
    sides = {"reward_output_chosen": [1.0, 3.0], "reward_output_rejected": [2.0, -3.0]}
    write_rows(path, [{"prompt": "a", "subset": "math-prm", **sides}])
    assert read_section_scores(path)[0].right["accuracy"].tolist() == [0]
    save_heads(path, {"m": make_likelihood(heads.make("categorical", num_atoms=2))})
    assert read_section_scores(path)[0].right["accuracy"].tolist() == [1]


def test_heads_that_cannot_be_written_are_told(tmp_path):
    (tmp_path / "s.jsonl.heads.partial").write_text("")
    with pytest.raises(StorageError, match=r"s\.jsonl\.heads could not be written"):
        save_heads(tmp_path / "s.jsonl", {"m": make_likelihood(heads.make("base"))})


def test_an_analysis_does_not_overwrite_heads(tmp_path):
    path = tmp_path / "s.jsonl"
    write_rows(path, [{"reward_output_chosen": [1.0], "reward_output_rejected": [0.0]}])
    save_heads(path, {"m": make_likelihood(heads.make("base"))})
    kept = heads_folder(path) / "m" / "reward_head.json"
    assert main(["analyze", str(path), "--output", str(kept)]) == 2
    assert json.loads(kept.read_text())["head"]["type"] == "base"
