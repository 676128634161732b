"""Groups of annotators: closed forms, and what rewards_of gives annotator by annotator."""

import numpy as np
import pytest
import torch

from hidden_context import heads, risk
from hidden_context.errors import ConfigError
from hidden_context.likelihood import (
    LikelihoodOptions,
    check_groups,
    group_values,
    make_likelihood,
    worst_group,
)

Z = {"ann": 1.0, "bob": -1.0, "cat": 3.0}
GROUPS = {"first": ["ann"], "others": ["bob", "cat"], "all": ["ann", "bob", "cat"]}


def known_exactly():
    """A likelihood of one factor whose annotators' contexts are known exactly."""
    likelihood = learned(heads.make("factor", num_factors=1), "map")
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor(list(Z.values())).reshape(3, 1))
    return likelihood


def learned(head, inference="variational", names=tuple(Z)):
    return make_likelihood(head, LikelihoodOptions(inference=inference, names=names))


def raw_factor(*rows):
    """Raw outputs of (mean, loading, standard deviation) by row."""
    values = torch.tensor(rows, dtype=torch.float64)
    values[..., 2] = torch.log(torch.expm1(values[..., 2]))
    return values


def test_the_mean_of_a_group_is_that_of_its_annotators_contexts():
    likelihood = known_exactly()
    rewards = likelihood.head.distribution(raw_factor((0.5, 2.0, 1.0), (1.0, -1.0, 1.0)))
    values = group_values(likelihood, rewards, GROUPS, risk.parse("mean"))
    # μ + L z: ann 2.5 and 0; bob −1.5 and 2, cat 6.5 and −2
    expected = {"first": [2.5, 0.0], "others": [2.5, 0.0], "all": [2.5, 0.0]}
    assert {name: value.tolist() for name, value in values.items()} == {
        name: pytest.approx(value, abs=1e-12) for name, value in expected.items()
    }
    assert values["first"].dtype == torch.float64
    assert worst_group(values).tolist() == pytest.approx([2.5, 0.0])
    # a single reward has values too
    value = group_values(likelihood, rewards[0], {"cat": ["cat"]}, risk.parse("mean"))["cat"]
    assert (value.shape, value.item()) == ((), pytest.approx(6.5))


def test_a_relative_measure_compares_the_candidates_of_the_last_dimension():
    likelihood = known_exactly()
    # two prompts of three candidates
    raw = raw_factor((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (2.0, -4.0, 1.0)).repeat(2, 1, 1)
    rewards = likelihood.head.distribution(raw)
    values = group_values(likelihood, rewards, GROUPS, risk.parse("relative_quantile:0.1"))
    # means less their mean 1 and loadings less theirs −1, at z = 1: 0, 2, −2
    assert values["first"].shape == (2, 3)
    assert values["first"][1].tolist() == pytest.approx([0.0, 2.0, -2.0], abs=1e-12)
    # at z = −1 and 3: −2, −2, 4 and 2, 6, −8
    assert values["others"][0].tolist() == pytest.approx([0.0, 2.0, -2.0], abs=1e-12)


@pytest.mark.parametrize("measure", ["mean", "cvar:0.2", "relative_quantile:0.1", "entropic:1"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("inference", ["variational", "map"])
def test_a_group_s_value_is_the_mean_over_rewards_of(measure, members, inference):
    head = heads.make("factor", num_factors=2)
    if members > 1:
        head = heads.EnsembleHead(head, members, location=(0.0, 1.0, -1.0), scale=(1.0, 2.0, 0.5))
    likelihood = learned(head, inference)
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(2, 4, head.num_outputs, generator=generator, dtype=torch.float64)
    rewards = head.distribution(raw)
    values = group_values(likelihood, rewards, GROUPS, risk.parse(measure))
    for name, group in GROUPS.items():
        each = [risk.parse(measure)(likelihood.rewards_of(rewards, who)) for who in group]
        expected = torch.stack(each).mean(0)
        assert values[name].shape == (2, 4)
        torch.testing.assert_close(values[name], expected, rtol=1e-9, atol=1e-9)
    least = torch.stack(list(values.values())).min(0).values
    assert torch.equal(worst_group(values), least)


def test_rewards_by_annotator_have_a_row_for_each():
    likelihood = known_exactly()
    rewards = likelihood.head.distribution(raw_factor((0.5, 2.0, 1.5), (1.0, -1.0, 1.0)))
    found = likelihood.rewards_by_annotator(rewards)
    np.testing.assert_allclose(found.mean, [[2.5, 0.0], [-1.5, 2.0], [6.5, -2.0]], rtol=1e-12)
    np.testing.assert_allclose(found.stddev, [[1.5, 1.0]] * 3, rtol=1e-9)
    # one never seen is drawn from the population, of variance ‖L‖² + s²
    found = likelihood.rewards_by_annotator(rewards, ["nobody", "cat"])
    np.testing.assert_allclose(found.mean, [[0.5, 1.0], [6.5, -2.0]], rtol=1e-12)
    np.testing.assert_allclose(found.variance[0], [4 + 2.25, 2.0], rtol=1e-9)


def test_annotators_go_by_the_text_of_their_name():
    likelihood = learned(heads.make("factor", num_factors=1), names=("7", "8"))
    assert check_groups(likelihood, {"seven": [7]}) is likelihood.names


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({}, "give at least one group"),
        ({"nobody": []}, "group 'nobody' holds no annotator"),
        ({"a": ["ann"], "b": ["dan", "ann", "eve"]}, "'b' has .* does not know: dan, eve"),
        ({"a": ["bob", "ann", "ann"]}, "'a' names ann more than once"),
    ],
)
def test_groups_that_cannot_be_valued_are_refused(groups, words):
    likelihood = known_exactly()
    rewards = likelihood.head.distribution(raw_factor((0.5, 2.0, 1.0)))
    with pytest.raises(ConfigError, match=words):
        group_values(likelihood, rewards, groups, risk.parse("mean"))


def test_a_model_without_annotators_has_no_groups_of_them():
    rewards = heads.make("base").distribution(torch.zeros(1, 1))
    with pytest.raises(ConfigError, match="PointMassReward has no annotator context"):
        group_values(known_exactly(), rewards, GROUPS, risk.parse("mean"))
    for kind in (heads.make("base"), heads.make("ensemble", num_members=2)):
        with pytest.raises(ConfigError, match="this model has not learned annotators"):
            make_likelihood(kind).rewards_by_annotator(rewards, ["ann"])
        with pytest.raises(ConfigError, match="this model has not learned annotators"):
            group_values(make_likelihood(kind), rewards, GROUPS, risk.parse("mean"))
    with pytest.raises(ConfigError, match="no group"):
        worst_group({})
