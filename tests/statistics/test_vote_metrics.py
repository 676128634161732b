"""A model held against votes: by hand, and against the world that made them, either way round."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics.item_means import ItemMeans
from hidden_context.statistics.item_measures import item_measures, kinds_of
from hidden_context.statistics.vote_metrics import vote_metrics
from hidden_context.statistics.vote_predictions import (
    VotePredictions,
    predict_votes,
    table_of,
)
from hidden_context.statistics.votes import VoteTable

FACTOR = heads.make("factor", num_factors=1)
BEFORE = math.log(math.expm1(0.5))  # noise of ½ on either side


class World:
    """Items of two responses, judged by annotators with contexts; the model knows the truth."""

    def __init__(self, items=300, people=40, votes=5, levels=3, seed=0):
        generator = np.random.default_rng(seed)
        gap, loading = generator.normal(size=items), 2 * generator.normal(size=items)
        context = generator.normal(size=people)
        context = (context - context.mean()) / context.std()
        self.item = np.repeat(np.arange(items), votes)
        self.who = np.concatenate(
            [generator.choice(people, votes, replace=False) for _ in range(items)]
        )
        reward = gap[self.item] + loading[self.item] * context[self.who]
        reward = reward + math.sqrt(0.5) * generator.normal(size=len(reward))
        threshold = 0.6 if levels == 3 else 0.0
        self.share = 0.5 + 0.5 * np.sign(reward) * (np.abs(reward) > threshold)
        self.people, self.items = people, items
        names = tuple(str(number) for number in range(people))
        options = LikelihoodOptions(levels=levels, inference="map", names=names)
        self.likelihood = make_likelihood(FACTOR, options)
        with torch.no_grad():
            self.likelihood.annotators.location.copy_(torch.from_numpy(context)[:, None])
            if levels == 3:
                self.likelihood.outcomes.raw_gaps.fill_(math.log(math.expm1(threshold)))
        half = np.full(items, BEFORE)
        self.sides = [np.stack([x, y, half], 1) for x, y in ((gap, loading), (0 * gap, 0 * gap))]

    def labels(self, known=True):
        """One row for each item, with all its votes."""
        pairs = Labels.of_pairs(torch.ones(self.items))
        share = torch.from_numpy(self.share)
        place = torch.from_numpy(self.item)
        ones = torch.ones_like(share)
        compared = dataclasses.replace(
            pairs.comparisons,
            first=2 * place,
            second=2 * place + 1,
            preference=share,
            strength=torch.full_like(share, torch.nan),
            margin=0 * ones,
            annotator=torch.from_numpy(self.who if known else np.full_like(self.who, -1)),
            weight=ones,
            votes=ones,
            example=place,
        )
        return dataclasses.replace(pairs, comparisons=compared)

    def predicted(self, known=True, **given):
        labels = self.labels(known)
        raw = torch.from_numpy(np.stack(self.sides, 1).reshape(-1, 3))
        item, turned = np.arange(self.items), np.zeros(self.items, dtype=bool)
        return (
            table_of(labels, item, turned, torch.from_numpy(self.who)),
            predict_votes(self.likelihood, raw, labels, item, turned, **given),
        )


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def found(world):
    return vote_metrics(*world.predicted(), length=np.arange(300.0), resamples=300)


def test_counts_are_those_of_the_votes(world, found):
    assert (found.items, found.votes, found.several) == (300, 1500, 300)
    assert (found.annotators, found.known) == (40, 40)
    assert found.equal == (world.share == 0.5).sum()
    assert sum(kind.items for kind in found.kinds) == 300
    assert sum(kind.share for kind in found.kinds) == pytest.approx(1)
    contested = sum(kind.items for kind in found.kinds if kind.is_split)
    assert contested == found.contested.contested
    assert found.contested.unanimous_equal == next(
        (kind.items for kind in found.kinds if kind.name == "equal"), 0
    )


def test_losses_stand_between_their_floor_and_a_constant(world, found):
    rows = {row.name: row for row in found.loss}
    assert list(rows) == ["model", "population", "constant", "floor"]
    assert rows["constant"].two_way.estimate == pytest.approx(math.log(2))
    equal = (world.share == 0.5).mean()
    entropy = -equal * math.log(equal) - (1 - equal) * math.log((1 - equal) / 2)
    assert rows["constant"].three_way.estimate == pytest.approx(entropy)
    for way in ("two_way", "three_way"):
        values = {name: getattr(row, way).estimate for name, row in rows.items()}
        assert values["model"] < values["population"] < values["constant"]
        assert values["floor"] < values["population"]
        # who knows the voters may go below what is alike for all of them
        assert values["model"] < values["floor"]


def test_the_loss_is_the_likelihoods_own(world, found):
    labels = world.labels()
    raw = torch.from_numpy(np.stack(world.sides, 1).reshape(-1, 3))
    with torch.no_grad():
        loss = world.likelihood.negative_log_likelihood(raw, labels)
    rows = {row.name: row for row in found.loss}
    assert rows["model"].three_way.estimate == pytest.approx(loss.mean().item(), abs=1e-6)


def test_knowing_annotators_is_worth_the_difference(found):
    known, rows = found.annotators_known, {row.name: row for row in found.loss}
    assert (known.votes, known.annotators) == (1500, 40)
    for way in ("two_way", "three_way"):
        part = getattr(known, way)
        assert part.own == pytest.approx(getattr(rows["model"], way).estimate)
        assert part.population == pytest.approx(getattr(rows["population"], way).estimate)
        assert part.difference.estimate == pytest.approx(part.own - part.population)
        assert part.difference.method == "two-way"
        assert part.difference.high < 0


def test_a_true_model_expects_as_much_disagreement_as_there_is(found):
    said = found.disagreement
    assert said.difference.estimate == pytest.approx(
        said.expected.estimate - said.observed.estimate
    )
    assert said.difference.low < 0 < said.difference.high
    share = found.spread
    assert share.has_context
    assert 0 < share.conflict.estimate < 0.25


def test_conflict_finds_contested_items_where_p_near_half_does_not(found):
    by_name = {each.name: each for each in found.contested.measures}
    assert set(by_name) == {
        *("near_half", "contested_probability", "contested_probability_own"),
        *("expected_disagreement", "conflict", "sigma", "shared_context", "length"),
    }
    # who voted says more than how many did
    own = by_name["contested_probability_own"]
    assert own.minus_near_half.low > 0.05
    assert by_name["length"].auroc.low < 0.5 < by_name["length"].auroc.high
    share = found.contested.share
    assert share.estimate == found.contested.contested / 300
    assert found.contested.expected.estimate == pytest.approx(share.estimate, abs=0.06)
    assert found.spearman.estimate > 0.3


def test_half_of_the_votes_foretell_the_other(world, found):
    halves = found.contested.halves
    assert halves.items == 300
    by_name = {each.name: each for each in halves.measures}
    assert set(by_name) == {"other_half", *(each.name for each in found.contested.measures)}
    # of five votes two and two; contested are two that go one each way
    table, _ = world.predicted()
    drawn = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        own = table.share.reshape(300, 5)[:, generator.permutation(5)]
        for part in (own[:, :2], own[:, 2:4]):
            share = part.mean(1)
            drawn.append(((share > 0.34) & (share < 0.66) & ~(part == 0.5).all(1)).mean())
    assert halves.contested == pytest.approx(np.mean(drawn), abs=0.04)
    assert by_name["other_half"].auroc.estimate == pytest.approx(0.5, abs=0.2)


def test_votes_that_agree_with_each_other_are_a_ceiling_that_is_reached():
    """Half of the items are a coin, half are sure: votes and the truth both tell which."""
    items, votes = 400, 8
    item = np.repeat(np.arange(items), votes)
    generator = np.random.default_rng(5)
    chance = np.where(np.arange(items) < 200, 0.5, 0.97)
    share = (generator.random(items * votes) < chance[item]).astype(float)
    table = VoteTable.of(item, np.tile(np.arange(votes), items), share)
    answers = np.stack([chance, 0 * chance, 1 - chance], 1)
    with np.errstate(divide="ignore"):
        own = np.log(answers[item])
    nothing = np.zeros(items)
    predictions = VotePredictions(
        own=own,
        population=own,
        known=np.zeros(len(item), dtype=bool),
        turned=np.zeros(len(item), dtype=bool),
        answers=answers,
        disagreement=1 - np.square(answers).sum(1),
        conflict=nothing,
        same_person=chance * (1 - chance),
        has_context=False,
        has_equal=False,
        difference=nothing,
        parts={"unsplit": nothing},
    )
    halves = vote_metrics(table, predictions, resamples=200).contested.halves
    by_name = {each.name: each for each in halves.measures}
    # who knows the truth finds contested halves better than four votes do
    assert by_name["near_half"].auroc.estimate > by_name["other_half"].auroc.estimate > 0.6
    assert by_name["other_half"].minus_near_half.high < 0


def test_conflict_is_told_from_indifference(found):
    said = found.conflict
    assert min(said.conflict, said.indifference) >= 10
    by_name = {each.name: each for each in said.measures}
    assert by_name["equal"].auroc.low > 0.6
    assert by_name["equal"].minus_length.low > 0


def test_nothing_depends_on_which_side_is_called_first(world):
    table, predictions = world.predicted()
    labels = world.labels()
    turned = np.arange(world.items) % 2 == 1
    # pairs that are turned: their two raw outputs exchanged, and every vote on them
    raw = np.stack(world.sides, 1)
    raw[turned] = raw[turned][:, ::-1]
    swap = torch.from_numpy(turned[world.item])
    said = labels.comparisons
    preference = torch.where(swap, 1 - said.preference, said.preference)
    labels = dataclasses.replace(
        labels, comparisons=dataclasses.replace(said, preference=preference)
    )
    item = np.arange(world.items)
    who = torch.from_numpy(world.who)
    other = table_of(labels, item, turned, who)
    found = predict_votes(
        world.likelihood, torch.from_numpy(raw.reshape(-1, 3)), labels, item, turned
    )
    assert other.share.tolist() == table.share.tolist()
    for name in ("own", "population", "answers", "conflict", "difference"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(predictions, name), atol=1e-9, err_msg=name
        )


def test_rows_of_the_same_texts_are_one_item(world):
    labels = world.labels()
    raw = torch.from_numpy(np.stack(world.sides, 1).reshape(-1, 3))
    item = np.arange(world.items) // 2
    turned = np.zeros(world.items, dtype=bool)
    table = table_of(labels, item, turned, torch.from_numpy(world.who))
    assert table.items == 150
    assert table.counts.votes.tolist() == [10.0] * 150
    found = predict_votes(world.likelihood, raw, labels, item, turned)
    assert found.answers.shape == (150, 3)
    assert found.own.shape == (1500, 3)


def test_without_annotators_and_ties_that_is_left_out():
    world = World(items=60, levels=2, seed=1)
    table, predictions = world.predicted(known=False)
    found = vote_metrics(table, predictions, resamples=100)
    assert [row.name for row in found.loss] == ["model", "constant", "floor"]
    assert all(row.three_way is None for row in found.loss)
    assert found.annotators_known is None
    assert (found.annotators, found.known) == (40, 0)
    assert found.conflict is None
    names = [each.name for each in found.contested.measures]
    assert "contested_probability_own" not in names
    assert "length" not in names


def test_single_votes_have_no_disagreement():
    world = World(items=30, votes=1, seed=2)
    found = vote_metrics(*world.predicted(), resamples=100)
    assert found.several == 0
    assert found.disagreement is found.contested is found.conflict is found.spearman is None
    assert found.kinds == []
    assert found.annotators_known.votes == 30


def test_a_head_without_context_has_no_conflict():
    likelihood = make_likelihood(heads.make("base"))
    labels = Labels.of_pairs(torch.tensor([1.0, 0.5, 0.0]))
    raw = torch.tensor([[1.0], [0.0], [0.0], [0.0], [2.0], [0.0]], dtype=torch.float64)
    item, turned = np.array([0, 0, 1]), np.array([False, True, False])
    table = table_of(labels, item, turned, torch.full((3,), -1))
    predictions = predict_votes(likelihood, raw, labels, item, turned)
    found = vote_metrics(table, predictions)
    assert found.spread.conflict.estimate == 0
    assert not found.spread.has_context
    assert found.annotators == 0
    p = [1 / (1 + math.exp(-gap)) for gap in (1.0, 2.0)]
    expected = -(math.log(p[0]) + math.log(0.5) + math.log(1 - p[1])) / 3
    assert found.loss[0].two_way.estimate == pytest.approx(expected)
    assert "conflict" not in item_measures(table, predictions)


def test_strengths_are_first_equal_and_second():
    likelihood = make_likelihood(FACTOR, LikelihoodOptions(levels=5))
    labels = Labels.of_pairs(torch.ones(2))
    strength = torch.tensor([-2.0, 0.0])
    labels = dataclasses.replace(
        labels, comparisons=dataclasses.replace(labels.comparisons, strength=strength)
    )
    raw = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    none = np.zeros(2, dtype=bool)
    table = table_of(labels, np.arange(2), none, torch.full((2,), -1))
    assert table.share.tolist() == [0.0, 0.5]
    with torch.no_grad():
        answers = likelihood.outcome_log_probs(raw, labels).exp()
    np.testing.assert_allclose(answers.sum(-1), 1, atol=1e-6)
    found = predict_votes(likelihood, raw, labels, np.arange(2), none)
    np.testing.assert_allclose(found.answers, answers, atol=2e-6)


def test_an_item_needs_a_vote():
    world = World(items=3, votes=1)
    raw = torch.from_numpy(np.stack(world.sides, 1).reshape(-1, 3))
    none = np.zeros(3, dtype=bool)
    with pytest.raises(ConfigError, match="every item needs a vote"):
        predict_votes(world.likelihood, raw, world.labels(), np.array([0, 1, 3]), none)
    empty = world.labels().select(torch.zeros(0, dtype=torch.long))
    with pytest.raises(ConfigError, match="no vote to predict"):
        predict_votes(world.likelihood, raw, empty, np.zeros(0, dtype=int), none[:0])


def test_a_mean_of_nothing_and_an_infinite_one_have_no_interval():
    means = ItemMeans(np.arange(6))
    nothing = means.of(np.full(6, np.nan))
    assert math.isnan(nothing.estimate)
    assert nothing.method == "none"
    endless = means.of(np.array([1.0, np.inf, 1, 1, 1, 1]))
    assert endless.estimate == math.inf
    assert math.isnan(endless.low)


def test_a_share_of_several_people_is_no_pair_of_votes():
    table = VoteTable.of([0, 0, 1], [-1, -1, -1], [0.25, 1.0, 0.75])
    assert {kind.name for kind in kinds_of(table)} <= {"majority", "mixed"}
