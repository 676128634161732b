from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hidden_context import heads
from hidden_context.data.files import read_json
from hidden_context.errors import StorageError
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.models.backbone import LoraOptions, build_model
from hidden_context.models.head_file import HEAD_FILE, HeadFile, RewardScale
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_tokenizer

TEXTS = sample_texts(6)
HEADS = {
    "base": heads.make("base"),
    "mean_and_variance": heads.make("mean_and_variance", likelihood="logistic"),
    "categorical": heads.make("categorical", num_atoms=5),
}


def trained(folder, head, tuning="lora", kind="gpt2", dtype=torch.float32):
    """A model whose trainable weights have all moved, as after training."""
    torch.manual_seed(0)
    targets = {"distilbert": ["q_lin", "v_lin"]}.get(kind)
    module = build_model(
        folder, head, tuning=tuning, lora=LoraOptions(target_modules=targets), dtype=dtype
    )
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        final_linear(module if tuning == "full" else module.get_base_model())[1].weight.mul_(20)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    return SequenceRewardModel(
        module,
        tokenizer,
        make_likelihood(head),
        100,
        base_model=folder,
        reward_scale=RewardScale(0.5, 2.0, 8),
        card={"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}},
    )


def stock_outputs(module, tokenizer):
    module.eval()
    outputs = []
    for text in TEXTS:
        batch = tokenizer(text, return_tensors="pt")
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            outputs.append(module(**batch).logits[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta"])
def test_full_checkpoints_load_with_the_stock_class(backbones, tmp_path, kind, head):
    model = trained(backbones(kind), head, "full", kind)
    ours = model.raw_outputs(TEXTS, batch_size=1)
    assert ours.std(0).min() > 1e-3
    model.save_pretrained(tmp_path / "model")
    module = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert torch.allclose(stock_outputs(module, tokenizer), ours, atol=1e-5, rtol=1e-5)
    config = read_json(tmp_path / "model" / "config.json")
    assert config["problem_type"] == "regression"
    assert module.config.num_labels == head.num_outputs
    assert (tmp_path / "model" / "model.safetensors").is_file()
    again = RewardModel.from_pretrained(tmp_path / "model", dtype="float32")
    assert torch.allclose(again.raw_outputs(TEXTS), ours, atol=1e-5, rtol=1e-5)
    assert again.head == head


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("gpt2", "base"),
        ("gpt2", "mean_and_variance"),
        ("gpt2", "categorical"),
        ("llama", "categorical"),
        ("bert", "base"),  # its pooler is new too, and has to be saved
        ("roberta", "mean_and_variance"),
        ("distilbert", "categorical"),
        ("t5", "base"),
    ],
)
def test_lora_checkpoints_load_with_peft(backbones, tmp_path, kind, head):
    head = HEADS[head]
    folder = backbones(kind, spread=1.0) if kind == "t5" else backbones(kind)
    model = trained(folder, head, "lora", kind)
    ours = model.raw_outputs(TEXTS, batch_size=1)
    assert ours.std(0).min() > 1e-3
    model.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(5)  # what is not saved would be drawn differently now
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=head.num_outputs)
    module = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapter")
    assert torch.allclose(stock_outputs(module, tokenizer), ours, atol=1e-6, rtol=1e-5)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    again = RewardModel.from_pretrained(tmp_path / "adapter", dtype="float32")
    assert torch.allclose(again.raw_outputs(TEXTS), ours, atol=1e-6, rtol=1e-5)
    assert again.head == head


def test_bfloat16_adapters_keep_their_float32_head(backbones, tmp_path):
    model = trained(backbones("roberta"), HEADS["base"], kind="roberta", dtype=torch.bfloat16)
    head = final_linear(model.module.get_base_model())[1].weight.detach().clone()
    assert not torch.equal(head, head.bfloat16().float())
    ours = model.raw_outputs(TEXTS)
    model.save_pretrained(tmp_path / "adapter")
    again = RewardModel.from_pretrained(tmp_path / "adapter", dtype="bfloat16")
    assert torch.equal(final_linear(again.module.get_base_model())[1].weight, head)
    assert torch.allclose(again.raw_outputs(TEXTS), ours, atol=1e-5, rtol=1e-5)


def test_everything_about_the_model_comes_back(backbones, tmp_path):
    model = trained(backbones("gpt2"), HEADS["mean_and_variance"])
    model.save_pretrained(tmp_path / "model")
    again = RewardModel.from_pretrained(str(tmp_path / "model"))
    assert again.head == model.head
    assert again.reward_scale == RewardScale(0.5, 2.0, 8)
    assert again.max_length == 100
    assert again.base_model == backbones("gpt2")
    assert again.tokenizer.chat_template == CHAT_TEMPLATE
    assert again.tokenizer.padding_side == "right"
    content = read_json(tmp_path / "model" / HEAD_FILE)
    assert content["comparison"] == "paper"
    assert content["head"]["num_outputs"] == 2
    card = (tmp_path / "model" / "README.md").read_text()
    assert "mean_and_variance" in card
    assert "| accuracy | 0.75 |" in card
    assert RewardModel.from_pretrained(tmp_path / "model", max_length=7).max_length == 7


def test_any_scalar_classifier_is_a_base_model(backbones):
    folder = backbones("qwen2", num_labels=1)
    model = RewardModel.from_pretrained(folder)
    assert model.head == heads.make("base")
    stock = AutoModelForSequenceClassification.from_pretrained(folder)
    expected = stock_outputs(stock, AutoTokenizer.from_pretrained(folder))
    assert torch.allclose(model.raw_outputs(TEXTS), expected, atol=1e-6)
    assert torch.equal(model.score(TEXTS).mean, model.raw_outputs(TEXTS)[:, 0])


def test_a_heads_name_alone_leaves_its_options_to_the_checkpoint(backbones, tmp_path):
    trained(backbones("gpt2"), HEADS["categorical"]).save_pretrained(tmp_path / "five")
    assert RewardModel.from_pretrained(tmp_path / "five", head="categorical").head.num_outputs == 5
    trained(backbones("gpt2"), HEADS["mean_and_variance"]).save_pretrained(tmp_path / "two")
    named = RewardModel.from_pretrained(tmp_path / "two", head="mean_and_variance")
    assert named.head.likelihood == "logistic"
    exact = {"type": "mean_and_variance", "likelihood": "probit"}
    assert RewardModel.from_pretrained(tmp_path / "two", head=exact).head.likelihood == "probit"


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_an_interrupted_save_leaves_the_old_folder_whole(backbones, tmp_path, monkeypatch, tuning):
    path = tmp_path / "model"
    model = trained(backbones("gpt2"), HEADS["base"], tuning)
    model.save_pretrained(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.add_(1.0)

    def full_disk(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HeadFile, "save", full_disk)
    with pytest.raises(StorageError, match=r"model could not be written: No space left.*Free some"):
        model.save_pretrained(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    monkeypatch.undo()
    model.save_pretrained(path)
    assert json.loads((path / HEAD_FILE).read_text())["head"]["type"] == "base"


def test_a_tokenizer_can_be_named(backbones, tmp_path):
    other = tiny_tokenizer(eos="<s>", pad="<s>", max_length=40)
    other.save_pretrained(tmp_path / "tokenizer")
    model = RewardModel.from_pretrained(
        backbones("gpt2", num_labels=1), tokenizer_name=str(tmp_path / "tokenizer")
    )
    assert model.tokenizer.eos_token == "<s>"
    assert model.max_length == 40
