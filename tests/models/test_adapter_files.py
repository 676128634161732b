"""Adapters as others save them: tasks, vocabularies, kinds, and what is missing in their files."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hidden_context import heads
from hidden_context.errors import DataError
from hidden_context.models.checkpoint.head_file import HeadFile
from hidden_context.models.network.tokenizer import load_tokenizer
from support.builders import sample_texts
from support.models import edit_json, edit_weights, load, moved, one_by_one, refusal

TEXTS = sample_texts(3)
LORA = {"task_type": "SEQ_CLS", "r": 2, "target_modules": ["q_proj"]}
PEFT = "base_model.model"


def save(folder, base, config, *, tokens=0, **changes):
    """Save a PEFT adapter whose weights have moved; return rewards as PEFT computes them."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    if tokens:
        model.resize_token_embeddings(len(tokenizer) + tokens)
        tokenizer.add_tokens([f"<new {number}>" for number in range(tokens)])
    wrapped = moved(get_peft_model(model, config), last=1.0)
    wrapped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_json(Path(folder) / "adapter_config.json", **changes)
    return one_by_one(wrapped, tokenizer, [*TEXTS, *["Tea <new 0>"][:tokens]])


@pytest.fixture
def adapter(backbones, tmp_path):
    """The folder of a LoRA adapter with its head, and its rewards."""
    raw = save(tmp_path / "a", backbones("llama"), LoraConfig(**LORA))
    return tmp_path / "a", raw


def same(folder, raw, tolerance=1e-5):
    return torch.allclose(load(folder).raw_outputs(TEXTS), raw[:3], atol=tolerance)


@pytest.mark.parametrize("task", ["CAUSAL_LM", "TOKEN_CLS", None])
@pytest.mark.parametrize("saved", [["score"], None])
def test_a_saved_head_makes_a_reward_model_whatever_the_task_is_called(
    backbones, adapter, tmp_path, task, saved
):
    folder, raw = adapter
    edit_json(folder / "adapter_config.json", task_type=task, modules_to_save=saved)
    assert same(folder, raw)
    # PEFT reads what was loaded and is saved again
    load(folder).save_pretrained(tmp_path / "again")
    model = AutoModelForSequenceClassification.from_pretrained(backbones("llama"), num_labels=1)
    stock = PeftModel.from_pretrained(model, tmp_path / "again")
    found = one_by_one(stock, load_tokenizer(str(tmp_path / "again")), TEXTS)
    assert torch.allclose(found, raw, atol=1e-5)


def test_an_adapter_without_a_head_takes_its_backbones(backbones, tmp_path):
    base, folder = backbones("llama", num_labels=1), tmp_path / "a"
    raw = save(folder, base, LoraConfig(r=2, target_modules=["q_proj"]))
    assert same(folder, raw)
    edit_json(folder / "adapter_config.json", task_type="CAUSAL_LM")
    assert same(folder, raw)
    # one that was trained with a head of its own is not complete without it
    edit_json(folder / "adapter_config.json", task_type="SEQ_CLS")
    assert f"{PEFT}.score.weight" in refusal(load, folder)


@pytest.mark.parametrize("saved", [["score", "embed_tokens"], ["score"]])
@pytest.mark.parametrize("tokens", [1, 3])
def test_added_tokens_come_with_the_adapter(backbones, tmp_path, saved, tokens):
    config = LoraConfig(modules_to_save=saved, **LORA)
    raw = save(tmp_path / "a", backbones("llama"), config, tokens=tokens)
    found = load(tmp_path / "a").raw_outputs([*TEXTS, "Tea <new 0>"])
    assert torch.allclose(found, raw, atol=1e-5)
    # without them texts of other tokens score, and theirs names both sizes
    edit_weights(tmp_path / "a" / "adapter_model.safetensors", ["embed_tokens"])
    if saved == ["score"]:
        assert same(tmp_path / "a", raw)
        with pytest.raises(DataError, match=r"token 420, but .* vocabulary has 420 tokens"):
            load(tmp_path / "a").raw_outputs(["Tea <new 0>"])


def test_lora_on_a_larger_vocabulary_names_both_sizes(backbones, tmp_path):
    config = LoraConfig(**LORA | {"target_modules": ["embed_tokens"]})
    save(tmp_path / "a", backbones("llama"), config, tokens=2)
    edit_weights(tmp_path / "a" / "adapter_model.safetensors", ["base_layer"])
    message = refusal(load, tmp_path / "a")
    assert "420" in message
    assert "422" in message


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (PrefixTuningConfig, {}, "is a PREFIX_TUNING adapter"),
        (PromptTuningConfig, {}, "is a PROMPT_TUNING adapter"),
        (LoraConfig, {"peft_type": "SUPER_LORA"}, "pip install -U peft"),  # of a later release
    ],
)
def test_kinds_that_do_not_load_are_refused_by_name(backbones, tmp_path, config, changes, words):
    options = LORA if config is LoraConfig else {"task_type": "SEQ_CLS", "num_virtual_tokens": 3}
    save(tmp_path / "a", backbones("llama"), config(**options), **changes)
    assert words in refusal(load, tmp_path / "a")


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(task_type="SEQ_CLS", target_modules=["k_proj"], feedforward_modules=[]),
        LoHaConfig(**LORA),
        OFTConfig(task_type="SEQ_CLS", target_modules=["q_proj"], oft_block_size=8),
        LoraConfig(use_dora=True, **LORA),
        LoraConfig(lora_bias=True, **LORA),
        LoraConfig(trainable_token_indices=[5, 6], **LORA),
    ],
    ids=["IA3", "LoHa", "OFT", "DoRA", "biases", "tokens"],
)
def test_adapters_of_layers_load_exactly(backbones, tmp_path, config):
    assert same(tmp_path / "a", save(tmp_path / "a", backbones("llama"), config), 1e-4)


@pytest.mark.parametrize(
    "extra",
    [
        "score.lora_A.weight",
        "model.layers.2.mlp.lora_A.weight",
        "score.modules_to_save.weight",  # a second head
    ],
)
def test_surplus_weights_of_an_adapter_are_named(adapter, extra):
    edit_weights(adapter[0] / "adapter_model.safetensors", **{f"{PEFT}.{extra}": torch.ones(1, 32)})
    message = refusal(load, adapter[0])
    assert f"only one of them has the weight {PEFT}.{extra}" in message


def test_a_language_models_head_beside_an_adapter_changes_nothing(adapter):
    key = f"{PEFT}.lm_head.weight"
    edit_weights(adapter[0] / "adapter_model.safetensors", **{key: torch.ones(420, 32)})
    assert same(*adapter)


def test_members_bring_no_weights_of_the_backbone_they_share(backbones, tmp_path):
    base, whole = backbones("llama"), tmp_path / "e"
    members = ["member_0", "member_1"]
    for member in members:
        save(whole / member, base, LoraConfig(**LORA))
    (whole / "adapter_ensemble.json").write_text("{}")
    edit_json(whole / "adapter_ensemble.json", format=1, members=members)
    HeadFile(heads.EnsembleHead(heads.make("base"), 2), 128, base).save(whole)
    load_tokenizer(base).save_pretrained(whole)
    assert load(whole).raw_outputs(TEXTS).shape == (3, 2)
    embeddings = load_file(Path(base) / "model.safetensors")["model.embed_tokens.weight"]
    key = f"{PEFT}.model.embed_tokens.weight"
    for member in members:
        folder = Path(shutil.copytree(whole, tmp_path / member))
        edit_weights(folder / member / "adapter_model.safetensors", **{key: 2 * embeddings})
        assert f"holds the weight {key} of the backbone" in refusal(load, folder)
