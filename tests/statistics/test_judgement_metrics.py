"""Metrics of what annotators said, Borda counts and r²: by hand, by group, in closed form."""

import math

import numpy as np
import pytest
import torch
from ground_truth.fits import fit_tabular
from ground_truth.likelihood_bias import draw, fitted_r2

from hidden_context import heads
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.likelihood import Labels, LikelihoodOptions, make_likelihood
from hidden_context.statistics.evaluation import judgement_metrics as module
from hidden_context.worlds.utilities import HARMFUL_PROMPT_KINDS, Annotators

BASE = make_likelihood(heads.make("base"))
SIGMA_ONE = math.log(math.expm1(1.0))


def nll(gap):
    return math.log1p(math.exp(-gap))


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def labels(*rows, index=None):
    return labels_of([read_row(dict(row)) for row in rows], index)


def ranking(*ranks, **columns):
    responses = [f"answer {place}" for place in range(len(ranks))]
    return {"prompt": "Tea?", "responses": responses, "ranks": list(ranks), **columns}


def pair(**columns):
    return {"chosen": "Tea? Yes.", "rejected": "Tea? No.", **columns}


def test_rewards_with_variance_have_a_spread_and_a_share_of_it():
    head = heads.make("mean_and_variance")
    raw = torch.tensor([[2.0, SIGMA_ONE], [0.0, SIGMA_ONE], [1.0, 0.3], [-1.0, 0.2]]).double()
    metrics = module.judgement_metrics(make_likelihood(head), raw, Labels.of_pairs(torch.ones(2)))
    rewards = head.distribution(raw)
    assert metrics["reward_stddev"] == pytest.approx(rewards.stddev.mean().item())
    assert metrics["r2"] == module.explained_variance(rewards.mean, rewards.variance)
    assert list(metrics) == ["loss", "accuracy", "reward_mean", "reward_stddev", "r2"]


def test_every_vote_counts_once_and_weights_play_no_part():
    said = labels(
        pair(annotations=[{"preference": 1}, {"preference": 0}, {"preference": 1}], weight=7),
        pair(preference=0.5),
        pair(annotations=[{"annotator": "ann"}, {"preference": 0}]),
        pair(),
    )
    raw = column(1.0, 0.0, 3.0, 0.0, -2.0, 0.0, 0.5, 0.5)
    losses = [nll(1), nll(-1), nll(1), (nll(3) + nll(-3)) / 2, nll(2), nll(0)]
    assert module.judgement_metrics(BASE, raw, said) == {
        "loss": pytest.approx(sum(losses) / 6, abs=1e-12),
        "accuracy": pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6),
        "reward_mean": pytest.approx(3 / 8, abs=1e-12),
    }
    loss, right = module.judgement_values(BASE, raw, said)
    assert torch.allclose(loss, torch.tensor(losses).double())
    assert right.tolist() == [1, 0, 1, 0.5, 1, 0.5]


def test_a_ranking_of_n_counts_like_n_minus_1_votes():
    said = labels(ranking(1, 3, 2), pair())
    raw = column(2.0, 0.0, 0.5, 1.0, 2.0)
    metrics = module.judgement_metrics(BASE, raw, said)
    pairs = [(2.0, 0.0), (2.0, 0.5), (0.5, 0.0)]
    ranked = sum(nll(a - b) for a, b in pairs) * 2 / 3
    assert metrics["loss"] == pytest.approx((ranked + nll(-1)) / 3, abs=1e-6)
    assert metrics["accuracy"] == pytest.approx((2 + 0) / 3)
    assert metrics["reward_mean"] == pytest.approx(5.5 / 5)  # of every response once


def test_causes_of_variance_are_those_of_what_was_compared():
    likelihood = make_likelihood(heads.make("factor", num_factors=1))
    raw = torch.tensor([[0.0, 2.0, SIGMA_ONE], [0.0, 0.0, SIGMA_ONE], [0.0, -1.0, SIGMA_ONE]])
    said = labels(ranking(1, 2, 3))
    # squared differences of loadings 4, 9, 1; noise 2 each
    shares = module.variance_shares(likelihood, raw, said)
    assert shares == pytest.approx({"shared_context_share": 14 / 20, "noise_share": 6 / 20})
    assert shares.items() <= module.judgement_metrics(likelihood, raw, said).items()
    assert module.variance_shares(BASE, raw[:, :1], said) == {}
    assert module.variance_shares(likelihood, raw[:1], labels({"text": "tea", "rating": 1})) == {}


RATED = LikelihoodOptions(rating_weight=0.25)


@pytest.mark.parametrize("members", [0, 2])
def test_gaussian_ratings_have_a_distance_instead_of_an_accuracy(members):
    head = heads.make("base")
    likelihood = make_likelihood(heads.EnsembleHead(head, members) if members else head, RATED)
    raw = column(1.0, 3.0).expand(-1, max(members, 1))
    said = labels({"text": "a", "rating": 2}, {"text": "b", "rating": 1, "weight": 9})
    metrics = module.judgement_metrics(likelihood, raw, said)
    assert set(metrics) - {"reward_stddev", "r2"} == {"loss", "rating_rmse", "reward_mean"}
    assert metrics["rating_rmse"] == pytest.approx(math.sqrt((1 + 4) / 2))
    constant = 0.5 * math.log(2 * math.pi)
    assert metrics["loss"] == pytest.approx((0.5 * 1 + 0.5 * 4) / 2 + constant, abs=1e-6)


def test_comparisons_and_ratings_together_and_ratings_that_nobody_reads():
    said = labels(pair(rating_chosen=2, rating_rejected=0))
    raw = column(1.0, 0.5)
    both = module.judgement_metrics(make_likelihood(heads.make("base"), RATED), raw, said)
    constant = 0.5 * math.log(2 * math.pi)
    expected = (nll(0.5) + 0.5 * 1 + 0.5 * 0.25 + 2 * constant) / 3
    assert both["loss"] == pytest.approx(expected, abs=1e-6)
    assert (both["accuracy"], both["rating_rmse"]) == (1, pytest.approx(math.sqrt(1.25 / 2)))
    unread = module.judgement_metrics(BASE, raw, said)
    assert unread == {"loss": pytest.approx(nll(0.5)), "accuracy": 1.0, "reward_mean": 0.75}
    alone = module.judgement_metrics(BASE, raw[:1], labels({"text": "a", "rating": 2}))
    assert alone == {"reward_mean": 1.0}


def test_grades_have_a_loss_and_no_distance():
    options = LikelihoodOptions(rating_weight=1.0, ratings="ordinal", grades=(1, 2, 3))
    likelihood = make_likelihood(heads.make("base"), options)
    metrics = module.judgement_metrics(likelihood, column(0.3), labels({"text": "a", "rating": 2}))
    assert set(metrics) == {"loss", "reward_mean"}


def test_a_known_annotator_is_predicted_as_such():
    head = heads.make("factor", num_factors=1)
    likelihood = make_likelihood(head, LikelihoodOptions(inference="map", names=("ann", "bob")))
    with torch.no_grad():
        likelihood.annotators.location.copy_(torch.tensor([[2.0], [-2.0]]))
    said = labels(pair(annotator="ann"), pair(annotator="bob"), index=likelihood.names.index)
    raw = torch.tensor([[0.0, 1.0, SIGMA_ONE], [0.0, 0.0, SIGMA_ONE]]).repeat(2, 1)
    _, right = module.judgement_values(likelihood, raw, said)
    assert right.tolist() == [1, 0]


def test_groups_are_named_by_column_and_value():
    said = labels(pair(), ranking(2, 1, 3), pair(), pair(preference=0))
    raw = torch.randn(9, 1, generator=torch.Generator().manual_seed(1)).double()
    groups = {
        "data_subset": ["a", "b", None, "a"],
        "objective": [None, 7, None, None],
        "none": [None] * 4,
    }
    metrics = module.grouped_judgement_metrics(BASE, raw, said, groups)
    whole = module.judgement_metrics(BASE, raw, said)
    parts = {
        "a": module.judgement_metrics(BASE, raw[[0, 1, 7, 8]], labels(pair(), pair(preference=0))),
        "b": module.judgement_metrics(BASE, raw[2:5], labels(ranking(2, 1, 3))),
    }
    named = {f"data_subset_{g}_{n}": v for g, part in parts.items() for n, v in part.items()}
    assert metrics == pytest.approx(whole | named)  # a column of one value has no groups


def test_counts_by_hand_and_those_of_the_paper_which_take_in_the_response_itself():
    p = torch.tensor([[0.5, 0.9, 0.6], [0.1, 0.5, 0.3], [0.4, 0.7, 0.5]])
    np.testing.assert_allclose(module.borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)
    p.fill_diagonal_(0.0)  # plays no part
    np.testing.assert_allclose(module.borda_counts(p), [0.75, 0.2, 0.55], atol=1e-7)
    matrix = torch.from_numpy(Annotators(0.6).preference_matrix(HARMFUL_PROMPT_KINDS))
    np.testing.assert_allclose((3 * module.borda_counts(matrix) + 0.5) / 4, matrix.mean(1))


def test_probabilities_of_normal_rewards():
    head = heads.make("mean_and_variance")
    raw = torch.tensor([[0.3, 0.1], [-1.0, 0.7], [2.0, -1.2]], dtype=torch.float64)
    rewards = head.distribution(raw)
    gap = rewards.mean[:, None] - rewards.mean
    expected = torch.special.ndtr(gap / (rewards.variance[:, None] + rewards.variance).sqrt())
    torch.testing.assert_close(module.pairwise_probabilities(head, raw), expected)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_probit_returns_the_true_r2_and_logistic_is_biased_low(seed):
    mean, stddev = draw(seed)
    truth = module.explained_variance(mean, stddev.square())
    assert fitted_r2("probit", mean, stddev) == pytest.approx(truth, abs=1e-3)
    assert fitted_r2("logistic", mean, stddev) < truth - 0.1


def test_base_head_recovers_bradley_terry_rewards():
    rewards = torch.tensor([0.0, 0.5, 2.0, -1.0], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), torch.sigmoid(rewards[:, None] - rewards)).squeeze(-1)
    np.testing.assert_allclose(raw - raw.mean(), rewards - rewards.mean(), atol=1e-5)


def test_a_scalar_reward_model_ranks_by_borda_count_and_not_by_expected_utility():
    # Proposition 3.3 of the paper: expected utilities 6, 2.8, 2 but Borda counts .567, .6, .333
    p = torch.tensor([[0.5, 0.6, 0.6], [0.4, 0.5, 0.9], [0.4, 0.1, 0.5]], dtype=torch.float64)
    raw = fit_tabular(heads.make("base"), p, ridge=1e-4).squeeze(-1)
    assert raw.argsort(descending=True).tolist() == [1, 0, 2]
    # by expected utility a compliant answer would come first, by Borda count the safe alternative
    matrix = torch.from_numpy(Annotators(0.57).preference_matrix(HARMFUL_PROMPT_KINDS))
    raw = fit_tabular(heads.make("base"), matrix)
    assert raw[:, 0].argsort().tolist() == module.borda_counts(matrix).argsort().tolist()


def test_explained_variance_by_hand():
    mean, variance = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0])
    expected = pytest.approx((2 / 3) / (2 / 3 + 2))
    assert module.explained_variance(mean, variance) == expected
    moved = module.explained_variance(3 * mean + 7, 9 * variance)
    assert moved == expected  # whatever shift and scale
    assert module.explained_variance(np.array([0.0, 1.0]), np.zeros(2)) == 1.0
    assert module.explained_variance(torch.ones(3), torch.ones(3)) == 0.0
    assert np.isnan(module.explained_variance(torch.ones(3), torch.zeros(3)))
