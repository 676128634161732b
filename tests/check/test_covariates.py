import numpy as np
import pytest

from check.people import items_of, pair, rated, rng, two_camps
from hidden_context.check.covariates import compare_covariates, holm


def test_holm_in_closed_form():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.fixture
def camps(tmp_path):
    return items_of(tmp_path / "d.jsonl", two_camps(people=20))


def test_camps_are_found_and_what_has_nothing_to_do_with_them_is_not(camps):
    known = {
        f"p{n}": {"camp": f"c{n % 2}", "half": f"h{n // 10}", "axis": float(n % 2), "age": float(n)}
        for n in range(20)
    }
    found, missing = compare_covariates(camps, known)
    by_name = {each.name: each for each in found}
    assert missing == []
    assert by_name["camp"].p_adjusted < 0.02
    assert by_name["axis"].p_adjusted < 0.02
    assert by_name["half"].p_adjusted > 0.2
    assert by_name["camp"].alike == 1.0
    assert by_name["camp"].unlike == 0.5  # all agree about the weather, nobody about taxes
    assert [level.people for level in by_name["camp"].levels] == [10, 10]
    assert [level.name for level in by_name["axis"].levels] == ["0 to 0", "1 to 1"]
    assert "camp goes with how people vote" in by_name["camp"].sentence
    assert "does not show to go" in by_name["half"].sentence
    assert found[0].p_value <= found[-1].p_value


def test_a_level_of_fewer_than_five_people_is_not_shown(camps):
    known = {f"p{n}": {"country": "XX" if n < 3 else f"c{n % 2}"} for n in range(20)}
    found, _ = compare_covariates(camps, known)
    assert found[0].levels_hidden == 1
    assert found[0].people == 17
    assert "XX" not in [level.name for level in found[0].levels]


def test_what_cannot_be_compared_is_said(camps):
    known = {
        f"p{n}": {"one": "same", "two": "same" if n < 17 else "other", "flat": 1.0, "free": f"t{n}"}
        for n in range(20)
    }
    found, missing = compare_covariates(camps, known)
    assert found == []
    assert missing == [
        "one: there are no two groups of five people to compare.",
        "two: there are no two groups of five people to compare.",
        "flat: the number is known of too few people, or is the same for all.",
        "free: there are no two groups of five people to compare.",
    ]
    skewed = {f"p{n}": {"n": 0.0 if n < 18 else float(n)} for n in range(20)}
    assert compare_covariates(camps, skewed)[1] == [
        "n: there are no two groups of five people to compare."
    ]
    few = {f"p{n}": {"one": "x"} for n in range(4)}
    assert compare_covariates(camps, few)[1] == [
        "Something is known of 4 annotators only; five are needed."
    ]


def test_too_many_values_are_no_groups(tmp_path):
    rows = [pair(n, {f"p{k}": float((k + n) % 2) for k in range(40)}) for n in range(3)]
    items = items_of(tmp_path / "d.jsonl", rows)
    known = {f"p{k}": {"town": f"town {k}"} for k in range(40)}
    assert compare_covariates(items, known)[1] == [
        "town: 40 different values are too many to compare people by."
    ]


def test_leaning_is_towards_high_ratings_and_the_longer_response(tmp_path):
    """Of 12 people six rate everything 1, six 0: 6/11 above and below the others' mean."""
    rows = [rated(n, {f"p{k:02}": float(k < 6) for k in range(12)}) for n in range(4)]
    known = {f"p{k:02}": {"camp": "kind" if k < 6 else "strict"} for k in range(12)}
    found, _ = compare_covariates(items_of(tmp_path / "r.jsonl", rows), known)
    leaning = {level.name: level.leaning.estimate for level in found[0].levels}
    assert leaning == pytest.approx({"kind": 1 - 5 / 11, "strict": -6 / 11})
    rows = [pair(n, {f"p{k:02}": float(k < 6) for k in range(12)}) for n in range(4)]
    found, _ = compare_covariates(items_of(tmp_path / "p.jsonl", rows), known)
    leaning = {level.name: level.leaning.estimate for level in found[0].levels}
    assert leaning == pytest.approx({"kind": -(1 - 5 / 11), "strict": 6 / 11})
    assert found[0].p_value < 0.02


def test_false_alarms_are_as_rare_as_stated(tmp_path):
    generator, alarms = rng(5), 0
    known = {f"p{k}": {"camp": f"c{k % 2}"} for k in range(12)}
    for trial in range(60):
        votes = generator.integers(0, 2, (15, 12)).astype(float)
        rows = [pair(n, {f"p{k}": v for k, v in enumerate(row)}) for n, row in enumerate(votes)]
        items = items_of(tmp_path / f"{trial}.jsonl", rows)
        alarms += compare_covariates(items, known, seed=trial, resamples=99)[0][0].p_value <= 0.1
    assert alarms <= 12  # 6 are expected; more than 12 have a probability below .01


def test_votes_of_one_person_alone_say_nothing(tmp_path):
    rows = [pair(n, {f"p{n % 10}": float(n % 2)}) for n in range(30)]
    known = {f"p{k}": {"camp": f"c{k % 2}"} for k in range(10)}
    found, _ = compare_covariates(items_of(tmp_path / "d.jsonl", rows), known)
    assert found[0].p_value == 1.0
    assert np.isnan(found[0].alike)
    assert np.isnan(found[0].levels[0].leaning.estimate)
    assert "–" in found[0].sentence
