"""Whole runs: annotators who want opposite things, and every head learned, saved and read back."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from functools import partial

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError, DataError
from hidden_context.heads import EnsembleHead
from hidden_context.likelihood import LikelihoodOptions
from hidden_context.likelihood.single import members_of
from hidden_context.statistics.evaluation.judgement_metrics import (
    grouped_judgement_metrics,
)
from support import runs
from support.builders import TOPICS, preference_rows
from support.models import load
from support.paper_layout import write_rows
from support.runs import logged, losses

KIND, RUDE = " An answer that is kind.", " An answer that is rude."
PROMPT = "\n\nHuman: What about {topic} {number}?\n\nAssistant:"
LAYERS = ["q_proj", "v_proj", "up_proj", "down_proj"]


def opposed_rows(count: int, seed: int):
    """Ann likes kind answers and Bob rude ones; both want the answer that is useful."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = PROMPT.format(topic=draw.choice(TOPICS), number=f"{seed}{number}")
        for annotator in ("ann", "bob"):
            chosen, rejected = (KIND, RUDE) if annotator == "ann" else (RUDE, KIND)
            if number % 2:
                chosen, rejected = " It is useful.", " It is vague."
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            about = "agreed" if number % 2 else "opposed"
            rows.append(row | {"annotator": annotator, "data_subset": about})
    return rows


ROWS, TEST = opposed_rows(48, seed=1), opposed_rows(16, seed=2)
TEXTS = [TEST[0]["prompt"] + side for side in (KIND, RUDE)]


frozen = partial(runs.frozen, probe_dropout=0.2, probe_epochs=20, objective_learning_rate=0.1)


def fine_tuned(backbones, folder, **options):
    defaults = {"tuning": "lora", "lora_target_modules": LAYERS, "learning_rate": 1e-2}
    defaults |= {"num_train_epochs": 5, "objective_learning_rate": 0.1}
    backbone = backbones("llama", spread=1.0)
    return runs.fine_tuned(backbones, folder, backbone=backbone, **(defaults | options))


def probability_of_the_first(rewards) -> float:
    return float(rewards[torch.tensor(0)].log_prob_greater(rewards[torch.tensor(1)]).exp())


@pytest.mark.parametrize("inference", ["variational", "map"])
@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_who_judges_is_all_that_decides(learned, way, inference):
    result, again = learned(way, ROWS, TEST, reward_model_type="factor", annotators=inference)
    assert result.metrics["data_subset_opposed_accuracy"] > 0.95
    assert result.metrics["data_subset_opposed_loss"] < 0.3
    assert result.metrics["data_subset_agreed_accuracy"] > 0.95
    members = result.model.head.num_members
    assert members == (2 if way is frozen else 0)
    assert result.model.likelihood.names.names == ("ann", "bob")
    places = [part.annotators.location.detach() for part in members_of(result.model.likelihood)]
    assert [tuple(location.shape) for location in places] == [(2, 1)] * max(members, 1)
    apart = [float(abs(location[0] - location[1])) for location in places]
    assert min(apart) > 1  # they started about 0.3 from 0
    ann, bob, zoe, everyone = (
        again.score(TEXTS, annotator=name) for name in ("ann", "bob", "zoe", None)
    )
    assert float(ann.mean[0] - ann.mean[1]) > 0
    assert float(bob.mean[0] - bob.mean[1]) < 0
    assert probability_of_the_first(ann) > 0.75
    assert probability_of_the_first(bob) < 0.25
    # somebody never seen is drawn from the population, which is divided
    assert torch.equal(zoe.mean, everyone.mean)
    assert zoe.stddev == pytest.approx(everyone.stddev)
    assert 0.2 < probability_of_the_first(everyone) < 0.8


def test_without_annotators_opposed_pairs_stay_a_coin_toss(learned):
    result, again = learned(frozen, ROWS, TEST, reward_model_type="factor")
    assert result.metrics["data_subset_opposed_accuracy"] == 0.5
    assert result.metrics["data_subset_opposed_loss"] == pytest.approx(0.6931, abs=0.05)
    assert result.metrics["data_subset_agreed_accuracy"] > 0.95
    assert result.model.likelihood.options == LikelihoodOptions()
    assert not list(result.path.glob("likelihood.*"))
    with pytest.raises(ConfigError, match="this model has not learned annotators"):
        again.score(TEXTS, annotator="ann")


ANONYMOUS = [{k: v for k, v in row.items() if k != "annotator"} for row in ROWS]
NUMBERS = [row | {"judge": 0.5} for row in ROWS[:2]]
FACTOR = {"reward_model_type": "factor"}
JUDGE = FACTOR | {"annotator_column": "judge"}


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (ROWS, {}, ConfigError, r"with --reward_model_type factor .*not with a base head"),
        (ROWS, FACTOR | {"num_factors": 0}, ConfigError, r"--num_factors of at least 1"),
        (ROWS, {"annotator_effects": ["mood"]}, ConfigError, "--annotator_effects mood is not"),
        (ROWS, {"annotator_effects": ["readiness"]}, ConfigError, "--outcomes"),
        (ROWS, {"annotator_effects": ["position"]}, DataError, "prefers the same side"),
        (ANONYMOUS, FACTOR, DataError, "example names its annotator.*--annotator_column"),
        (ROWS, JUDGE, DataError, "field 'judge'"),
        (NUMBERS, JUDGE, DataError, "line 1, field 'judge': .*text or an integer is needed"),
        (ROWS, FACTOR | {"annotator_covariates": "p.jsonl"}, DataError, "the file names none of"),
    ],
)
@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_what_cannot_be_learned_is_told(
    learned, tmp_path, monkeypatch, way, rows, options, error, message
):
    monkeypatch.chdir(tmp_path)
    write_rows("p.jsonl", [{"annotator": "somebody", "age": 30}])
    with pytest.raises(error, match=message):
        learned(way, rows, annotators="variational", **options)
    assert not (tmp_path / "final").exists()


def tied_rows(count: int, seed: int) -> list[dict[str, object]]:
    """Ties abound with ann and are rare with bob; both prefer the useful answer else."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = PROMPT.format(topic=draw.choice(TOPICS), number=f"{seed}{number}")
        first, second = draw.sample([" It is useful.", " It is vague."], 2)
        for annotator, ties in (("ann", 0.7), ("bob", 0.1)):
            better = 1.0 if "useful" in first else 0.0
            said = {"annotator": annotator, "preference": 0.5 if draw.random() < ties else better}
            rows.append({"prompt": prompt, "chosen": first, "rejected": second, **said})
    return rows


@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_readiness_to_tie_is_learned_with_any_head_and_saved(learned, tmp_path, way):
    people = [{"annotator": "ann", "age": 30}, {"annotator": "bob", "age": 40}]
    options = {"annotator_covariates": write_rows(tmp_path / "people.jsonl", people)}
    options |= {"annotators": "variational", "outcomes": "ties"}
    _, again = learned(way, tied_rows(48, seed=3), tied_rows(8, seed=4), **options)
    assert again.likelihood.options.habits == ("readiness",)
    assert not again.likelihood.options.taste
    readiness = again.likelihood.habit_posterior(torch.tensor([0, 1]))[0].flatten()
    assert float(readiness[0] - readiness[1]) > 0.5
    # so few people have no group of five, nor a quantity of five numbers
    assert again.likelihood.options.covariates.columns == ()
    with pytest.raises(ConfigError, match="has not learned annotators"):
        again.score(TEXTS, annotator="ann")


def test_new_people_are_learned_without_training(learned):
    options = {"reward_model_type": "factor", "annotators": "variational"}
    model = learned(frozen, ROWS, TEST, **options)[0].model
    judged = [row | {"annotator": {"ann": "zoe", "bob": "yan"}[row["annotator"]]} for row in ROWS]
    before = {name: values.clone() for name, values in model.likelihood.state_dict().items()}
    adapted = model.adapt([read_row(row) for row in judged[:24]])
    zoe, yan, ann, bob = (
        probability_of_the_first(source.score(TEXTS, annotator=name))
        for source, name in ((adapted, "zoe"), (adapted, "yan"), (model, "ann"), (model, "bob"))
    )
    assert min(zoe, ann) > 0.8
    assert max(yan, bob) < 0.2
    assert adapted.likelihood.names.names == ("yan", "zoe")
    after = model.likelihood.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    with pytest.raises(DataError, match="no judgement names an annotator"):
        model.adapt([read_row({k: v for k, v in ROWS[0].items() if k != "annotator"})])


# ---- Every head through a whole run


PAIRS = preference_rows(64, seed=1, words=2)
HELD_OUT = preference_rows(24, seed=2, words=2)
ENSEMBLE = {"ensemble": "heads", "ensemble_members": 3, "probe_members": 3}
HEADS = {
    "base": {},
    "mean_and_variance": {},
    "categorical": {"entropy_coeff": 0.0},
    "factor": {"num_factors": 2},
    "mixture": {"num_components": 2},
    "quantile": {"num_atoms": 5},
    "ensemble of base": {"reward_model_type": "base", **ENSEMBLE},
    "ensemble of factor": {"reward_model_type": "factor", **ENSEMBLE},
}
ADAPTERS = {"reward_model_type": "base", "ensemble": "lora", "ensemble_members": 2}


def check_saved(result, rows, spread: bool) -> None:
    """The reloaded model gives the same raw outputs and metrics, and the card holds the head."""
    again = load(result.path)
    assert again.head == result.model.head
    texts = [row[side] for row in HELD_OUT for side in ("chosen", "rejected")]
    raw = again.raw_outputs(texts, engine="padded")
    assert raw.shape == (48, again.head.num_outputs)
    assert torch.equal(raw, result.model.raw_outputs(texts, engine="padded"))
    labels = labels_of([read_row(dict(row)) for row in HELD_OUT])
    groups = {name: [row[name] for row in HELD_OUT] for name in ("data_subset", "objective")}
    metrics = grouped_judgement_metrics(again.likelihood, raw, labels, groups)
    assert result.metrics == pytest.approx(metrics, abs=1e-4)
    assert ({"reward_stddev", "r2"} <= set(metrics)) == spread
    assert ("ignorance_share" in metrics) == isinstance(again.head, EnsembleHead)
    if isinstance(again.head, EnsembleHead):  # in one unit, by the training pairs
        unit = again.head.in_one_unit(
            *(again.raw_outputs([row[side] for row in rows]) for side in ("chosen", "rejected"))
        )
        assert again.head.scale == pytest.approx(unit.scale, rel=1e-4)
        assert again.head.location == pytest.approx(unit.location, abs=1e-4)
        assert metrics["ignorance_share"] > 1e-4
    assert ("shared_context_share" in metrics) == (again.head.member.type == "factor")
    assert again.reward_scale == result.model.reward_scale
    means = again.head.distribution(raw).mean
    scale = (float(means.mean()), float(means.std(correction=0)), 48)
    assert dataclasses.astuple(again.reward_scale) == pytest.approx(scale, abs=1e-4)
    card = (result.path / "README.md").read_text()
    assert json.dumps(again.head.to_dict()) in card
    assert f"| loss | {result.metrics['loss']:.4g} |" in card


@pytest.mark.parametrize("kind", [*HEADS, "ensemble of adapters"])
def test_fine_tuning_learns_and_saves_every_head(backbones, fit, kind):
    options = {"reward_model_type": kind, **HEADS.get(kind, ADAPTERS)}
    result = fit(
        PAIRS, HELD_OUT, backbone=backbones("llama", spread=1.0), tuning="lora", learning_rate=2e-2,
        lora_target_modules=LAYERS, num_train_epochs=3, quiet=True, **options,
    )  # fmt: skip
    curve, accuracy = losses(result), logged(result, "accuracy")
    # members of an ensemble start apart
    assert curve[0] == pytest.approx(math.log(2), abs=0.15 if "ensemble" in kind else 0.05)
    assert sum(curve[-4:]) < 0.8 * curve[0]
    assert sum(accuracy[-4:]) / 4 > sum(accuracy[:2]) / 2
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["loss"] < 0.3
    check_saved(result, PAIRS, kind != "base")


@pytest.mark.parametrize(
    ("kind", "embed"),
    [*((kind, "apart") for kind in HEADS), ("base", "response"), ("base", "together")],
)
def test_a_frozen_probe_learns_and_saves_every_head(fit, kind, embed):
    options = {"reward_model_type": kind, "probe_members": 3, **HEADS[kind]}
    rows = preference_rows(160, seed=3, words=2)
    result = fit(
        rows, HELD_OUT, freeze_backbone=True, embed=embed,
        probe_learning_rate=1e-2, probe_weight_decay=0.01, probe_batch_size=32, probe_epochs=15,
        probe_dropout=0.2, quiet=True, **options,
    )  # fmt: skip
    assert result.metrics["accuracy"] > 0.85
    assert result.metrics["loss"] < 0.45
    # the outputs of members trained apart are averaged where they mean the same
    apart = kind in ("factor", "mixture") or kind.startswith("ensemble")
    assert isinstance(result.model.head, EnsembleHead) == apart
    check_saved(result, rows, kind != "base")
