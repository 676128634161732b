from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.worlds.utilities import (
    ALTERNATIVE,
    BENIGN_PROMPT_KINDS,
    COMPLIANCE,
    HARMFUL_PROMPT_KINDS,
    INCOHERENT,
    REFUSAL,
    Annotators,
    ResponseKind,
    true_explained_variance,
)

MIXED = Annotators(0.57)
DRAWS = 200_000
PAIRS = [
    *itertools.permutations(HARMFUL_PROMPT_KINDS, 2),
    *itertools.permutations(BENIGN_PROMPT_KINDS, 2),
]

utility = st.floats(-1, 2)
kind = st.builds(ResponseKind, st.just("any"), utility, utility)
annotators = st.builds(Annotators, st.floats(0, 1), st.floats(0.01, 1))


@given(annotators, kind, kind)
def test_one_of_two_is_preferred(who: Annotators, a: ResponseKind, b: ResponseKind) -> None:
    assert who.probability(a, b) + who.probability(b, a) == pytest.approx(1)
    assert who.probability(a, a) == pytest.approx(0.5)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda kind: kind.name)
def test_probability_agrees_with_drawn_comparisons(a: ResponseKind, b: ResponseKind) -> None:
    generator = np.random.default_rng(1)
    by_helpful = generator.random(DRAWS) < MIXED.helpful_weight
    sides = [
        np.where(by_helpful, x.helpful, x.harmless) + MIXED.noise * generator.standard_normal(DRAWS)
        for x in (a, b)
    ]
    share = float((sides[0] > sides[1]).mean())
    assert share == pytest.approx(MIXED.probability(a, b), abs=4 * 0.5 / DRAWS**0.5)


def test_the_objective_is_shared_by_both_sides() -> None:
    # drawn separately for each side, compliance would beat the alternative less often
    torch.manual_seed(2)
    a, b = (MIXED.utility(x).sample((DRAWS,)) for x in (COMPLIANCE, ALTERNATIVE))
    assert MIXED.probability(COMPLIANCE, ALTERNATIVE) == pytest.approx(0.569, abs=1e-3)
    assert (a > b).double().mean().item() == pytest.approx(0.45, abs=0.01)


def test_probability_of_worked_cases() -> None:
    # Φ(0.5 / (0.12·√2)) = Φ(2.946) and Φ(0.2 / (0.12·√2)) = Φ(1.179)
    assert MIXED.probability_under("helpful", COMPLIANCE, ALTERNATIVE) == pytest.approx(
        0.99839, 1e-4
    )
    assert MIXED.probability_under("harmless", REFUSAL, ALTERNATIVE) == pytest.approx(0.11930, 1e-3)
    assert MIXED.probability(COMPLIANCE, ALTERNATIVE) == pytest.approx(0.57 * 0.99839, abs=1e-4)


def test_compliance_is_contested_against_every_safe_answer_alike() -> None:
    against = [MIXED.probability(COMPLIANCE, x) for x in (ALTERNATIVE, REFUSAL, INCOHERENT)]
    assert max(against) - min(against) < 0.003
    assert min(against) > 0.5
    for better, worse in ((ALTERNATIVE, REFUSAL), (REFUSAL, INCOHERENT)):
        assert MIXED.probability_under("helpful", better, worse) > 0.8
        assert MIXED.probability_under("harmless", better, worse) > 0.8


def test_quantile_of_one_objective_is_normal() -> None:
    quantile = Annotators(1.0).utility(REFUSAL).quantile(0.01).item()
    assert quantile == pytest.approx(0.25 - 2.326348 * 0.12)


def test_expected_utility_prefers_compliance_to_a_blunt_refusal_and_the_low_quantile_does_not() -> (
    None
):
    compliance, refusal, alternative = map(MIXED.utility, (COMPLIANCE, REFUSAL, ALTERNATIVE))
    assert refusal.mean < compliance.mean < alternative.mean
    assert compliance.quantile(0.01) < refusal.quantile(0.01) < alternative.quantile(0.01)


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (0.0, 0.5), (0.57, 0.5), (0.57, 0.2)])
def test_explained_variance_agrees_with_a_sampled_table(weight: float, share: float) -> None:
    who = Annotators(weight)
    torch.manual_seed(4)
    groups = ((share, HARMFUL_PROMPT_KINDS), (1 - share, BENIGN_PROMPT_KINDS))
    drawn = [
        who.utility(kind).sample((round(120_000 * part / len(kinds)),)).numpy()
        for part, kinds in groups
        for kind in kinds
    ]
    everything = np.concatenate(drawn)
    within = sum(x.var() * len(x) for x in drawn) / len(everything)
    expected = 1 - within / everything.var()
    assert true_explained_variance(who, share) == pytest.approx(expected, abs=0.01)


def test_true_explained_variance_falls_on_both() -> None:
    values = [true_explained_variance(Annotators(weight)) for weight in (1.0, 0.0, 0.57)]
    assert values == pytest.approx([0.871, 0.843, 0.380], abs=1e-3)
