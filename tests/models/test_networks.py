"""Building networks: heads and their small start, adapters, pooling, float32, and tokenizers."""

import copy
import importlib.util
from unittest.mock import patch

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, set_seed

from hidden_context import heads
from hidden_context.errors import CheckpointError, ConfigError, MissingDependencyError
from hidden_context.models.engine.pooling import last_attended
from hidden_context.models.network import modules
from hidden_context.models.network.backbone import LoraOptions, build_model, quantization_options
from hidden_context.models.network.tokenizer import length_limit, padding_id, prepare_tokenizer
from support.builders import tiny_classifier, tiny_config, tiny_tokenizer

HEAD = heads.make("mean_and_variance")
LAST = {
    **dict.fromkeys(("gpt2", "llama"), "score"),
    **dict.fromkeys(("bert", "distilbert"), "classifier"),
    **dict.fromkeys(("roberta", "electra"), "classifier.out_proj"),
    "t5": "classification_head.out_proj",
}
NEW = {
    "bert": "bert.pooler.dense",
    "roberta": "classifier.dense",
    "distilbert": "pre_classifier",
    "t5": "classification_head.dense",
}
KINDS = ("gpt2", "llama", *NEW)
TARGETS = {"distilbert": ["q_lin", "v_lin"]}


def build(folder, kind="gpt2", **options):
    set_seed(0)
    lora = LoraOptions(target_modules=TARGETS.get(kind))
    return build_model(folder, HEAD, **({"lora": lora, "pad_token_id": 0} | options))


@pytest.mark.parametrize("kind", KINDS)
def test_new_head_starts_at_a_hundredth(backbones, kind):
    folder = backbones(kind)
    with torch.random.fork_rng():
        set_seed(0)
        stock = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model = build(folder, kind, tuning="full")
    name, layer = modules.final_linear(model)
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
    for model in (build(folder, tuning="full"), build(folder).get_base_model()):
        assert torch.equal(modules.final_linear(model)[1].weight, stored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_adapters_and_every_new_weight_in_float32(backbones, kind, dtype):
    model = build(backbones(kind), kind, dtype=dtype)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    whole = {name.split("model.", 1)[1] for name in trained if "lora_" not in name}
    found = {name.replace("model.", "").replace(".modules_to_save.default", "") for name in whole}
    assert {name.rpartition(".")[0] for name in found} == {LAST[kind], NEW.get(kind, LAST[kind])}
    assert any("lora_A" in name for name in trained)
    assert isinstance(modules.final_linear(model.get_base_model())[1], modules.Float32Linear)
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
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.float32, True)}


def test_lora_options_reach_the_adapter(backbones):
    lora = LoraOptions(r=3, alpha=7, dropout=0.25, target_modules=["c_fc"])
    config = build(backbones("gpt2"), lora=lora).peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 7, 0.25)
    assert config.target_modules == {"c_fc"}
    assert config.fan_in_fan_out
    assert not build(backbones("llama")).peft_config["default"].fan_in_fan_out


def test_what_cannot_be_built_says_so(backbones, monkeypatch):
    with pytest.raises(ConfigError, match="choose lora, full or qlora"):
        build(backbones("gpt2"), tuning="half")
    with pytest.raises(ConfigError, match="lora_target_modules"):
        build(backbones("distilbert"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"hidden-context\[qlora\]"):
        build(backbones("gpt2"), tuning="qlora")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    options = quantization_options()["quantization_config"]
    assert (options.load_in_4bit, options.bnb_4bit_quant_type) == (True, "nf4")


def test_last_attended_position_with_padding_on_either_side():
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert last_attended(mask).tolist() == last_attended(mask.bool()).tolist() == [2, 4, 0, 4]


@pytest.mark.parametrize(("kind", "name"), LAST.items())
def test_final_linear_is_found_whatever_its_name(kind, name):
    model = tiny_classifier(kind, 3, stock=True)
    found, layer = modules.final_linear(model)
    assert (found, layer.out_features) == (name, 3)
    model.config.num_labels = 7
    with pytest.raises(CheckpointError, match="no linear layer with num_outputs 7"):
        modules.final_linear(model)


def test_float32_linear_keeps_what_bfloat16_loses():
    layer = nn.Linear(8, 1)
    reference = copy.deepcopy(layer)
    modules.keep_float32(layer.bfloat16())
    assert type(layer) is modules.Float32Linear
    x = torch.randn(64, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.float32
    assert torch.equal(output, nn.functional.linear(x.float(), layer.weight, layer.bias))
    assert layer(x.double()).dtype == torch.float64
    assert torch.allclose(output, reference(x.float()), atol=0.05)


def test_specialising_is_idempotent_and_keeps_names_and_float64():
    model = tiny_classifier("gpt2", stock=True).double()
    names = list(model.state_dict())
    for _ in range(2):
        modules.specialise_for_rewards(model)
        classes = [cls.__name__ for cls in type(model).__mro__[:2]]
        assert classes == ["GPT2ForSequenceClassification", "LastAttendedPooling"]
    assert model.score.weight.dtype == torch.float64
    assert list(model.state_dict()) == names


def test_decoders_read_hidden_states_and_keep_no_cache():
    model = tiny_classifier("gpt2")
    with patch.object(model.transformer, "forward", wraps=model.transformer.forward) as forward:
        output = model(torch.tensor([[17, 80, 33]]), output_hidden_states=True, labels=None)
    assert len(output.hidden_states) == 3
    assert forward.call_args.kwargs["use_cache"] is False


def test_padding_token_where_there_is_none():
    tokenizer = tiny_tokenizer(pad=None)
    tokenizer.padding_side = "left"
    assert padding_id(tokenizer) == 0
    prepare_tokenizer(tokenizer)
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("</s>", "right")
    assert padding_id(tokenizer) == 2
    kept = tiny_tokenizer()
    prepare_tokenizer(kept)
    assert kept.pad_token == "<pad>"


@pytest.mark.parametrize(
    ("kind", "tokenizer_limit", "wanted", "expected"),
    [
        ("gpt2", 10**30, None, 128),
        ("gpt2", 10**30, 1024, 128),
        ("gpt2", 64, 1024, 64),
        ("gpt2", 64, 32, 32),
        ("roberta", 10**30, None, 128),  # 130 positions, from pad_token_id + 1 on
        ("t5", 10**30, None, 1024),  # relative positions: no limit of its own
        ("t5", 10**30, 4096, 4096),
    ],
)
def test_length_limits(kind, tokenizer_limit, wanted, expected):
    config = tiny_config(kind, pad_token_id=1)
    limit = length_limit(tiny_tokenizer(max_length=tokenizer_limit), config, wanted)
    assert limit == expected
    if kind != "roberta":
        return
    model, ids = AutoModel.from_config(config), torch.full((1, limit + 1), 7)
    assert model(input_ids=ids[:, :-1])[0].shape == (1, limit, 32)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids)
