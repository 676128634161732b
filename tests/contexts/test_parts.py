import numpy as np
import pytest
from scipy import stats

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix

from hidden_context.contexts.levels import (
    cluster_by_silhouette,
    cross_fitted,
    find_levels,
    merge_alike,
)
from hidden_context.contexts.text import clean, distinctive_terms, log_odds, read_texts


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Human: Hi there\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant:", "Hi there Yes. Why?"),
        ("\n\nHuman: Tea?", "Tea?"),
        ("User: a System: b", "a b"),
        ("He said: Humans are odd", "He said: Humans are odd"),
        ("NonHuman: stays", "NonHuman: stays"),
    ],
)
def test_speakers_are_taken_out(prompt, expected):
    assert clean(prompt) == expected


def test_a_long_prompt_keeps_both_ends():
    text = clean("first " + "x" * 5000 + " last")
    assert text.startswith("first")
    assert text.endswith("last")
    assert len(text) <= 1501


def test_vectors_have_length_one_and_keep_the_angles_of_tf_idf():
    prompts = ["rose hedge", "rose garden", "chess rook", "chess pawn", "rook rose"]
    texts = read_texts(prompts, None, seed=0)
    assert np.linalg.norm(texts.vectors, axis=1) == pytest.approx(np.ones(5))
    similar = texts.vectors @ texts.vectors.T
    assert similar[0, 1] > 0.1
    assert similar[0, 2] < 0.05
    assert set(texts.counts.data) == {1}


def test_the_vocabulary_of_many_prompts_comes_from_some_of_them(monkeypatch):
    monkeypatch.setattr("hidden_context.contexts.text._VOCABULARY_PROMPTS", 10)
    texts = read_texts([f"word{i} rose" for i in range(40)], None, seed=0)
    assert len(texts.terms) == 21  # ten words, ten pairs of words, rose
    assert texts.counts.shape == (40, 21)


@pytest.mark.parametrize("centres", [2, 3, 5])
def test_the_silhouette_finds_the_number_of_clusters(centres):
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(centres), 40)
    points = 10 * np.eye(centres)[truth] + generator.standard_normal((40 * centres, centres))
    label = cluster_by_silhouette(points, 12, seed=0)
    assert len(np.unique(label)) == centres
    assert len(np.unique(np.stack([truth, label]), axis=1).T) == centres


def test_mini_batches_take_over_for_many_points(monkeypatch):
    monkeypatch.setattr("hidden_context.contexts.levels.MINI_BATCH_ABOVE", 50)
    points = np.repeat([[0.0, 0.0], [9.0, 9.0], [0.0, 9.0]], 60, axis=0)
    points += np.random.default_rng(0).standard_normal(points.shape) / 3
    label = cluster_by_silhouette(points, 6, seed=0)
    assert [len(np.unique(label[k : k + 60])) for k in (0, 60, 120)] == [1, 1, 1]
    assert len(np.unique(label)) == 3


def test_a_prompt_is_predicted_without_its_own_value():
    generator = np.random.default_rng(2)
    X, y = generator.standard_normal((50, 3)), generator.standard_normal(50)
    before = cross_fitted(X, y, seed=0)
    y[7] += 1000
    assert cross_fitted(X, y, seed=0)[7] == before[7]


def test_levels_of_a_stepwise_variance():
    generator = np.random.default_rng(3)
    truth = np.repeat(np.arange(3), 60)
    vectors = np.eye(3)[truth] + 0.05 * generator.standard_normal((180, 3))
    levels = find_levels(vectors, 10.0**truth * generator.gamma(20, 1 / 20, 180), 12, seed=0)
    assert (levels.label == truth).all()
    assert levels.explained > 0.95


@pytest.mark.parametrize(
    ("vectors", "variance"),
    [(np.eye(10), np.arange(10.0)), (np.eye(40), np.ones(40)), (np.ones((40, 2)), np.arange(40.0))],
)
def test_one_level_where_nothing_can_be_predicted(vectors, variance):
    assert find_levels(vectors, variance, 12, seed=0).count == 1


def test_alike_neighbours_are_put_together_and_numbered_upwards():
    generator = np.random.default_rng(4)
    label = np.repeat([2, 0, 1], 50)
    values = np.where(label == 1, 5.0, 0.0) + generator.standard_normal(150)
    merged = merge_alike(label, values, values)
    assert merged.tolist() == [0] * 100 + [1] * 50
    assert merge_alike(np.array([0, 0, 1]), np.array([0.0, 0, 9]), np.array([0.0, 1, 9])).max() == 0
    assert merge_alike(np.repeat([0, 1], 3), np.arange(6.0), np.repeat([1.0, 2.0], 3)).max() == 1


def test_log_odds_by_hand():
    inside, outside = np.array([8.0, 2.0]), np.array([2.0, 8.0])
    prior = np.array([5.0, 5.0])  # ten of twenty prompts' terms
    delta = np.log(13 / 7) - np.log(7 / 13)
    expected = delta / np.sqrt(1 / 13 + 1 / 7)
    assert prior.sum() == 10
    assert log_odds(inside, outside, 20) == pytest.approx([expected, -expected])


def test_terms_skip_what_repeats_a_word():
    terms = ["old", "old lady", "lady", "rose", "tea"]
    counts = csr_matrix([[1, 1, 1, 0, 1]] * 9 + [[0, 0, 0, 1, 1]] * 9)
    first, second = distinctive_terms(counts, terms, np.repeat([0, 1], 9))
    assert first[:2] == ["old", "lady"]
    assert "old lady" not in first
    assert second[0] == "rose"
    assert distinctive_terms(counts, terms, np.zeros(18, dtype=int))[0][0] == "tea"


def test_the_prediction_goes_with_the_variance_in_no_more_than_one_case_of_a_hundred():
    generator = np.random.default_rng(5)
    found = [
        find_levels(generator.standard_normal((40, 5)), generator.exponential(size=40), 5, 0).count
        for _ in range(200)
    ]
    assert stats.binomtest(sum(c > 1 for c in found), 200, 0.01, "greater").pvalue > 0.01
