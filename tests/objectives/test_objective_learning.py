"""The objective as a function to be optimised: gradients, extremes, and what ratings pin down."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from hidden_context import heads
from hidden_context.objectives import AnnotatorEmbeddings, Labels, Objective, Outcomes

FACTOR = heads.make("factor")


def labels(preference, annotator, strength=None, ratings=None):
    found = Labels.of_preferences(torch.tensor(preference).double(), torch.tensor(annotator))
    if strength is not None:
        found = dataclasses.replace(found, strength=torch.tensor(strength).double())
    if ratings is not None:
        chosen, rejected = torch.tensor(ratings).double()
        found = dataclasses.replace(found, rating_chosen=chosen, rating_rejected=rejected)
    return found


def everything(head=FACTOR, levels=5):
    """An objective that learns thresholds, annotators and the noise of ratings."""
    member, count = head.members
    known = AnnotatorEmbeddings(["ann", "bob"], member.num_factors, count)
    return Objective(head, Outcomes(levels, count), known, anchor_weight=0.3)


ALL_LABELS = labels(
    [1.0, 0.0, 0.5, 0.8],
    [0, 1, -1, 1],
    [2.0, -1.0, 0.0, math.nan],
    [[0.3, math.nan, -1.0, math.nan], [math.nan, math.nan, 2.0, 0.1]],
)


@pytest.mark.parametrize(
    "head", [FACTOR, heads.make("ensemble", member=FACTOR, num_members=2)], ids=["one", "ensemble"]
)
def test_gradients_by_outputs_and_all_that_is_learned(head):
    objective = everything(head).double()
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, head.num_outputs, dtype=torch.float64)
    learned = dict(objective.named_parameters())
    values = [parameter.detach().clone().requires_grad_() for parameter in learned.values()]

    def loss(method, a, b, *values):
        parameters = dict(zip(learned, values, strict=True))
        return torch.func.functional_call(
            Wrapped(objective, method), {f"objective.{k}": v for k, v in parameters.items()}, (a, b)
        )

    inputs = (a.requires_grad_(), b.requires_grad_(), *values)
    for method in ("training_loss", "negative_log_likelihood"):
        assert torch.autograd.gradcheck(lambda *v, m=method: loss(m, *v), inputs, fast_mode=True)


class Wrapped(torch.nn.Module):
    def __init__(self, objective, method):
        super().__init__()
        self.objective, self.method = objective, method

    def forward(self, a, b):
        return getattr(self.objective, self.method)(a, b, ALL_LABELS)


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_losses_and_gradients_stay_finite_far_out(size):
    objective = everything()
    for signs in ((1, 1, -1), (-1, 1, -1), (1, -1, 1), (-1, -1, -1)):
        a = (size * torch.tensor(signs)).expand(4, 3).clone().requires_grad_()
        b = (-size * torch.tensor(signs)).expand(4, 3).clone().requires_grad_()
        objective.zero_grad()
        loss = objective.training_loss(a, b, ALL_LABELS).sum() + objective.prior()
        loss.backward()
        assert math.isfinite(loss.item())
        learned = [parameter.grad for parameter in objective.parameters()]
        assert all(bool(torch.isfinite(grad).all()) for grad in (a.grad, b.grad, *learned))


def test_rating_loss_is_the_density_of_noisy_rewards():
    objective = Objective(heads.make("mean_and_variance"), anchor_weight=0.7)
    with torch.no_grad():
        objective.log_rating_noise.fill_(math.log(0.4))
    a, b = torch.tensor([[[1.0, 0.3], [0.2, 0.0]], [[-1.0, 0.5], [2.0, 1.0]]]).double()
    unrated = labels([1.0, 0.5], [-1, -1])
    rated = labels([1.0, 0.5], [-1, -1], ratings=[[1.4, math.nan], [math.nan, 0.5]])
    assert not objective.is_plain
    difference = objective.training_loss(a, b, rated) - objective.training_loss(a, b, unrated)
    expected = [
        -0.7 * stats.norm.logpdf(1.4, 1.0, math.hypot(np.logaddexp(0, 0.3), 0.4)),
        -0.7 * stats.norm.logpdf(0.5, 2.0, math.hypot(np.logaddexp(0, 1.0), 0.4)),
    ]
    np.testing.assert_allclose(difference.detach(), expected, rtol=1e-6)
    # ratings are for training; predictions of labels do not change with them
    losses = [objective.negative_log_likelihood(a, b, found).detach() for found in (rated, unrated)]
    np.testing.assert_array_equal(*losses)


MEAN = np.array([0.0, 1.0, 2.5, 4.0, 4.5])
STDDEV = np.array([0.6, 1.0, 0.8, 1.2, 0.5])
TRUE_NOISE = 0.5


def rated_table():
    """Exact comparisons of five texts, with sixty draws of both ratings for each pair."""
    first, second = np.triu_indices(5, 1)
    share = stats.norm.cdf((MEAN[first] - MEAN[second]) / np.hypot(STDDEV[first], STDDEV[second]))
    first, second, share = (np.repeat(values, 60) for values in (first, second, share))
    rng = np.random.default_rng(0)
    ratings = [
        rng.normal(MEAN[place], np.hypot(STDDEV[place], TRUE_NOISE)) for place in (first, second)
    ]
    return first, second, labels(share, [-1] * len(share), ratings=np.stack(ratings))


def minimise(objective, raw, first, second, found):
    parameters = [raw, *(p for p in objective.parameters() if p.numel())]
    optimizer = torch.optim.LBFGS(parameters, max_iter=150, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = objective.training_loss(raw[first], raw[second], found).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return loss().item()


def test_ratings_pin_the_level_and_the_unit():
    head = heads.make("mean_and_variance")
    first, second, found = rated_table()
    # the true rewards times three, and ten higher: comparisons are as right as they can be
    start = np.stack([10 + 3 * MEAN, np.log(np.expm1(3 * STDDEV))], -1)
    alone = torch.tensor(start, requires_grad=True)
    minimise(Objective(head), alone, first, second, found)
    np.testing.assert_allclose(alone.detach(), start, atol=0.05)  # nothing pulls them back
    raw = torch.tensor(start, requires_grad=True)
    objective = Objective(head, anchor_weight=1.0).double()
    minimise(objective, raw, first, second, found)
    reward = head.distribution(raw.detach())
    # 1200 ratings: a standard error of the level of 0.03, of the unit of 2 %
    np.testing.assert_allclose(reward.mean, MEAN, atol=0.2)
    unit = np.polyfit(MEAN, reward.mean, 1)
    assert unit[0] == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(reward.stddev, STDDEV, rtol=0.25)
    assert objective.log_rating_noise.exp().item() == pytest.approx(TRUE_NOISE, abs=0.15)
    # and the comparisons are still right, as far as 1200 ratings do not pull at them
    table = reward[:, None].log_prob_greater(reward[None]).exp()
    expected = stats.norm.cdf(np.subtract.outer(MEAN, MEAN) / np.hypot.outer(STDDEV, STDDEV))
    np.testing.assert_allclose(table, expected, atol=0.05)


def test_annotators_who_are_known_identify_opposed_halves():
    # half the people want the opposite: single labels are all tosses, names tell them apart
    rng = np.random.default_rng(0)
    people, each, texts = 24, 40, 5
    side = np.where(np.arange(people) % 2, 1.0, -1.0)
    utility = np.linspace(-1.5, 1.5, texts)
    annotator = np.repeat(np.arange(people), each)
    first = rng.integers(texts, size=people * each)
    second = (first + rng.integers(1, texts, size=people * each)) % texts
    gap = side[annotator] * (utility[first] - utility[second])
    won = gap + 0.5 * rng.normal(size=gap.size) > 0
    assert abs(won.mean() - 0.5) < 0.06
    found = labels(won.astype(float), annotator)
    objective = Objective(FACTOR, annotators=AnnotatorEmbeddings(range(people), 1)).double()
    torch.manual_seed(0)
    raw = (0.3 * torch.randn(texts, 3, dtype=torch.float64)).requires_grad_()
    parameters = [raw, *objective.annotators.parameters()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=80, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = objective.training_loss(raw[first], raw[second], found).sum() + objective.prior()
        total.backward()
        return total

    optimizer.step(loss)
    learned = objective.annotators.location.detach()[:, 0, 0].numpy()
    loadings = raw.detach()[:, 1].numpy()
    sign = np.sign(np.corrcoef(loadings, utility)[0, 1])
    assert abs(np.corrcoef(loadings, utility)[0, 1]) > 0.97
    assert bool((np.sign(sign * learned) == side).all())
    # those of whom nothing is known are predicted as tosses, those who are known are not
    raw = raw.detach()
    ends = raw[[4]], raw[[0]]
    one = labels([1.0], [1])
    assert objective.log_prob_preferred(*ends, one).exp().item() > 0.9
    stranger = labels([1.0], [-1])
    assert objective.log_prob_preferred(*ends, stranger).exp().item() == pytest.approx(0.5, abs=0.1)
    population = objective.population_log_prob_preferred(*ends).exp().item()
    assert population == pytest.approx(0.5, abs=0.05)
