"""A model held against votes: by hand, and against the world that made them, either way round."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics.evaluation import new_annotators, predictions
from hidden_context.statistics.evaluation.item_measures import item_measures
from hidden_context.statistics.evaluation.vote_metrics import judged_metrics, vote_metrics
from hidden_context.statistics.interval import Resampling

FACTOR = heads.make("factor", num_factors=1)
BEFORE = math.log(math.expm1(0.5))  # noise of ½ on either side


class World:
    """Items of two responses, judged by annotators with contexts; the model knows the truth.

    It knows all annotators with their contexts, or has names for those in ``known`` alone.
    """

    def __init__(self, items=300, people=40, votes=5, levels=3, seed=0, known=None):
        generator = np.random.default_rng(seed)
        gap, loading = generator.normal(size=items), 2 * generator.normal(size=items)
        context = generator.normal(size=people)
        context = (context - context.mean()) / context.std()
        self.item = np.repeat(np.arange(items), votes)
        self.who = np.concatenate(
            [generator.choice(people, votes, replace=False) for _ in range(items)]
        )
        gap, loading, half = gap[self.item], loading[self.item], np.full(len(self.item), BEFORE)
        reward = gap + loading * context[self.who]
        reward = reward + math.sqrt(0.5) * generator.normal(size=len(reward))
        threshold = 0.6 if levels == 3 else 0.0
        self.share = 0.5 + 0.5 * np.sign(reward) * (np.abs(reward) > threshold)
        names = tuple(map(str, range(people) if known is None else known))
        inference = "map" if known is None else "variational"
        options = LikelihoodOptions(levels=levels, inference=inference, names=names)
        self.likelihood = make_likelihood(FACTOR, options)
        with torch.no_grad():
            if known is None:
                self.likelihood.annotators.location.copy_(torch.from_numpy(context)[:, None])
            if levels == 3:
                self.likelihood.outcomes.raw_gaps.fill_(math.log(math.expm1(threshold)))
        sides = [
            np.stack(side, axis=1) for side in ((gap, loading, half), (0 * gap, 0 * gap, half))
        ]
        self.raw = np.stack(sides, axis=1)

    def pairs(self, known=True, turned=False):
        """Raw outputs and labels of one pair for each vote; some have their sides exchanged."""
        turned = np.broadcast_to(turned, self.item.shape)
        raw = np.where(turned[:, None, None], self.raw[:, ::-1], self.raw).reshape(-1, 3)
        share = torch.from_numpy(np.where(turned, 1 - self.share, self.share))
        index = self.likelihood.names.index
        who = torch.tensor([index(number) if known else -1 for number in self.who])
        return torch.from_numpy(raw), Labels.of_pairs(share, who)

    def judged(self, known=True, turned=False, length=(np.nan, np.nan)):
        return predictions.judged_items(
            self.likelihood,
            *self.pairs(known, turned),
            torch.from_numpy(self.who),
            item=self.item,
            turned=np.broadcast_to(turned, self.item.shape),
            cluster=self.item,
            length=np.broadcast_to(length, (len(self.item), 2)),
        )


def metrics(items, resamples=100):
    return judged_metrics(items, Resampling(resamples=resamples))


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def found(world):
    length = np.stack([world.item, 0 * world.item], axis=1)
    return metrics(world.judged(length=length), 300)


def by_name(entries):
    return {each.name: each for each in entries}


def test_counts_are_those_of_the_votes(world, found):
    assert (found.items, found.votes, found.several) == (300, 1500, 300)
    assert (found.annotators, found.known) == (40, 40)
    assert found.equal == (world.share == 0.5).sum()
    assert sum(kind.items for kind in found.kinds) == 300
    assert sum(kind.share for kind in found.kinds) == pytest.approx(1)
    contested = sum(kind.items for kind in found.kinds if kind.is_split)
    assert contested == found.contested.contested
    equal = by_name(found.kinds).get("equal")
    assert found.contested.unanimous_equal == (equal.items if equal else 0)


def test_losses_stand_between_their_floor_and_a_constant(world, found):
    rows = by_name(found.loss)
    assert list(rows) == ["model", "population", "constant", "floor"]
    assert rows["constant"].two_way.estimate == pytest.approx(math.log(2))
    equal = (world.share == 0.5).mean()
    entropy = -equal * math.log(equal) - (1 - equal) * math.log((1 - equal) / 2)
    assert rows["constant"].three_way.estimate == pytest.approx(entropy)
    known = found.annotators_known
    assert (known.votes, known.annotators) == (1500, 40)
    for way in ("two_way", "three_way"):
        values = {name: getattr(row, way).estimate for name, row in rows.items()}
        # who knows the voters may go below what is alike for all of them
        assert values["model"] < values["floor"] < values["population"] < values["constant"]
        part = getattr(known, way)
        assert (part.own, part.population) == pytest.approx((values["model"], values["population"]))
        assert part.difference.estimate == pytest.approx(part.own - part.population)
        assert part.difference.method == "two-way"
        assert part.difference.high < 0
    with torch.no_grad():
        loss = world.likelihood.negative_log_likelihood(*world.pairs())
    assert rows["model"].three_way.estimate == pytest.approx(loss.mean().item(), abs=1e-6)


def test_a_true_model_expects_as_much_disagreement_as_there_is(found):
    said = found.disagreement
    gap = said.expected.estimate - said.observed.estimate
    assert said.difference.estimate == pytest.approx(gap)
    assert said.difference.low < 0 < said.difference.high
    assert found.spread.has_context
    assert 0 < found.spread.conflict.estimate < 0.25


def test_conflict_finds_contested_items_where_p_near_half_does_not(found):
    measures = by_name(found.contested.measures)
    assert set(measures) == {
        *("near_half", "contested_probability", "contested_probability_own"),
        *("expected_disagreement", "conflict", "sigma", "shared_context", "length"),
    }
    # who voted says more than how many did
    assert measures["contested_probability_own"].minus_near_half.low > 0.05
    assert measures["length"].auroc.low < 0.5 < measures["length"].auroc.high
    share = found.contested.share
    assert share.estimate == found.contested.contested / 300
    assert found.contested.expected.estimate == pytest.approx(share.estimate, abs=0.06)
    assert found.spearman.estimate > 0.3
    # and conflict is told from indifference
    assert min(found.conflict.conflict, found.conflict.indifference) >= 10
    equal = by_name(found.conflict.measures)["equal"]
    assert equal.auroc.low > 0.6
    assert equal.minus_length.low > 0


def test_half_of_the_votes_predict_the_other(world, found):
    halves = found.contested.halves
    assert halves.items == 300
    measures = by_name(halves.measures)
    assert set(measures) == {"other_half", *by_name(found.contested.measures)}
    # of five votes two and two; contested are two that go one each way
    drawn = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        own = world.share.reshape(300, 5)[:, generator.permutation(5)]
        for part in (own[:, :2], own[:, 2:4]):
            share = part.mean(1)
            drawn.append(((share > 0.34) & (share < 0.66) & ~(part == 0.5).all(1)).mean())
    assert halves.contested == pytest.approx(np.mean(drawn), abs=0.04)
    assert measures["other_half"].auroc.estimate == pytest.approx(0.5, abs=0.2)


def test_nothing_depends_on_which_side_is_called_first(world):
    turned = np.random.default_rng(0).random(len(world.item)) < 0.5
    one, other = world.judged(), world.judged(turned=turned)
    assert other.table.share.tolist() == one.table.share.tolist() == world.share.tolist()
    for name in ("own", "population", "answers", "conflict", "difference"):
        values = [getattr(each.predictions, name) for each in (other, one)]
        np.testing.assert_allclose(*values, atol=1e-9, err_msg=name)
    # no length is known, and a model without the answer "equal" has no measure of it
    plain = dataclasses.replace(one.predictions, has_equal=False)
    found = metrics(dataclasses.replace(one, predictions=plain))
    assert not {"length", "equal"} & set(by_name(found.conflict.measures))


def test_without_annotators_ties_and_second_votes_less_is_said():
    found = metrics(World(items=60, levels=2, seed=1).judged(known=False))
    assert [row.name for row in found.loss] == ["model", "constant", "floor"]
    assert all(row.three_way is None for row in found.loss)
    assert found.annotators_known is found.conflict is None
    assert (found.annotators, found.known) == (40, 0)
    assert not {"contested_probability_own", "length"} & set(by_name(found.contested.measures))
    single = metrics(World(items=30, votes=1, seed=2).judged())
    assert (single.several, single.kinds) == (0, [])
    assert single.disagreement is single.contested is single.conflict is single.spearman is None
    assert single.annotators_known.votes == 30
    few = metrics(World(items=6, seed=3).judged())
    assert few.contested.halves is few.conflict is None


def test_a_head_without_context_has_no_conflict():
    likelihood = make_likelihood(heads.make("base"))
    labels = Labels.of_pairs(torch.tensor([1.0, 0.5, 0.0]))
    raw = torch.tensor([[1.0], [0.0], [0.0], [0.0], [2.0], [0.0]], dtype=torch.float64)
    item, turned = np.array([0, 0, 1]), np.array([False, True, False])
    table = predictions.table_of(labels, item, turned, torch.full((3,), -1))
    predicted = predictions.predict_votes(likelihood, raw, labels, item, turned)
    found = vote_metrics(table, predicted)
    assert (found.spread.conflict.estimate, found.spread.has_context) == (0, False)
    assert found.annotators == 0
    p = [1 / (1 + math.exp(-gap)) for gap in (1.0, 2.0)]
    expected = -(math.log(p[0]) + math.log(0.5) + math.log(1 - p[1])) / 3
    assert found.loss[0].two_way.estimate == pytest.approx(expected)
    assert "conflict" not in item_measures(table, predicted)


def test_strengths_are_first_equal_and_second():
    likelihood = make_likelihood(FACTOR, LikelihoodOptions(levels=5))
    labels = Labels.of_pairs(torch.ones(2)).with_comparisons(strength=torch.tensor([-2.0, 0.0]))
    raw = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    none = np.zeros(2, dtype=bool)
    table = predictions.table_of(labels, np.arange(2), none, torch.full((2,), -1))
    assert table.share.tolist() == [0.0, 0.5]
    with torch.no_grad():
        answers = likelihood.outcome_log_probs(raw, labels).exp()
    found = predictions.predict_votes(likelihood, raw, labels, np.arange(2), none)
    np.testing.assert_allclose(found.answers, answers, atol=2e-6)


def test_an_item_needs_a_vote():
    world = World(items=3, votes=1)
    raw, labels = world.pairs()
    empty, turned = labels.select(torch.zeros(0, dtype=torch.long)), np.zeros(3, dtype=bool)
    for said, item, text in ((labels, [0, 1, 3], "every item needs"), (empty, [], "no vote to")):
        with pytest.raises(ConfigError, match=text):
            predictions.predict_votes(world.likelihood, raw, said, np.array(item), turned)
    arrays = dict.fromkeys(("item", "turned", "cluster", "length"), turned[:0])
    nobody = torch.zeros(0)
    assert predictions.judged_items(world.likelihood, raw, empty, nobody, **arrays) is None


def crowd(levels=2, known=()):
    return World(items=120, people=30, votes=10, levels=levels, known=known).judged()


@pytest.mark.parametrize("levels", [2, 3])
def test_new_people_are_known_after_a_few_votes(levels):
    everything = metrics(crowd(levels), 200)
    found, way = everything.new_annotators, "three_way" if levels == 3 else "two_way"
    assert found.way == way
    five, ten = found.points[:2]
    assert (five.shown, ten.shown, five.annotators) == (5, 10, 30)
    assert five.difference.high < -0.05
    assert ten.after < five.after
    # nothing is shown at first: the population's loss
    population = getattr(everything.loss[0], way).estimate
    assert five.before == pytest.approx(population, abs=0.02)


def test_only_people_whom_a_model_with_annotators_does_not_know_are_new(monkeypatch):
    found = metrics(crowd(known=range(20)))
    assert found.known == 20
    assert all(point.annotators <= 10 for point in found.new_annotators.points)
    assert metrics(crowd(known=range(28))).new_annotators is None
    items, once = crowd(), World(items=30, votes=1, known=())
    once.likelihood = make_likelihood(FACTOR)
    assert once.judged() is None  # nobody is known, and nobody judged what another one did
    plain = dataclasses.replace(items, likelihood=make_likelihood(FACTOR))
    assert metrics(plain).new_annotators is None
    monkeypatch.setattr(new_annotators, "MOST", 7)  # of more, some are drawn
    assert metrics(items).new_annotators.points[0].annotators == 7
