import numpy as np
import pytest

from check.people import items_of, pair, rated, rng, two_camps
from hidden_context.check.covariates import compare_covariates, holm


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
        ([1.0] * 20, "x: the number is known of too few people, or is the same for all."),
        (["x"] * 4, "Something is known of 4 annotators only; five are needed."),
        ([f"t{n}" for n in range(40)], "x: 40 different values are too many to compare people by."),
    ],
)
def test_what_cannot_be_compared_is_said(values, sentence):
    items = items_of([pair(n, {f"p{k}": float((k + n) % 2) for k in range(40)}) for n in range(3)])
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
        rows = [pair(n, {f"p{k}": v for k, v in enumerate(row)}) for n, row in enumerate(votes)]
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
