"""What every head has: comparisons that are probabilities, gradients, a JSON form."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError


def draw(head, *shape, seed=0, dtype=torch.float64, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(*shape, head.num_outputs, generator=generator, dtype=torch.float64)
    return (spread * raw).to(dtype)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_answers_sum_to_one(head, dtype, atol):
    a, b = (draw(head, 200, seed=seed, dtype=dtype, spread=3) for seed in (0, 1))
    forward, backward = head.log_prob_preferred(a, b), head.log_prob_preferred(b, a)
    assert (forward.shape, forward.dtype) == ((200,), dtype)
    np.testing.assert_allclose(forward.exp() + backward.exp(), 1, atol=atol)
    difference = head.distribution(a).difference(head.distribution(b))
    for threshold in (0.05, 0.6, 4.0):
        ends = (-math.inf, -threshold, threshold, math.inf)
        parts = [difference.log_prob_between(*pair) for pair in itertools.pairwise(ends)]
        assert parts[0].dtype == dtype
        np.testing.assert_allclose(sum(part.exp() for part in parts), 1, atol=atol)
        mirrored = head.distribution(b).difference(head.distribution(a))
        np.testing.assert_allclose(
            mirrored.log_prob_greater(threshold).exp(), parts[0].exp(), atol=atol
        )


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])
def test_difference_and_distribution_agree_with_the_comparison(head, dtype, rtol):
    a, b = (draw(head, 200, seed=seed, dtype=dtype, spread=3) for seed in (2, 3))
    expected = head.log_prob_preferred(a, b)
    first, second = head.distribution(a), head.distribution(b)
    np.testing.assert_array_equal(first.log_prob_greater(second), expected)
    difference = first.difference(second)
    np.testing.assert_allclose(difference.log_prob_greater(0), expected, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(difference.log_prob_greater(0).exp(), expected.exp(), atol=rtol / 10)


def test_equal_responses_tie(head):
    raw = draw(head, 50, seed=4)
    np.testing.assert_allclose(head.log_prob_preferred(raw, raw).exp(), 0.5, atol=1e-12)


def test_gradcheck_of_comparison_interval_and_penalty(head):
    a, b = (draw(head, 2, seed=seed).requires_grad_() for seed in (7, 8))

    def interval(x, y):
        return head.distribution(x).difference(head.distribution(y)).log_prob_between(-0.13, 0.42)

    def penalty(x, y):
        return head.penalty(x, y) + 0 * (x + y).sum()

    for function in (head.log_prob_preferred, interval, penalty):
        assert torch.autograd.gradcheck(function, (a, b))


def test_json_form_round_trips(head):
    text = json.dumps(head.to_dict())
    assert heads.from_dict(json.loads(text)) == head
    values = json.loads(text)
    assert (values["type"], values["num_outputs"]) == (head.type, head.num_outputs)
    raw = draw(head, 3)
    again = heads.from_dict(values).distribution(raw)
    np.testing.assert_array_equal(again.mean, head.distribution(raw).mean)


def test_outputs_are_described(head):
    assert len(head.output_scales) == head.num_outputs
    assert all(scale > 0 for scale in head.output_scales)
    assert head.member.num_outputs * max(head.num_members, 1) == head.num_outputs
    if not head.num_members:
        assert head.member is head
        raw = draw(head, 3)
        assert head.in_one_unit(raw, raw) is head
    assert head.meaning.islower() or "P(a preferred to b)" in head.meaning


def test_half_precision_is_computed_in_float32(head):
    raw = draw(head, 5, dtype=torch.bfloat16)
    ours, exact = head.distribution(raw), head.distribution(raw.double())
    assert ours.mean.dtype == ours.variance.dtype == torch.float32
    np.testing.assert_allclose(ours.mean, exact.mean, rtol=1e-5, atol=1e-6)
    assert head.log_prob_preferred(raw, raw.flip(0)).dtype == torch.float32


def test_another_number_of_outputs_is_refused(head):
    count = head.num_outputs
    for raw in (torch.zeros(3, count + 1), torch.zeros(3, 0), torch.zeros(())):
        with pytest.raises(ConfigError, match=f"the {head.type} head reads {count} outputs"):
            head.distribution(raw)


def test_only_heads_whose_outputs_mean_the_same_average():
    averaged = {name: heads.make(name).can_average for name in heads.types()}
    assert averaged == {
        "base": True,
        "mean_and_variance": True,
        "categorical": True,
        "factor": False,
        "mixture": False,
        "quantile": True,
        "ensemble": False,
    }
    assert heads.make("factor", num_factors=0).can_average
    assert heads.make("mixture", num_components=1).can_average


def test_a_context_is_known_to_factor_heads_alone_and_to_ensembles_of_them(head):
    kind = head.member.type
    assert head.has_context == (kind == "factor")
    assert head.num_factors == (head.member.num_factors if kind == "factor" else 0)
    if head.has_context:
        rewards = head.distribution(draw(head, 3))
        known = rewards.given(torch.zeros(head.num_factors, dtype=torch.float64))
        np.testing.assert_allclose(known.mean, rewards.mean, rtol=1e-12)


def test_a_mean_is_said_to_be_linear_where_it_is(head):
    a, b = (draw(head, 300, seed=seed, spread=3) for seed in (0, 1))
    mean = head.linear_mean
    if mean is None:
        zero = head.distribution(torch.zeros_like(a)).mean
        bent = head.distribution(a + b).mean - head.distribution(a).mean
        bent -= head.distribution(b).mean - zero
        assert bent.abs().max() > 1e-2
        return
    assert len(mean.weights) == head.num_outputs
    expected = a @ torch.tensor(mean.weights, dtype=a.dtype) + mean.constant
    torch.testing.assert_close(head.distribution(a).mean, expected, atol=1e-12, rtol=1e-12)


def test_which_means_are_linear():
    linear = {head.linear_mean for head in map(heads.make, ("base", "quantile", "factor"))}
    assert None not in linear
    assert heads.make("categorical").linear_mean is heads.make("mixture").linear_mean is None
    one = heads.make("mixture", num_components=1).linear_mean
    assert one == heads.LinearMean((0.0, 1.0, 0.0))
    pair = heads.make("ensemble", num_members=2, location=(1.0, -3.0), scale=(2.0, 4.0))
    assert pair.linear_mean == heads.LinearMean((0.25, 0.125), 0.125)
