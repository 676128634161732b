from __future__ import annotations

import pytest
import torch

from hidden_context import worlds
from hidden_context.errors import ConfigError
from hidden_context.worlds.grids import (
    Environment,
    OneDimensional,
    TwoDimensional,
)

ENVIRONMENTS = [OneDimensional(), TwoDimensional()]
POINTS = {
    "1d": [[0.02], [0.1], [0.5], [0.79], [0.8], [0.9], [1.0]],
    "2d": [[1.0, 0.5], [0.0, 1.0], [0.5, 0.5], [0.9, 0.9], [0.2, 0.05], [1.0, 1.0], [0.3, 0.01]],
}
NUM_DRAWS = 200_000
TOLERANCE = 5 * 0.5 / NUM_DRAWS**0.5  # five standard errors of a probability


def points(environment: Environment) -> torch.Tensor:
    return torch.tensor(POINTS[environment.name], dtype=torch.float64)


def preference_probability(
    environment: Environment, first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Exact ``p(a, b) = P(u(a) > u(b)) + P(u(a) = u(b)) / 2`` under independent contexts."""
    outcomes = []
    for side in (first, second):
        payoff, chance = environment.payoff(side), environment.success(side)
        outcomes.append(((payoff, chance), (torch.zeros_like(payoff), 1 - chance)))
    total = torch.zeros(())
    for value, chance in outcomes[0]:
        for other, other_chance in outcomes[1]:
            wins = (value > other).to(value.dtype) + 0.5 * (value == other).to(value.dtype)
            total = total + chance * other_chance * wins
    return total


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_borda_count_is_the_mean_of_exact_pairwise_probabilities(environment: Environment) -> None:
    side = 4000 if environment.dimension == 1 else 500
    opponents = environment.grid(side).double()
    for point, exact in zip(
        points(environment), environment.borda_count(points(environment)), strict=True
    ):
        mean = preference_probability(environment, point, opponents).mean()
        assert mean.item() == pytest.approx(exact.item(), abs=5e-4), point


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_pairwise_probability_agrees_with_utilities_drawn_at_random(
    environment: Environment,
) -> None:
    generator = torch.Generator().manual_seed(1)
    first = environment.sample_alternatives(8, generator)
    second = environment.sample_alternatives(8, generator)
    exact = preference_probability(environment, first, second)
    ours = environment.sample_utilities(first.expand(NUM_DRAWS, -1, -1), generator)
    theirs = environment.sample_utilities(second.expand(NUM_DRAWS, -1, -1), generator)
    drawn = ((ours > theirs).double() + 0.5 * (ours == theirs).double()).mean(dim=0)
    torch.testing.assert_close(drawn, exact.double(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(preference_probability(environment, second, first), 1 - exact)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_expected_utility_is_payoff_times_its_probability(environment: Environment) -> None:
    alternatives = environment.grid(50).double()
    product = environment.payoff(alternatives) * environment.success(alternatives)
    torch.testing.assert_close(product, environment.expected_utility(alternatives))


def test_expected_utilities_are_the_paper_s() -> None:
    line, square = torch.rand(9, 1), torch.rand(9, 2)
    assert torch.equal(OneDimensional().expected_utility(line), line[:, 0])
    assert torch.equal(TwoDimensional().expected_utility(square), square[:, 1])


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.name)
def test_borda_counts_average_to_one_half(environment: Environment) -> None:
    mean = environment.borda_count(environment.grid(1000).double()).mean()
    assert mean.item() == pytest.approx(0.5, abs=1e-5)


def test_borda_counts_of_the_line() -> None:
    alternatives = torch.tensor([[0.0], [0.4], [0.8], [1.0]], dtype=torch.float64)
    assert OneDimensional().borda_count(alternatives).tolist() == pytest.approx(
        [0.1, 0.5, 0.475, 0.525]
    )


def test_borda_counts_of_the_square() -> None:
    alternatives = torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    exact = TwoDimensional().borda_count(alternatives)
    assert exact.tolist() == pytest.approx([0.486, 0.847, 0.560], abs=5e-4)


def test_both_branches_of_the_borda_count_meet_where_the_payoff_is_one() -> None:
    # y = 1/(1 + x) gives t = y/(1 − xy) = 1
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    below = torch.stack([x, 1 / (1 + x) - 1e-9], dim=-1)
    above = torch.stack([x, 1 / (1 + x) + 1e-9], dim=-1)
    environment = TwoDimensional()
    torch.testing.assert_close(
        environment.borda_count(below), environment.borda_count(above), atol=1e-8, rtol=0
    )


def test_the_curve_of_the_paper_s_figure_is_off_by_up_to_fifteen_hundredths() -> None:
    environment = TwoDimensional()
    alternatives = environment.grid(400).double()
    gap = environment.borda_count_as_drawn_in_the_paper(alternatives) - environment.borda_count(
        alternatives
    )
    assert gap.abs().max().item() == pytest.approx(0.153, abs=2e-3)
    # It is what one gets by comparing y with y' whenever both sides succeed.
    point = torch.tensor([0.9, 0.5], dtype=torch.float64)
    chance, others = 1 - 0.45, 1 - alternatives.prod(-1)
    wins = (point[1] > alternatives[:, 1]).double()
    mistaken = (chance * (others * wins + 1 - others) + 0.45 * (1 - others) / 2).mean()
    drawn = environment.borda_count_as_drawn_in_the_paper(point)
    assert mistaken.item() == pytest.approx(drawn.item(), abs=2e-3)


def test_ties_go_to_the_first_alternative() -> None:
    class AlwaysZero(OneDimensional):
        def success(self, alternatives: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(alternatives[..., 0])

    first, second, prefer_second = AlwaysZero().sample_pairs(5, torch.Generator().manual_seed(0))
    assert first.shape == second.shape == (5, 1)
    assert not prefer_second.any()


def test_the_grid_has_midpoints_with_the_last_coordinate_fastest() -> None:
    assert OneDimensional().grid(2).tolist() == [[0.25], [0.75]]
    assert TwoDimensional().grid(2).tolist() == [
        [0.25, 0.25],
        [0.25, 0.75],
        [0.75, 0.25],
        [0.75, 0.75],
    ]


def test_a_seed_gives_the_same_pairs() -> None:
    for environment in ENVIRONMENTS:
        draws = [
            environment.sample_pairs(16, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
        ]
        assert all(torch.equal(x, y) for x, y in zip(draws[0], draws[1], strict=True))
        assert not torch.equal(draws[0][0], draws[2][0])


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose from 1d, 2d, dialogues, gauss"):
        worlds.make("3d")
