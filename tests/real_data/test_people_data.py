"""Real votes by several people: what is read, what they say by themselves, and what is learned."""

import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import chain
from statistics import correlation, fmean, pstdev
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from people.data import NAMES, folds, load

from hidden_context.check import CheckConfig, check
from hidden_context.data.collections import find_source
from hidden_context.data.example import Comparison, Judgement
from hidden_context.data.storage.rows import iter_rows
from hidden_context.data.votes.items import votes_of
from hidden_context.data.votes.observed import Observing, observed
from hidden_context.statistics.evaluation.judgement_metrics import judgement_metrics
from hidden_context.statistics.votes.contested import compare_measures
from hidden_context.statistics.votes.losses import entropy_floor
from hidden_context.training import TrainConfig
from hidden_context.training.frozen.features import feature_set
from hidden_context.training.frozen.fit import group_codes, response_groups
from hidden_context.training.frozen.probe import train_probe
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels

pytestmark = pytest.mark.real_data

FILES = {
    "ukpconvarg": "ukpconvarg1.jsonl.gz",
    "pluriharms": "pluriharms_*.csv.gz",
    "dices": "dices_350.jsonl.gz",
    "lamp": "lamp_rankings.jsonl.gz",
    "hhh_alignment": "hhh_alignment_eval.json.gz",
}
QUICK = Observing(resamples=199, test_resamples=99)
DEBATES = ("TV is better than Books", "Is it better to have a lousy father or to be fatherless?")


@pytest.fixture(scope="module")
def published(real_data):
    """Reads the examples of a public data set, and what is known of its annotators."""

    @cache
    def read(name):
        source, paths = find_source(name), sorted((real_data / "people").glob(FILES[name]))
        return list(source.read(paths, Counter())), source.read_annotators(paths)

    return read


def forms(examples):
    """How many examples there are, judged how many times."""
    return Counter(len(example.judgements) for example in examples)


@pytest.mark.slow
def test_arguments(published):
    examples, _ = published("ukpconvarg")
    assert forms(examples) == {5: 16_927 - 190, 4: 190}
    assert len({example.prompt_key for example in examples}) == 32
    assert (examples[0].judgements[0].annotator, examples[0].prompt[:9]) == ("w0446", "Ban Plast")
    topics = [example.columns["topic"] for example in examples]
    assert len(set(topics)) == 16
    found = observed(examples, topics, QUICK).comparisons
    assert (found.items, found.votes, found.annotators) == (16_927, 84_445, 3_815)
    assert round(found.split.estimate * found.items) == 13_598
    assert round(found.answers["equal"] * found.votes) == 19_105
    kinds = {"equal": 127, "conflict": 2_208, "indifference": 1_075}
    assert {name: found.kinds[name].items for name in kinds} == kinds
    assert found.alpha.estimate == pytest.approx(0.267, abs=1e-3)
    assert found.differ.estimate == pytest.approx(0.476, abs=1e-3)
    people = found.people
    assert people.readiness.spread.low > 0.7
    assert people.readiness.above + people.readiness.below > 200
    assert people.position.above + people.position.below < 5
    assert people.readiness.wrong_sign < 5
    (test,) = found.tests
    assert test.p_value == 0.01
    assert found.repeated.answers == 168


def test_safety_of_conversations_and_harm_of_prompts(published):
    examples, _ = published("dices")
    assert forms(examples) == {123: 350}
    assert all(example.prompt[0]["role"] == "user" for example in examples)
    found = observed(examples, options=QUICK)
    safe, unsafe, unsure = 26_292, 14_064, 2_694
    assert (found.abstentions, found.ratings.votes.annotators) == (unsure, 123)
    assert (found.ratings.ratings, found.ratings.votes.items) == (safe + unsafe, 350)
    assert round(found.ratings.votes.answers["first"] * found.ratings.ratings) == unsafe
    assert found.ratings.alpha.estimate == pytest.approx(0.201, abs=1e-3)
    # of two ratings the nominal α is the same
    assert found.ratings.votes.alpha.estimate == pytest.approx(found.ratings.alpha.estimate)
    assert found.ratings.votes.contested.estimate == pytest.approx(103 / 350)
    examples, people = published("pluriharms")
    found = observed(examples, options=QUICK)
    harm = found.ratings
    assert (len(examples), found.abstentions, harm.votes.annotators) == (150, 275, 100)
    assert (harm.ratings, harm.middle) == (14_725, 50)
    assert harm.alpha.estimate == pytest.approx(0.413, abs=1e-3)
    assert harm.difference.estimate == pytest.approx(30.2, abs=0.05)
    assert harm.votes.people.position.spread.low > 0.9
    assert [type(values["Factor_3"]) for values in people.values()] == [float] * 100
    assert people["0"]["Factor_1"] == pytest.approx(-8.2329, abs=1e-4)
    assert len({values["Age"] for values in people.values()}) == 6


def test_rankings_and_pairs_of_authors(published):
    examples, _ = published("lamp")
    assert forms(examples) == {3: 197, 2: 4, 1: 4}
    assert len({example.columns["instruction"] for example in examples}) == 200
    said = [judgement for example in examples for judgement in example.judgements]
    assert all(sorted(each.answer.ranks) == [1, 2, 3] for each in said)
    assert len({each.annotator for each in said}) == 13
    examples, _ = published("hhh_alignment")
    subsets = {"honest": 61, "helpful": 59, "harmless": 58, "other": 43}
    assert Counter(example.data_subset for example in examples) == subsets
    assert all(example.judgements == (Judgement(Comparison(0, 1)),) for example in examples)
    assert Counter(len(example.prompt) for example in examples) == {1: 180, 3: 40, 5: 1}
    assert len({example.prompt_key for example in examples}) == 102
    assert not any("###" in json.dumps(example.columns) for example in examples)


def test_entropy_floor_and_what_length_alone_finds(published):
    examples, _ = published("ukpconvarg")
    found = votes_of(examples, [example.columns["topic"] for example in examples])
    counts = found.table.counts
    averages = [np.average(floor, weights=counts.votes) for floor in entropy_floor(counts)]
    assert averages == pytest.approx([0.457, 0.599], abs=0.005)
    sides = [examples[place].responses for place in found.example]
    length = np.array([abs(len(one) - len(other)) for one, other in sides], float)
    group = found.group
    assert group.max() == 15
    (some,) = compare_measures({"length": -length}, counts.contested, group)
    assert 0.54 < some.auroc.low < some.auroc.estimate < some.auroc.high < 0.63
    # length tells conflict from indifference
    either = counts.conflict | counts.indifference
    (apart,) = compare_measures({"length": length[either]}, counts.conflict[either], group[either])
    assert apart.auroc.estimate == pytest.approx(0.716, abs=0.01)


def test_the_debate_about_fathers_is_more_split_than_that_about_books(published, tmp_path):
    examples, _ = published("ukpconvarg")
    rows = [e.columns for e in examples if e.columns["topic"] in DEBATES]
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = check(CheckConfig(data_path=str(path), split_by="topic", predict=False))
    shares = {topic.name: topic.observed.estimate for topic in found.predicted.topics}
    assert [shares[topic] for topic in DEBATES] == pytest.approx([0.193, 0.429], abs=0.005)
    assert found.observed.annotator_test.p_value < 0.01
    assert "lousy father" in found.answer.sentences[1]


@pytest.mark.parametrize("name", NAMES)
def test_each_fold_holds_out_every_fourth_of_the_shuffled_groups(real_data, name):
    data = load(name, real_data)
    keys = sorted(set(data.groups))
    random.Random(0).shuffle(keys)
    divided = folds(data)
    assert len(divided) == 4
    for number, fold in enumerate(divided):
        train, test = ({*chain(*groups)} for groups in (fold.train_groups, fold.test_groups))
        assert test == {*keys[number::4]}
        assert not train & test
        if data.rated:
            assert (len(fold.train), len(fold.test)) == (2000, 500)
            assert {len(keys) for keys in fold.test_groups} == {2}
        else:
            assert len(fold.train) + len(fold.test) == len(data.examples)


def test_loader_and_importer_read_the_same(real_data, published):
    loaded, imported = (
        [[said.answer for said in example.judgements] for example in examples]
        for examples in (load("dices", real_data).examples, published("dices")[0])
    )
    assert loaded == imported


def test_raters_vote_for_the_item_they_rate_higher(real_data):
    data = load("pluriharms", real_data)
    number = {group: place for place, group in enumerate(data.groups)}
    fold = folds(data)[0]
    example, (a, b) = fold.train[0], fold.train_groups[0]
    first, second = (data.examples[number[group]] for group in (a, b))
    assert example.responses[0] == first.responses[0]
    votes = zip(example.judgements, first.judgements, second.judgements, strict=True)
    for said, one, other in votes:
        assert said.annotator == one.annotator == other.annotator
        assert said.abstains == (one.abstains or other.abstains)
        if not said.abstains:
            lead = one.answer.value - other.answer.value
            assert said.answer.preference == 0.5 + 0.5 * ((lead > 0) - (lead < 0))


def test_the_other_sets_say_what_they_should(real_data):
    dices = load("dices", real_data).examples[1]
    assert dices.responses[0].startswith("\n\nHuman: [Playing a game")
    assert dices.responses[0].count("\n\nAssistant: ") == 1
    # every pair is judged by a person and by a model, whose sides stand as the source has them
    relabelled = load("relabelled", real_data).examples
    firsts = Counter(said.answer.preference for e in relabelled for said in e.judgements)
    assert min(firsts.values()) > 0.4 * sum(firsts.values())
    assert {said.annotator for e in relabelled for said in e.judgements} == {
        "model helpful", "model harmless", "person helpful", "person harmless"
    }  # fmt: skip


PEOPLE, PAIRS = 20, 200
PROBE = TrainConfig(
    freeze_backbone=True, probe_members=1, probe_hidden=16, probe_dropout=0.0,
    probe_learning_rate=5e-3, probe_batch_size=128,
)  # fmt: skip


@pytest.fixture(scope="module")
def prompts(real_data):
    """Takes what the data say of a prompt (level of harm, actions, effects, topics) as features."""
    table = {
        row["Question_Content"]: [float(row[n]) for n in row if not n.startswith("Question")]
        for _, row in iter_rows(real_data / "people" / "pluriharms_prompts.csv.gz")
    }
    return Mock(features=lambda texts, progress=None: torch.tensor([table[t] for t in texts]))


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


@pytest.mark.slow
def test_nested_votes_are_learned_like_one_row_a_vote(prompts, real_data):
    nested = by_some(folds(load("pluriharms", real_data))[0].train[:PAIRS])
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


@pytest.mark.slow
def test_levels_of_people_who_rate_prompts(prompts, real_data):
    items = by_some(load("pluriharms", real_data).examples)
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
