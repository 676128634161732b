"""Adapters: as others save them, what is missing in their files, and several on one backbone."""

import dataclasses
import re
import shutil
from functools import partialmethod
from itertools import pairwise
from pathlib import Path

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel, adapter_name
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.models.engine.pooling import LastAttendedPooling
from hidden_context.models.network.modules import Float32Linear, final_linear
from hidden_context.models.network.tokenizer import load_tokenizer
from hidden_context.scoring.config import ModelOptions
from hidden_context.scoring.loading import load_model
from support.builders import sample_texts
from support.models import (
    NORMAL,
    edit_json,
    edit_weights,
    load,
    moved,
    one_by_one,
    refusal,
    sequence_model,
    write_ensemble,
)

TEXTS = sample_texts(3)
EIGHT = sample_texts(8)
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
    assert re.search("42[02].*42[02]", refusal(load, tmp_path / "a"))


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        (peft.PrefixTuningConfig, {}, "is a PREFIX_TUNING adapter"),
        (peft.PromptTuningConfig, {}, "is a PROMPT_TUNING adapter"),
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
        peft.IA3Config(task_type="SEQ_CLS", target_modules=["k_proj"], feedforward_modules=[]),
        peft.LoHaConfig(**LORA),
        peft.OFTConfig(task_type="SEQ_CLS", target_modules=["q_proj"], oft_block_size=8),
        LoraConfig(use_dora=True, **LORA),
        LoraConfig(lora_bias=True, **LORA),
        LoraConfig(trainable_token_indices=[5, 6], **LORA),
    ],
    ids=["IA3", "LoHa", "OFT", "DoRA", "biases", "tokens"],
)
def test_adapters_of_layers_load_exactly(backbones, tmp_path, config):
    assert same(tmp_path / "a", save(tmp_path / "a", backbones("llama"), config), 1e-4)


@pytest.mark.parametrize(
    "extra", ["score.lora_A", "model.layers.2.mlp.lora_A", "score.modules_to_save"]
)
def test_surplus_weights_of_an_adapter_are_named(adapter, extra):
    folder, raw = adapter
    weights, key = folder / "adapter_model.safetensors", f"{PEFT}.{extra}.weight"
    # a language model's head changes nothing
    edit_weights(weights, **{f"{PEFT}.lm_head.weight": torch.ones(420, 32)})
    assert same(folder, raw)
    edit_weights(weights, **{key: torch.ones(1, 32)})
    assert f"only one of the two has the weight {key}" in refusal(load, folder)


def test_members_bring_no_weights_of_the_backbone_they_share(saved, backbones, tmp_path):
    embeddings = load_file(Path(backbones("llama")) / "model.safetensors")
    key = "model.embed_tokens.weight"
    for member in ("member_0", "member_1"):
        folder = Path(shutil.copytree(saved("ensemble"), tmp_path / member))
        brought = {f"{PEFT}.{key}": 2 * embeddings[key]}
        edit_weights(folder / member / "adapter_model.safetensors", **brought)
        assert f"contains the weight {PEFT}.{key} of the backbone" in refusal(load, folder)


def members(folder, count=3, **options):
    return [load(folder / f"member_{number}", **options) for number in range(count)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_raw_outputs_are_the_members_side_by_side(backbones, tmp_path, kind, dtype):
    write_ensemble(tmp_path / "model", backbones(kind), last=20.3, dtype=getattr(torch, dtype))
    model = load(tmp_path / "model", dtype=dtype)
    assert isinstance(model, AdapterEnsembleRewardModel)
    raw, each = model.raw_outputs(EIGHT), members(tmp_path / "model", dtype=dtype)
    alone = [member.raw_outputs(EIGHT) for member in each]
    assert torch.allclose(raw, torch.cat(alone, dim=-1), atol=1e-6, rtol=1e-6)
    for one, other in pairwise(alone):
        assert (one - other).abs().mean() > 1e-2
    assert raw.dtype == torch.float32
    assert not torch.equal(raw, raw.bfloat16().float())
    assert model.engine.name == ("padded" if kind == "bert" else "tree")
    embeddings = {"gpt2": "wte.weight", "llama": "embed_tokens.weight", "bert": "word_embeddings."}
    copies = [name for name, _ in model.module.named_parameters() if embeddings[kind] in name]
    assert len(copies) == 1  # one backbone, whatever the number of members
    for number, member in enumerate(each):  # whichever adapter is active
        model.activate(number)
        classifier = model.module.get_base_model()
        assert isinstance(classifier, LastAttendedPooling) == (kind != "bert")
        name, layer = final_linear(classifier)
        assert isinstance(layer, Float32Linear)
        assert not any(parameter.requires_grad for parameter in model.module.parameters())
        wrapper = classifier.get_submodule(name.split(".")[0])
        weight = wrapper.modules_to_save[adapter_name(number)].weight
        assert weight.dtype == torch.float32
        assert torch.equal(weight, final_linear(member.module.get_base_model())[1].weight)


@pytest.mark.slow
def test_it_can_be_compiled(saved, monkeypatch):
    """With kernels as they are: what is tested is that every member is traced."""
    original = torch.nn.Module.compile
    eager = partialmethod(lambda self, **_: original(self, backend="eager"))
    monkeypatch.setattr(torch.nn.Module, "compile", eager)
    model = load(saved("ensemble"))
    expected = model.raw_outputs(EIGHT[:2], engine="padded")
    model.compile()
    found = model.raw_outputs(EIGHT[:2], engine="padded")
    torch.compiler.reset()
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_what_was_learned_beside_the_network_is_every_members_own(backbones, tmp_path):
    write_ensemble(tmp_path / "made", backbones("llama"), heads.make("factor", num_factors=2))
    model = load(tmp_path / "made")
    options = LikelihoodOptions(3, inference="variational", names=("anna", "ben"), seed=5)
    model.likelihood = likelihood = make_likelihood(model.head, options)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter))
    head = model.head.in_one_unit(*model.raw_outputs(EIGHT).chunk(2))
    likelihood.head = head
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.head == head
    assert again.likelihood.options == options
    state = likelihood.state_dict()
    torch.testing.assert_close(again.likelihood.state_dict(), state, rtol=0, atol=0)
    rewards = again.score(EIGHT, annotator="ben")
    for number, alone in enumerate(members(tmp_path / "saved")):
        for name, value in alone.likelihood.state_dict().items():
            assert torch.equal(value, state[f"members.{number}.{name}"]), name
        own, of_ensemble = alone.score(EIGHT, annotator="ben").mean, rewards.members.mean[:, number]
        found = (of_ensemble - own) / head.scale[number]
        assert torch.allclose(found, torch.zeros(8), atol=1e-5)
    assert not torch.allclose(rewards.mean, again.score(EIGHT, annotator="anna").mean, atol=1e-2)


def test_a_members_folder_replaced_is_another_member_that_is_known(copied, backbones):
    folder = copied("ensemble")
    assert isinstance(load_model(str(folder), ModelOptions()), AdapterEnsembleRewardModel)
    card = (folder / "member_1" / "README.md").read_text()
    assert "- part: member 1 of an ensemble of 3" in card
    digests, before = weight_digests(folder), load(folder).raw_outputs(EIGHT)
    (folder / "eval_results.jsonl").write_text("")
    assert weight_digests(folder) == digests
    assert sum("adapter_model" in name for name in digests) == 3
    assert "backbone/model.safetensors" in digests
    sequence_model(backbones("llama"), seed=9).save_pretrained(folder / "member_1")
    assert weight_digests(folder) != digests
    after = load(folder).raw_outputs(EIGHT)
    assert torch.equal(before[:, [0, 1, 4, 5]], after[:, [0, 1, 4, 5]])
    assert not torch.allclose(before[:, 2:4], after[:, 2:4], atol=1e-2)


@pytest.mark.parametrize(
    ("number", "kind", "head", "words"),
    [
        (1, "llama", heads.make("base"), "has a head with num_outputs 1, but the mean_and"),
        (2, "gpt2", NORMAL, "does not fit the backbone"),
        (0, "gpt2", NORMAL, "does not fit the backbone"),
    ],
)
def test_members_that_do_not_fit_are_refused(backbones, copied, number, kind, head, words):
    folder = copied("ensemble")
    sequence_model(backbones(kind), head).save_pretrained(folder / f"member_{number}")
    assert words in refusal(load, folder, base_model=backbones("llama"))
    if kind == "gpt2":
        with pytest.raises(CheckpointError, match=r"different backbones .*an ensemble has one"):
            load(folder)


def test_heads_and_adapters_have_to_fit(saved):
    model = load(saved("ensemble"))
    for head in (NORMAL, dataclasses.replace(model.head, num_members=2, location=(), scale=())):
        with pytest.raises(ConfigError, match="an ensemble of adapters needs an ensemble head"):
            AdapterEnsembleRewardModel(model.module, model.tokenizer, make_likelihood(head), 100)
