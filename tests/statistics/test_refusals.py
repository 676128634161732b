"""What cannot be computed is refused, with an error that says why."""

import numpy as np
import pytest
import torch

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.statistics import agreement, calibration
from hidden_context.statistics.evaluation import judgement_metrics as judged
from hidden_context.statistics.evaluation.new_annotators import few_shot_curve
from hidden_context.statistics.interval import cluster_interval, cluster_sums, ratio
from hidden_context.statistics.means import two_way_interval
from hidden_context.statistics.significance.answers import answers_test
from hidden_context.statistics.significance.common_sigma import common_sigma_test
from hidden_context.statistics.significance.permutation import (
    annotator_permutation_test,
    mcnemar_test,
    paired_difference,
)
from hidden_context.statistics.votes import contested, judge_noise, krippendorff, losses
from hidden_context.statistics.votes.posterior import SharePosterior
from hidden_context.statistics.votes.random_effects import random_effects
from hidden_context.statistics.votes.table import VoteTable
from hidden_context.statistics.votes.tilts import Tilt, tilts_of

ONE, TWO, THREE, NONE = np.ones(1), np.ones(2), np.ones(3), np.ones(0)
NOBODY = np.zeros(1, int)
TABLE = VoteTable.of([0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0.5])
TILT = Tilt("readiness", np.arange(1), np.log(np.full((1, 3), 1 / 3)), np.eye(3)[[1]])
SHARES = np.array([[0.5, 0.2, 0.3]])
MATRIX = "a square matrix"

REFUSALS = [
    (agreement.auroc, (TWO, np.ones(3, bool)), {}, "equally long"),
    (agreement.rank_correlation, (NONE, NONE), {}, "non-empty"),
    (agreement.rank_correlation, (TWO, TWO, THREE), {}, "cluster numbers"),
    (answers_test, (TABLE,), {"features": {"a": THREE}}, "a number for each of 2 items"),
    (answers_test, (TABLE, np.arange(2)), {"block": TWO}, "must lie in one stratum"),
    (answers_test, (TABLE, THREE), {}, "stratum numbers"),
    (answers_test, (TABLE,), {"block": THREE}, "block numbers"),
    (judged.pairwise_probabilities, (heads.make("base"), torch.zeros(3)), {}, r"shape \(n, K\)"),
    (judged.borda_counts, (torch.zeros(2, 3),), {}, MATRIX),
    (judged.borda_counts, (torch.zeros(1, 1),), {}, MATRIX),
    (judged.borda_counts, (torch.full((2, 2), 1.5),), {}, r"in \[0, 1\]"),
    (calibration.oriented, (ONE, TWO), {}, "equally long"),
    (calibration.oriented, (NONE, NONE), {}, "non-empty"),
    (calibration.oriented, (ONE, -ONE), {}, "labels must lie"),
    (calibration.sharpness, (1.5 * ONE,), {}, "probabilities must lie"),
    (calibration.reliability_bins, (ONE, ONE, 0), {}, "1 or more"),
    (calibration.reliability_bins, (ONE, ONE), {"cluster": TWO}, "cluster numbers"),
    (contested.compare_measures, ({"a": THREE}, np.ones(2, bool)), {}, "a score for each item"),
    (contested.contested_probability, (np.ones((1, 2)) / 2, [3]), {}, r"not shape \(1, 2\)"),
    (contested.contested_probability, (np.ones((1, 3)) / 2, [3]), {}, "have to sum to 1"),
    (contested.contested_probability, (SHARES, [0]), {}, "1 or more"),
    (contested.contested_probability_of_voters, (SHARES, [1], 1), {}, "number from 0 to 0"),
    (annotator_permutation_test, (THREE, TWO), {}, "annotator numbers"),
    (annotator_permutation_test, (NONE, NONE), {}, "one or more"),
    (annotator_permutation_test, (np.array([1, np.nan]), np.arange(2)), {}, "finite"),
    (annotator_permutation_test, (THREE, THREE), {}, "two annotators"),
    (annotator_permutation_test, (TWO, np.arange(2), np.arange(2)), {}, "nothing to permute"),
    (annotator_permutation_test, (TWO, ONE[[0, 0]], np.arange(2)), {"block": TWO}, "one stratum"),
    (common_sigma_test, (TWO, THREE, TWO), {}, "equally long"),
    (common_sigma_test, (NONE, NONE, NONE), {}, "non-empty"),
    (common_sigma_test, (TWO, np.arange(2), TWO), {}, "above 0"),
    (common_sigma_test, (np.array([1, np.inf]), TWO, TWO), {}, "finite"),
    (common_sigma_test, (TWO, TWO, 1.2 * TWO), {}, "labels must lie"),
    (mcnemar_test, (TWO, THREE), {}, "equally long"),
    (mcnemar_test, (NONE, NONE), {}, "non-empty"),
    (mcnemar_test, (TWO, TWO, THREE), {}, "cluster numbers"),
    (paired_difference, (np.ones((0, 2)), ratio, ratio), {}, "at least one cluster"),
    (few_shot_curve, (lambda shown: THREE, np.zeros(2, int), TWO), {}, "for every vote"),
    (cluster_sums, (np.ones((0, 2)), NONE), {}, "at least one"),
    (cluster_sums, (np.ones((3, 2)), TWO), {}, "3 and 2"),
    (cluster_interval, (np.ones((3, 2)), ratio), {"level": 1.0}, "level is 1.0"),
    (cluster_interval, (np.ones((0, 2)), ratio), {}, "at least one cluster"),
    (cluster_interval, (THREE, ratio), {}, "at least one cluster"),
    (judge_noise.judge_noise, (np.zeros((4, 3)),), {}, r"\(items, 2, 3\)"),
    (judge_noise.judge_and_people, (np.ones((4, 2, 3)), np.ones((4, 2))), {}, r"\(4, 3\)"),
    (krippendorff.alpha, (np.ones((2, 2)),), {"metric": "x"}, "one of nominal, ordinal, interval"),
    (krippendorff.alpha, (np.ones((0, 2)),), {}, "at least one item"),
    (krippendorff.rating_alpha, ([0, 0], [1.0, 2], np.arange(2)), {}, "lie in one group"),
    (random_effects, (TILT, NOBODY, NOBODY, 0), {}, "no annotator is named"),
    (random_effects, (TILT, NOBODY, NOBODY, 1), {"level": 1.0}, "between 0 and 1"),
    (tilts_of, (VoteTable.of([0, 0], [0, 0], [1, 0]),), {}, "answers an item twice"),
    (two_way_interval, (TWO, TWO, TWO), {"weight": 0 * TWO}, "weight above 0"),
    (two_way_interval, (TWO, TWO, THREE), {}, "annotator numbers"),
    (judged.explained_variance, (torch.zeros(2), torch.zeros(3)), {}, "same, non-empty set"),
    (judged.explained_variance, (torch.zeros(0), torch.zeros(0)), {}, "same, non-empty set"),
    (losses.two_way_losses, (np.zeros((1, 2)), ONE), {}, r"shapes \(1, 2\) and \(1,\)"),
    (losses.three_way_losses, (np.zeros((1, 3)), 1.5 * ONE), {}, "votes must lie"),
    (losses.vote_brier, ([1.5], [1.0]), {}, "probabilities must lie"),
    (losses.vote_brier, ([0.5], [-1.0]), {}, "shares must lie"),
    (SharePosterior, (SHARES, TWO, np.ones((2, 3))), {}, "for each of 2 items"),
    (SharePosterior, (SHARES * 2, ONE, np.ones((1, 3))), {}, "sum to 1"),
    (SharePosterior, (SHARES, 0 * ONE, np.ones((1, 3))), {}, "above 0"),
    (SharePosterior, (SHARES, ONE, -np.ones((1, 3))), {}, "0 or more"),
    (SharePosterior, (SHARES, ONE, np.ones((1, 3)), 2 * ONE), {}, "more votes than are planned"),
    (VoteTable.of, ([], [], []), {}, "non-empty"),
    (VoteTable.of, ([0], [0, 1], [1]), {}, "equally long"),
    (VoteTable.of, ([0], [0], [1.5]), {}, r"in \[0, 1\]"),
    (VoteTable.of, ([0], [0], [1]), {"weight": [0]}, "above 0"),
    (VoteTable.of, ([0], [0], [1]), {"shown": [2]}, "not known"),
    (VoteTable.of, ([-1], [0], [1]), {}, "item numbers must lie from 0"),
    (VoteTable.of, ([0], [-2], [1]), {}, "annotator numbers must lie from -1 to"),
    (VoteTable.of, ([3], [0], [1]), {"items": 3}, "to 2"),
]


@pytest.mark.parametrize(("call", "values", "options", "text"), REFUSALS)
def test_what_cannot_be_computed_is_refused(call, values, options, text):
    with pytest.raises(ConfigError, match=text):
        call(*values, **options)
