from __future__ import annotations

import dataclasses
import math
from typing import Literal

import pytest
import torch

from hidden_context.errors import DivergedError
from hidden_context.synthetic.agreement import spearman
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.curves import classifier_borda_count
from hidden_context.synthetic.networks import (
    LEARNERS,
    ClassifierLearner,
    Learner,
    RewardLearner,
    make_learner,
    perceptron,
)
from hidden_context.synthetic.train import decay_per_step, train
from hidden_context.worlds.grids import OneDimensional, TwoDimensional

TINY = SyntheticConfig(batch_size=16, lr=1e-3, num_iterations=5, width=8)


def linear_sizes(learner: Learner) -> list[tuple[int, int]]:
    return [
        (layer.in_features, layer.out_features)
        for layer in learner.network
        if isinstance(layer, torch.nn.Linear)
    ]


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("base", (1, 2), (1, 1)),
        ("mean_and_stddev", (1, 2), (2, 2)),
        ("categorical", (1, 2), (20, 8)),
        ("classifier", (2, 4), (1, 1)),
    ],
)
def test_networks_have_four_linear_layers_of_the_right_sizes(
    name: str, inputs: tuple[int, int], outputs: tuple[int, int]
) -> None:
    for environment, num_in, num_out in zip(
        (OneDimensional(), TwoDimensional()), inputs, outputs, strict=True
    ):
        learner = make_learner(name, environment, 512, "logistic")
        assert linear_sizes(learner) == [(num_in, 512), (512, 512), (512, 512), (512, num_out)]
        norms = sum(isinstance(layer, torch.nn.BatchNorm1d) for layer in learner.network)
        assert norms == (3 if name == "categorical" else 0)


def test_standard_deviation_is_exp_of_raw_minus_two() -> None:
    learner = make_learner("mean_and_stddev", OneDimensional(), 8, "probit")
    assert isinstance(learner, RewardLearner)
    rewards = learner.distribution(torch.tensor([[0.3, 0.0], [0.3, 2.0]]))
    assert rewards.stddev.tolist() == pytest.approx([math.exp(-2), 1.0])
    assert rewards.mean.tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
def test_likelihood_of_normal_rewards_is_the_one_named(likelihood: str) -> None:
    learner = make_learner("mean_and_stddev", OneDimensional(), 8, likelihood)  # type: ignore[arg-type]
    assert isinstance(learner, RewardLearner)
    raw_a, raw_b = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.2, 2.5]])
    z = 0.3 / math.hypot(math.exp(-1.0), math.exp(0.5))
    expected = (
        0.5 * math.erfc(-z / math.sqrt(2))
        if likelihood == "probit"
        else 1 / (1 + math.exp(-math.sqrt(2 * math.pi) * z))
    )
    assert learner.compare(raw_a, raw_b).exp().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_log_probabilities_of_the_two_answers_sum_to_one(name: str) -> None:
    learner = make_learner(name, TwoDimensional(), 8, "probit").eval()
    first, second = torch.rand(7, 2), torch.rand(7, 2)
    yes = torch.ones(7, dtype=torch.bool)
    total = sum(learner.log_prob_preferred(first, second, answer).exp() for answer in (yes, ~yes))
    torch.testing.assert_close(total, torch.ones(7))


@pytest.mark.parametrize("name", ["base", "mean_and_stddev"])
def test_one_forward_pass_gives_what_two_give(name: str) -> None:
    learner = make_learner(name, TwoDimensional(), 8, "probit")
    first, second = torch.rand(6, 2), torch.rand(6, 2)
    together = learner.log_prob_preferred(first, second, torch.zeros(6, dtype=torch.bool))
    apart = learner.compare(learner.network(first), learner.network(second))  # type: ignore[operator]
    torch.testing.assert_close(together, apart)


def test_batch_norm_takes_its_statistics_over_both_sides_of_the_pairs() -> None:
    learner = make_learner("categorical", OneDimensional(), 8, "probit")
    assert isinstance(learner, RewardLearner)
    first, second = torch.rand(64, 1), torch.rand(64, 1) + 3
    learner.log_prob_preferred(first, second, torch.zeros(64, dtype=torch.bool))
    linear, norm = learner.network[0], learner.network[1]
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert norm.running_mean is not None
    with torch.no_grad():
        expected = 0.1 * linear(torch.cat((first, second))).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, expected)


def test_the_rate_decays_from_lr_to_its_floor() -> None:
    assert 1e-3 * decay_per_step(1e-3, 200) ** 200 == pytest.approx(1e-5)
    assert decay_per_step(1e-6, 10) == 1.0


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_seed_reproduces_to_the_bit_and_another_does_not(
    name: str, precision: Literal["float32", "bfloat16"]
) -> None:
    environment, config = OneDimensional(), dataclasses.replace(TINY, precision=precision)
    first, again = (train(name, environment, config) for _ in range(2))
    other = train(name, environment, dataclasses.replace(config, seed=1))
    assert torch.equal(first.losses, again.losses)
    for one, two in zip(first.learner.parameters(), again.learner.parameters(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.losses, other.losses)


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("base", OneDimensional(), TINY)
    assert torch.equal(torch.rand(3), expected)


def test_progress_counts_every_step_once() -> None:
    steps: list[int] = []
    config = dataclasses.replace(TINY, num_iterations=107)
    train("base", OneDimensional(), config, steps.append)
    assert steps == [50, 50, 7]


@pytest.mark.parametrize("name", ["base", "categorical"])
@pytest.mark.parametrize("precision", ["float32", "folded", "mixed", "bfloat16"])
def test_a_loss_that_is_not_finite_stops_training_with_its_step(
    name: str, precision: Literal["float32", "folded", "mixed", "bfloat16"]
) -> None:
    class Poisoned(OneDimensional):
        calls = 0

        def sample_alternatives(self, num: int, generator: torch.Generator) -> torch.Tensor:
            self.calls += 1
            scale = math.nan if self.calls == 3 else 1.0
            return super().sample_alternatives(num, generator) * scale

    with pytest.raises(DivergedError, match=f"{name} network is nan at step 3"):
        train(name, Poisoned(), dataclasses.replace(TINY, precision=precision))


def test_classifier_borda_count_reads_pairs_both_ways_round() -> None:
    class Fixed(ClassifierLearner):
        def logit(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return 2 * first[:, 0] + second[:, 0]  # not antisymmetric on purpose

    classifier = Fixed(perceptron(2, 1, 8))
    a, b = torch.tensor([[0.2], [0.9]]), torch.tensor([[0.1], [0.6]])
    table = [
        [
            (1 - 1 / (1 + math.exp(-(2 * x + y))) + 1 / (1 + math.exp(-(2 * y + x)))) / 2
            for y in (0.1, 0.6)
        ]
        for x in (0.2, 0.9)
    ]
    expected = [sum(row) / 2 for row in table]
    assert classifier_borda_count(classifier, a, b).tolist() == pytest.approx(expected)


def test_preference_learning_follows_the_borda_count_and_not_expected_utility() -> None:
    environment = OneDimensional()
    config = SyntheticConfig(batch_size=512, lr=1e-2, num_iterations=300, width=64)
    learner = train("base", environment, config).learner
    grid = environment.grid(400)
    with torch.no_grad():
        learned = learner.network(grid)[:, 0].numpy()
    borda = spearman(learned, environment.borda_count(grid).numpy())
    utility = spearman(learned, environment.expected_utility(grid).numpy())
    # The exact Borda count itself scores 1 and 0.714, expected utility 0.714 and 1.
    assert borda > 0.9
    assert utility < 0.8
