"""The small language model: its tokenizer, its folder, and that it learns the language."""

import dataclasses
import json
import random

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2LMHeadModel

from hidden_context.worlds import language_model
from hidden_context.worlds.dialogues import World

SMALL = language_model.BackboneConfig(
    width=16, layers=1, attention_heads=2, feed_forward_width=32, vocabulary_size=600
)


@pytest.fixture(scope="module")
def texts():
    return [row["chosen"] for row in World().generate_comparisons(600)]


def _built(folder, texts, progress=None, **changes):
    config = dataclasses.replace(SMALL, **changes)
    return language_model.build_backbone(folder, texts, config, progress)


def _loss(folder, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    losses = []
    for text in texts:
        ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        mask = torch.ones_like(ids)
        losses.append(model(input_ids=ids, attention_mask=mask, labels=ids).loss.item())
    return sum(losses) / len(losses)


def test_tokenizer_is_lossless_and_short(texts):
    tokenizer = language_model.train_tokenizer(texts)
    for text in [*texts[:50], "Ünïcode — 漢字 and\ttabs\n\n  spaces"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    assert 20 < sum(lengths) / len(lengths) < 50
    assert max(lengths) <= 64
    assert len(tokenizer) <= 1024
    for row in World().generate_comparisons(50):  # prompts are the beginning of their dialogue
        prompt = tokenizer(row["prompt"])["input_ids"]
        assert tokenizer(row["chosen"])["input_ids"][: len(prompt)] == prompt


def test_tokenizer_pads_with_the_end_of_text_on_the_right(texts):
    tokenizer = language_model.train_tokenizer(texts, vocabulary_size=600)
    assert tokenizer.pad_token == tokenizer.eos_token == language_model.END_OF_TEXT
    batch = tokenizer(["Human: no", "Human: a longer text than that"], padding=True)
    assert batch["input_ids"][0][-1] == tokenizer.pad_token_id
    assert batch["attention_mask"][0][:: len(batch["attention_mask"][0]) - 1] == [1, 0]


def test_folder_loads_like_any_pretrained_model(tmp_path, texts):
    folder = _built(tmp_path / "backbone", texts, pretraining_steps=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    batch = tokenizer(texts[:4], padding=True, return_tensors="pt")
    assert model(**batch).logits.shape == (4, 3)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)
    assert json.loads((folder / "config.json").read_text())["n_embd"] == 16
    assert not list(folder.glob("*.bin"))


def test_same_seed_same_weights_whatever_the_global_state(tmp_path, texts):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(random.randrange(10**6))
        before = torch.random.get_rng_state()
        folder = _built(tmp_path / name, texts, seed=seed, pretraining_steps=3)
        assert torch.equal(torch.random.get_rng_state(), before)
        weights.append(GPT2LMHeadModel.from_pretrained(folder).state_dict())
    same, other = ([torch.equal(weights[0][k], w[k]) for k in weights[0]] for w in weights[1:])
    assert all(same)
    assert not all(other)


def test_pretraining_learns_the_language(tmp_path, texts):
    steps = []
    learning = {"pretraining_steps": 60, "pretraining_learning_rate": 2e-2}
    trained = _built(tmp_path / "trained", texts[:500], steps.append, **learning)
    random_weights = _built(tmp_path / "random", texts[:500], pretraining_steps=0)
    held_out = texts[500:530]
    assert steps == [1] * 60
    assert _loss(random_weights, held_out) == pytest.approx(6.4, abs=0.2)  # ln 600
    assert _loss(trained, held_out) < 4.0
