"""The ensemble head: members side by side, and one unit for all of them."""

import json

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError


@pytest.fixture
def ensemble(head):
    """An ensemble of three heads of each kind."""
    return heads.make("ensemble", member=head.member, num_members=3)


def draw(head, seed, count=40):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, head.num_outputs, generator=generator, dtype=torch.float64)


def shares(rewards):
    parts = rewards.variance_parts
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def test_each_member_reads_its_own_outputs(ensemble):
    a, b = draw(ensemble, 0), draw(ensemble, 1)
    sides = [raw.unflatten(-1, (3, ensemble.member.num_outputs)).unbind(-2) for raw in (a, b)]
    each = [ensemble.member.log_prob_preferred(x, y) for x, y in zip(*sides, strict=True)]
    expected = torch.stack(each).exp().mean(0)
    np.testing.assert_allclose(ensemble.log_prob_preferred(a, b).exp(), expected, rtol=1e-12)
    penalties = [ensemble.member.penalty(x, y).item() for x, y in zip(*sides, strict=True)]
    assert ensemble.penalty(a, b).item() == pytest.approx(np.mean(penalties))


def test_one_unit_leaves_comparisons_and_sets_the_differences_to_one(ensemble):
    a, b = draw(ensemble, 2), draw(ensemble, 3)
    unit = ensemble.in_one_unit(a, b)
    np.testing.assert_array_equal(unit.log_prob_preferred(a, b), ensemble.log_prob_preferred(a, b))
    difference = unit.distribution(a).difference(unit.distribution(b))
    np.testing.assert_allclose(
        difference.log_prob_greater(), ensemble.log_prob_preferred(a, b), rtol=1e-9
    )
    square = (difference.mean**2 + difference.variance).mean()
    assert square.item() == pytest.approx(1)
    texts = torch.cat([a, b])
    assert unit.distribution(texts).mean.mean().item() == pytest.approx(0, abs=1e-12)
    # the numbers are part of the head's JSON form, and taken as they are a second time
    assert heads.from_dict(json.loads(json.dumps(unit.to_dict()))) == unit
    np.testing.assert_allclose(unit.in_one_unit(a, b).scale, unit.scale)


def in_another_unit(raw, factor):
    """Multiply the second member's rewards by a factor, and move its level."""
    parts = list(raw.chunk(3, dim=-1))
    second = factor * parts[1]
    stddev = factor * torch.nn.functional.softplus(parts[1][:, -1])
    second[:, -1] = torch.log(torch.expm1(stddev))
    second[:, 0] += 5.0
    parts[1] = second
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("kind", ["mean_and_variance", "factor"])
@pytest.mark.parametrize("factor", [0.05, 30.0])
def test_in_one_unit_no_members_own_unit_changes_a_share(kind, factor):
    head = heads.make("ensemble", member=heads.make(kind), num_members=3)
    a, b = draw(head, 4), draw(head, 5)
    a_moved, b_moved = (in_another_unit(raw, factor) for raw in (a, b))
    np.testing.assert_allclose(
        head.log_prob_preferred(a_moved, b_moved), head.log_prob_preferred(a, b), rtol=1e-9
    )
    first = head.in_one_unit(a, b).distribution(a)
    second = head.in_one_unit(a_moved, b_moved).distribution(a_moved)
    for name, share in shares(first).items():
        np.testing.assert_allclose(shares(second)[name], share, rtol=1e-9)
    np.testing.assert_allclose(second.mean, first.mean, atol=1e-9)
    np.testing.assert_allclose(second.quantile(0.1), first.quantile(0.1), atol=1e-9)
    # left in their own units the member with the largest would drown the others
    raw_shares = shares(head.distribution(a))["ignorance"]
    moved_shares = shares(head.distribution(a_moved))["ignorance"]
    assert (raw_shares - moved_shares).abs().max().item() > 0.1


def test_outputs_start_at_full_size_to_differ():
    head = heads.make("ensemble", member=heads.make("factor"), num_members=2, prior_scale=0.5)
    assert head.output_scales == (0.5, 1.0, 0.5) * 2
    assert heads.make("ensemble", num_members=2).output_scales == (1.0, 1.0)
    assert heads.make("ensemble", num_members=2).meaning.startswith("for each of 2 members: one")


def test_options_may_come_in_their_json_form():
    head = heads.make("ensemble", member={"type": "factor", "num_factors": 3}, num_members=2)
    assert head.member == heads.make("factor", num_factors=3)
    located = heads.make("ensemble", num_members=2, location=[0, 1], scale=[1.0, 2.0])
    assert (located.location, located.scale) == ((0, 1), (1.0, 2.0))
    assert hash(located) == hash(heads.from_dict(located.to_dict()))
    # in which the members' head has its own
    values = head.to_dict()
    assert values["member"] == head.member.to_dict()
    with pytest.raises(ConfigError, match="says num_outputs 3"):
        heads.from_dict({**values, "member": {**values["member"], "num_outputs": 3}})
