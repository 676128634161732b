"""Weights that a checkpoint lacks, holds beyond its model, or names in other trainers' ways."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from hidden_context import heads
from hidden_context.cli.main import main
from hidden_context.errors import CheckpointError, MissingDependencyError
from hidden_context.models import RewardModel
from hidden_context.models.backbone import LoraOptions, build_model
from hidden_context.models.featurizer import Featurizer
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import preference_rows, sample_texts
from support.paper_layout import read_rows, reward_checkpoint, write_rows

TEXTS = sample_texts(3)
BASE = heads.make("base")


def load(folder, **options):
    return RewardModel.from_pretrained(folder, dtype="float32", device="cpu", **options)


def load_backbone(name):
    return Featurizer(str(name)).model


def refusal(call, *args, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def changed(backbones, tmp_path):
    """``changed(kind, change, **options)`` copies a backbone and changes its weights."""

    def make(kind, change, name="changed", **options):
        folder = Path(shutil.copytree(backbones(kind, **options), tmp_path / name))
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})
        return folder

    return make


def without(*parts):
    return lambda state: {
        key: value for key, value in state.items() if not any(part in key for part in parts)
    }


def prefixed(prefix):
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_heads_bias_is_part_of_the_reward(backbones, changed, tmp_path):
    bias = {"score.bias": torch.tensor([7.5])}
    folder = changed("llama", lambda state: state | bias, num_labels=1)
    raw = load(backbones("llama", num_labels=1)).raw_outputs(TEXTS)
    model = load(folder)
    assert torch.allclose(model.raw_outputs(TEXTS), raw + 7.5, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved").raw_outputs(TEXTS), model.raw_outputs(TEXTS))
    # an adapter is trained and saved with it
    module = build_model(str(folder), BASE)
    SequenceRewardModel(
        module, model.tokenizer, model.likelihood, 128, base_model=str(folder)
    ).save_pretrained(tmp_path / "adapter")
    assert torch.allclose(load(tmp_path / "adapter").raw_outputs(TEXTS), raw + 7.5, atol=1e-5)
    plain = backbones("llama", num_labels=1)
    again = load(tmp_path / "adapter", base_model=plain)
    assert torch.allclose(again.raw_outputs(TEXTS), raw + 7.5, atol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_encoders_whose_head_lacks_its_bias_are_refused(changed, kind):
    bias = "classifier.out_proj.bias" if kind == "roberta" else "pre_classifier.bias"
    folder = changed(kind, without(bias), num_labels=1)
    for message in (refusal(load, folder), refusal(build_model, str(folder), BASE)):
        assert f"lacks the weight {bias} of" in message


@pytest.mark.parametrize("name", ["v_head.summary", "v_head", "value_head"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_value_heads_of_other_trainers_score(backbones, changed, name, prefix):
    """Saved beside a language model, whose configuration knows of no head."""
    head, bias = torch.randn(1, 32), torch.tensor([0.25])
    value = {f"{name}.weight": head, f"{name}.bias": bias}
    folder = changed("llama", lambda state: prefixed(prefix)(state | value))
    stock = AutoModelForSequenceClassification.from_pretrained(backbones("llama"), num_labels=1)
    stock.score.weight.data = head
    model = load(folder)
    ids = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    raw = torch.cat([stock(torch.tensor([each])).logits for each in ids]) + bias
    assert torch.allclose(model.raw_outputs(TEXTS), raw, atol=1e-5)


def test_a_value_head_in_a_file_of_its_own_scores(backbones, changed, tmp_path):
    folder = changed("llama", lambda state: state)
    head = {"v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.ones(1)}
    save_file(head, folder / "value_head.safetensors")
    beside = changed("llama", lambda state: state | head, "beside")
    expected = load(beside).raw_outputs(TEXTS)
    assert torch.allclose(load(folder).raw_outputs(TEXTS), expected, atol=1e-5)


def test_value_heads_that_cannot_be_placed_are_named(changed):
    deep = {"v_head.summary.0.weight": torch.ones(4, 32), "v_head.summary.2.weight": torch.ones(1)}
    folder = changed("llama", lambda state: without("score")(state) | deep, "deep", num_labels=1)
    message = refusal(load, folder)
    assert "holds 2 weights (v_head.summary.0.weight, v_head.summary.2.weight)" in message
    assert "lacks the weight score.weight" in message
    other = {"regression_layer.weight": torch.ones(1, 32)}
    folder = changed("llama", lambda state: without("score")(state) | other, "other", num_labels=1)
    assert "holds the weight regression_layer.weight" in refusal(load, folder)
    second = {"value_head.weight": torch.ones(1, 32)}
    folder = changed("llama", lambda state: state | second, "second", num_labels=1)
    assert "holds the weight value_head.weight" in refusal(load, folder)
    wide = {"v_head.weight": torch.ones(3, 32)}
    folder = changed("llama", lambda state: without("score")(state) | wide, "wide", num_labels=1)
    assert "does not have 1 outputs, but 3" in refusal(load, folder)


def test_wrappers_prefixes_are_not_saved_again(changed, tmp_path):
    folder = changed("llama", prefixed("_orig_mod."), num_labels=1)
    load(folder).save_pretrained(tmp_path / "saved")
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert not [name for name in names if "_orig_mod" in name]
    _, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not info["missing_keys"]


def test_one_weight_under_two_names_is_refused(changed):
    def doubled(state):
        return state | {"module.score.weight": 2 * state["score.weight"]}

    folder = changed("llama", doubled, num_labels=1)
    assert "holds the weight score.weight under several names" in refusal(load, folder)

    def without_prefix(state):
        return state | {"norm.weight": 2 * state["model.norm.weight"]}

    folder = changed("llama", without_prefix, "bare", num_labels=1)
    assert "holds the weight norm.weight under several names" in refusal(load, folder)


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
    ],
)
def test_harmless_leftovers_change_nothing(backbones, changed, kind, left):
    extra = {key: torch.ones(32, 32) for key in left}
    folder = changed(kind, lambda state: state | extra, num_labels=1)
    expected = load(backbones(kind, num_labels=1)).raw_outputs(TEXTS)
    assert torch.allclose(load(folder).raw_outputs(TEXTS), expected, atol=1e-5)
    build_model(str(folder), BASE, tuning="full")
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
    ],
)
def test_weights_inside_the_backbone_matter_to_all(changed, kind, extra):
    folder = changed(kind, lambda state: state | {extra: torch.ones(2, 2)}, num_labels=1)
    for call in (load, lambda name: build_model(str(name), BASE), load_backbone):
        assert f"holds the weight {extra} that" in refusal(call, folder)


def test_what_stands_beside_a_backbone_does_not_matter_to_training(changed):
    extra = {"projector.weight": torch.ones(2, 2)}
    folder = changed("llama", lambda state: state | extra, num_labels=1)
    assert "holds the weight projector.weight that" in refusal(load, folder)
    build_model(str(folder), BASE, tuning="full")
    load_backbone(folder)


def test_a_pooler_that_a_reward_reads_may_be_new_in_training_only(changed):
    folder = changed("bert", without("pooler"), num_labels=1)
    message = refusal(load, folder)
    assert "lacks 2 weights (bert.pooler.dense.bias, bert.pooler.dense.weight)" in message
    module = build_model(str(folder), BASE)
    assert "bert.pooler.dense" in {
        name.removeprefix("base_model.model.").removesuffix(".modules_to_save.default")
        for name, _ in module.named_modules()
    }
    load_backbone(folder)  # features are not pooled by it


@pytest.mark.parametrize("kind", ["llama", "bert", "roberta", "t5"])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_training_draws_no_layer_of_the_backbone(changed, kind, tuning):
    part = {"llama": "layers.1.mlp.up_proj", "t5": "decoder.block.0.layer.0"}.get(
        kind, "layer.1.output"
    )
    folder = changed(kind, without(part))
    message = refusal(build_model, str(folder), BASE, tuning=tuning)
    assert "which would be drawn at random" in message
    assert part in message


def test_frozen_backbones_and_encoders_lack_nothing_that_is_read(backbones, changed):
    folder = changed("llama", without("layers.0.mlp.up_proj"))
    with pytest.raises(CheckpointError, match=r"lacks the weight layers\.0\.mlp\.up_proj\.weight"):
        Featurizer(str(folder)).features(TEXTS)
    folder = changed("t5", without("decoder"), "encoder")
    expected = Featurizer(backbones("t5")).features(TEXTS)
    assert torch.allclose(Featurizer(str(folder)).features(TEXTS), expected, atol=1e-5)
    folder = changed("t5", without("encoder.block.1.layer.0.SelfAttention.q"), "cut")
    with pytest.raises(CheckpointError, match=r"encoder\.block\.1\.layer\.0\.SelfAttention\.q"):
        Featurizer(str(folder)).features(TEXTS)


def test_an_adapter_is_no_backbone(backbones, tmp_path):
    module = build_model(backbones("llama"), BASE)
    module.save_pretrained(tmp_path / "adapter")
    load_tokenizer(backbones("llama")).save_pretrained(tmp_path / "adapter")
    for call in (lambda name: build_model(name, BASE), load_backbone):
        assert "is an adapter" in refusal(call, str(tmp_path / "adapter"))


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "optimum"),
    ],
)
def test_quantised_models_name_the_package_they_need(changed, monkeypatch, method, package):
    import importlib.util

    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    folder = changed("llama", lambda state: state, num_labels=1)
    change_json(folder / "config.json", quantization_config=method)
    for call in (load, load_backbone):
        with pytest.raises(MissingDependencyError, match=f"not installed .*{package}"):
            call(folder)


@pytest.mark.parametrize(
    "values", [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"quantization_config": 3}]
)
def test_damaged_configurations_are_checkpoint_errors(changed, values):
    folder = changed("llama", lambda state: state, num_labels=1)
    change_json(folder / "config.json", **values)
    assert str(folder) in refusal(load, folder)


def test_a_tokenizer_of_a_later_release_says_so(changed):
    folder = changed("llama", lambda state: state, num_labels=1)
    content = json.loads((folder / "tokenizer.json").read_text())
    change_json(folder / "tokenizer.json", model=content["model"] | {"type": "BPE2"})
    assert "pip install -U tokenizers" in refusal(load, folder)


def test_the_command_line_says_it_with_exit_code_2(tmp_path, capsys):
    folder = Path(reward_checkpoint(tmp_path / "model", "base"))
    rows = write_rows(tmp_path / "rows.jsonl", preference_rows(2))
    output = tmp_path / "scores.jsonl"
    arguments = ["score", rows, "--models", str(folder), "--output", str(output), "--disable_tqdm"]
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file(without("h.1.mlp.c_fc")(state), path, {"format": "pt"})
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert (
        "lacks 2 weights (transformer.h.1.mlp.c_fc.bias, transformer.h.1.mlp.c_fc.weight" in error
    )
    assert "Traceback" not in error
    assert not output.exists()
    save_file(state, path, {"format": "pt"})
    assert main(arguments) == 0
    before = [row["reward_output_chosen"] for row in read_rows(output)]
    output.unlink()
    save_file(state | {"score.bias": torch.tensor([7.5])}, path, {"format": "pt"})
    assert main(arguments) == 0
    after = [row["reward_output_chosen"] for row in read_rows(output)]
    assert torch.allclose(torch.tensor(after), torch.tensor(before) + 7.5, atol=1e-5)


@pytest.mark.parametrize("targets", [["all-linear"], "all-linear"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert", "roberta", "t5"])
def test_all_linear_adapts_the_whole_backbone_and_not_the_head(backbones, kind, targets):
    module = build_model(backbones(kind), BASE, lora=LoraOptions(target_modules=targets))
    adapted = {
        name.removeprefix("base_model.model.").partition(".lora_A")[0]
        for name, _ in module.named_parameters()
        if "lora_A" in name
    }
    plain = build_model(backbones(kind), BASE, tuning="full")
    inside = f"{plain.base_model_prefix}."
    linear = (nn.Linear, type(final_linear(plain)[1]))
    if kind == "gpt2":
        from transformers.pytorch_utils import Conv1D

        linear = (Conv1D,)
    expected = {
        name
        for name, part in plain.named_modules()
        if isinstance(part, linear) and name.startswith(inside) and "pooler" not in name
    }
    assert adapted == expected
    with pytest.raises(ValueError, match="leave out the other layers"):
        build_model(backbones(kind), BASE, lora=LoraOptions(target_modules=["all-linear", "q"]))
