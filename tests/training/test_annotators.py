"""Annotators who want opposite things: learnt where they are named, an even split where not."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError, DataError
from hidden_context.likelihood import LikelihoodOptions
from hidden_context.models import RewardModel
from hidden_context.models.checkpoint.likelihood_file import members_of
from hidden_context.training import TrainConfig, run
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from support import runs
from support.builders import TOPICS
from support.paper_layout import write_rows

KIND, RUDE = " An answer that is kind.", " An answer that is rude."
PROMPT = "\n\nHuman: What about {topic} {number}?\n\nAssistant:"
LAYERS = ["q_proj", "v_proj", "up_proj", "down_proj"]


def opposed_rows(count: int, seed: int, **columns):
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
            rows.append(row | {"annotator": annotator, "data_subset": about} | columns)
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
def test_who_judges_is_all_that_decides(backbones, tmp_path, way, inference):
    config = way(backbones, tmp_path, reward_model_type="factor", annotators=inference)
    result = run(config, ROWS, TEST)
    assert result.metrics["data_subset_opposed_accuracy"] > 0.95
    assert result.metrics["data_subset_opposed_loss"] < 0.3
    assert result.metrics["data_subset_agreed_accuracy"] > 0.95
    members = result.model.head.num_members
    assert members == (2 if way is frozen else 0)
    assert result.model.likelihood.names.names == ("ann", "bob")
    learned = [part.annotators.location.detach() for part in members_of(result.model.likelihood)]
    assert [tuple(location.shape) for location in learned] == [(2, 1)] * max(members, 1)
    apart = [float(abs(location[0] - location[1])) for location in learned]
    assert min(apart) > 1  # they started about 0.3 from 0
    again = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
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
    strangers = [row | {"annotator": "zoe"} for row in TEST if row["data_subset"] == "opposed"]
    labels = labels_of([read_row(row) for row in strangers], again.likelihood.names.index)
    assert labels.annotator.tolist() == [-1] * 16
    texts = [row["prompt"] + row[side] for row in strangers for side in ("chosen", "rejected")]
    raw = again.raw_outputs(texts)
    found = again.likelihood.log_prob_first(raw, labels).exp()
    population = again.head.log_prob_preferred(raw[::2], raw[1::2]).exp()
    assert found.tolist() == pytest.approx(population.tolist(), abs=1e-5)
    assert float(found.detach().mean()) == pytest.approx(0.5, abs=1e-4)  # both orders of each pair


def test_without_annotators_opposed_pairs_stay_a_coin_toss(backbones, tmp_path):
    result = run(frozen(backbones, tmp_path, reward_model_type="factor"), ROWS, TEST)
    assert result.metrics["data_subset_opposed_accuracy"] == 0.5
    assert result.metrics["data_subset_opposed_loss"] == pytest.approx(0.6931, abs=0.05)
    assert result.metrics["data_subset_agreed_accuracy"] > 0.95
    assert result.model.likelihood.options == LikelihoodOptions()
    assert not list(result.path.glob("likelihood.*"))
    again = RewardModel.from_pretrained(result.path)
    with pytest.raises(ConfigError, match="this model knows no annotators"):
        again.score(TEXTS, annotator="ann")


def test_another_column_may_say_who_judged():
    """Criteria are annotators of their own kind; numbers are names too."""
    config = TrainConfig(annotators="map", reward_model_type="factor", annotator_column="objective")
    examples = [
        read_row(row | {"objective": name, "annotator": "all the same"})
        for row, name in zip(ROWS[:4], (1, "honest", "honest", 1), strict=True)
    ]
    likelihood = make_training_likelihood(config, make_head(config), examples)
    names = likelihood.names
    assert (names.names, names.column, names.index(1)) == (("1", "honest"), "objective", 0)
    assert training_labels(config, likelihood, examples).annotator.tolist() == [0, 1, 1, 0]


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
        (ROWS, {"annotator_effects": ["position"]}, DataError, "prefers the same place"),
        (ANONYMOUS, FACTOR, DataError, "no training example says who judged.*--annotator_column"),
        (ROWS, JUDGE, DataError, "field 'judge'"),
        (NUMBERS, JUDGE, DataError, "line 1, field 'judge': .*text or an integer is needed"),
        (ROWS, FACTOR | {"annotator_covariates": "p.jsonl"}, DataError, "none of the annotators"),
    ],
)
@pytest.mark.parametrize("way", [fine_tuned, frozen])
def test_what_cannot_be_learned_is_told(
    backbones, tmp_path, monkeypatch, way, rows, options, error, message
):
    monkeypatch.chdir(tmp_path)
    write_rows("p.jsonl", [{"annotator": "somebody", "age": 30}])
    with pytest.raises(error, match=message):
        run(way(backbones, tmp_path, annotators="variational", **options), rows)
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
def test_readiness_to_tie_is_learned_with_any_head_and_saved(backbones, tmp_path, way):
    people = [{"annotator": "ann", "age": 30}, {"annotator": "bob", "age": 40}]
    config = way(
        backbones, tmp_path / "run", annotators="variational", outcomes="ties",
        annotator_covariates=write_rows(tmp_path / "people.jsonl", people),
    )  # fmt: skip
    result = run(config, tied_rows(48, seed=3), tied_rows(8, seed=4))
    again = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    assert again.likelihood.options.habits == ("readiness",)
    assert not again.likelihood.options.taste
    readiness = again.likelihood.habit_posterior(torch.tensor([0, 1]))[0].flatten()
    assert float(readiness[0] - readiness[1]) > 0.5
    # so few people have no group of five, nor a quantity of five numbers
    assert again.likelihood.options.covariates.columns == ()
    with pytest.raises(ConfigError, match="knows no annotators"):
        again.score(TEXTS, annotator="ann")


def test_new_people_are_learned_without_training(backbones, tmp_path):
    config = frozen(backbones, tmp_path, reward_model_type="factor", annotators="variational")
    model = run(config, ROWS, TEST).model
    judged = [row | {"annotator": {"ann": "zoe", "bob": "yan"}[row["annotator"]]} for row in ROWS]
    examples = [read_row(row) for row in judged[:24]]
    before = {name: values.clone() for name, values in model.likelihood.state_dict().items()}
    adapted = model.adapt(examples)
    zoe, yan, ann, bob = (
        probability_of_the_first(source.score(TEXTS, annotator=name))
        for source, name in ((adapted, "zoe"), (adapted, "yan"), (model, "ann"), (model, "bob"))
    )
    assert min(zoe, ann) > 0.8
    assert max(yan, bob) < 0.2
    assert adapted.likelihood.names.names == ("yan", "zoe")
    after = model.likelihood.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    with pytest.raises(DataError, match="no judgement says who gave it"):
        model.adapt([read_row({k: v for k, v in ROWS[0].items() if k != "annotator"})])
