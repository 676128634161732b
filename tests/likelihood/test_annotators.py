"""What is known of each annotator: their names, and a posterior in the factors' space."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hidden_context.errors import ConfigError
from hidden_context.likelihood import AnnotatorEmbeddings, AnnotatorNames

NAMES = ["ann", "bob", "7"]


def embeddings(inference="variational", seed=0):
    made = AnnotatorEmbeddings(3, 2, inference, seed)
    if made.log_scale is not None:
        with torch.no_grad():
            made.log_scale += torch.randn(
                made.log_scale.shape, generator=torch.Generator().manual_seed(1)
            )
    return made


def test_prior_is_the_divergence_of_the_posteriors():
    made = embeddings()
    posterior = Normal(made.location, made.log_scale.exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum()
    assert made.prior().item() == pytest.approx(expected.item(), rel=1e-5)


def test_prior_of_points_is_their_squared_length():
    made = embeddings("map")
    assert made.log_scale is None
    expected = 0.5 * made.location.square().sum().item()
    assert made.prior().item() == pytest.approx(expected, rel=1e-6)
    assert len(list(made.parameters())) == 1


def test_prior_is_least_at_the_prior():
    made = embeddings()
    with torch.no_grad():
        made.location.zero_()
        made.log_scale.zero_()
    made.prior().backward()
    assert made.prior().item() == 0
    assert made.location.grad.abs().max().item() == made.log_scale.grad.abs().max().item() == 0


def test_names_are_found_and_strangers_are_not():
    names = AnnotatorNames(NAMES, "objective")
    assert [names.index(name) for name in ("ann", "bob", "7", 7)] == [0, 1, 2, 2]
    assert [names.index(name) for name in ("cat", None, "")] == [-1, -1, -1]
    assert (len(names), names.names, names.column) == (3, ("ann", "bob", "7"), "objective")
    assert AnnotatorNames(NAMES).column == "annotator"
    nobody = AnnotatorNames(())
    assert (len(nobody), nobody.index("ann")) == (0, -1)


def test_posterior_of_a_stranger_is_the_prior():
    made = embeddings()
    assert made.num_factors == 2
    location, scale = made.posterior(torch.tensor([1, -1, 0]))
    assert location.shape == scale.shape == (3, 2)
    assert torch.equal(location[0], made.location[1])
    assert torch.equal(scale[2], made.log_scale[0].exp())
    assert bool((location[1] == 0).all())
    assert bool((scale[1] == 1).all())
    # and learns nothing from the label
    (location[1].sum() + scale[1].sum()).backward()
    assert made.location.grad.abs().max().item() == made.log_scale.grad.abs().max().item() == 0


def test_points_are_known_exactly():
    made = embeddings("map")
    location, scale = made.posterior(torch.tensor([0, -1]))
    assert torch.equal(location[0], made.location[0])
    assert location[1].tolist() == [0, 0]
    assert scale.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("inference", ["variational", "map"])
def test_without_names_everyone_is_a_stranger(inference):
    made = AnnotatorEmbeddings(0, 2, inference)
    location, scale = made.posterior(torch.tensor([-1, -1]))
    np.testing.assert_array_equal(location.detach(), np.zeros((2, 2)))
    np.testing.assert_array_equal(scale.detach(), np.ones((2, 2)))
    assert made.prior().item() == 0


def test_start_is_set_by_the_seed_and_near_the_prior():
    first, again, other = (AnnotatorEmbeddings(3, 1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.location, again.location)
    assert not torch.equal(first.location, other.location)
    many = AnnotatorEmbeddings(2000, 2)
    # scattered, so that loadings have something to pull at, and far from certain
    assert many.location.std().item() == pytest.approx(0.3, rel=0.05)
    assert many.log_scale.exp().unique().item() == pytest.approx(0.5)
    assert not math.isnan(many.prior().item())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AnnotatorNames(["a", "b", "a"]), "must be distinct"),
        (lambda: AnnotatorEmbeddings(1, 0), "at least one factor"),
        (lambda: AnnotatorEmbeddings(1, 1, inference="mcmc"), "choose variational or map"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
