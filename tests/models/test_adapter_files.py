"""Adapters as others save them: tasks, vocabularies, kinds, and what is missing in their files."""

from __future__ import annotations

import json
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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from hidden_context import heads
from hidden_context.data.files import write_json
from hidden_context.errors import CheckpointError, DataError
from hidden_context.heads import EnsembleHead
from hidden_context.models import RewardModel
from hidden_context.models.head_file import HeadFile
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import sample_texts

TEXTS = sample_texts(3)
LORA = {"r": 2, "target_modules": ["q_proj"]}


def load(folder, **options):
    return RewardModel.from_pretrained(folder, dtype="float32", device="cpu", **options)


def save(folder, base, config, *, tokens=0, num_labels=1, **changes):
    """Save a PEFT adapter whose weights have moved; return rewards as PEFT computes them."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=num_labels)
    tokenizer.add_tokens([f"<new {number}>" for number in range(tokens)])
    if tokens:
        model.resize_token_embeddings(len(load_tokenizer(base)) + tokens)
    wrapped = get_peft_model(model, config).eval()
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in [*TEXTS, "Tea <new 0>"]]
        raw = torch.cat([wrapped(input_ids=each).logits for each in ids[: 3 + bool(tokens)]])
    wrapped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return raw


def refusal(folder, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("task", ["CAUSAL_LM", "TOKEN_CLS", None])
@pytest.mark.parametrize("saved", [["score"], None])
def test_a_saved_head_makes_a_reward_model_whatever_the_task_is_called(
    backbones, tmp_path, task, saved
):
    base = backbones("llama")
    raw = save(tmp_path / "a", base, LoraConfig(task_type="SEQ_CLS", **LORA))
    path = tmp_path / "a" / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"task_type": task, "modules_to_save": saved}))
    assert torch.allclose(load(tmp_path / "a").raw_outputs(TEXTS), raw, atol=1e-5)


def test_an_adapter_without_a_head_takes_its_backbones(backbones, tmp_path):
    base = backbones("llama", num_labels=1)
    raw = save(tmp_path / "a", base, LoraConfig(**LORA))
    assert torch.allclose(load(tmp_path / "a").raw_outputs(TEXTS), raw, atol=1e-5)
    path = tmp_path / "a" / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"task_type": "CAUSAL_LM"}))
    assert torch.allclose(load(tmp_path / "a").raw_outputs(TEXTS), raw, atol=1e-5)
    # one that was trained with a head of its own is not complete without it
    path.write_text(json.dumps(content | {"task_type": "SEQ_CLS"}))
    assert "base_model.model.score.weight" in refusal(tmp_path / "a")


@pytest.mark.parametrize("saved", [["score", "embed_tokens"], ["score"]])
@pytest.mark.parametrize("tokens", [1, 3])
def test_added_tokens_come_with_the_adapter(backbones, tmp_path, saved, tokens):
    config = LoraConfig(task_type="SEQ_CLS", modules_to_save=saved, **LORA)
    raw = save(tmp_path / "a", backbones("llama"), config, tokens=tokens)
    found = load(tmp_path / "a").raw_outputs([*TEXTS, "Tea <new 0>"])
    assert torch.allclose(found, raw, atol=1e-5)


def test_added_tokens_that_the_adapter_does_not_carry_are_named_with_both_sizes(
    backbones, tmp_path
):
    base = backbones("llama")
    config = LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], **LORA)
    raw = save(tmp_path / "a", base, config, tokens=1)
    path = tmp_path / "a" / "adapter_model.safetensors"
    state = {key: value for key, value in load_file(path).items() if "embed_tokens" not in key}
    save_file(state, path)
    model = load(tmp_path / "a")
    assert torch.allclose(model.raw_outputs(TEXTS), raw[:3], atol=1e-5)
    size = len(load_tokenizer(base))
    with pytest.raises(DataError, match=rf"token {size}, but .* vocabulary has {size} tokens"):
        model.raw_outputs(["Tea <new 0>"])


def test_lora_on_a_larger_vocabulary_names_both_sizes(backbones, tmp_path):
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["embed_tokens"])
    save(tmp_path / "a", backbones("llama"), config, tokens=2)
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "base_layer" not in k}, path)
    size = len(load_tokenizer(backbones("llama")))
    message = refusal(tmp_path / "a")
    assert str(size) in message
    assert str(size + 2) in message


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3), "PREFIX_TUNING"),
        (PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3), "PROMPT_TUNING"),
    ],
)
def test_adapters_of_the_input_are_refused_by_name(backbones, tmp_path, config, kind):
    save(tmp_path / "a", backbones("llama"), config)
    assert f"is a {kind} adapter" in refusal(tmp_path / "a")


def test_a_kind_of_a_later_release_is_refused(backbones, tmp_path):
    config = LoraConfig(task_type="SEQ_CLS", **LORA)
    save(tmp_path / "a", backbones("llama"), config, peft_type="SUPER_LORA")
    assert "pip install -U peft" in refusal(tmp_path / "a")


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(task_type="SEQ_CLS", target_modules=["k_proj"], feedforward_modules=[]),
        LoHaConfig(task_type="SEQ_CLS", **LORA),
        OFTConfig(task_type="SEQ_CLS", target_modules=["q_proj"], oft_block_size=8),
        LoraConfig(task_type="SEQ_CLS", use_dora=True, **LORA),
        LoraConfig(task_type="SEQ_CLS", lora_bias=True, **LORA),
        LoraConfig(task_type="SEQ_CLS", trainable_token_indices=[5, 6], **LORA),
    ],
    ids=["IA3", "LoHa", "OFT", "DoRA", "biases", "tokens"],
)
def test_adapters_of_layers_load_exactly(backbones, tmp_path, config):
    raw = save(tmp_path / "a", backbones("llama"), config)
    assert torch.allclose(load(tmp_path / "a").raw_outputs(TEXTS), raw, atol=1e-4)


@pytest.mark.parametrize("extra", ["score.lora_A.weight", "model.layers.2.mlp.lora_A.weight"])
def test_surplus_weights_of_an_adapter_are_named(backbones, tmp_path, extra):
    save(tmp_path / "a", backbones("llama"), LoraConfig(task_type="SEQ_CLS", **LORA))
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file(load_file(path) | {f"base_model.model.{extra}": torch.ones(2, 2)}, path)
    assert f"base_model.model.{extra}" in refusal(tmp_path / "a")


def test_a_second_head_in_an_adapters_file_is_refused(backbones, tmp_path):
    save(tmp_path / "a", backbones("llama"), LoraConfig(task_type="SEQ_CLS", **LORA))
    path, head = tmp_path / "a" / "adapter_model.safetensors", "base_model.model.score"
    state = load_file(path)
    second = {f"{head}.modules_to_save.weight": 2 * state[f"{head}.weight"]}
    save_file(state | second, path)
    assert f"only one of them has the weight {head}.modules_to_save" in refusal(tmp_path / "a")


def test_a_language_models_head_beside_an_adapter_changes_nothing(backbones, tmp_path):
    raw = save(tmp_path / "a", backbones("llama"), LoraConfig(task_type="SEQ_CLS", **LORA))
    path = tmp_path / "a" / "adapter_model.safetensors"
    key = "base_model.model.lm_head.weight"
    save_file(load_file(path) | {key: torch.ones(420, 32)}, path)
    assert torch.allclose(load(tmp_path / "a").raw_outputs(TEXTS), raw, atol=1e-5)


def test_members_bring_no_weights_of_the_backbone_they_share(backbones, tmp_path):
    base, head = backbones("llama"), heads.make("base")
    save(tmp_path / "e" / "member_0", base, LoraConfig(task_type="SEQ_CLS", **LORA))
    save(tmp_path / "e" / "member_1", base, LoraConfig(task_type="SEQ_CLS", **LORA))
    names = {"format": 1, "members": ["member_0", "member_1"]}
    write_json(tmp_path / "e" / "adapter_ensemble.json", names)
    HeadFile(EnsembleHead(head, 2), 128, base).save(tmp_path / "e")
    load_tokenizer(base).save_pretrained(tmp_path / "e")
    assert load(tmp_path / "e").raw_outputs(TEXTS).shape == (3, 2)
    for member in ("member_0", "member_1"):
        folder = Path(shutil.copytree(tmp_path / "e", tmp_path / member))
        path = folder / member / "adapter_model.safetensors"
        embeddings = load_file(Path(base) / "model.safetensors")["model.embed_tokens.weight"]
        key = "base_model.model.model.embed_tokens.weight"
        save_file(load_file(path) | {key: 2 * embeddings}, path)
        assert f"holds the weight {key} of the backbone" in refusal(folder)


def test_peft_reads_what_was_loaded_and_saved_again(backbones, tmp_path):
    base = backbones("llama")
    raw = save(tmp_path / "a", base, LoraConfig(task_type="SEQ_CLS", **LORA))
    path = tmp_path / "a" / "adapter_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"task_type": "CAUSAL_LM"}))
    load(tmp_path / "a").save_pretrained(tmp_path / "again")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    stock = PeftModel.from_pretrained(model, tmp_path / "again").eval()
    tokenizer = load_tokenizer(str(tmp_path / "again"))
    with torch.no_grad():
        found = [stock(torch.tensor([tokenizer(text)["input_ids"]])).logits for text in TEXTS]
    assert torch.allclose(torch.cat(found), raw, atol=1e-5)
