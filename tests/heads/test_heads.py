"""What every head has, and how some read their raw outputs."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

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
    np.testing.assert_allclose(difference.log_prob_greater(0).exp(), forward.exp(), atol=2 * atol)
    for threshold in (0.05, 0.6, 4.0):
        ends = (-math.inf, -threshold, threshold, math.inf)
        parts = [difference.log_prob_between(*pair) for pair in itertools.pairwise(ends)]
        assert parts[0].dtype == dtype
        np.testing.assert_allclose(sum(part.exp() for part in parts), 1, atol=atol)
        mirrored = head.distribution(b).difference(head.distribution(a))
        np.testing.assert_allclose(
            mirrored.log_prob_greater(threshold).exp(), parts[0].exp(), atol=atol
        )


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
    values = json.loads(json.dumps(head.to_dict()))
    assert (values["type"], values["num_outputs"]) == (head.type, head.num_outputs)
    assert heads.from_dict(values) == head


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
        with pytest.raises(ConfigError, match=rf"the {head.type} head needs .*, {count}\)"):
            head.distribution(raw)


def test_only_heads_whose_outputs_mean_the_same_average():
    averaged = [name for name in heads.types() if heads.make(name).can_average]
    assert averaged == ["base", "mean_and_variance", "categorical", "quantile"]
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


def test_sigma_has_the_documented_floor():
    head = heads.make("mean_and_variance")
    stddev = head.distribution(torch.tensor([[0.0, -100.0], [0.0, -13.0]])).stddev
    np.testing.assert_allclose(stddev, [1e-6, math.log1p(math.exp(-13.0))], rtol=1e-5)


def test_entropy_penalty_is_that_of_the_mean_distribution():
    head = heads.make("categorical", num_atoms=3, entropy_coeff=0.2)
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 3, dtype=torch.float64)
    mean = torch.cat([a.softmax(-1), b.softmax(-1)]).mean(0)
    assert head.penalty(a, b).item() == pytest.approx(0.2 * (mean * mean.log()).sum().item())
    spread = head.penalty(torch.eye(3)[:2] * 100, torch.eye(3)[2:].expand(2, 3) * 100)
    alike = head.penalty(torch.eye(3)[:1] * 100, torch.eye(3)[:1] * 100)
    assert spread < alike  # spreading the texts over the atoms is rewarded
    assert alike.item() == pytest.approx(0, abs=1e-6)
    assert head.penalty(a[0], b[0]).item() == pytest.approx(head.penalty(a[:1], b[:1]).item())


@given(hnp.arrays(np.float32, 7, elements=st.floats(-1e4, 1e4, width=32)))
def test_atoms_never_cross(raw):
    head = heads.make("quantile", num_atoms=7)
    for dtype in (torch.float32, torch.float64):
        reward = head.distribution(torch.tensor(raw, dtype=dtype))
        assert bool((reward.atoms.diff() >= 0).all())
        # the cumulative maximum repairs rounding only
        size = reward.atoms.abs().max().item()
        assert reward.mean.item() == pytest.approx(
            raw[0], abs=4 * torch.finfo(dtype).eps * (size + 1)
        )


@pytest.mark.parametrize("count", [2, 5, 20])
def test_equal_gaps_are_a_normals_quantiles(count):
    head = heads.make("quantile", num_atoms=count)
    raw = torch.tensor([1.5] + [0.8] * (count - 1), dtype=torch.float64)
    sigma = np.logaddexp(0, 0.8)
    levels = (np.arange(count) + 0.5) / count
    reward = head.distribution(raw)
    np.testing.assert_allclose(reward.atoms, stats.norm.ppf(levels, 1.5, sigma), atol=1e-12)
    # each stands for its level
    np.testing.assert_allclose(
        reward.quantile(torch.tensor(levels), method="bins"), reward.atoms, atol=1e-12
    )


def test_unequal_gaps_bend_the_distribution():
    head = heads.make("quantile", num_atoms=4)
    reward = head.distribution(torch.tensor([0.0, 4.0, 0.0, -4.0], dtype=torch.float64))
    gaps = reward.atoms.diff().tolist()
    steps = np.diff(stats.norm.ppf([0.125, 0.375, 0.625, 0.875]))
    assert gaps == pytest.approx(list(np.logaddexp(0, [4.0, 0.0, -4.0]) * steps))
    # a long left tail
    assert (reward.mean - reward.quantile(0.5)).item() < 0


def test_raw_outputs_are_logits_means_and_stddevs_with_offsets():
    head = heads.make("mixture", num_components=2)
    reward = head.distribution(torch.tensor([[0.3, -0.3, 1.0, 2.0, 0.0, -100.0]]).double())
    np.testing.assert_allclose(reward.log_weights.exp(), [[0.645656, 0.354344]], rtol=1e-5)
    offset = stats.norm.ppf(0.75)
    np.testing.assert_allclose(reward.means, [[1 - offset, 2 + offset]])
    np.testing.assert_allclose(reward.stddevs, [[np.log(2), 1e-6]])


def test_offsets_spread_the_components_at_the_start():
    head = heads.make("mixture", num_components=4)
    reward = head.distribution(torch.zeros(1, 12))
    np.testing.assert_allclose(
        reward.means[0], stats.norm.ppf([0.125, 0.375, 0.625, 0.875]), rtol=1e-5
    )
    assert reward.mean.item() == pytest.approx(0, abs=1e-6)
    # equal components would have equal gradients for ever
    raw = torch.zeros(2, 12, dtype=torch.float64, requires_grad=True)
    head.log_prob_preferred(raw[0], raw[1]).backward()
    assert len(set(np.round(raw.grad[0, 4:8].tolist(), 6))) >= 2
