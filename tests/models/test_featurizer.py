"""Features of a frozen backbone: parts of texts, layers, pooling, and the cache on disk."""

import dataclasses
import os
import sqlite3
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoModel

from hidden_context.data.example import ModelInput
from hidden_context.data.storage.files import default_cache_dir
from hidden_context.errors import CheckpointError, ConfigError, DataError, StorageError
from hidden_context.models.featurizer import (
    FeatureCache,
    Featurizer,
    FeaturizerOptions,
    content_key,
)
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_backbone, tiny_tokenizer
from support.rows import assistant, user
from support.runs import spied

TEXTS = sample_texts(9)
TOGETHER = FeaturizerOptions(embed="together")
POOLINGS = ("mean", "last")


@pytest.fixture
def gpt2(backbones):
    return backbones("gpt2")


def hidden_states(folder, tokenizer, text, max_length=512, layer=1):
    """Hidden states of one text; of two layers, two thirds of the depth is the first."""
    model = AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer(text)["input_ids"][-max_length:]])
    with torch.no_grad():
        return model(input_ids=ids, output_hidden_states=True).hidden_states[layer][0]


never = Mock(side_effect=AssertionError("the backbone ran"))


@pytest.mark.parametrize(
    ("kind", "options", "index"),
    [
        *((kind, {"pooling": way}, 1) for kind in ("gpt2", "bert", "llama") for way in POOLINGS),
        *(("gpt2", {"layer": layer}, at) for layer, at in ((0, 0), (2, 2), (-1, 2), (-3, 0))),
    ],
)
def test_features_are_pooled_hidden_states_of_a_layer(backbones, kind, options, index):
    folder = backbones(kind)
    featurizer = Featurizer(folder, FeaturizerOptions(embed="together", **options))
    features = featurizer.features(TEXTS, batch_size=4)
    assert featurizer.layer == index
    assert (features.shape, features.dtype) == ((9, 32), torch.float32)
    for text, vector in zip(TEXTS, features, strict=True):
        hidden = hidden_states(folder, featurizer.tokenizer, text, layer=index)
        by_hand = hidden[-1] if options.get("pooling") == "last" else hidden.mean(0)
        assert torch.allclose(vector, by_hand, atol=1e-5, rtol=1e-5)


def test_apart_embeds_last_turn_and_response(gpt2):
    text = "\n\nHuman: first?\n\nAssistant: one\n\nHuman: What about tea?\n\nAssistant: It is kind."
    chat = [user("What about tea?"), assistant("It is kind.")]
    featurizer = Featurizer(gpt2)
    features = featurizer.features([text, chat])
    parts = (hidden_states(gpt2, featurizer.tokenizer, each["content"]).mean(0) for each in chat)
    assert features.shape == (2, 64)
    assert torch.allclose(features[0], torch.cat([*parts]), atol=1e-5)
    assert torch.equal(features[0], features[1])
    assert featurizer.parts("no marks at all") == [" ", "no marks at all"]
    alone = Featurizer(gpt2, FeaturizerOptions(embed="response")).features([text, chat])
    assert torch.equal(alone, features[:, 32:])


def test_the_response_alone_is_embedded_where_the_prompt_is_known(gpt2):
    featurizer = Featurizer(gpt2)
    plain = ModelInput("What is tea? A drink.", "What is tea?")
    assert featurizer.parts(plain) == ["What is tea?", "A drink."]
    chat = [user("What is tea?"), assistant("A drink.")]
    assert featurizer.parts(ModelInput(chat, chat[:1])) == ["What is tea?", "A drink."]
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    calls = ModelInput([chat[0], call], chat[:1], [{"type": "function"}])
    assert featurizer.parts(calls) == ["What is tea?", '{"arguments": {}, "name": "f"}']
    vectors = featurizer.features([plain, calls])
    assert torch.equal(vectors[0, :32], vectors[1, :32])
    assert not torch.equal(vectors[0, 32:], vectors[1, 32:])


def test_tools_are_part_of_what_is_embedded_together(gpt2):
    template = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHAT_TEMPLATE
    tokenizer = tiny_tokenizer(chat_template=template)
    featurizer = Featurizer(gpt2, TOGETHER, tokenizer=tokenizer)
    chat = [user("a"), assistant("b")]
    texts = [chat, ModelInput(chat, chat[:1]), ModelInput(chat, tools=[{"name": "f"}])]
    bare, known, told = featurizer.features(texts)
    assert torch.equal(bare, known)
    assert not torch.allclose(bare, told, atol=1e-3)


TURNS = "\n\nHuman: Tea?\n\nAssistant:"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[f"{TURNS} a", TURNS]] * 2 + [[f"{TURNS} a", f"{TURNS} b"]], "2 with an empty"),
        ([[f"\n\nHuman: {n}{TURNS} a" for n in (1, 2)]] * 2 + [[f"{TURNS} a"]], "2 with equal"),
        ([[TURNS], [f"{TURNS} a"], [TURNS]], "2 with an empty"),
    ],
)
@pytest.mark.parametrize("embed", ["apart", "response"])
def test_responses_that_cannot_be_told_apart_stop_the_run(gpt2, rows, text, embed):
    featurizer = Featurizer(gpt2, FeaturizerOptions(embed=embed))
    with pytest.raises(DataError, match=f"a.jsonl: a frozen backbone cannot .*{text}"):
        featurizer.check(rows, "a.jsonl")
    featurizer.check([*rows, [f"{TURNS} a", f"{TURNS} b"]])
    # the same text twice is nothing to tell apart
    featurizer.check([[f"{TURNS} a"] * 2] * 3)
    Featurizer(gpt2, TOGETHER).check(rows)


def test_responses_of_the_same_tokens_stop_the_run_too(gpt2):
    rows = [[f"{TURNS} {word} {'so ' * 90}" for word in ("yes", "no")]] * 3
    with pytest.raises(DataError, match="3 with equal responses"):
        Featurizer(gpt2, FeaturizerOptions(max_length=20)).check(rows)
    Featurizer(gpt2).check(rows)


def test_each_part_is_computed_and_counted_once(gpt2, tmp_path, monkeypatch):
    featurizer = Featurizer(gpt2, cache=FeatureCache(tmp_path))
    texts, counted = [*TEXTS[:2], *TEXTS[:2]], []
    seen = spied(monkeypatch, featurizer, "_forward", lambda texts, _: texts)
    assert featurizer.distinct(texts) == 4
    assert featurizer.features([]).shape == (0, 64)
    features = featurizer.features(texts, progress=counted.append)
    assert torch.equal(features[:2], features[2:])
    assert len(set(seen[0])) == 4
    more = featurizer.distinct([*texts, TEXTS[2]]) - 4
    featurizer.features([*texts, TEXTS[2]], progress=counted.append)
    assert counted == [4, 4, more]
    assert list(map(len, seen)) == [4, more]


def test_cache_hits_do_not_run_the_backbone(gpt2, monkeypatch):
    first = Featurizer(gpt2, FeaturizerOptions(max_length=512))
    fresh = first.features(TEXTS)
    monkeypatch.setattr(Featurizer, "_forward", never)
    # lengths beyond the backbone's are the same to it
    again = Featurizer(gpt2, FeaturizerOptions(max_length=1024))
    assert (first.limit, again.limit) == (128, 128)
    assert torch.equal(again.features(TEXTS[::-1], batch_size=1).flip(0), fresh)


def test_whatever_changes_features_misses_the_cache(tmp_path, monkeypatch):
    folder = tiny_backbone(tmp_path / "model", tokenizer=tiny_tokenizer(chat_template="{{ 1 }}"))
    first = Featurizer(folder, TOGETHER).features(TEXTS)
    tiny_backbone(tmp_path / "other", seed=1)
    weights = Path(folder, "model.safetensors")
    status = weights.stat()
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    assert weights.stat().st_size == status.st_size
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))  # of the same age, too
    second = Featurizer(folder, TOGETHER).features(TEXTS)
    assert (first - second).abs().max() > 0.1
    monkeypatch.setattr(Featurizer, "_forward", never)
    assert torch.equal(Featurizer(folder, TOGETHER).features(TEXTS), second)
    for options in (
        *(
            {"options": dataclasses.replace(TOGETHER, **change)}
            for change in ({"pooling": "last"}, {"max_length": 8}, {"layer": 2})
        ),
        {"dtype": torch.bfloat16},
        {"tokenizer": tiny_tokenizer(bos="<s>", frame="<s> $A", chat_template="{{ 1 }}")},
        {"tokenizer": tiny_tokenizer(chat_template=CHAT_TEMPLATE)},
    ):
        with pytest.raises(AssertionError, match="the backbone ran"):
            Featurizer(folder, **{"options": TOGETHER} | options).features(TEXTS)


def test_counts_and_cuts_long_parts(gpt2):
    featurizer = Featurizer(gpt2, FeaturizerOptions(embed="together", max_length=10))
    counts = list(map(featurizer.length, TEXTS, featurizer.token_ids(TEXTS)))
    assert counts == [len(featurizer.tokenizer(text)["input_ids"]) for text in TEXTS]
    assert min(counts) > 10 == featurizer.limit
    by_hand = hidden_states(gpt2, featurizer.tokenizer, TEXTS[0], 10).mean(0)
    assert torch.allclose(featurizer.features(TEXTS[:1])[0], by_hand, atol=1e-5)
    apart = Featurizer(gpt2, FeaturizerOptions(max_length=10**6))
    assert apart.limit == 128
    parts = list(map(apart.length, TEXTS, apart.token_ids(TEXTS)))
    assert all(a < b for a, b in zip(parts, counts, strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("pooling", "max"), ("embed", "both"), ("max_length", 0)]
)
def test_options_that_cannot_be(name, value):
    with pytest.raises(ConfigError, match=f"{name} (is )?'?{value}"):
        FeaturizerOptions(**{name: value})


@pytest.mark.parametrize("layer", [3, -4])
def test_what_cannot_be_embedded_is_named(gpt2, tmp_path, layer):
    with pytest.raises(ConfigError, match=f"layer {layer} was requested, .* from -3 to 2"):
        Featurizer(gpt2, FeaturizerOptions(layer=layer)).features(TEXTS[:1])
    with pytest.raises(DataError, match="the text '' cannot be embedded: it has no tokens"):
        Featurizer(gpt2, TOGETHER).features(["fine", ""])
    gone = Featurizer(str(tmp_path / "gone"), tokenizer=tiny_tokenizer())
    with pytest.raises(CheckpointError, match="neither a local folder nor a model"):
        _ = gone.model
    with pytest.raises(CheckpointError, match="no model could be read"):
        _ = gone.limit


def test_cached_vectors_come_back_exactly(tmp_path):
    cache = FeatureCache(tmp_path)
    vectors = {content_key(str(i)): np.float32([i, 1 / 3, -0.0]) for i in range(1200)}
    cache.write(vectors)
    found = FeatureCache(tmp_path).read([*vectors, content_key("missing")])
    np.testing.assert_equal(found, vectors)
    cache.write({content_key("0"): np.float32([7])})
    assert FeatureCache(tmp_path).read([content_key("0")])[content_key("0")].tolist() == [7]


def test_keys_do_not_run_into_each_other():
    parts = [("ab", "c"), ("a", "bc"), ("a",), ("a", ""), ("\ud800",), ("\ud801",)]
    assert len({content_key(*each) for each in parts}) == len(parts)


def test_cache_folder(monkeypatch, tmp_path):
    assert FeatureCache().path == tmp_path / "cache" / "features.sqlite"
    monkeypatch.delenv("HIDDEN_CONTEXT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "hidden-context"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "hidden-context"


def test_broken_caches_are_storage_errors(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.write({b"old": np.float32([1])})
    with pytest.raises(StorageError):
        cache.write({b"new": np.float32([1]), sqlite3: np.float32([2])})  # no possible key
    assert list(cache.read([b"old", b"new"])) == [b"old"]  # a failed write keeps nothing
    cache.path.write_bytes(b"not a database at all" * 99)
    for broken in (cache, FeatureCache(cache.path)):
        with pytest.raises(StorageError, match="cannot be read or written"):
            broken.read([b"1"])
