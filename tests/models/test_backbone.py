from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForSequenceClassification, set_seed

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, MissingDependencyError
from hidden_context.models.backbone import LoraOptions, build_model, load_classifier
from hidden_context.models.modules import Float32Linear, final_linear

HEAD = heads.make("mean_and_variance")
TARGETS = {"distilbert": ["q_lin", "v_lin"]}


def build(folder, kind="gpt2", **options):
    set_seed(0)
    return build_model(
        folder, HEAD, lora=LoraOptions(target_modules=TARGETS.get(kind)), pad_token_id=0, **options
    )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta", "distilbert", "t5"])
def test_new_head_starts_at_a_hundredth(backbones, kind):
    folder = backbones(kind)
    with torch.random.fork_rng():
        set_seed(0)
        stock = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model = build(folder, kind, tuning="full")
    name, layer = final_linear(model)
    expected = stock.get_submodule(name)
    assert expected.weight.abs().max() > 1e-3
    assert torch.allclose(layer.weight, 0.01 * expected.weight, atol=1e-9)
    if layer.bias is not None:
        assert torch.allclose(layer.bias, 0.01 * expected.bias, atol=1e-9)
    assert model.config.problem_type == "regression"
    assert model.config.pad_token_id == 0


def test_a_trained_head_is_not_scaled(backbones):
    folder = backbones("gpt2", num_labels=2)
    stored = AutoModelForSequenceClassification.from_pretrained(folder).score.weight
    assert torch.equal(build(folder, tuning="full").score.weight, stored)
    lora = build(folder)
    assert torch.equal(final_linear(lora.get_base_model())[1].weight, stored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta", "distilbert", "t5"])
def test_lora_trains_adapters_and_every_new_weight_in_float32(backbones, kind, dtype):
    model = build(backbones(kind), kind, dtype=dtype)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    whole = {name.split("model.", 1)[1] for name in trained if "lora_" not in name}
    expected = {
        "gpt2": {"score"},
        "llama": {"score"},
        "bert": {"classifier", "bert.pooler.dense"},
        "roberta": {"classifier.dense", "classifier.out_proj"},
        "distilbert": {"classifier", "pre_classifier"},
        "t5": {"classification_head.dense", "classification_head.out_proj"},
    }[kind]
    found = {name.replace("model.", "").replace(".modules_to_save.default", "") for name in whole}
    assert {name.rpartition(".")[0] for name in found} == expected
    assert any("lora_A" in name for name in trained)
    assert isinstance(final_linear(model.get_base_model())[1], Float32Linear)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad and p.dim() > 1}
    assert dtype in frozen


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "bert"])
def test_a_step_in_bfloat16_moves_head_and_adapters(backbones, kind):
    model = build(backbones(kind), dtype=torch.bfloat16)
    before = copy.deepcopy({n: p for n, p in model.named_parameters() if p.requires_grad})
    # LoRA's B is zero at first, so A only moves from the second step on
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    ids = torch.randint(3, 400, (4, 10))
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        assert logits.dtype == torch.float32
        optimizer.zero_grad()
        (1e8 * logits).square().sum().backward()
        optimizer.step()
    moved = {n: (p - before[n]).abs().max() for n, p in model.named_parameters() if n in before}
    assert min(moved.values()) > 5e-6, moved  # in bfloat16 such a step would vanish in most weights


def test_full_tuning_keeps_float32_weights(backbones):
    model = build(backbones("gpt2"), tuning="full", dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in model.parameters())


def test_lora_options_reach_the_adapter(backbones):
    model = build_model(
        backbones("gpt2"),
        HEAD,
        lora=LoraOptions(r=3, alpha=7, dropout=0.25, target_modules=["c_fc"]),
    )
    config = model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 7, 0.25)
    assert config.target_modules == {"c_fc"}
    assert config.fan_in_fan_out
    assert not build(backbones("llama")).peft_config["default"].fan_in_fan_out


def test_what_cannot_be_built_says_so(backbones):
    with pytest.raises(ConfigError, match="choose lora, full or qlora"):
        build(backbones("gpt2"), tuning="half")
    with pytest.raises(ConfigError, match="lora_target_modules"):
        build(backbones("distilbert"))
    with pytest.raises(CheckpointError, match="neither a local folder nor a model"):
        load_classifier("/no/such/folder", 1)
    with pytest.raises(CheckpointError, match="does not have 5 outputs"):
        load_classifier(backbones("gpt2", num_labels=2), 5)


def test_qlora_without_bitsandbytes_names_the_extra(backbones, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"hidden-context\[qlora\]"):
        build(backbones("gpt2"), tuning="qlora")


def test_qlora_asks_for_four_bits(monkeypatch):
    import importlib.util

    from hidden_context.models.backbone import quantization_options

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    options = quantization_options()["quantization_config"]
    assert options.load_in_4bit
    assert options.bnb_4bit_quant_type == "nf4"
