"""Grids and steps: exact utilities and Borda counts against draws and the paper's examples."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from hidden_context import worlds
from hidden_context.errors import ConfigError
from hidden_context.worlds import steps
from hidden_context.worlds.grids import OneDimensional, TwoDimensional

ENVIRONMENTS = [OneDimensional(), TwoDimensional()]
POINTS = {
    "1d": [[0.02], [0.1], [0.5], [0.79], [0.8], [0.9], [1.0]],
    "2d": [[1.0, 0.5], [0.0, 1.0], [0.5, 0.5], [0.9, 0.9], [0.2, 0.05], [1.0, 1.0], [0.3, 0.01]],
}
NUM_DRAWS = 200_000
TOLERANCE = 5 * 0.5 / NUM_DRAWS**0.5  # five standard errors of a probability


@pytest.fixture(params=ENVIRONMENTS, ids=lambda environment: environment.name)
def environment(request):
    return request.param


def preference_probability(environment, first, second):
    """Exact ``p(a, b) = P(u(a) > u(b)) + P(u(a) = u(b)) / 2`` under independent contexts."""
    outcomes = []
    for side in (first, second):
        payoff, chance = environment.payoff(side), environment.success(side)
        outcomes.append(((payoff, chance), (torch.zeros_like(payoff), 1 - chance)))
    total = torch.zeros(())
    for (value, chance), (other, other_chance) in itertools.product(*outcomes):
        wins = (value > other).to(value.dtype) + 0.5 * (value == other).to(value.dtype)
        total = total + chance * other_chance * wins
    return total


def test_borda_count_is_the_mean_of_exact_pairwise_probabilities(environment):
    opponents = environment.grid(4000 if environment.dimension == 1 else 500).double()
    points = torch.tensor(POINTS[environment.name], dtype=torch.float64)
    for point, exact in zip(points, environment.borda_count(points), strict=True):
        mean = preference_probability(environment, point, opponents).mean()
        assert mean.item() == pytest.approx(exact.item(), abs=5e-4), point


def test_pairwise_probability_agrees_with_utilities_drawn_at_random(environment):
    generator = torch.Generator().manual_seed(1)
    first = environment.sample_alternatives(8, generator)
    second = environment.sample_alternatives(8, generator)
    exact = preference_probability(environment, first, second)
    ours = environment.sample_utilities(first.expand(NUM_DRAWS, -1, -1), generator)
    theirs = environment.sample_utilities(second.expand(NUM_DRAWS, -1, -1), generator)
    drawn = ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean(dim=0)
    torch.testing.assert_close(drawn, exact.double(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(preference_probability(environment, second, first), 1 - exact)


def test_expected_utility_is_payoff_times_its_probability(environment):
    alternatives = environment.grid(50).double()
    product = environment.payoff(alternatives) * environment.success(alternatives)
    torch.testing.assert_close(product, environment.expected_utility(alternatives))


def test_expected_utilities_are_the_paper_s():
    line, square = torch.rand(9, 1), torch.rand(9, 2)
    assert torch.equal(OneDimensional().expected_utility(line), line[:, 0])
    assert torch.equal(TwoDimensional().expected_utility(square), square[:, 1])


WORKED = {
    "1d": ([[0.0], [0.4], [0.8], [1.0]], [0.1, 0.5, 0.475, 0.525]),
    "2d": ([[1.0, 0.5], [0.0, 1.0], [0.5, 0.5]], [0.486, 0.847, 0.560]),
}


def test_borda_counts_average_to_one_half_and_are_the_worked_ones(environment):
    mean = environment.borda_count(environment.grid(1000).double()).mean()
    assert mean.item() == pytest.approx(0.5, abs=1e-5)
    alternatives, expected = WORKED[environment.name]
    exact = environment.borda_count(torch.tensor(alternatives, dtype=torch.float64))
    assert exact.tolist() == pytest.approx(expected, abs=1e-6 if len(exact) == 4 else 5e-4)


def test_both_branches_of_the_borda_count_meet_where_the_payoff_is_one():
    # y = 1/(1 + x) gives t = y/(1 − xy) = 1
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    sides = (torch.stack([x, 1 / (1 + x) + gap], dim=-1) for gap in (-1e-9, 1e-9))
    below, above = map(TwoDimensional().borda_count, sides)
    torch.testing.assert_close(below, above, atol=1e-8, rtol=0)


def test_the_curve_of_the_paper_s_figure_is_off_by_up_to_fifteen_hundredths():
    environment = TwoDimensional()
    alternatives = environment.grid(400).double()
    drawn = environment.borda_count_as_drawn_in_the_paper
    gap = drawn(alternatives) - environment.borda_count(alternatives)
    assert gap.abs().max().item() == pytest.approx(0.153, abs=2e-3)
    # It is what one gets by comparing y with y' whenever both sides succeed.
    point = torch.tensor([0.9, 0.5], dtype=torch.float64)
    chance, others = 1 - 0.45, 1 - alternatives.prod(-1)
    wins = (point[1] > alternatives[:, 1]).double()
    mistaken = (chance * (others * wins + 1 - others) + 0.45 * (1 - others) / 2).mean()
    assert mistaken.item() == pytest.approx(drawn(point).item(), abs=2e-3)


def test_ties_go_to_the_first_alternative():
    class AlwaysZero(OneDimensional):
        def success(self, alternatives):
            return torch.zeros_like(alternatives[..., 0])

    first, second, prefer_second = AlwaysZero().sample_pairs(5, torch.Generator().manual_seed(0))
    assert first.shape == second.shape == (5, 1)
    assert not prefer_second.any()


def test_the_grid_has_midpoints_with_the_last_coordinate_fastest():
    assert OneDimensional().grid(2).tolist() == [[0.25], [0.75]]
    pairs = [list(pair) for pair in itertools.product((0.25, 0.75), repeat=2)]
    assert TwoDimensional().grid(2).tolist() == pairs


def test_a_seed_gives_the_same_pairs(environment):
    draws = [environment.sample_pairs(16, torch.Generator().manual_seed(n)) for n in (3, 3, 4)]
    assert all(map(torch.equal, draws[0], draws[1]))
    assert not torch.equal(draws[0][0], draws[2][0])


def test_an_unknown_environment_is_refused():
    with pytest.raises(ConfigError, match="choose from 1d, 2d, dialogues, gauss"):
        worlds.make("3d")


def test_proposition_3_3_borda_count_and_preference_learning_do_not_follow_expected_utility():
    expected = {name: utility.expected() for name, utility in steps.PROPOSITION_3_3.items()}
    assert expected == {"a": 6, "b": Fraction(28, 10), "c": 2}
    pairs = itertools.combinations(steps.PROPOSITION_3_3.values(), 2)
    assert [10 * steps.preference_probability(*pair) for pair in pairs] == [6, 6, 9]
    counts = steps.borda_counts(steps.PROPOSITION_3_3)
    assert counts == {"a": Fraction(17, 30), "b": Fraction(3, 5), "c": Fraction(1, 3)}
    matrix = steps.probability_matrix(list(steps.PROPOSITION_3_3.values()))
    assert np.diag(matrix).tolist() == [0.5] * 3  # an alternative ties with itself
    assert np.argsort(-steps.bradley_terry_utilities(matrix)).tolist() == [1, 0, 2]


def test_theorem_3_4_equal_comparisons_and_opposite_expected_utilities():
    world, other = steps.THEOREM_3_4
    for each in (world, other):
        assert (steps.probability_matrix([*each.values()]) == 0.5).all()
        assert each["a"].expected() == 0
    assert (world["b"].expected(), other["b"].expected()) == (1, -1)


def test_preference_learning_orders_random_worlds_by_borda_count():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = np.triu(rng.uniform(size=(6, 6)), 1)
        p = p + np.tril(1 - p.T, -1)
        np.fill_diagonal(p, 0.5)
        rewards = steps.bradley_terry_utilities(p, l2=0.01)
        assert np.argsort(rewards).tolist() == np.argsort(p.mean(axis=1)).tolist()


def test_bradley_terry_recovers_the_utilities_behind_its_own_comparisons():
    utilities = np.array([-1.0, 0.25, 0.75])
    p = 1 / (1 + np.exp(-(utilities[:, None] - utilities[None, :])))
    np.testing.assert_allclose(steps.bradley_terry_utilities(p, l2=1e-9), utilities, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "upper"), [((1, 2), (1,)), ((1, 2), (Fraction(1, 2), Fraction(1, 2))), ((1,), (2,))]
)
def test_malformed_steps_are_refused(values, upper):
    with pytest.raises(ValueError, match="rise to 1"):
        steps.StepUtility(values, upper)
