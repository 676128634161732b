import json

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_matrix

from hidden_context.contexts import find_contexts
from hidden_context.contexts.levels import (
    cluster_by_silhouette,
    cross_fitted,
    find_levels,
    merge_alike,
)
from hidden_context.contexts.text import clean, distinctive_terms, log_odds, read_texts
from hidden_context.errors import ConfigError
from hidden_context.worlds.dialogues import World
from hidden_context.worlds.utilities import KINDS

pytest.importorskip("sklearn")

from sklearn.metrics import adjusted_rand_score


def _pairs(seed, split="test", size=2000):
    """Prompts of the generated world, the prompt of each pair, which are harmful, true variance."""
    world = World(seed=seed)
    rows = world.generate_comparisons(size, "both", split)
    prompts, cluster = np.unique([row["prompt"] for row in rows], return_inverse=True)
    harmful = np.zeros(len(prompts), dtype=int)
    harmful[cluster] = [row["data_subset"] == "harmless" for row in rows]
    leads = [
        [KINDS[row[side]].helpful - KINDS[row[side]].harmless for row in rows]
        for side in ("chosen_kind", "rejected_kind")
    ]
    weight, gap = world.annotators("both").helpful_weight, np.subtract(*leads)
    variance = weight * (1 - weight) * np.square(gap) + 2 * world.noise**2
    return prompts.tolist(), cluster, harmful, variance


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_the_planted_split_is_found_with_as_many_contexts_as_the_method_chooses(seed, spread):
    prompts, cluster, harmful, variance = _pairs(seed)
    noise = np.random.default_rng(seed).standard_normal(len(variance))
    found = find_contexts(prompts, cluster, variance * np.exp(spread * noise))
    assert found.split == "variance"
    assert len(found.clusters) == 2
    assert adjusted_rand_score(harmful, found.assignment) >= 0.8
    assert harmful[found.assignment == 0].mean() > 0.9 > 0.1 > harmful[found.assignment == 1].mean()
    assert found.clusters[0].mean_variance > 2.5 * found.clusters[1].mean_variance


def test_clusters_of_text_follow_topics():
    topics = ["rose hedge tomato soil", "chess rook bishop pawn", "violin cello flute drum"]
    generator = np.random.default_rng(0)
    words = [topic.split() for topic in topics]
    truth = generator.integers(0, 3, size=90)
    prompts = [
        " ".join([*generator.choice(words[k], 3, replace=False), f"x{i}"])
        for i, k in enumerate(truth)
    ]
    found = find_contexts(prompts, np.arange(90), np.ones(90))
    assert found.split == "text"
    assert np.isnan(found.text_r2)
    assert adjusted_rand_score(truth, found.assignment) == 1
    for cluster in found.clusters:
        assert any(set(cluster.terms[:4]) >= set(topic) for topic in words)
        assert cluster.name == ", ".join(cluster.terms[:3])


def test_shares_means_and_order_are_those_of_the_pairs():
    prompts, cluster, _, variance = _pairs(1)
    found = find_contexts(prompts, cluster, variance)
    shown = [" ".join(prompt.split()) for prompt in prompts]
    for place, context in enumerate(found.clusters):
        inside = found.assignment[cluster] == place
        own = np.flatnonzero(found.assignment == place)
        assert (context.pairs, context.prompts) == (inside.sum(), len(own))
        assert context.mean_variance == pytest.approx(variance[inside].mean())
        assert context.variance_share == pytest.approx(variance[inside].sum() / variance.sum())
        assert sum(topic.pairs for topic in context.topics) == context.pairs
        shares = [topic.variance_share for topic in context.topics]
        assert sum(shares) == pytest.approx(context.variance_share)
        means = [topic.mean_variance for topic in context.topics]
        assert means == sorted(means, reverse=True)
        assert {shown.index(example) for example in context.examples} <= set(own)


def test_top_holds_the_largest_pair_of_each_prompt_and_its_row():
    prompts = [f"word{i} thing" for i in range(30)]
    cluster, number = np.repeat(np.arange(30), 2), np.arange(60)
    found = find_contexts(prompts, cluster, number.astype(float), rows=number + 100)
    assert found.top[0] == {"row": 159, "prompt": "word29 thing", "variance": 59.0}
    assert [entry["row"] for entry in found.top] == [159 - 2 * k for k in range(10)]


def test_embeddings_take_the_place_of_words():
    prompts, cluster, harmful, variance = _pairs(0)
    generator = np.random.default_rng(0)
    embeddings = generator.standard_normal((len(prompts), 8))
    embeddings[:, 0] += 12 * harmful - 6
    found = find_contexts(prompts, cluster, variance, features=embeddings)
    assert found.features == "embeddings"
    assert adjusted_rand_score(harmful, found.assignment) >= 0.9
    assert found.clusters[0].terms  # names come from the words all the same


def test_the_same_seed_gives_the_same_and_json_holds_it():
    prompts, cluster, _, variance = _pairs(2, size=500)
    first, second = (find_contexts(prompts, cluster, variance, seed=3).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(second)
    assert set(first) == {"features", "split", "text_r2", "prompts", "sampled", "clusters", "top"}


def test_many_prompts_are_drawn_and_prompts_without_pairs_left_out(monkeypatch):
    monkeypatch.setattr("hidden_context.contexts.find.MAX_PROMPTS", 40)
    prompts = [f"word{i % 7} thing{i}" for i in range(100)]
    found = find_contexts(prompts, np.tile(np.arange(90), 2), np.ones(180))
    assert (found.prompts, found.sampled) == (90, 40)
    assert (found.assignment >= 0).sum() == 40
    assert (found.assignment[90:] == -1).all()
    assert sum(context.pairs for context in found.clusters) == 80


@pytest.mark.parametrize(
    "prompts", [[""] * 3, ["the of and"] * 30, ["only one"], ["same words here"] * 25]
)
def test_prompts_without_anything_to_tell_them_apart_are_one_context(prompts):
    size = len(prompts)
    (context,) = find_contexts(prompts, np.arange(size), np.linspace(0, 1, size)).clusters
    assert (context.prompts, context.pairs, context.variance_share) == (size, size, 1.0)


def test_half_characters_long_prompts_and_no_variance_at_all():
    found = find_contexts(["a \ud83d rose", "chess"], np.arange(2), np.zeros(2))
    assert "a ? rose" in json.dumps(found.to_dict(), ensure_ascii=False).encode("utf-8").decode()
    assert sum(context.variance_share for context in found.clusters) == pytest.approx(1)
    assert {context.mean_variance for context in found.clusters} == {0}
    prompts = [f"{'filler ' * 400}end word{i}" for i in range(5)]
    found = find_contexts(prompts, np.arange(5), np.ones(5))
    assert max(len(e) for c in found.clusters for e in c.examples) <= 300
    assert "end" in " ".join(t for c in found.clusters for t in c.terms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": np.array([0, 5])}, "0 to 5, but there are 2"),
        ({"cluster": np.array([0])}, "one variance per pair"),
        ({"variance": np.array([1.0, np.nan])}, "not a finite"),
        ({"variance": np.array([1.0, -1.0])}, "negative"),
        ({"max_clusters": 1}, "at least 2"),
        ({"features": np.ones((3, 2))}, "one row for each of the 2"),
        ({"features": np.array([[np.inf], [1.0]])}, "not finite"),
    ],
)
def test_what_cannot_work_is_refused(change, message):
    arguments = {"cluster": np.array([0, 1]), "variance": np.ones(2), **change}
    with pytest.raises(ConfigError, match=message):
        find_contexts(["a", "b"], **arguments)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Human: Hi there\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant:", "Hi there Yes. Why?"),
        ("\n\nHuman: Tea?", "Tea?"),
        ("User: a System: b", "a b"),
        ("He said: Humans are odd", "He said: Humans are odd"),
        ("NonHuman: stays", "NonHuman: stays"),
        (f"first {'x' * 5000} last", f"first {'x' * 744} {'x' * 745} last"),
    ],
)
def test_speakers_are_taken_out_and_a_long_prompt_keeps_both_ends(prompt, expected):
    assert clean(prompt) == expected


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


@pytest.mark.parametrize("above", [20_000, 50])  # beyond which batches are small
@pytest.mark.parametrize("centres", [2, 3, 5])
def test_the_silhouette_finds_the_number_of_clusters(monkeypatch, centres, above):
    monkeypatch.setattr("hidden_context.contexts.levels.MINI_BATCH_ABOVE", above)
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(centres), 40)
    points = 10 * np.eye(centres)[truth] + generator.standard_normal((40 * centres, centres))
    label = cluster_by_silhouette(points, 12, seed=0)
    assert len(np.unique(label)) == centres
    assert len(np.unique(np.stack([truth, label]), axis=1).T) == centres


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
    found = find_levels(vectors, 10.0**truth * generator.gamma(20, 1 / 20, 180), 12, seed=0)
    assert (found.label == truth).all()
    assert found.explained > 0.95


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
    assert merge_alike(label, values, values).tolist() == [0] * 100 + [1] * 50
    assert merge_alike(np.array([0, 0, 1]), np.array([0.0, 0, 9]), np.array([0.0, 1, 9])).max() == 0
    assert merge_alike(np.repeat([0, 1], 3), np.arange(6.0), np.repeat([1.0, 2.0], 3)).max() == 1


def test_log_odds_by_hand():
    inside, outside = np.array([8.0, 2.0]), np.array([2.0, 8.0])
    # the prior is 5 for each term: ten of twenty prompts' terms
    expected = (np.log(13 / 7) - np.log(7 / 13)) / np.sqrt(1 / 13 + 1 / 7)
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
