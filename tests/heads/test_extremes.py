"""Losses and gradients in float32 at ±100 and ±10 000 against arithmetic of fifty digits.

The references are written from the formulas of the documentation, in mpmath; their gradients are
central differences with a step of 10⁻¹⁵, which fifty digits make exact to float64.
"""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

INTERVAL = (-0.2, 0.4)
SQRT_TWO = mpmath.sqrt(2)


def softplus(x):
    return mpmath.log1p(mpmath.exp(x))


@functools.cache
def floored(x):
    return max(softplus(x), mpf("1e-6"))


@functools.cache
def normal_level(i, count):
    p = (mpf(i) + mpf(1) / 2) / count
    return SQRT_TWO * mpmath.erfinv(2 * p - 1)


def log_sum(logs):
    top = max(logs)
    return top + mpmath.log(sum(mpmath.exp(x - top) for x in logs))


def normal_cdf(z):
    return mpmath.erfc(-z / SQRT_TWO) / 2


def logistic_cdf(z):
    return 1 / (1 + mpmath.exp(-z))


def uniform_cdf(z):
    return min(max((z + 1) / 2, mpf(0)), mpf(1))


@functools.cache
def log_interval(cdf, location, scale, lower, upper):
    """Log-probability of one kernel, from its left tail."""
    low = -mpmath.inf if lower == -math.inf else (mpf(lower) - location) / scale
    high = mpmath.inf if upper == math.inf else (mpf(upper) - location) / scale
    if low + high > 0:
        low, high = -high, -low
    mass = cdf(high) - (cdf(low) if low > -mpmath.inf else 0)
    return mpmath.log(mass) if mass > 0 else -mpmath.inf


def mixture_parts(raw):
    """Log-weight, mean and standard deviation of each component."""
    count = len(raw) // 3
    total = log_sum(raw[:count])
    return [
        (
            raw[i] - total,
            raw[count + i] + normal_level(i, count),
            floored(raw[2 * count + i]),
        )
        for i in range(count)
    ]


def quantile_atoms(raw):
    count = len(raw)
    levels = [normal_level(i, count) for i in range(count)]
    atoms = [mpf(0)]
    for gap, (low, high) in zip(raw[1:], itertools.pairwise(levels), strict=True):
        atoms.append(atoms[-1] + softplus(gap) * (high - low))
    mean = sum(atoms) / count
    return [atom - mean + raw[0] for atom in atoms]


def difference_of(head, a, b):
    """Kernel and components (log-weight, location, scale) of the difference."""
    if head.type == "base":
        return logistic_cdf, [(mpf(0), a[0] - b[0], mpf(1))]
    if head.type == "mean_and_variance":
        scale = mpmath.sqrt(floored(a[1]) ** 2 + floored(b[1]) ** 2)
        if head.likelihood == "probit":
            return normal_cdf, [(mpf(0), a[0] - b[0], scale)]
        return logistic_cdf, [(mpf(0), a[0] - b[0], scale / mpmath.sqrt(2 * mpmath.pi))]
    if head.type == "factor":
        shared = sum((x - y) ** 2 for x, y in zip(a[1:-1], b[1:-1], strict=True))
        scale = mpmath.sqrt(shared + floored(a[-1]) ** 2 + floored(b[-1]) ** 2)
        return normal_cdf, [(mpf(0), a[0] - b[0], scale)]
    if head.type == "mixture":
        return normal_cdf, [
            (w + v, m - n, mpmath.sqrt(s**2 + t**2))
            for w, m, s in mixture_parts(a)
            for v, n, t in mixture_parts(b)
        ]
    if head.type == "quantile":
        first, second = quantile_atoms(a), quantile_atoms(b)
        weight = -2 * mpmath.log(len(first))
        return normal_cdf, [(weight, x - y, mpf(head.smoothing)) for x in first for y in second]
    spacing = mpf(1) / (len(a) - 1)
    total_a, total_b = log_sum(a), log_sum(b)
    return uniform_cdf, [
        (x - total_a + y - total_b, (i - j) * spacing, spacing / 2)
        for i, x in enumerate(a)
        for j, y in enumerate(b)
    ]


def log_prob(head, a, b, lower, upper):
    member, count = head.member, max(head.num_members, 1)
    width, logs = member.num_outputs, []
    for m in range(count):
        place = slice(m * width, (m + 1) * width)
        kernel, parts = difference_of(member, a[place], b[place])
        unit = mpf(head.scale[m]) if count > 1 and head.scale else 1
        logs.append(
            log_sum(
                [w + log_interval(kernel, x, s, lower * unit, upper * unit) for w, x, s in parts]
            )
        )
    return log_sum(logs) - mpmath.log(count)


def reference(head, a, b, lower, upper):
    """The loss −log P and its gradient by the raw outputs of both sides."""
    with mpmath.workdps(50):
        raw, count, step = [mpf(x) for x in [*a, *b]], len(a), mpf(10) ** -15

        def loss(values):
            return -log_prob(head, values[:count], values[count:], lower, upper)

        gradient = []
        for i in range(2 * count):
            ahead, behind = list(raw), list(raw)
            ahead[i] += step
            behind[i] -= step
            gradient.append(float((loss(ahead) - loss(behind)) / (2 * step)))
        return float(loss(raw)), np.array(gradient)


def sign_patterns(count):
    """All patterns of few outputs; of many, both extremes and a fixed handful of others."""
    if count <= 4:
        return list(itertools.product([1, -1], repeat=count))
    half = count // 2
    rng = np.random.default_rng(count)
    return [
        [1] * half + [-1] * half,
        [-1] * half + [1] * half,
        *rng.choice([-1, 1], (2, count)).tolist(),
    ]


def tolerance(head, size):
    """Relative error that float32 inputs allow.

    At 10 000 log-probabilities are rounded to 10⁻³, which is a relative error of a categorical
    weight, and so are atoms, which is 1 % of their smoothing.
    """
    member = head.member
    if size == 1e4 and member.type == "categorical":
        return 2e-3
    if size == 1e4 and member.type == "quantile" and member.num_atoms > 1:
        return 2e-2
    return 1e-4


@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("interval", [(0.0, math.inf), INTERVAL], ids=["preferred", "between"])
def test_loss_and_gradient(head, size, interval):
    count = head.num_outputs
    for signs in sign_patterns(2 * count):
        values = size * torch.tensor(signs, dtype=torch.float32)
        raw = values.reshape(2, count).requires_grad_()
        if interval[0] == 0:
            loss = -head.log_prob_preferred(raw[0], raw[1])
        else:
            first, second = head.distribution(raw[0]), head.distribution(raw[1])
            loss = -first.difference(second).log_prob_between(*interval)
        loss.backward()
        exact, gradient = reference(head, *values.reshape(2, count).tolist(), *interval)
        rtol = tolerance(head, size)
        np.testing.assert_allclose(loss.item(), exact, rtol=rtol, atol=2e-6)
        atol = 2e-6 + rtol * np.abs(gradient).max()
        np.testing.assert_allclose(raw.grad.flatten(), gradient, rtol=rtol, atol=atol)
