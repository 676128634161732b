"""What votes tell of a judge and of people: closed forms, quadrature and simulation."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from hidden_context.statistics.votes import random_effects as module
from hidden_context.statistics.votes.judge_noise import judge_and_people, judge_noise
from hidden_context.statistics.votes.krippendorff import alpha
from hidden_context.statistics.votes.random_effects import random_effects
from hidden_context.statistics.votes.table import VoteTable
from hidden_context.statistics.votes.tilts import Tilt, sides_were_chosen, tilts_of


def drawn(seed, items, votes, people, order=(0.0, 0.0)):
    """Draw answers whose probabilities differ by item; the order adds to the first that is shown.

    Returns the counts and what they estimate: D within an order, between orders, with people.
    """
    generator = np.random.default_rng(seed)
    p = generator.dirichlet([2.0, 0.6, 1.2], size=items)
    q = generator.dirichlet([1.0, 0.5, 1.0], size=items)
    shown = np.stack([p * (1 - order[0]), p * (1 - order[1])], axis=1)
    shown[:, 0, 0] += order[0]
    shown[:, 1, 2] += order[1]
    mixed = shown.mean(1)
    truth = {
        "same_order": 1 - (shown**2).sum(-1).mean(),
        "other_order": 1 - (shown[:, 0] * shown[:, 1]).sum(-1).mean(),
        "itself": 1 - (mixed**2).sum(-1).mean(),
        "leaning": (shown[:, 0] - shown[:, 1])[:, [0, 2]].mean(0) @ [0.5, -0.5],
        "differ": 1 - (mixed * q).sum(-1).mean(),
        "people": 1 - (q**2).sum(-1).mean(),
        "apart": ((mixed - q) ** 2).sum(-1).mean() / 2,
    }
    return generator.multinomial(votes, shown) * 1.0, generator.multinomial(people, q) * 1.0, truth


def estimates(found):
    return {name: getattr(value, "estimate", value) for name, value in vars(found).items()}


def test_estimates_have_no_bias():
    answers, people, truth = drawn(0, 60_000, 2, 3, order=(0.2, 0.1))
    found = judge_and_people(answers, people)
    values = estimates(found) | estimates(judge_noise(answers))
    direct = {name: truth[name] for name in truth if name != "apart"}
    assert values == pytest.approx(values | direct, abs=0.006, nan_ok=True)
    assert values["repeats"] == "repeated"
    for share, part in (
        (found.noise, truth["itself"] / 2),
        (found.among_people, truth["people"] / 2),
        (found.lasting, truth["apart"]),
    ):
        assert share.estimate == pytest.approx(part / truth["differ"], abs=0.012)
        assert share.low < share.estimate < share.high


A, EQUAL, B = np.eye(3)
SILENT, NAN = np.zeros(3), np.nan


# always the one that is shown first: p = (½, 0, ½), and two people differ in 2·3·1/(4·3)
FIRST_SHOWN = {"other_order": 1, "leaning": 1, "itself": 0.5, "same_order": NAN}
FIRST_SHOWN |= {"differ": 0.5, "people": 0.5, "noise": 0.5, "lasting": 0, "kappa": 0}


@pytest.mark.parametrize(
    ("answers", "people", "expected"),
    [
        ([[A, B]] * 30, [[3, 0, 1]] * 30, FIRST_SHOWN | {"repeats": "taken_as_fixed"}),
        # steady, and against everybody
        ([[A, A]] * 20, [[0, 0, 5]] * 20, {"differ": 1, "noise": 0, "lasting": 1, "kappa": -1}),
        # observed 3/4; margins are one half each way, so that chance is 1/2
        ([[A, A]] * 3 + [[B, B]], [A * 2] * 2 + [B * 2] * 2, {"kappa": 0.5, "people_kappa": 1}),
        (  # one order: of half of the items two answers
            [[A + B, SILENT]] * 6 + [[A, SILENT]] * 6,
            [A] * 12,
            {"other_order": NAN, "leaning": NAN, "itself": 1, "items": 6},
        ),
        (  # one order, one answer: lasting is 1/3 − ½·2/3
            [[SILENT, EQUAL]] * 12,
            [[1, 2, 0]] * 12,
            {"repeats": "unknown", "noise": NAN, "differ": 1 / 3, "lasting": 0},
        ),
    ],
)
def test_judges_by_hand(answers, people, expected):
    answers, people = np.array(answers, float), np.array(people, float)
    found = estimates(judge_and_people(answers, people)) | estimates(judge_noise(answers))
    assert found == pytest.approx(found | expected, abs=1e-12, nan_ok=True)


def test_what_a_judge_settles_on():
    answers, people = np.tile([A, B], (6, 1, 1)), np.tile([3.0, 1, 0], (6, 1))
    settled = np.array([A] * 3 + [EQUAL] * 2 + [SILENT])
    found = judge_and_people(answers, people, settled=settled)
    assert found.settled.estimate == pytest.approx((3 * 0.25 + 2 * 0.75) / 5)
    assert np.isnan(judge_and_people(answers, people).settled.estimate)


def test_names_of_sides_mean_nothing():
    answers, people, _ = drawn(2, 60, 2, 3, order=(0.3, 0.0))
    flip = np.random.default_rng(3).random(60) < 0.5
    turned, votes = answers.copy(), people.copy()
    turned[flip] = answers[flip][:, ::-1, ::-1]  # another side is first, and the orders with it
    votes[flip] = people[flip][:, ::-1]
    for mine, other in (
        (judge_noise(answers), judge_noise(turned)),
        (judge_and_people(answers, people), judge_and_people(turned, votes)),
    ):
        assert estimates(mine) == pytest.approx(estimates(other), nan_ok=True)


def test_parts_sum_to_one_and_items_without_people_are_left_out():
    answers, people, _ = drawn(4, 200, 1, 2)
    people[:150] = 0
    found = judge_and_people(answers, people, np.repeat(np.arange(10), 20))
    parts = (found.noise, found.among_people, found.lasting)
    assert sum(part.estimate for part in parts) == pytest.approx(1, abs=1e-12)
    assert found.items == 50
    assert judge_and_people(answers, np.zeros((200, 3))) is None


def test_single_votes_say_nothing_of_people_among_themselves():
    answers = drawn(5, 60_000, 1, 2)[0]
    single = np.random.default_rng(6).multinomial(1, [0.5, 0.2, 0.3], size=60_000).astype(float)
    found = judge_and_people(answers, single)
    mixed = (answers.mean(1) * single).sum(1).mean()
    assert found.items == 60_000
    assert found.differ.estimate == pytest.approx(1 - mixed)
    assert found.noise.estimate == pytest.approx(
        judge_noise(answers).itself.estimate / 2 / found.differ.estimate
    )
    assert found.lasting.estimate == pytest.approx(1 - found.noise.estimate)
    for name in ("people", "people_kappa", "among_people"):
        assert np.isnan(getattr(found, name).estimate), name


def test_pulls_and_typical_answers_by_hand():
    table = VoteTable.of(
        [0, 0, 0, 1, 2, 2],
        [0, 1, -1, 0, 1, 0],
        [1, 0.5, 0, 0.5, 0.7, 1],
        shown=[1, -1, 1, 0, 1, 1],
    )
    tilts = tilts_of(table)
    assert {name: tilt.row.tolist() for name, tilt in tilts.items()} == {
        "deviation": [0, 1],  # nobody else has a whole answer to item 1 or 2
        "readiness": [0, 1, 3, 5],
        "position": [0, 1, 5],
    }
    np.testing.assert_allclose(tilts["deviation"].pull, [[1, 0.5, 0.5], [0.5, 1, 0.5]])
    np.testing.assert_allclose(tilts["readiness"].pull, [[0, 1, 0]] * 4)
    np.testing.assert_allclose(tilts["position"].pull, [[1, 0.5, 0], [0, 0.5, 1], [1, 0.5, 0]])
    assert tilts["deviation"].of_answers(table.answer).tolist() == [1, 1]
    assert tilts["position"].of_answers(table.answer).tolist() == [1, 0.5, 1]
    # shares of all answers, the sides alike: 3/10, 4/10, 3/10; α is 0, which counts as 1 %
    assert alpha(table.counts.whole, mirrored=True).estimate == pytest.approx(0)
    shares, strength = np.array([0.3, 0.4, 0.3]), 99
    expected = (np.array([0, 1, 1]) + strength * shares) / (2 + strength)
    typical = np.exp(tilts["deviation"].log_typical)
    np.testing.assert_allclose(typical[0], expected)
    np.testing.assert_allclose(typical.sum(1), 1)
    np.testing.assert_allclose(tilts["readiness"].expected[2], 0.4)
    unequal = tilts_of(table, mirrored=False)["readiness"]
    np.testing.assert_allclose(np.exp(unequal.log_typical[2]), [2 / 5, 2 / 5, 1 / 5])


def test_tendencies_that_nothing_tells_of_are_left_out():
    assert tilts_of(VoteTable.of([0, 1, 2], [0, 1, 0], [1, 0, 1])) == {}
    assert list(tilts_of(VoteTable.of([0, 1], [0, 1], [1, 0.5]))) == ["readiness"]


def test_sides_that_were_put_first_because_they_won():
    rng = np.random.default_rng(1)
    item, share = np.repeat(np.arange(60), 3), rng.choice([0.0, 1.0], 180)
    table = VoteTable.of(item, np.full(180, -1), share, shown=np.ones(180))
    assert not sides_were_chosen(table)
    won = table.counts.share < 0.5
    turned = np.where(won[item], 1 - share, share)
    assert sides_were_chosen(VoteTable.of(item, np.full(180, -1), turned, shown=np.ones(180)))
    # the same, but which stood first is not known, or too few are decided
    assert not sides_were_chosen(VoteTable.of(item, np.full(180, -1), turned))
    few = VoteTable.of(np.arange(19), np.full(19, -1), np.ones(19), shown=np.ones(19))
    assert not sides_were_chosen(few)


def coin(votes, probability=0.3):
    """A tilt towards the second of three answers, which a typical person gives so often."""
    typical = np.array([(1 - probability) / 2, probability, (1 - probability) / 2])
    pull = np.tile([0.0, 1.0, 0.0], (votes, 1))
    return Tilt("readiness", np.arange(votes), np.tile(np.log(typical), (votes, 1)), pull)


def simulated(people, each, spread, probability=0.3, seed=0):
    rng = np.random.default_rng(seed)
    truth = expit(np.log(probability / (1 - probability)) + spread * rng.normal(size=people))
    who = np.repeat(np.arange(people), each)
    answer = np.where(rng.random(len(who)) < truth[who], 1, 0)
    return truth, who, answer


def test_learned_spread_and_calibrated_intervals():
    truth, who, answer = simulated(1500, 20, 0.8)
    found = random_effects(coin(len(who)), answer, who, 1500, level=0.9)
    assert 0.72 < found.spread.low < 0.8 < found.spread.high < 0.88
    assert found.typical == pytest.approx(0.3, abs=0.02)
    inside = ((found.low <= truth) & (truth <= found.high)).sum()
    assert stats.binomtest(int(inside), 1500, 0.9).pvalue > 0.001
    # shrunk towards the typical person, and nearer to the truth than the raw shares
    assert np.square(found.mean - truth).mean() < 0.75 * np.square(found.raw - truth).mean()


def test_posterior_against_quadrature_of_one_prior(monkeypatch):
    _, who, answer = simulated(30, 12, 0.6, seed=1)
    one = module._Priors(np.array([0.2]), np.array([0.7]), np.array([1.0]))
    monkeypatch.setattr(module, "_likely_priors", lambda *_: one)
    found = random_effects(coin(len(who)), answer, who, 30)
    ones = np.bincount(who, answer, 30)
    assert found.typical == pytest.approx(expit(np.log(3 / 7) + 0.2), abs=1e-6)
    for person in (0, int(np.argmax(ones)), int(np.argmin(ones))):

        def density(b, count=ones[person]):
            p = expit(np.log(3 / 7) + b)
            return p**count * (1 - p) ** (12 - count) * stats.norm.pdf(b, 0.2, 0.7)

        total = integrate.quad(density, -6, 6)[0]
        mean = integrate.quad(lambda b: expit(np.log(3 / 7) + b) * density(b), -6, 6)[0] / total
        assert found.mean[person] == pytest.approx(mean, abs=1e-5)
        low = np.log(found.low[person] / (1 - found.low[person])) - np.log(3 / 7)
        assert integrate.quad(density, -6, low)[0] / total == pytest.approx(0.025, abs=1e-4)
    assert found.spread.estimate == found.spread.high == pytest.approx(0.7)


def test_people_alike_are_not_told_apart():
    _, who, answer = simulated(300, 20, 0.0, seed=2)
    found = random_effects(coin(len(who)), answer, who, 300)
    assert found.spread.low == 0
    assert found.spread.high < 0.35
    assert found.clear.sum() <= 1
    assert ((found.low < 0.3) & (found.high > 0.3)).all()
    assert found.mean.std() < 0.35 * found.raw.std()
    # few people with few votes are not sure to be alike
    _, who, answer = simulated(6, 5, 0.0, seed=3)
    found = random_effects(coin(len(who)), answer, who, 6)
    assert found.spread.high > 0.8
    assert (found.high - found.low > 0.2).all()


def test_silent_people_have_the_populations_posterior_and_weights_count_like_votes():
    _, who, answer = simulated(40, 15, 0.9, seed=4)
    tilt = coin(len(who))
    found = random_effects(tilt, answer, who, 42)
    assert found.votes[-2:].tolist() == [0, 0]
    assert np.isnan(found.raw[-2:]).all()
    assert found.mean[40] == found.mean[41] == pytest.approx(found.mean[:40].mean(), abs=0.03)
    assert found.low[40] < found.low[:40].min() + 0.1
    twice = random_effects(coin(2 * len(who)), np.tile(answer, 2), np.tile(who, 2), 42)
    weighed = random_effects(tilt, answer, who, 42, weight=np.full(len(who), 2.0))
    np.testing.assert_allclose(weighed.mean, twice.mean, atol=1e-6)
    np.testing.assert_allclose(weighed.high, twice.high, atol=1e-6)


def test_very_many_people_are_taken_in_blocks(monkeypatch):
    _, who, answer = simulated(90, 12, 0.8, seed=6)
    tilt = coin(len(who))
    whole = random_effects(tilt, answer, who, 90)
    monkeypatch.setattr(module, "_BLOCK", 7)
    blocks = random_effects(tilt, answer, who, 90)
    for name in ("mean", "low", "high", "above"):
        np.testing.assert_allclose(getattr(blocks, name), getattr(whole, name), atol=1e-12)
    monkeypatch.setattr(module, "_MOST_PEOPLE", 60)  # the prior is that of some of them
    some = random_effects(tilt, answer, who, 90)
    assert some.spread.estimate != whole.spread.estimate
    np.testing.assert_allclose(some.mean, whole.mean, atol=0.06)
