"""A judge's noise against closed forms, simulation, and what renaming sides must not change."""

import numpy as np
import pytest

from hidden_context.statistics.votes.judge_noise import judge_and_people, judge_noise


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
    answers = np.stack(
        [[generator.multinomial(votes, one) for one in shown[:, n]] for n in (0, 1)], axis=1
    ).astype(float)
    votes_of = np.array([generator.multinomial(people, one) for one in q]).astype(float)
    same = 1 - (shown**2).sum(-1).mean(1)
    other = 1 - (shown[:, 0] * shown[:, 1]).sum(-1)
    mixed = shown.mean(1)
    return (
        answers,
        votes_of,
        {
            "same_order": same.mean(),
            "other_order": other.mean(),
            "itself": 1 - (mixed**2).sum(-1).mean(),
            "leaning": (shown[:, 0] - shown[:, 1])[:, [0, 2]].mean(0) @ [0.5, -0.5],
            "differ": 1 - (mixed * q).sum(-1).mean(),
            "people": 1 - (q**2).sum(-1).mean(),
            "apart": ((mixed - q) ** 2).sum(-1).mean() / 2,
        },
    )


def test_estimates_have_no_bias():
    answers, people, truth = drawn(0, 60_000, 2, 3, order=(0.2, 0.1))
    alone = judge_noise(answers)
    for name in ("same_order", "other_order", "itself", "leaning"):
        assert getattr(alone, name).estimate == pytest.approx(truth[name], abs=0.006), name
    assert alone.repeats == "repeated"
    found = judge_and_people(answers, people)
    assert found.differ.estimate == pytest.approx(truth["differ"], abs=0.006)
    assert found.people.estimate == pytest.approx(truth["people"], abs=0.006)
    for share, part in (
        (found.noise, truth["itself"] / 2),
        (found.among_people, truth["people"] / 2),
        (found.lasting, truth["apart"]),
    ):
        assert share.estimate == pytest.approx(part / truth["differ"], abs=0.012)
        assert share.low < share.estimate < share.high


def test_a_judge_that_always_says_what_is_shown_first():
    answers = np.tile([[1.0, 0, 0], [0, 0, 1.0]], (30, 1, 1))
    alone = judge_noise(answers)
    assert (alone.other_order.estimate, alone.leaning.estimate) == (1.0, 1.0)
    assert alone.itself.estimate == 0.5
    assert alone.repeats == "taken_as_fixed"
    assert np.isnan(alone.same_order.estimate)
    people = np.tile([3.0, 0, 1], (30, 1))
    found = judge_and_people(answers, people)
    # p = (½, 0, ½): a person is contradicted half of the time; two people differ in 2·3·1/(4·3)
    assert found.differ.estimate == pytest.approx(0.5)
    assert found.people.estimate == pytest.approx(0.5)
    assert found.noise.estimate == pytest.approx(0.5)
    assert found.lasting.estimate == pytest.approx(0.0, abs=1e-12)
    assert found.kappa.estimate == pytest.approx(0.0, abs=1e-12)


def test_a_steady_judge_who_contradicts_everybody():
    answers = np.zeros((20, 2, 3))
    answers[:, :, 0] = 1
    found = judge_and_people(answers, np.tile([0.0, 0, 5], (20, 1)))
    assert (found.differ.estimate, found.noise.estimate, found.lasting.estimate) == (1, 0, 1)
    assert found.kappa.estimate == pytest.approx(-1.0)


def test_kappa_is_the_closed_form():
    """Answers (a, b) with joint counts, evened: κ = (p_o − p_e)/(1 − p_e)."""
    answers = np.zeros((4, 2, 3))
    answers[[0, 1, 2], :, 0] = 1
    answers[3, :, 2] = 1
    found = judge_and_people(answers, np.eye(3)[[0, 0, 2, 2]] * 2)
    # observed 3/4; margins are one half each way, so that chance is 1/2
    assert found.kappa.estimate == pytest.approx(0.5)
    assert found.people_kappa.estimate == pytest.approx(1.0)


def test_what_a_judge_settles_on():
    answers = np.tile([[1.0, 0, 0], [0, 0, 1.0]], (6, 1, 1))
    people = np.tile([3.0, 1, 0], (6, 1))
    settled = np.array([[1.0, 0, 0]] * 3 + [[0, 1, 0]] * 2 + [[0, 0, 0]])
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
        for name, value in vars(mine).items():
            if hasattr(value, "estimate"):
                assert value.estimate == pytest.approx(
                    getattr(other, name).estimate, nan_ok=True
                ), name


def test_one_order_alone():
    answers = np.zeros((12, 2, 3))
    answers[:, 0, 0], answers[:6, 0, 2] = 1, 1
    alone = judge_noise(answers)
    assert np.isnan(alone.other_order.estimate)
    assert np.isnan(alone.leaning.estimate)
    assert (alone.itself.estimate, alone.items) == (1.0, 6)
    once = np.zeros((12, 2, 3))
    once[:, 1, 1] = 1
    assert judge_noise(once).repeats == "unknown"
    found = judge_and_people(once, np.tile([1.0, 2, 0], (12, 1)))
    assert np.isnan(found.noise.estimate)
    assert found.differ.estimate == pytest.approx(1 / 3)
    assert found.lasting.estimate == pytest.approx(0.0, abs=1e-12)  # 1/3 − ½·2/3


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
