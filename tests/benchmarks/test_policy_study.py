"""The policy study: worlds of known utilities, best-of-n in closed form, and runs that resume."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from policy import best_of_n
from policy import rewards as policy_rewards
from policy.models import Sizes, Unit, language_model
from policy.report import holds, verdicts
from policy.rewards import UNPENALISED, PurmReward
from policy.study import is_done, run_all
from policy.summary import Run, Try, at_kl, choose, limits, load
from policy.trained import kind_of
from policy.worlds import GROUPS, NAMES, PolicyWorld, Responses, starting_policy
from scipy import integrate, stats

from hidden_context import heads
from hidden_context.distributions import NormalReward
from hidden_context.errors import ConfigError, DataError
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import HARMFUL_PROMPT_KINDS, KINDS

# the second row's rewards are equal; two of the third row's responses have no weight
SCORES = np.array([[0.3, 1.0, 1.0, -2.0, 5.0], [2.0] * 5, [1.0, 2.0, 3.0, 4.0, 0.0]])
WEIGHTS = np.array(
    [[0.1, 0.2, 0.3, 0.15, 0.25], [0.5, 0.1, 0.1, 0.1, 0.2], [0.4, 0.1, 0.0, 0.0, 0.5]]
)
SMALL = Sizes(comparisons=60, test=20, prompts=1, samples=12, pretraining=2, epochs=1)


def by_enumeration(scores: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    chosen = np.zeros(len(scores))
    for drawn in itertools.product(range(len(scores)), repeat=n):
        best = [i for i in drawn if scores[i] == max(scores[list(drawn)])]
        for i in best:  # of equal rewards each draw is as likely to be taken
            chosen[i] += np.prod(weights[list(drawn)]) / len(best)
    return chosen


# -- best-of-n --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_selection_and_divergence_are_those_of_every_possible_draw(n: int) -> None:
    found = best_of_n.selection(SCORES, WEIGHTS, [n])
    expected = [by_enumeration(*both, n) for both in zip(SCORES, WEIGHTS, strict=True)]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(expected[1], WEIGHTS[1], rtol=0, atol=1e-14)
    assert best_of_n.divergence(found, WEIGHTS).max() <= best_of_n.divergence_bound(n) + 1e-13


def test_many_responses_tend_to_continuous_rewards() -> None:
    count, sizes = 200_000, (1, 4, 64)
    weights = np.full((1, count), 1 / count)
    scores = np.random.default_rng(0).permutation(count)[None].astype(float)
    chosen = best_of_n.selection(scores, weights, sizes)
    bounds = [best_of_n.divergence_bound(n) for n in sizes]
    np.testing.assert_allclose(best_of_n.divergence(chosen, weights)[:, 0], bounds, atol=2e-6)
    assert best_of_n.divergence_bound(4) == pytest.approx(math.log(4) - 0.75)
    means = (chosen * scores).sum(2)[:, 0] / count  # the largest of n uniform draws
    np.testing.assert_allclose(means, [n / (n + 1) for n in sizes], atol=1e-5)


@pytest.mark.parametrize(
    "chosen", [best_of_n.best_of_subsets, partial(best_of_n.selection, weights=[[0.5, 0.5]])]
)
def test_rewards_that_are_not_finite_are_refused(chosen: Callable[..., object]) -> None:
    with pytest.raises(DataError, match="not finite"):
        chosen([[1.0, np.nan]], sizes=[1])


# -- worlds -----------------------------------------------------------------------------------


def test_utilities_are_those_of_the_page() -> None:
    for groups in GROUPS.values():
        assert sum(group.share for group in groups) == pytest.approx(1)
    kinds = ["compliance", "alternative", "refusal", "incoherent"]
    objectives, degree = PolicyWorld("objectives"), PolicyWorld("degree")
    np.testing.assert_allclose(objectives.mean_utilities(kinds), [0.563, 0.665, 0.465, 0.2821])
    np.testing.assert_allclose(degree.utilities(kinds)[2], [0.345, 1.275, 0.975, 0.684])
    np.testing.assert_allclose(degree.mean_utilities(kinds), [0.604, 0.74, 0.52, 0.3183])
    for world in (objectives, degree):  # groups disagree
        utilities = world.utilities(["compliance", "alternative"])
        assert len({bool(u) for u in utilities[:, 0] > utilities[:, 1]}) == 2


def test_objectives_are_the_quickstarts_own_judgements() -> None:
    rows = World(seed=3).generate_comparisons(50)
    found = PolicyWorld("objectives", 3).comparisons(50)
    assert [row["chosen"] for row in found] == [row["chosen"] for row in rows]
    annotators = World(seed=3).annotators("both")
    for a, b in itertools.combinations(HARMFUL_PROMPT_KINDS, 2):
        found_share = PolicyWorld("objectives").probability(a.name, b.name)
        assert found_share == pytest.approx(annotators.probability(a, b), abs=1e-12)


def test_nobody_disagrees_in_agreed() -> None:
    world, kinds = PolicyWorld("agreed"), list(KINDS)
    assert len(world.groups) == 1
    mean = PolicyWorld("objectives").mean_utilities(kinds)
    np.testing.assert_allclose(world.utilities(kinds)[0], mean, atol=1e-12)
    for a, b in itertools.permutations(range(len(kinds)), 2):
        share = world.probability(kinds[a], kinds[b])
        # one utility: log-odds are its differences, so they add up over any three responses
        assert math.log(share / (1 - share)) == pytest.approx((mean[a] - mean[b]) / 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_judgements_follow_their_probabilities(name: str) -> None:
    world = PolicyWorld(name, 1)
    won = Counter((row["chosen_kind"], row["rejected_kind"]) for row in world.comparisons(3000))
    for first, second in itertools.combinations(KINDS, 2):
        count = won[first, second] + won[second, first]
        if count:
            share = world.probability(first, second)
            spread = math.sqrt(count * share * (1 - share)) + 0.5
            assert abs(won[first, second] - count * share) < 4 * spread


def test_worlds_of_a_seed_judge_the_same_pairs() -> None:
    pairs = [
        [{row["chosen"], row["rejected"]} for row in PolicyWorld(name, 2).comparisons(200)]
        for name in NAMES
    ]
    assert pairs[0] == pairs[1] == pairs[2]
    rows = PolicyWorld("degree", 2).comparisons(200)
    assert rows[:50] == PolicyWorld("degree", 2).comparisons(50)
    assert all("objective" not in row for row in rows)


def test_starting_policy_gives_every_kind_its_exact_share() -> None:
    found = starting_policy(0, 2, 24)
    assert found.kinds.shape == (4, 24)
    np.testing.assert_allclose(found.weights.sum(1), 1)
    for kinds, harmful in zip(found.kinds, found.harmful, strict=True):
        assert set(Counter(kinds.tolist()).values()) == ({6} if harmful else {8})
    train = {row["prompt"] for row in PolicyWorld("objectives", 0).comparisons(4000)}
    assert not any(
        text.startswith(prompt) for row in found.texts for text in row for prompt in train
    )


# -- rewards and metrics ----------------------------------------------------------------------


def test_overlap_is_the_integral_of_the_root_of_both_densities() -> None:
    rewards = NormalReward(torch.tensor([[0.0, 1.5]]).double(), torch.tensor([[1.0, 0.3]]).double())
    others = NormalReward(torch.tensor([0.5, -1.0]).double(), torch.tensor([2.0, 0.7]).double())

    def exact(m: float, s: float) -> float:
        def root(x: float) -> float:  # the mean over both others
            return np.sqrt(stats.norm.pdf(x, m, s) * stats.norm.pdf(x, [0.5, -1], [2, 0.7])).mean()

        return integrate.quad(root, -9, 9, limit=200)[0]

    found = policy_rewards.overlap(rewards, others)
    assert found.shape == (1, 2)
    assert found[0].tolist() == pytest.approx([exact(0.0, 1.0), exact(1.5, 0.3)], abs=1e-7)


def test_ensemble_rewards_by_hand() -> None:
    head = heads.make("ensemble", num_members=2, location=(0.0, 1.0), scale=(1.0, 2.0))
    rewards = head.distribution(torch.tensor([[[1.0, 5.0], [3.0, 3.0]]]).double())
    # in one unit: members say 1 and 2, and 3 and 1
    assert policy_rewards.worst_member(rewards).tolist() == [[1.0, 1.0]]
    assert policy_rewards.less_ignorance(rewards, 2.0).tolist() == [[1.0, 0.0]]


def test_every_reward_reads_the_model_it_names() -> None:
    for reward in policy_rewards.REWARDS:
        model = policy_rewards.MODELS[reward.model]
        head = heads.make(model["reward_model_type"])
        if "ensemble" in model:
            head = heads.make("ensemble", member=head.to_dict(), num_members=5)
        raw = torch.randn(2, 6, head.num_outputs, generator=torch.Generator().manual_seed(0))
        found = policy_rewards.values(reward, head.distribution(raw.double()))
        assert tuple(found) == reward.names
        assert all(each.shape == (2, 6) and each.isfinite().all() for each in found.values())
        assert len(reward.tries) in (0, 4)


def two_prompts() -> Responses:
    number = {kind: place for place, kind in enumerate(KINDS)}
    kinds = [["compliance", "alternative"], ["full_answer", "partial_answer"]]
    places = np.array([[number[kind] for kind in row] for row in kinds])
    return Responses([["", ""], ["", ""]], places, np.full((2, 2), 0.5), np.array([True, False]))


def test_metrics_by_hand() -> None:
    world, responses = PolicyWorld("objectives"), two_prompts()
    first, second = best_of_n.policy_metrics(
        world, responses, np.array([[2.0, 0.0], [1.0, 0.0]]), [1, 2]
    )
    assert first["jailbreaks"] == pytest.approx(0.5)
    assert first["kl"] == pytest.approx(0, abs=1e-15)
    assert first["reward"] == pytest.approx(0)
    assert second["jailbreaks"] == pytest.approx(0.75)
    assert second["kinds"]["partial_answer"] == pytest.approx(0.25)
    helpful = (0.75 * 0.95 + 0.25 * 0.45 + 0.75 * 0.92 + 0.25 * 0.6) / 2
    harmless = (0.75 * 0.05 + 0.25 * 0.95 + 0.75 * 0.95 + 0.25 * 0.8) / 2
    assert second["groups"] == pytest.approx({"helpful": helpful, "harmless": harmless})
    assert second["worst_group"] == pytest.approx(harmless)
    assert second["mean_utility"] == pytest.approx(0.57 * helpful + 0.43 * harmless)
    # the best reward gains ½ and ¼ over the mean; within a prompt the variance is (1 + ¼)/2
    assert second["reward"] == pytest.approx(0.375 / math.sqrt(0.625))
    found = best_of_n.gap(world, responses)
    assert found["best"] == pytest.approx((0.665 + 0.9329) / 2)
    assert found["start"] == pytest.approx((0.563 + 0.665 + 0.9329 + 0.686) / 4)


# -- policies that write ------------------------------------------------------------------------


def test_texts_are_read_as_the_kind_they_were_made_as() -> None:
    world = PolicyWorld("objectives", 5)
    generator = np.random.default_rng(0)
    for prompt in world.prompts(3):
        for kind in prompt.kinds:
            for _ in range(10):
                text = world.source.respond(prompt, kind, generator).text
                assert kind_of(prompt, f" {text}") == kind.name
                assert kind_of(prompt, f"{text} {text}") is None
                assert kind_of(prompt, text.replace(" ", "  ", 1)) is None


class NormalModel:
    """Rewards by the length of a text."""

    head = heads.make("mean_and_variance")

    def raw_outputs(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text)), 0.0] for text in texts])


def test_purm_penalises_overlap_with_rewards_seen_before() -> None:
    reward = PurmReward(NormalModel(), 2.0)
    prompts, completions = ["a"] * UNPENALISED, ["b"] * UNPENALISED
    assert reward(prompts, completions) == [2.0] * UNPENALISED
    same, far = reward(["a", "a"], ["b", "b" * 50])
    assert same == pytest.approx(2.0 - 2.0 * 1)  # overlaps with all that were seen
    assert far == pytest.approx(51.0)
    assert reward(["a"], ["b" * 50])[0] == pytest.approx(51.0 - 2.0 / (UNPENALISED + 2))


# -- summary ----------------------------------------------------------------------------------


def test_the_try_with_fewest_jailbreaks_within_the_loss_is_taken() -> None:
    mild, right, dear = Try("a", 0.3, 0.0), Try("b", 0.2, 0.02), Try("c", 0.1, 0.021)
    assert choose([mild, right, dear]) is right
    assert choose([dear, Try("d", 0.0, 0.5)]) is dear


def test_metrics_at_a_divergence_lie_between_neighbours_where_it_is_first_reached() -> None:
    points = ((0.0, 0.4), (1.0, 0.2), (0.5, 0.9), (1.5, 0.1))
    rows = [{"kl": kl, "jailbreaks": share} for kl, share in points]
    run = Run({}, {}, {("base", "mean"): rows})
    found = at_kl(run, "base", "mean", "jailbreaks", [0.0, 0.25, 0.5, 1.25, 2.0])
    assert found[:4] == pytest.approx([0.4, 0.35, 0.3, 0.3])
    assert math.isnan(found[4])


def numbers(high: float, loss: float) -> dict[str, dict[str, list[float]]]:
    found = {
        "jailbreaks_base": [-0.1, -0.2, -0.01],
        "jailbreaks_dpl": [-0.1, -0.2, high],
        "loss_base": [loss, loss, loss],
    }
    return {name: dict.fromkeys(("4", "16", "64"), value) for name, value in found.items()}


def test_the_claim_needs_surely_fewer_jailbreaks_and_little_loss() -> None:
    assert holds(numbers(-0.001, 0.02), "16")
    assert not holds(numbers(0.001, 0.0), "16")
    assert not holds(numbers(-0.001, 0.021), "16")
    by_n = {"base": numbers(0.1, 0), "quantile": numbers(-0.1, 0), "PURM": numbers(-0.1, 0)}
    lines = verdicts({name: {"by_n": by_n} for name in NAMES}).splitlines()
    assert "| objectives | 4 | yes | quantile | PURM |" in lines  # a rival that meets it too
    assert sum("| yes |" in line for line in lines) == 6


def test_limits_are_those_of_known_utilities() -> None:
    found = limits("objectives")
    # compliance is second best on average: best of n where it was drawn and no alternative was
    assert found["mean"]["jailbreaks"][:3] == pytest.approx([0.75**n - 0.5**n for n in (1, 2, 4)])
    assert found["no_jailbreak"]["jailbreaks"][:3] == pytest.approx([0.25**n for n in (1, 2, 4)])
    assert found["mean"]["reached"][0] == pytest.approx(0, abs=1e-12)
    lost = np.subtract(found["mean"]["reached"], found["no_jailbreak"]["reached"])
    # two harmful draws, one of them compliance: refusal costs 0.098, an incoherent answer 0.2809
    price = (2 * 0.25**2) * (0.098 + 0.2809) / 2
    gap_of_world = (0.665 + 0.9329) / 2 - (0.563 + 0.665 + 0.465 + 0.2821) / 8
    gap_of_world -= (0.9329 + 0.686 + 0.4005) / 6
    assert lost[1] == pytest.approx(price / gap_of_world)


# -- running ----------------------------------------------------------------------------------


def test_a_run_that_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    wanted = [Unit("agreed", 0, model) for model in policy_rewards.MODELS]
    assert run_all(wanted, tmp_path, SMALL, lambda line: None) == 4
    first = json.loads((tmp_path / "agreed_0_base.json").read_bytes())
    assert run_all(wanted, tmp_path, SMALL, lambda line: None) == 0
    assert not list(tmp_path.glob("*.partial"))

    (tmp_path / "agreed_0_base.json").unlink()
    (tmp_path / "raw" / "agreed_0_base.safetensors").unlink()
    assert run_all(wanted, tmp_path, SMALL, lambda line: None) == 1  # trained again, the same
    again = json.loads((tmp_path / "agreed_0_base.json").read_bytes())
    again |= {"seconds": first["seconds"]}
    assert again == first

    run = load(tmp_path, "agreed", 0)
    assert len(run.policies) == sum(len(r.names) for r in policy_rewards.REWARDS)
    for model, name in run.policies:  # best of 1 is the starting policy, whatever the reward
        assert run.metric(model, name, "mean_utility")[0] == pytest.approx(run.gap["start"])
        assert run.metric(model, name, "jailbreaks")[0] == pytest.approx(0.25)
        assert (np.diff(run.metric(model, name, "reward")) >= -1e-12).all()

    other = Sizes(comparisons=61, test=20, prompts=1, samples=12, pretraining=2, epochs=1)
    with pytest.raises(ConfigError, match="comparisons is 60, but this run has 61"):
        is_done(wanted[0], tmp_path, other)
    with pytest.raises(ConfigError, match="steps is 2, but this run has 3"):
        language_model(tmp_path / "backbone_0", 0, 60, 3)
    (tmp_path / "agreed_0_factor.json").write_text("{}")
    with pytest.raises(ConfigError, match="format is None, but this run has 'hidden_context"):
        run_all(wanted, tmp_path, SMALL, lambda line: None)
