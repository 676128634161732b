import json

import numpy as np
import pytest

from hidden_context.contexts import find_contexts
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


def _noisy(variance, seed, spread=1.0):
    return variance * np.exp(spread * np.random.default_rng(seed).standard_normal(len(variance)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_the_planted_split_is_found_with_as_many_contexts_as_the_method_chooses(seed, spread):
    prompts, cluster, harmful, variance = _pairs(seed)
    found = find_contexts(prompts, cluster, _noisy(variance, seed, spread))
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
    cluster = np.repeat(np.arange(30), 2)
    variance = np.arange(60, dtype=float)
    found = find_contexts(prompts, cluster, variance, rows=np.arange(60) + 100)
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
    text = json.dumps(first, allow_nan=False)
    assert text == json.dumps(second)
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
