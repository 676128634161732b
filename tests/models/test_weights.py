"""Weights that a checkpoint lacks, holds beyond its model, or names in other trainers' ways."""

import importlib.util
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from hidden_context import heads
from hidden_context.errors import MissingDependencyError
from hidden_context.models.featurizer import Featurizer
from hidden_context.models.network.backbone import LoraOptions, build_model
from hidden_context.models.network.modules import final_linear
from support.builders import sample_texts
from support.models import edit_json, edit_weights, load, one_by_one, refusal, sequence_model

TEXTS = sample_texts(3)
BASE = heads.make("base")


def load_backbone(name):
    return Featurizer(str(name)).model


def build(name, **options):
    return build_model(str(name), BASE, **options)


build_whole = partial(build, tuning="full")
EVERY = (load, build, build_whole, load_backbone)


@pytest.fixture
def changed(backbones, tmp_path):
    """``changed(kind, drop, extra, prefix)`` copies a backbone and changes its weights."""

    def make(kind, drop=(), extra=None, prefix="", **options):
        folder = tmp_path / f"changed {len(list(tmp_path.iterdir()))}"
        shutil.copytree(backbones(kind, **options), folder)
        path = folder / "model.safetensors"
        edit_weights(path, drop, **extra or {})
        state = {f"{prefix}{key}": value for key, value in load_file(path).items()}
        save_file(state, path, {"format": "pt"})
        return folder

    return make


def test_a_heads_bias_is_part_of_the_reward(backbones, changed, tmp_path):
    plain = backbones("llama", num_labels=1)
    folder = changed("llama", extra={"score.bias": torch.tensor([7.5])}, num_labels=1)
    expected = load(plain).raw_outputs(TEXTS) + 7.5
    model = load(folder)
    model.save_pretrained(tmp_path / "saved")
    # an adapter is trained and saved with it
    adapted = sequence_model(str(folder), BASE)
    adapted.save_pretrained(tmp_path / "adapter")
    trained = adapted.raw_outputs(TEXTS)
    for found, raw in (
        (model, expected),
        (load(tmp_path / "saved"), expected),
        (load(tmp_path / "adapter"), trained),
        (load(tmp_path / "adapter", base_model=plain), trained),
    ):
        assert torch.allclose(found.raw_outputs(TEXTS), raw, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["v_head.summary", "v_head", "value_head"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_value_heads_of_other_trainers_score(backbones, changed, name, prefix):
    """Saved with a language model, or in a file beside it; its configuration knows of no head."""
    head, bias = torch.randn(1, 32), torch.tensor([0.25])
    value = {f"{name}.weight": head, f"{name}.bias": bias}
    stock = AutoModelForSequenceClassification.from_pretrained(backbones("llama"), num_labels=1)
    stock.score.weight.data = head
    beside = changed("llama")
    save_file(value, beside / "value_head.safetensors")
    for folder in (changed("llama", extra=value, prefix=prefix), beside):
        model = load(folder)
        expected = one_by_one(stock, model.tokenizer, TEXTS) + bias
        assert torch.allclose(model.raw_outputs(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("drop", "names", "shape", "words"),
    [
        (
            *("score", ["v_head.summary.0.weight", "v_head.summary.2.weight"], (4, 32)),
            "has 2 weights (v_head.summary.0.weight, v_head.summary.2.weight) that "
            "LlamaForSequenceClassification does not use and lacks the weight score.weight",
        ),
        ("score", ["regression_layer.weight"], (1, 32), "the weight regression_layer.weight"),
        ("none", ["value_head.weight"], (1, 32), "has the weight value_head.weight"),
        ("score", ["v_head.weight"], (3, 32), "has num_outputs 3, not 1"),
        ("none", ["module.score.weight"], (1, 32), "the weight score.weight under different names"),
        ("none", ["norm.weight"], (32,), "copies of the weight norm.weight under different"),
    ],
)
def test_heads_and_names_that_cannot_be_placed_are_named(changed, drop, names, shape, words):
    extra = {name: torch.ones(shape) for name in names}
    assert words in refusal(load, changed("llama", [drop], extra, num_labels=1))


def test_wrappers_prefixes_are_not_saved_again(changed, tmp_path):
    load(changed("llama", prefix="_orig_mod.", num_labels=1)).save_pretrained(tmp_path / "saved")
    assert not any("_orig_mod" in key for key in load_file(tmp_path / "saved/model.safetensors"))
    _, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not info["missing_keys"]


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("bert", ("cls.predictions.bias", "cls.seq_relationship.weight", "bert.position_ids")),
        ("roberta", ("roberta.pooler.dense.weight", "lm_head.dense.weight", "lm_head.bias")),
        ("distilbert", ("vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.bias")),
        ("electra", ("discriminator_predictions.dense.weight", "generator_lm_head.bias")),
        ("gpt2", ("lm_head.weight", "transformer.h.0.attn.bias", "h.1.attn.masked_bias")),
        ("gpt_neox", ("embed_out.weight", "gpt_neox.layers.0.attention.rotary_emb.inv_freq")),
        ("t5", ("lm_head.weight",)),
        ("llama", ("lm_head.weight", "layers.0.self_attn.rotary_emb.inv_freq", "position_ids")),
    ],
)
def test_harmless_leftovers_change_nothing(backbones, changed, kind, left):
    extra = {key: torch.ones(32, 32) for key in left}
    folder = changed(kind, extra=extra, num_labels=1)
    expected = load(backbones(kind, num_labels=1)).raw_outputs(TEXTS)
    assert torch.allclose(load(folder).raw_outputs(TEXTS), expected, atol=1e-5)
    build_whole(folder)
    load_backbone(folder)


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("bert", "bert.encoder.layer.2.output.dense.weight"),
        ("bert", "bert.pooler.dense.lora_B.default.weight"),
        ("llama", "model.layers.0.self_attn.q_proj.bias"),
        ("llama", "layers.2.mlp.up_proj.weight"),
        ("gpt2", "transformer.h.0.attn.c_attn.base_layer.weight"),
        ("t5", "transformer.decoder.block.2.layer.0.SelfAttention.k.weight"),
        ("llama", "projector.weight"),  # beside the backbone it does not matter to training
    ],
)
def test_surplus_weights_that_matter_are_named(changed, kind, extra):
    folder = changed(kind, extra={extra: torch.ones(2, 2)}, num_labels=1)
    assert f"has the weight {extra} that" in refusal(load, folder)
    for call in (build_whole, load_backbone):
        if extra.startswith("projector"):
            call(folder)
        else:
            assert f"has the weight {extra} that" in refusal(call, folder)


@pytest.mark.parametrize(
    ("kind", "lost", "calls"),
    [
        # training draws a new head, but no part of a trained one, and no layer of the backbone
        ("roberta", "classifier.out_proj.bias", (load, build)),
        ("distilbert", "pre_classifier.bias", (load, build)),
        ("llama", "layers.1.mlp.up_proj.weight", EVERY),
        *((kind, "layer.1.output.LayerNorm.bias", EVERY) for kind in ("bert", "roberta")),
        ("t5", "decoder.block.0.layer.0.layer_norm.weight", (load, build, build_whole)),
        ("t5", "encoder.block.1.layer.0.SelfAttention.q.weight", (load, build, load_backbone)),
    ],
)
def test_weights_that_would_be_drawn_at_random_are_named(changed, kind, lost, calls):
    folder = changed(kind, [lost], num_labels=1)
    for call in calls:
        message = refusal(call, folder)
        assert f"{lost} of " in message
        assert "which would be drawn at random" in message


def test_a_pooler_that_a_reward_reads_may_be_new_in_training_only(changed):
    folder = changed("bert", ["pooler"], num_labels=1)
    message = refusal(load, folder)
    assert "lacks 2 weights (bert.pooler.dense.bias, bert.pooler.dense.weight)" in message
    assert "bert.pooler.dense" in build(folder).peft_config["default"].modules_to_save
    load_backbone(folder)  # features are not pooled by it


def test_features_of_an_encoder_need_no_decoder(backbones, changed):
    expected = Featurizer(backbones("t5")).features(TEXTS)
    found = Featurizer(str(changed("t5", ["decoder"]))).features(TEXTS)
    assert torch.allclose(found, expected, atol=1e-5)


def test_an_adapter_is_no_backbone(saved):
    for call in (build, load_backbone):
        assert "is an adapter" in refusal(call, saved("lora"))


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
    ],
)
def test_quantised_models_name_the_package_they_need(changed, method, package):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    folder = changed("llama", num_labels=1)
    edit_json(folder / "config.json", quantization_config=method)
    for call in (load, load_backbone):
        with pytest.raises(MissingDependencyError, match=f"not installed .*{package}"):
            call(folder)


@pytest.mark.parametrize("targets", [["all-linear"], "all-linear"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "roberta", "t5"])
def test_all_linear_adapts_the_whole_backbone_and_not_the_head(backbones, kind, targets):
    module = build(backbones(kind), lora=LoraOptions(target_modules=targets))
    adapted = {
        name.removeprefix("base_model.model.").partition(".lora_A")[0]
        for name, _ in module.named_parameters()
        if "lora_A" in name
    }
    plain = build_whole(backbones(kind))
    linear = Conv1D if kind == "gpt2" else (nn.Linear, type(final_linear(plain)[1]))
    assert adapted == {
        name
        for name, part in plain.named_modules()
        if isinstance(part, linear)
        and name.startswith(f"{plain.base_model_prefix}.")
        and "pooler" not in name
    }
    with pytest.raises(ValueError, match="leave out the other names"):
        build(backbones(kind), lora=LoraOptions(target_modules=["all-linear", "q"]))
