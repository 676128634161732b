"""Comparisons and ties against draws of what each likelihood says happens."""

import math

import numpy as np
import pytest
import torch

COUNT = 150_000


def draws(head, a, b, rng):
    """Draw differences of two texts' rewards from the raw outputs of a head that is no ensemble."""
    a, b = (head.distribution(torch.as_tensor(raw)) for raw in (a, b))
    if head.type == "base":
        return float(a.mean - b.mean) + rng.logistic(size=COUNT)
    if head.type == "mean_and_variance" and head.likelihood == "logistic":
        scale = math.hypot(a.stddev, b.stddev) / math.sqrt(2 * math.pi)
        return float(a.mean - b.mean) + scale * rng.logistic(size=COUNT)
    if head.type == "mean_and_variance":
        first, second = (rng.normal(float(r.mean), float(r.stddev), COUNT) for r in (a, b))
        return first - second
    if head.type == "factor":
        z = rng.normal(size=(COUNT, head.num_factors))
        first, second = (
            float(r.mean)
            + z @ r.loadings.numpy()
            + rng.normal(0, float(r.independent_stddev), COUNT)
            for r in (a, b)
        )
        return first - second
    if head.type == "mixture":
        first, second = (
            (lambda i, r=r: rng.normal(r.means.numpy()[i], r.stddevs.numpy()[i]))(
                rng.choice(len(r.means), COUNT, p=r.log_weights.exp().numpy())
            )
            for r in (a, b)
        )
        return first - second
    first, second = (
        rng.choice(r.atoms.numpy(), COUNT, p=getattr(r, "probs", r.atoms * 0 + 1 / len(r.atoms)))
        for r in (a, b)
    )
    if head.type == "quantile":
        return first - second + rng.normal(0, head.smoothing, COUNT)
    # atoms, spread evenly over one spacing
    return first - second + rng.uniform(-0.5, 0.5, COUNT) / (head.num_atoms - 1)


@pytest.mark.parametrize("seed", [0, 1])
def test_preferences_and_ties_have_the_frequencies_of_draws(head, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, head.num_outputs))
    member, count = head.member, max(head.num_members, 1)
    # one member for both sides, drawn anew for each comparison
    each = [
        draws(member, *side, rng)
        for side in zip(a.reshape(count, -1), b.reshape(count, -1), strict=True)
    ]
    unit = np.array(getattr(head, "scale", ()) or (1.0,) * count)
    drawn = (np.stack(each) / unit[:, None])[rng.integers(count, size=COUNT), np.arange(COUNT)]
    raw_a, raw_b = torch.tensor(a), torch.tensor(b)
    difference = head.distribution(raw_a).difference(head.distribution(raw_b))
    share = float((drawn > 0).mean())
    # a standard error of at most 0.0013
    assert head.log_prob_preferred(raw_a, raw_b).exp().item() == pytest.approx(share, abs=0.006)
    for threshold in (0.15, 0.8):
        tie = float(((drawn > -threshold) & (drawn <= threshold)).mean())
        between = difference.log_prob_between(-threshold, threshold).exp().item()
        assert between == pytest.approx(tie, abs=0.006)
