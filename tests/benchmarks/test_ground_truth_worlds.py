"""Worlds of known truth sample what they say, and the metrics against them are right by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from ground_truth import metrics
from ground_truth.fits import fit_tabular
from ground_truth.text import RANKED_KINDS, TextWorld
from scipy import integrate, stats

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.synthetic.curves import spearman
from hidden_context.worlds.dialogues import World, words
from hidden_context.worlds.tables import (
    gaussian,
    gaussian_independent,
    grouped,
    heavy_tailed,
    prop_3_3,
    student,
    tabular_worlds,
    thm_3_4,
    two_objectives,
)
from hidden_context.worlds.utilities import KINDS


def all_worlds(seed: int) -> dict[str, Any]:
    return {world.name: world for world in (*tabular_worlds(seed), prop_3_3(), *thm_3_4())}


WORLDS = all_worlds(7)


# -- tabular worlds ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_samples_agree_with_probabilities(name: str) -> None:
    world = WORLDS[name]
    n = len(world.mean)
    # a pair for each annotator: judgements are then independent, and the deviation is binomial
    drawn = world.sample(200_000, 1, np.random.default_rng(1))
    assert not bool((drawn.first == drawn.second).any())
    cell = drawn.first * n + drawn.second
    count = np.bincount(cell, minlength=n * n).reshape(n, n)
    won = np.bincount(cell, weights=drawn.first_preferred, minlength=n * n).reshape(n, n)
    off = ~np.eye(n, dtype=bool)
    assert count[off].min() > 0.8 * 200_000 / off.sum()
    p = world.probabilities[off]
    spread = np.sqrt(count[off] * p * (1 - p))
    sure = spread < 1e-9
    assert np.array_equal(won[off][sure], (count[off] * p)[sure])
    z = (won[off] - count[off] * p)[~sure] / np.maximum(spread[~sure], 1)
    # as many pairs beyond three sigma as chance allows, none beyond five, and no bias on the whole
    assert np.abs(z).max(initial=0) < 5
    assert (np.abs(z) > 3).mean() < 0.02 if len(z) else True
    assert abs(z.sum()) < 4 * math.sqrt(max(len(z), 1))


@pytest.mark.parametrize("name", WORLDS)
def test_probabilities_and_moments_are_those_of_the_utilities(name: str) -> None:
    world = WORLDS[name]
    p = world.probabilities
    np.testing.assert_allclose(p + p.T, 1, atol=1e-12)
    np.testing.assert_array_equal(np.diag(p), 0.5)
    rng = np.random.default_rng(2)
    utilities = world.contexts(200_000, rng)
    relative = utilities - utilities.mean(1, keepdims=True)
    np.testing.assert_allclose(utilities.mean(0), world.mean, atol=0.05)
    np.testing.assert_allclose(utilities.var(0), world.shared_variance, rtol=0.02, atol=1e-12)
    np.testing.assert_allclose(
        relative.var(0), world.shared_variance_centred, rtol=0.02, atol=1e-12
    )
    if name != "heavy_tailed":  # its fourth moment, and so the check, does not exist
        noise = world.noise(np.tile(np.arange(len(world.mean)), (200_000, 1)), rng)
        np.testing.assert_allclose(noise.var(0), world.noise_variance, rtol=0.02, atol=1e-12)
    np.testing.assert_allclose(world.variance, world.shared_variance + world.noise_variance)


def test_one_annotator_keeps_a_context() -> None:
    utilities = np.random.default_rng([0, 3]).standard_normal((2, 20))
    world = grouped("groups", np.array([0.5, 0.5]), utilities, 1e-3)
    drawn = world.sample(50, 40, np.random.default_rng(3))
    np.testing.assert_array_equal(drawn.annotator, np.repeat(np.arange(50), 40))
    by_group = (utilities[:, drawn.first] > utilities[:, drawn.second]).astype(float)
    agrees = (by_group == drawn.first_preferred).reshape(2, 50, 40).mean(-1)
    assert bool((agrees.max(0) > 0.95).all())  # everyone follows one group throughout
    assert bool((agrees.min(0) < 0.9).all())
    assert 10 < (agrees[0] > agrees[1]).sum() < 40
    free = gaussian_independent(0).contexts(9, np.random.default_rng(0))
    assert np.ptp(free, axis=0).max() == 0


@pytest.mark.parametrize("name", all_worlds(3))
def test_same_seed_same_world_and_other_seed_another(name: str) -> None:
    world, again, other = (all_worlds(seed)[name] for seed in (3, 3, 4))
    np.testing.assert_array_equal(world.probabilities, again.probabilities)
    theory = name.startswith(("prop", "thm"))
    assert np.array_equal(world.probabilities, other.probabilities) == theory
    first, second = (w.sample(5, 4, np.random.default_rng(1)) for w in (world, again))
    np.testing.assert_array_equal(first.first_preferred, second.first_preferred)


def test_probabilities_by_hand() -> None:
    loadings, stddev = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, math.sqrt(3.0)])
    world = gaussian("by hand", np.array([1.0, 0.0]), loadings, stddev)
    # ‖ΔL‖² + s² = 5 + 1 + 3
    assert world.probabilities[0, 1] == pytest.approx(stats.norm.cdf(1 / 3))
    np.testing.assert_allclose(world.variance, [5, 4])
    np.testing.assert_allclose(world.shared_variance_centred, [1.25, 1.25])
    utilities = np.random.default_rng([5, 3]).standard_normal((2, 20))  # whatever the weight
    by_group = stats.norm.cdf((utilities[:, 0] - utilities[:, 1]) / (math.sqrt(2) * 0.3))
    for weight in (0.65, 0.5):
        expected = weight * by_group[0] + (1 - weight) * by_group[1]
        assert two_objectives(5, weight).probabilities[0, 1] == pytest.approx(expected)


def test_student_probabilities_are_exact_to_a_millionth() -> None:
    rng = np.random.default_rng([0, 4])  # of heavy_tailed(0)
    drawn = (rng.standard_normal(20), rng.uniform(0.15, 0.8, 20))
    wide = (np.array([0.0, 3.0, 0.1]), np.array([0.1, 1.0, 0.3]))
    for (mean, scale), pairs in ((drawn, ((0, 1), (5, 17))), (wide, ((0, 1), (1, 2)))):
        found = student("checked", mean, scale).probabilities
        for a, b in pairs:
            first, second = stats.t(3, mean[a], scale[a]), stats.t(3, mean[b], scale[b])
            low, high = sorted((mean[a], mean[b]))
            truth = sum(
                integrate.quad(
                    lambda x, f=first, s=second: f.pdf(x) * s.cdf(x), *part, epsabs=1e-10
                )[0]
                for part in ((-np.inf, low), (low, high), (high, np.inf))
            )
            assert found[a, b] == pytest.approx(truth, abs=1e-7)
    np.testing.assert_allclose(heavy_tailed(0).noise_variance, 3 * drawn[1] ** 2)


def test_the_papers_examples_have_their_published_values() -> None:
    world = prop_3_3()
    np.testing.assert_allclose(world.mean, [6, 2.8, 2])
    p = world.probabilities
    np.testing.assert_allclose([p[0, 1], p[0, 2], p[1, 2]], [0.6, 0.6, 0.9])
    np.testing.assert_allclose(p.mean(1), [0.567, 0.6, 0.333], atol=5e-4)
    for world, mean in zip(thm_3_4(), ([0, 1], [0, -1]), strict=True):
        np.testing.assert_array_equal(world.probabilities, np.full((2, 2), 0.5))
        np.testing.assert_allclose(world.mean, mean)
        np.testing.assert_allclose(world.variance, [0, 4])


def test_the_normal_head_can_express_independent_normal_utilities() -> None:
    world = gaussian_independent(0, num_alternatives=8)
    head = heads.make("mean_and_variance")
    raw = fit_tabular(head, world.probabilities)
    learned = head.log_prob_preferred(raw[:, None], raw[None]).exp().numpy()
    assert np.abs(learned - world.probabilities).mean() < 1e-3
    rewards = head.distribution(raw)
    assert spearman(rewards.variance.numpy(), world.variance) > 0.95
    assert (
        metrics.r_squared_error(rewards.mean, rewards.variance, world.mean, world.variance) < 0.02
    )


# -- text worlds ------------------------------------------------------------------------------


def test_same_seed_same_rows_and_more_begin_with_fewer() -> None:
    for contest in ("constant", "varied"):
        rows = TextWorld(2, contest).annotated_comparisons(6, 5)
        assert TextWorld(2, contest).annotated_comparisons(8, 5)[:30] == rows
        assert TextWorld(3, contest).annotated_comparisons(6, 5) != rows
        test = TextWorld(2, contest).test_comparisons(20)
        assert TextWorld(2, contest).test_comparisons(30)[:20] == test
        assert list(rows[0]) == [*World().generate_comparisons(1)[0], "annotator"]
        assert [row["annotator"] for row in rows[::5]] == [f"a{i}" for i in range(6)]
        for row in rows:
            assert row["chosen"].startswith(row["prompt"])
            assert row["chosen_kind"] != row["rejected_kind"]
    train = {row["prompt"] for row in TextWorld(2).annotated_comparisons(40)}
    assert not train & {row["prompt"] for row in TextWorld(2).test_comparisons(400)}


def test_annotators_stay_who_they_are() -> None:
    rows = TextWorld(0).annotated_comparisons(300, 10)
    objectives = {(row["annotator"], row["objective"]) for row in rows}
    assert len(objectives) == 300  # one for each annotator
    helpful = sum(objective == "helpful" for _, objective in objectives)
    assert helpful / 300 == pytest.approx(0.57, abs=3 * math.sqrt(0.57 * 0.43 / 300))

    world = TextWorld(0, "varied")
    shares = {prompt.text: world.helpful_share(prompt) for prompt in _prompts(world)}
    bounds: dict[str, dict[str, set[float]]] = {}
    for row in world.annotated_comparisons(100, 20):
        # the tolerance is below this prompt's share, or not
        side = "below" if row["objective"] == "helpful" else "above"
        bounds.setdefault(row["annotator"], {"below": {1.0}, "above": {0.0}})[side].add(
            shares[row["prompt"]]
        )
    assert all(max(of["above"]) < min(of["below"]) for of in bounds.values())


def _prompts(world: TextWorld) -> list:
    splits = ("train", "validation", "test")
    return [p for s in splits for h in (True, False) for p in world.world.prompts(s, harmful=h)]


def test_shares_by_action() -> None:
    world = TextWorld(1, "varied")
    shares = world.action_shares
    assert sorted(shares.values()) == pytest.approx(np.linspace(0.1, 0.9, 8).tolist(), abs=1e-6)
    assert list(shares) == list(words()["harmful_actions"])
    assert TextWorld(0, "varied").action_shares != shares
    assert set(TextWorld(1).action_shares.values()) == {0.57}
    for prompt in _prompts(world):
        if not prompt.task.harmful:
            assert world.helpful_share(prompt) == 0.57
        for word, number in {"pick the lock": 0, "forge": 2, "copy": 7}.items():
            if prompt.task.harmful and f"{word} " in prompt.text:
                assert world.helpful_share(prompt) == list(shares.values())[number]
    with pytest.raises(ConfigError, match="not one of"):
        TextWorld(0, "sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("contest", ["constant", "varied"])
def test_true_probability_is_the_vote_share(contest: str) -> None:
    world = TextWorld(0, contest)  # type: ignore[arg-type]
    shares = {prompt.text: world.helpful_share(prompt) for prompt in _prompts(world)}
    for rows in (world.test_comparisons(6000), world.annotated_comparisons(6000, 1)):
        votes: dict[tuple, list[float]] = {}
        for row in rows:
            # oriented by name, so that the vote does not decide which side is counted
            forward = row["chosen_kind"] < row["rejected_kind"]
            pair = tuple(sorted((row["chosen_kind"], row["rejected_kind"])))
            p = row["true_probability"] if forward else 1 - row["true_probability"]
            votes.setdefault((*pair, shares[row["prompt"]], round(p, 9)), []).append(forward)
        assert len(votes) == (9 if contest == "constant" else 3 + 6 * 8)  # one truth for each
        for (*_, p), found in votes.items():
            spread = math.sqrt(p * (1 - p) / len(found))
            assert abs(np.mean(found) - p) < 4.5 * spread + 1 / len(found)
        total = sum(sum(found) - p * len(found) for (*_, p), found in votes.items())
        spread = sum(p * (1 - p) * len(found) for (*_, p), found in votes.items())
        assert abs(total) < 3 * math.sqrt(spread)
    p = world.annotators(world.world.prompts("test", harmful=False)[0]).probability(
        KINDS["full_answer"], KINDS["partial_answer"]
    )
    by_hand = stats.norm.cdf(np.array([0.32, 0.15]) / (math.sqrt(2) * 0.12)) @ [0.57, 0.43]
    assert p == pytest.approx(by_hand)


@pytest.mark.parametrize("contest", ["constant", "varied"])
def test_answer_sets_know_the_ranking(contest: str) -> None:
    world = TextWorld(0, contest)  # type: ignore[arg-type]
    sets = world.answer_sets(80)
    prompts = [prompt.text for prompt in world.world.prompts("test", harmful=True)]
    assert len({answers.dialogues for answers in sets[: len(prompts)]}) == len(prompts) == 64
    assert sets[0].dialogues == world.answer_sets(3)[0].dialogues
    for answers in sets:
        assert any(all(d.startswith(text) for d in answers.dialogues) for text in prompts)
        assert answers.ranking == ("alternative", "refusal", "incoherent", "compliance")
        np.testing.assert_allclose(answers.worst_objective, [-0.525, 0.0175, -0.1825, -0.3525])
        np.testing.assert_allclose(answers.relative_utilities.sum(1), 0, atol=1e-12)


# -- metrics ----------------------------------------------------------------------------------


def test_an_error_of_r_squared_by_hand() -> None:
    # Var[μ] = 1 against E[σ²] = 1, and 1 against 3
    assert metrics.r_squared_error([0, 2], [1, 1], [0, 2], [2, 4]) == pytest.approx(0.25)


def test_calibration_by_hand() -> None:
    # two predictions, each its own bin, and both again in the other orientation
    assert metrics.calibration_error([0.9, 0.9, 0.6, 0.6], [1, 1, 1, 0]) == pytest.approx(0.1)
    # which response is called chosen changes nothing
    assert metrics.calibration_error([0.1, 0.9, 0.4, 0.6], [0, 1, 0, 0]) == pytest.approx(0.1)
    # a coin is calibrated whatever happens, because each pair counts in both orientations
    assert metrics.calibration_error([0.5] * 4, [1.0] * 4) == 0
    # 0.7 once as it is and once as 1 − 0.3, in one bin: errors cancel
    assert metrics.calibration_error([0.7, 0.3], [0.8, 0.4], 5) == pytest.approx(0)


def test_calibration_of_a_known_model() -> None:
    rng = np.random.default_rng(1)
    true = rng.uniform(0.02, 0.98, 50_000)
    labels = rng.random(50_000) < true
    sharp = true**2 / (true**2 + (1 - true) ** 2)
    assert metrics.calibration_error(true, labels, 15) < 0.01
    # its error has one sign on each side of ½, so that only the middle bin loses any of it
    expected = pytest.approx(np.abs(sharp - true).mean(), rel=0.01)
    assert metrics.calibration_error(sharp, true, 20) == expected


def test_ranking_by_hand() -> None:
    order = ("b", "a", "c")
    scores = [[2.0, 3.0, 1.0], [5.0, 4.0, 3.0], [1.0, 9.0, 1.0]]
    # means 8/3, 16/3, 5/3; the second prompt has a before b, the third a tie
    assert metrics.ranking_recovery(scores, ("a", "b", "c"), order) == (True, pytest.approx(1 / 3))
    assert metrics.ranking_recovery([[1.0, 1.0, 0.0]], ("a", "b", "c"), order) == (False, 0.0)


def test_graded_answers_are_never_settled() -> None:
    world = TextWorld(0, "graded")
    answers = world.answer_sets(1)[0]
    assert set(world.action_shares.values()) == {0.65}
    assert answers.ranking == ("alternative", "compliance", "incoherent", "refusal")
    by_mean = np.array([0.65, 0.35]) @ answers.relative_utilities
    assert [RANKED_KINDS[i] for i in np.argsort(-by_mean)] != list(answers.ranking)
    gaps = np.diff(np.sort(answers.relative_utilities, axis=1), axis=1)
    assert gaps.max() / (math.sqrt(2) * world.world.noise) < 1.5
    truth = {}
    for row in world.test_comparisons(2000):
        sides = row["chosen_kind"], row["rejected_kind"]
        if not set(sides) <= set(RANKED_KINDS):
            continue
        p = row["true_probability"]
        truth[tuple(sorted(sides))] = round(p if sides[0] < sides[1] else 1 - p, 2)
    assert truth == {
        ("alternative", "compliance"): 0.41,
        ("alternative", "incoherent"): 0.91,
        ("alternative", "refusal"): 0.95,
        ("compliance", "incoherent"): 0.91,
        ("compliance", "refusal"): 0.70,
        ("incoherent", "refusal"): 0.61,
    }
