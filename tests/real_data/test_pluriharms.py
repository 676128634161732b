"""Real people who rated prompts for harm, on the features that the data themselves describe."""

import csv
import gzip
import random
from dataclasses import replace
from statistics import correlation, fmean, pstdev

import pytest
import torch
from people.data import folds, load

from hidden_context.statistics.evaluation.judgement_metrics import judgement_metrics
from hidden_context.training import TrainConfig
from hidden_context.training.frozen.features import feature_set
from hidden_context.training.frozen.fit import group_codes, response_groups
from hidden_context.training.frozen.probe import train_probe
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

PEOPLE, PAIRS = 20, 200
PROBE = TrainConfig(
    freeze_backbone=True, probe_members=1, probe_hidden=16, probe_dropout=0.0,
    probe_learning_rate=5e-3, probe_batch_size=128,
)  # fmt: skip


class Described:
    """Takes what the data say of a prompt (level of harm, actions, effects, topics) as features."""

    def __init__(self, path):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.texts = [row["Question_Content"] for row in rows]
        names = [name for name in rows[0] if not name.startswith("Question")]
        self.table = torch.tensor([[float(row[name]) for name in names] for row in rows])

    def features(self, texts, progress=None):
        return self.table[[self.texts.index(text) for text in texts]]


@pytest.fixture(scope="module")
def prompts(real_data):
    return Described(real_data / "people" / "pluriharms_prompts.csv.gz")


@pytest.fixture(scope="module")
def data(real_data):
    return load("pluriharms", real_data)


def by_some(examples):
    """The same examples, with the judgements of 20 people alone."""
    people = sorted({said.annotator for said in examples[0].judgements})[:PEOPLE]
    return [
        replace(each, judgements=tuple(j for j in each.judgements if j.annotator in people))
        for each in examples
    ]


def trained(config, prompts, examples):
    likelihood = make_training_likelihood(config, make_head(config), examples)
    features = feature_set(
        prompts,
        examples,
        training_labels(config, likelihood, examples),
        groups=group_codes(response_groups(examples)),
    )
    probe, _ = train_probe(config, likelihood, features)
    return likelihood, probe, features


def test_nested_votes_are_learned_like_one_row_a_vote(prompts, data):
    nested = by_some(folds(data)[0].train[:PAIRS])
    single = [
        replace(each, judgements=(said,))
        for each in nested
        for said in each.judgements
        if not said.abstains
    ]
    random.Random(1).shuffle(single)
    unsure = sum(example.abstentions for example in nested)
    assert (len(nested), len(single)) == (PAIRS, PAIRS * PEOPLE - unsure)
    assert unsure > 20
    people = {"reward_model_type": "factor", "annotators": "variational"}
    config = replace(PROBE, **people, probe_weight_decay=0.1, probe_epochs=40)
    contexts, losses = [], []
    for examples in (nested, single):
        likelihood, probe, features = trained(config, prompts, examples)
        labels = features.labels
        assert float(labels.votes.sum()) == len(single)
        location, _ = likelihood.posterior(torch.arange(PEOPLE))
        location = location.detach().squeeze(-1)
        contexts.append(location * torch.sign(location @ contexts[0]) if contexts else location)
        with torch.no_grad():
            raw = probe(features.features)
            known = judgement_metrics(likelihood, raw, labels)["loss"]
            stranger = likelihood.negative_log_likelihood(raw, labels.judged_by(None)).mean()
        assert known < float(stranger) - 0.02
        losses.append(known)
    assert correlation(contexts[0].tolist(), contexts[1].tolist()) > 0.99
    assert min(float(location.std()) for location in contexts) > 0.4
    assert max(losses) - min(losses) < 0.01


def test_levels_of_people_who_rate_prompts(prompts, data):
    items = by_some(data.examples)
    random.Random(0).shuffle(items)
    train, test = items[:110], items[110:]
    kind = {"reward_model_type": "mean_and_variance"}
    config = replace(PROBE, **kind, probe_weight_decay=0.3, probe_epochs=15)
    likelihood, probe, features = trained(config, prompts, train)
    values = features.labels.ratings.value.tolist()
    assert likelihood.options.rating_location == pytest.approx(fmean(values))
    assert likelihood.options.rating_scale == pytest.approx(pstdev(values))
    style = likelihood.ratings.styles
    said = [said for each in train for said in each.judgements if not said.abstains]
    means = [
        fmean(each.answer.value for each in said if each.annotator == name)
        for name in likelihood.names.names
    ]
    assert correlation(style.level.detach().tolist(), means) > 0.95
    labels = training_labels(config, likelihood, test)
    raw = probe(prompts.features([example.text(0) for example in test]))
    with torch.no_grad():
        metrics = judgement_metrics(likelihood, raw, labels)
    held_out = labels.ratings.value
    assert metrics["rating_rmse"] < 0.85 * float(held_out.std())
    constant = torch.distributions.Normal(fmean(values), pstdev(values))
    assert metrics["loss"] < float(-constant.log_prob(held_out).mean()) - 0.1
