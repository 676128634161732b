"""What votes tell of people, item by item, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.statistics.krippendorff import alpha
from hidden_context.statistics.tilts import sides_were_chosen, tilts_of
from hidden_context.statistics.votes import VoteTable


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


def test_typical_answers_foretell_votes_of_people_who_are_alike():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([0.8, 0.4, 0.8], 6000)
    share = np.array([rng.choice([1, 0.5, 0], 4, p=p) for p in shares]).ravel()
    item = np.repeat(np.arange(6000), 4)
    table = VoteTable.of(item, np.arange(24_000) % 50, share, shown=np.ones(24_000))
    for tilt in tilts_of(table).values():
        found = tilt.of_answers(table.answer)
        error = 4 * found.std() / np.sqrt(len(found))
        assert found.mean() == pytest.approx(tilt.expected.mean(), abs=error), tilt.name
    # as of a Dirichlet prior of strength 2, which is α = 1/3
    typical = np.exp(tilts_of(table)["readiness"].log_typical)
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 1)):
        chosen = (typical[:, 1] >= low) & (typical[:, 1] < high)
        found = (share[chosen] == 0.5).mean()
        assert found == pytest.approx(typical[chosen, 1].mean(), abs=0.02)


def test_tendencies_that_nothing_tells_of_are_left_out():
    alone = VoteTable.of([0, 1, 2], [0, 1, 0], [1, 0, 1])
    assert tilts_of(alone) == {}
    assert list(tilts_of(VoteTable.of([0, 1], [0, 1], [1, 0.5]))) == ["readiness"]
    with pytest.raises(ConfigError, match="answers an item twice"):
        tilts_of(VoteTable.of([0, 0], [0, 0], [1, 0]))


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
