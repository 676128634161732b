"""Who disagrees: facts about people that go with their votes, and what knowing names is worth."""

import dataclasses

import numpy as np
import pytest

from check.people import items_of, pair, rated, rng, two_camps
from hidden_context.baselines.pairs import group_folds
from hidden_context.check.covariates import compare_covariates, holm
from hidden_context.check.features import word_features
from hidden_context.check.known import _sentence, know_voters
from hidden_context.statistics.interval import Interval


def test_holm_in_closed_form():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.fixture(scope="module")
def camps():
    return items_of(two_camps(people=20))


def test_camps_are_found_and_what_has_nothing_to_do_with_them_is_not(camps):
    known = {
        f"p{n}": {"camp": f"c{n % 2}", "half": f"h{n // 10}", "axis": float(n % 2), "age": float(n)}
        for n in range(20)
    }
    found, missing = compare_covariates(camps, known)
    by_name = {each.name: each for each in found}
    camp, axis, half = by_name["camp"], by_name["axis"], by_name["half"]
    assert missing == []
    assert max(camp.p_adjusted, axis.p_adjusted) < 0.02 < 0.2 < half.p_adjusted
    assert (camp.alike, camp.unlike) == (1.0, 0.5)  # all agree about the weather, not about taxes
    assert [level.people for level in camp.levels] == [10, 10]
    assert [level.name for level in axis.levels] == ["0 to 0", "1 to 1"]
    assert "camp goes with how people vote" in camp.sentence
    assert "does not clearly go" in half.sentence
    assert found[0].p_value <= found[-1].p_value


def test_a_level_of_fewer_than_five_people_is_not_shown(camps):
    known = {f"p{n}": {"country": "XX" if n < 3 else f"c{n % 2}"} for n in range(20)}
    found = compare_covariates(camps, known)[0][0]
    assert (found.levels_hidden, found.people) == (1, 17)
    assert "XX" not in [level.name for level in found.levels]


NO_GROUPS = "there are no two groups of five people to compare."


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["same"] * 20, f"x: {NO_GROUPS}"),
        (["same"] * 17 + ["other"] * 3, f"x: {NO_GROUPS}"),
        ([f"t{n}" for n in range(20)], f"x: {NO_GROUPS}"),
        ([0.0] * 18 + [1.0, 2.0], f"x: {NO_GROUPS}"),
        ([1.0] * 20, "x: the number is known for too few people, or is the same for all."),
        (["x"] * 4, "The table must describe five annotators or more, not 4."),
        ([f"t{n}" for n in range(40)], "x: 40 different values are too many to compare people by."),
    ],
)
def test_what_cannot_be_compared_is_said(values, sentence):
    items = items_of([pair(n, [(k + n) % 2 for k in range(40)]) for n in range(3)])
    known = {f"p{n}": {"x": value} for n, value in enumerate(values)}
    assert compare_covariates(items, known) == ([], [sentence])


@pytest.mark.parametrize(("row", "sign"), [(rated, 1), (pair, -1)])
def test_leaning_is_towards_high_ratings_and_the_longer_response(row, sign):
    """Of 12 people six rate everything 1, six 0: 6/11 above and below the others' mean."""
    rows = [row(n, {f"p{k:02}": float(k < 6) for k in range(12)}) for n in range(4)]
    known = {f"p{k:02}": {"camp": "kind" if k < 6 else "strict"} for k in range(12)}
    found, _ = compare_covariates(items_of(rows), known)
    leaning = {level.name: level.leaning.estimate for level in found[0].levels}
    assert leaning == pytest.approx({"kind": sign * 6 / 11, "strict": -sign * 6 / 11})
    assert found[0].p_value < 0.02


def test_false_alarms_are_as_rare_as_stated():
    generator, alarms = rng(5), 0
    known = {f"p{k}": {"camp": f"c{k % 2}"} for k in range(12)}
    for trial in range(60):
        votes = generator.integers(0, 2, (15, 12)).astype(float)
        rows = [pair(n, row) for n, row in enumerate(votes)]
        found, _ = compare_covariates(items_of(rows), known, seed=trial, resamples=99)
        alarms += found[0].p_value <= 0.1
    assert alarms <= 12  # 6 are expected; more than 12 have a probability below .01


def test_votes_of_one_person_alone_say_nothing():
    known = {f"p{k}": {"camp": f"c{k % 2}"} for k in range(10)}
    rows = [pair(n, {f"p{n % 10}": float(n % 2)}) for n in range(30)]
    found = compare_covariates(items_of(rows), known)[0][0]
    assert found.p_value == 1.0
    assert np.isnan([found.alike, found.levels[0].leaning.estimate]).all()
    assert "–" in found.sentence


PEOPLE = 12


def measured(rows, by=None):
    items = items_of(rows, by)
    return know_voters(items, word_features(items), same_for_all(items))


def same_for_all(items):
    """Predict each item's answers as the shares of all votes."""
    share = (items.counts.sum(0) + 0.5) / (items.counts.sum() + 1.5)
    return {"constant": np.tile(share, (len(items), 1))}


def votes_of(readiness, people=PEOPLE, count=84, seed=0):
    """Pairs on which everybody is undecided in truth, and says ``equal`` by the readiness."""
    draw = rng(seed)
    rows = []
    for number in range(count):
        equal = draw.random(people) < readiness
        votes = np.where(equal, 0.5, draw.integers(0, 2, people))
        rows.append(pair(number, votes, topic=f"t{number % 12}"))
    return rows


def test_readiness_to_say_equal_is_found_and_named():
    readiness = np.where(np.arange(PEOPLE) % 2, 0.9, 0.1)
    found = measured(votes_of(readiness), by="topic")
    # three of twelve topics of seven pairs each
    assert (found.people, found.votes) == (PEOPLE, 21 * PEOPLE)
    assert (found.interval_by, found.folds) == ("prompt", 4)
    # H(mean) − mean(H) of the readiness: ln 2 − H(0.1), less what is drawn to the mean
    assert found.gain.estimate == pytest.approx(np.log(2) - 0.3251, abs=0.08)
    assert found.gain.low > 0.1
    assert found.by_habits.estimate == pytest.approx(found.gain.estimate, abs=0.05)
    assert found.gain.estimate == pytest.approx(found.nameless_loss - found.loss)
    assert found.sentence == (
        f"Knowing who votes lowers the loss by {found.gain.estimate:.3f} nats per vote "
        f"(95 % {found.gain.low:.3f} to {found.gain.high:.3f}; measured on one fold of 4); "
        "most by how readily each says equal."
    )


def test_people_who_are_all_alike_show_nothing():
    found = measured(votes_of(np.full(PEOPLE, 0.3)))
    assert found.interval_by == "group"
    assert not found.gain.low > 0
    assert abs(found.gain.estimate) < 0.05
    assert found.sentence.startswith("Held-out votes do not show that knowing who votes helps: the")


def test_tastes_are_found_without_equal():
    """Every other person prefers the longer response, the others the shorter one."""
    draw, rows = rng(1), []
    texts = ["brief plain", "long and wordy answer with very much more to be read in it"]
    for number in range(100):
        turned = number % 2
        longer = (np.arange(PEOPLE) % 2 == 0) == (draw.random(PEOPLE) < 0.9)
        rows.append(pair(number, longer == turned, responses=texts[:: -1 if turned else 1]))
    found = measured(rows)
    assert found.by_habits is None
    assert found.gain.low > 0.2
    assert "measured on one fold of 4)." in found.sentence


def test_of_ratings_it_is_how_each_uses_the_scale():
    draw, rows = rng(2), []
    for number in range(60):
        high = draw.random(PEOPLE) < np.where(np.arange(PEOPLE) % 2, 0.9, 0.1)
        rows.append(rated(number, np.where(high, 5, 1)))
    found = measured(rows)
    assert found.gain.estimate == pytest.approx(np.log(2) - 0.3251, abs=0.08)
    assert found.by_habits.low > 0.2
    assert found.sentence.endswith("; most by how each uses the scale.")


def test_too_few_known_people_or_pairs_are_said_to_be_too_few():
    assert measured(votes_of(np.full(4, 0.3), people=4)) is None
    assert measured([pair(n, {f"p{n}": 1.0, f"q{n}": 0.0}) for n in range(40)]) is None
    # votes on four of the five pairs held out are no sample of pairs
    items = items_of(votes_of(np.full(PEOPLE, 0.3), count=20))
    table = items.votes.table
    _, held_out = next(group_folds(np.stack([items.group] * 2, axis=1), 4, 0))
    kept = table.select(table.item != np.flatnonzero(held_out)[0])
    fewer = dataclasses.replace(items, votes=dataclasses.replace(items.votes, table=kept))
    assert know_voters(fewer, word_features(items), same_for_all(items)) is None


def test_a_gain_of_a_model_that_is_no_better_leaves_it_open():
    items = items_of([pair(0, {"a": 1.0})])
    nothing, clear = (Interval(x, x - 0.01, x + 0.01, 0.95, "two-way") for x in (0.0, 0.1))
    assert _sentence(items, nothing, clear, None, 4) == (
        "Whether knowing who votes helps stays open: it helps a simple model, but that model "
        "predicts votes no better than the best model without names (measured on one fold of 4)."
    )
