"""Shares foretold by other items: sides that change places, responses that come again, ties."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from acquisition.votes import config, pair, table, write
from hidden_context.acquisition.forecast import _moments, forecast_shares
from hidden_context.acquisition.pool import read_pool
from hidden_context.check.features import word_features


def items_of(tmp_path, rows):
    return read_pool(config(write(tmp_path / "votes.jsonl", rows), tmp_path)).items


def forecast_of(items):
    return forecast_shares(items, word_features(items))


def tournament(count: int = 12, votes: int = 4, seed: int = 0, ties: bool = True):
    """Responses of known strength in many pairs; texts say nothing of it."""
    generator = np.random.default_rng(seed)
    strength = np.linspace(-2, 2, count)
    rows = []
    for one in range(count):
        for other in range(one + 1, count):
            first, second = (one, other) if generator.random() < 0.5 else (other, one)
            chance = expit(strength[first] - strength[second])
            said = {
                f"p{who}": 0.5
                if ties and generator.random() < 0.2
                else float(generator.random() < chance)
                for who in range(votes)
            }
            row = pair(len(rows), said, responses=[f"r{first}", f"r{second}"], prompt="same?")
            rows.append({**row, "first": strength[first], "second": strength[second]})
    return rows


def test_responses_that_come_again_foretell_pairs_they_are_in(tmp_path):
    rows = tournament()
    items = items_of(tmp_path, rows)
    found = forecast_of(items)
    truth = np.array([expit(row["first"] - row["second"]) for row in rows])
    lean = found.shares @ [1, 0.5, 0]
    assert np.corrcoef(lean, 0.8 * truth + 0.1)[0, 1] > 0.93
    assert np.abs(lean - 0.8 * truth - 0.1).mean() < 0.07
    np.testing.assert_allclose(found.shares[:, 1].mean(), 0.2, atol=0.04)
    np.testing.assert_allclose(found.shares.sum(1), 1)


def test_nothing_changes_where_the_sides_change_places(tmp_path):
    items = items_of(tmp_path, tournament())
    table_ = items.votes.table
    votes = dataclasses.replace(table_, share=1 - table_.share)
    other = dataclasses.replace(
        items,
        first=items.second,
        second=items.first,
        votes=dataclasses.replace(items.votes, table=votes),
    )
    one, two = forecast_of(items), forecast_of(other)
    np.testing.assert_allclose(two.shares[:, ::-1], one.shares, atol=1e-6)
    np.testing.assert_allclose(two.variance, one.variance, atol=1e-6)
    assert one.sizes == two.sizes


def test_an_items_own_votes_do_not_move_its_forecast_much(tmp_path):
    rows = tournament()
    items = items_of(tmp_path, rows)
    sizes = forecast_of(items).sizes
    found = forecast_shares(items, word_features(items), sizes)
    turned = [dict(row) for row in rows]
    for said in turned[10]["judgements"]:
        said["preference"] = 1 - said["preference"]
    other = items_of(tmp_path, turned)
    again = forecast_shares(other, word_features(other), sizes)
    own = np.abs(again.shares[10] - found.shares[10]).max()
    assert own < 0.03
    assert np.abs(again.shares - found.shares).max() > own  # others learn from them


def test_the_error_that_is_expected_is_the_error_there_is(tmp_path):
    rows = tournament(count=24, votes=2, seed=3)
    items = items_of(tmp_path, rows)
    found = forecast_of(items)
    truth = np.array([expit(row["first"] - row["second"]) for row in rows])
    shares = np.stack([0.8 * truth, np.full_like(truth, 0.2), 0.8 * (1 - truth)], axis=1)
    error = ((found.shares - shares) ** 2).sum(1).mean()
    assert error == pytest.approx(found.variance.mean(), rel=0.5)


def test_texts_foretell_items_without_votes(tmp_path):
    items = items_of(tmp_path, table(120))
    lean = forecast_of(items).shares @ [1, 0.5, 0]
    good = np.arange(len(items)) % 2 == 0
    assert lean[good].min() > 0.5 > lean[~good].max()


def test_without_ties_nobody_is_foretold_to_say_equal(tmp_path):
    found = forecast_of(items_of(tmp_path, tournament(ties=False)))
    assert found.shares[:, 1].max() <= 1.1e-4


def test_ratings_are_foretold_by_their_words(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for number in range(80):
        word, low = ("calm", 10) if number % 2 else ("grim", 60)
        ratings = [
            {"annotator": f"p{n}", "rating": float(low + generator.integers(0, 40))}
            for n in range(3)
        ]
        rows.append({"text": f"{word} story {number}", "ratings": ratings, "topic": "t"})
    found = forecast_of(items_of(tmp_path, rows)).shares
    calm = np.arange(80) % 2 == 1
    assert found[~calm, 0].min() > 0.7
    assert found[calm, 2].min() > 0.7


def test_moments_of_a_probability_are_those_of_draws():
    mean, variance = np.array([0.0, 1.5, -3.0]), np.array([1.0, 0.4, 2.0])
    draws = expit(mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=(400_000, 3)))
    found = _moments(mean, variance)
    np.testing.assert_allclose(found[0], draws.mean(0), atol=2e-3)
    np.testing.assert_allclose(found[1], draws.var(0), atol=2e-3)
