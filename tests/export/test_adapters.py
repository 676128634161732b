"""Exports as PEFT folders: PEFT alone has to give the checkpoint's rewards."""

import functools
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hidden_context import heads
from hidden_context.data.storage.files import read_json
from hidden_context.errors import CheckpointError, ConfigError
from hidden_context.export import adapters
from hidden_context.models.adapter_ensemble import AdapterEnsembleRewardModel
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_tokenizer
from support.models import NORMAL, close, edit_weights, export, load

TEXTS = sample_texts(5)


export_adapters = functools.partial(export, form="adapters")


def logits(base, member, tokenizer_at, texts=TEXTS):
    """What a stranger gets: Transformers' classifier, PEFT's adapter, one padded batch."""
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, problem_type="regression"
    )
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_at)
    model.config.pad_token_id = tokenizer.pad_token_id
    adapted = PeftModel.from_pretrained(model, member).eval()
    with torch.inference_mode():
        return adapted(**tokenizer(texts, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        *((kind, {"members": 2}) for kind in ("gpt2", "llama", "bert")),
        *(("llama", {"head": head}) for head in (NORMAL, heads.make("ensemble", num_members=2))),
    ],
)
def test_every_member_loads_by_peft(backbones, checkpoint, tmp_path, kind, made):
    """One adapter lies in the folder itself, several in folders of their own."""
    source = checkpoint(kind, **made)
    expected = load(source).raw_outputs(TEXTS)
    if "members" in made:
        assert (expected[:, :2] - expected[:, 2:]).abs().max() > 0.1
    exported = export_adapters(source, tmp_path / "out")
    assert exported.agreement.greatest <= 2e-6 * max(1, expected.abs().max())
    members = sorted((tmp_path / "out").glob("member_*")) or [tmp_path / "out"]
    assert len(members) == made.get("members", 1)
    found = [logits(backbones(kind), member, tmp_path / "out") for member in members]
    close(torch.cat(found, dim=-1), expected)
    saved = read_json(members[-1] / "adapter_config.json")
    if kind == "bert":
        assert saved["modules_to_save"] == ["bert.pooler.dense", "classifier"]
        assert exported.notes[0].startswith("vLLM does not serve the adapters: beside the last")
    else:
        assert (saved["modules_to_save"], exported.notes) == (["score"], ())
    again = load(tmp_path / "out")
    assert isinstance(again, AdapterEnsembleRewardModel) == ("members" in made)
    close(again.raw_outputs(TEXTS), expected)
    assert "loads with: PEFT" in (tmp_path / "out" / "README.md").read_text()
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backbone_is_written_as_a_classifier(backbones, checkpoint, tmp_path, dtype):
    tokenizer = tiny_tokenizer(bos="<s>", pad="</s>", chat_template=CHAT_TEMPLATE)
    source = checkpoint("llama", members=2, tokenizer=tokenizer)
    exported = export_adapters(source, tmp_path / "out", write_base=True, dtype=dtype)
    assert exported.notes[0].startswith("in base, the padding token is <|reward_padding|> now")
    base = tmp_path / "out" / "base"
    weights = load_file(base / "model.safetensors")
    assert weights["score.weight"].shape == (2, 32)
    assert weights["score.weight"].isnan().all()  # without an adapter there is no reward
    assert weights["model.embed_tokens.weight"].dtype == getattr(torch, dtype)
    config = read_json(base / "config.json")
    assert (config["problem_type"], len(config["id2label"])) == ("regression", 2)
    texts = [*TEXTS, f"{TEXTS[0]}</s>"]
    expected = load(source).raw_outputs(texts)
    members = [tmp_path / "out" / f"member_{number}" for number in range(2)]
    found = torch.cat([logits(base, member, base, texts) for member in members], dim=-1)
    tolerance = 2e-6 if dtype == "float32" else 0.1 * expected.abs().max().item()
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=1e-6)
    assert (found[5] - found[0]).abs().max() > 0.05
    torch.testing.assert_close(load(tmp_path / "out").raw_outputs(TEXTS), expected[:5])


def test_another_backbone_is_named_in_the_adapter(backbones, checkpoint, tmp_path):
    source = checkpoint("llama", NORMAL)
    shutil.copytree(backbones("llama"), tmp_path / "elsewhere")
    elsewhere = str(tmp_path / "elsewhere")
    export_adapters(source, tmp_path / "out", base_model=elsewhere)
    saved = read_json(tmp_path / "out" / "adapter_config.json")
    assert saved["base_model_name_or_path"] == elsewhere
    expected = load(source).raw_outputs(TEXTS)
    torch.testing.assert_close(load(tmp_path / "out").raw_outputs(TEXTS), expected)


def test_a_bias_that_peft_would_pass_over_is_refused(checkpoint, tmp_path):
    source = checkpoint("llama", NORMAL)
    bias = {"base_model.model.score.bias": torch.tensor([1.0, 0.0])}
    edit_weights(source / "adapter_model.safetensors", **bias)
    with pytest.raises(ConfigError, match="has no bias in score, and PEFT would pass over"):
        export_adapters(source, tmp_path / "out")


def test_a_last_layer_that_only_the_backbone_had_is_refused(checkpoint, tmp_path, monkeypatch):
    source = checkpoint("llama", NORMAL)
    original = adapters.adapter_shapes

    def without_last_layer(name):
        return {key: shape for key, shape in original(name).items() if "lora" in key}

    monkeypatch.setattr(adapters, "adapter_shapes", without_last_layer)
    with pytest.raises(CheckpointError, match=r"both lack the weight score\.weight, so"):
        export_adapters(source, tmp_path / "out")


def test_what_peft_cannot_load_is_taken_back(checkpoint, tmp_path, monkeypatch):
    original = PeftModel.from_pretrained

    def second_time(model, name, *args, **options):
        if not args:
            raise ValueError("no such kind\nof adapter")
        return original(model, name, *args, **options)

    monkeypatch.setattr(PeftModel, "from_pretrained", second_time)
    with pytest.raises(CheckpointError, match=r"PEFT cannot load the adapter .* \(no such kind\)"):
        export_adapters(checkpoint("llama", NORMAL), tmp_path / "out")
    assert not (tmp_path / "out").exists()
