"""Exports as one classifier: Transformers alone has to give the checkpoint's rewards."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hidden_context import heads
from hidden_context.errors import ConfigError
from hidden_context.export import ExportConfig, export_model
from hidden_context.export.output_layer import settle_bias
from hidden_context.export.padding import PADDING_TOKEN
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.head_file import HEAD_FILE, HeadFile
from hidden_context.models.tokenizer import load_tokenizer
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_classifier, tiny_tokenizer
from support.close import close

TEXTS = sample_texts(6)
HEADS = {
    "base": heads.make("base"),
    "mean_and_variance": heads.make("mean_and_variance"),
    "categorical": heads.make("categorical", num_atoms=4),
    "quantile": heads.make("quantile", num_atoms=4),
    "factor": heads.make("factor", num_factors=2),
}


def export(checkpoint, folder, **options):
    config = ExportConfig(checkpoint=str(checkpoint), output=str(folder), **options)
    return export_model(config)


def logits(folder, texts, **options):
    """What a stranger gets: Transformers' own class and tokenizer, one padded batch."""
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert not any(info["missing_keys"] | info["mismatched_keys"])
    assert info["unexpected_keys"] <= {"score.bias"}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert (batch["attention_mask"].sum(1) < batch["input_ids"].shape[1]).any()
    assert (batch["attention_mask"][:, 0] == 1).all()  # padding is on the right
    with torch.inference_mode():
        return model.eval()(**batch).logits


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("name", HEADS)
def test_all_raw_outputs_come_back(backbones, checkpoints, load, tmp_path, kind, name):
    source = checkpoints(backbones(kind), HEADS[name])
    expected = load(source).raw_outputs(TEXTS, engine="padded")  # as a stranger runs them
    exported = export(source, tmp_path / "out")
    assert exported.folder == tmp_path / "out"
    assert exported.agreement.greatest <= 2e-6 * max(1, expected.abs().max())
    found = logits(tmp_path / "out", TEXTS)
    close(found, expected)
    again = load(tmp_path / "out")
    assert again.head == HEADS[name]
    same_way = again.raw_outputs(TEXTS), load(source).raw_outputs(TEXTS)
    close(*same_way)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["base", "mean_and_variance", "quantile", "factor"])
def test_the_mean_alone_comes_back(backbones, checkpoints, load, tmp_path, kind, name):
    source = checkpoints(backbones(kind), HEADS[name])
    expected = load(source).score(TEXTS, engine="padded").mean  # as a stranger runs them
    export(source, tmp_path / "out", form="scalar")
    found = logits(tmp_path / "out", TEXTS)
    assert found.shape == (6, 1)
    assert expected.std() > 0.1
    close(found[:, 0], expected)
    again = load(tmp_path / "out")
    assert again.head == heads.make("base")
    same_way = again.score(TEXTS).mean, load(source).score(TEXTS).mean
    close(*same_way)
    assert again.reward_scale == load(source).reward_scale


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "t5", "qwen2", "opt"])
def test_other_backbones_come_back_too(backbones, checkpoints, load, tmp_path, kind):
    tuning = "full" if kind in ("distilbert", "t5") else "lora"
    source = checkpoints(backbones(kind), HEADS["mean_and_variance"], tuning=tuning)
    expected = load(source).raw_outputs(TEXTS)
    export(source, tmp_path / "full")
    export(source, tmp_path / "scalar", form="scalar")
    found = logits(tmp_path / "full", TEXTS)
    close(found, expected)
    found = logits(tmp_path / "scalar", TEXTS)
    close(found, expected[:, :1])


def test_servers_are_told_that_outputs_are_numbers(backbones, checkpoints, tmp_path):
    source = checkpoints(backbones("llama"), HEADS["factor"])
    export(source, tmp_path / "full")
    export(source, tmp_path / "scalar", form="scalar")
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {str(n): f"raw_{n}" for n in range(4)}
    config = json.loads((tmp_path / "scalar" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["id2label"] == {"0": "reward"}
    assert config["pad_token_id"] == 0
    card = (tmp_path / "scalar" / "README.md").read_text()
    assert "- loads with: AutoModelForSequenceClassification" in card
    assert "- form: scalar" in card
    assert f"- exported from: {source}" in card
    kept = [path.name for path in (tmp_path / "full").iterdir()]
    assert "model.safetensors" in kept
    assert not any("adapter" in name for name in kept)


def test_what_was_learned_beside_the_network_comes_back(backbones, checkpoints, load, tmp_path):
    options = LikelihoodOptions(3, inference="variational", names=("anna", "ben"), seed=5)
    likelihood = make_likelihood(HEADS["factor"], options)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter))
    source = checkpoints(backbones("gpt2"), HEADS["factor"], likelihood=likelihood)
    export(source, tmp_path / "full")
    again = load(tmp_path / "full")
    assert again.likelihood.options == options
    for name, value in likelihood.state_dict().items():
        assert torch.equal(again.likelihood.state_dict()[name], value), name
    ben = load(source).score(TEXTS, annotator="ben").mean
    torch.testing.assert_close(again.score(TEXTS, annotator="ben").mean, ben, atol=1e-5, rtol=1e-5)
    scalar = export(source, tmp_path / "scalar", form="scalar")
    assert "annotators, ties and ratings is not in the folder" in scalar.notes[0]
    assert load(tmp_path / "scalar").likelihood.options == LikelihoodOptions()


def test_a_padding_token_that_ends_texts_is_replaced(backbones, checkpoints, load, tmp_path):
    """With it Transformers would read the reward before the end of a text."""
    shared = tiny_tokenizer(bos="<s>", pad="</s>", chat_template=CHAT_TEMPLATE)
    source = checkpoints(backbones("llama", tokenizer=shared), HEADS["mean_and_variance"])
    texts = [*TEXTS[:3], f"{TEXTS[0]}</s>", f"{TEXTS[4]}</s>"]
    expected = load(source).raw_outputs(texts)
    assert (expected[0] - expected[3]).abs().max() > 0.1
    exported = export(source, tmp_path / "out")
    assert exported.notes == (
        f"the padding token is {PADDING_TOKEN} now: the tokenizer's own shares </s> with texts",
    )
    found = logits(tmp_path / "out", texts)
    close(found, expected)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token == PADDING_TOKEN
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert config["vocab_size"] > tokenizer.pad_token_id
    again = load(tmp_path / "out")
    close(again.raw_outputs(texts), expected)


def test_a_tokenizer_without_padding_gets_one(backbones, checkpoints, tmp_path):
    source = checkpoints(
        backbones("gpt2", tokenizer=tiny_tokenizer(eos=None, pad=None)), HEADS["base"]
    )
    exported = export(source, tmp_path / "out")
    assert exported.notes[0].endswith("the tokenizer's own is missing")
    assert logits(tmp_path / "out", TEXTS).isfinite().all()


def test_the_chat_template_survives(backbones, checkpoints, load, tmp_path):
    tokenizer = tiny_tokenizer(bos="<s>", chat_template=CHAT_TEMPLATE)
    source = checkpoints(backbones("llama", tokenizer=tokenizer), HEADS["base"])
    export(source, tmp_path / "out")
    chat = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes, please."}]
    kept = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (
        kept.apply_chat_template(chat, tokenize=False)
        == "<user> Tea?</s><assistant> Yes, please.</s>"
    )
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = kept.apply_chat_template(chat, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        found = model(**ids).logits[:, 0]
    expected = load(source).score([chat]).mean
    close(found, expected)


def test_low_precision_is_checked_more_loosely_and_says_so(backbones, checkpoints, load, tmp_path):
    source = checkpoints(backbones("llama"), HEADS["mean_and_variance"])
    expected = load(source).raw_outputs(TEXTS)
    exported = export(source, tmp_path / "out", dtype="bfloat16")
    assert exported.agreement.allowed == pytest.approx(0.1 * max(1, expected.abs().max()), rel=0.5)
    assert 1e-6 < exported.agreement.greatest <= exported.agreement.allowed
    weights = load_file(tmp_path / "out" / "model.safetensors")
    kinds = {name: weight.dtype for name, weight in weights.items()}
    assert kinds.pop("score.weight") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    assert scale_of(tmp_path / "out") == load(source).reward_scale


def scale_of(folder):
    return HeadFile.load(folder / HEAD_FILE).reward_scale


def test_ensembles_of_heads_export_their_mean(backbones, checkpoints, load, tmp_path):
    """Its constant, the members' locations, goes into GPT-2's last normalisation."""
    member = heads.make("mean_and_variance")
    head = heads.EnsembleHead(member, 3, location=(1.0, -2.0, 4.0), scale=(0.5, 2.0, 1.5))
    source = checkpoints(backbones("gpt2"), head)
    expected = load(source).score(TEXTS).mean
    exported = export(source, tmp_path / "out", form="scalar")
    assert "went into the layer normalisation" in exported.notes[0]
    found = logits(tmp_path / "out", TEXTS)[:, 0]
    close(found, expected)
    export(source, tmp_path / "full")
    found = logits(tmp_path / "full", TEXTS)
    close(found, load(source).raw_outputs(TEXTS))


def test_a_constant_without_a_place_is_refused_or_left_out_as_asked(
    backbones, checkpoints, load, tmp_path
):
    head = heads.EnsembleHead(heads.make("base"), 2, location=(1.0, -2.0), scale=(0.5, 2.0))
    constant = (-1 / 0.5 + 2 / 2.0) / 2
    source = checkpoints(backbones("llama"), head)
    with pytest.raises(ConfigError, match=r"lose the bias -0\.5.*--drop_constant"):
        export(source, tmp_path / "out", form="scalar")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()
    exported = export(source, tmp_path / "out", form="scalar", drop_constant=True)
    assert exported.notes == (
        "the constant -0.5 was left out: a reward is the checkpoint's minus it",
    )
    expected = load(source).score(TEXTS).mean
    found = logits(tmp_path / "out", TEXTS)[:, 0]
    close(found, expected - constant)
    assert scale_of(tmp_path / "out").mean == pytest.approx(1.5 - constant)
    assert "the constant -0.5 was left out" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "opt"])
def test_a_bias_goes_into_the_last_normalisation(backbones, checkpoints, load, tmp_path, kind):
    head = HEADS["factor"]
    bias = [0.5, -1.0, 2.0, 0.25]
    source = checkpoints(backbones(kind), head, tuning="full", bias=bias)
    without = checkpoints(backbones(kind), head, tuning="full")
    expected = load(source).raw_outputs(TEXTS)
    difference = expected - load(without).raw_outputs(TEXTS)
    torch.testing.assert_close(difference, torch.tensor(bias).expand(6, 4), atol=1e-5, rtol=1e-5)
    exported = export(source, tmp_path / "out")
    assert exported.notes[0].startswith("the bias 0.5, -1, 2, 0.25 of score went into the layer")
    found = logits(tmp_path / "out", TEXTS)
    close(found, expected)
    export(source, tmp_path / "scalar", form="scalar")
    found = logits(tmp_path / "scalar", TEXTS)
    close(found, expected[:, :1])


def test_a_bias_without_a_place_is_refused(backbones, checkpoints, tmp_path):
    source = checkpoints(
        backbones("llama"), HEADS["mean_and_variance"], tuning="full", bias=[0.5, -1.0]
    )
    with pytest.raises(ConfigError, match=r"lose the bias 0\.5, -1\. Serve the checkpoint itself"):
        export(source, tmp_path / "out")
    export(source, tmp_path / "scalar", form="scalar", drop_constant=True)


def test_a_bias_that_no_normalisation_can_make_up_for_is_refused():
    """Of an output that reads nothing, only a bias of its own can be the constant."""
    model = tiny_classifier("gpt2")
    model.score.bias = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    with torch.no_grad():
        model.score.weight[1] = 0
    before = model.transformer.ln_f.bias.clone()
    with pytest.raises(ConfigError, match=r"before it that could take it.*the bias 1, 2\."):
        settle_bias(model)
    assert torch.equal(model.transformer.ln_f.bias, before)


def test_a_bias_of_zeros_needs_no_place(backbones, checkpoints, load, tmp_path):
    source = checkpoints(backbones("llama"), HEADS["base"], tuning="full", bias=[0.0])
    export(source, tmp_path / "out")
    assert "score.bias" not in load_file(tmp_path / "out" / "model.safetensors")


def test_a_class_with_a_bias_gets_one():
    """BERT's class draws the bias of its last layer where a folder has none."""
    model = tiny_classifier("bert")
    model.classifier.bias = None
    assert settle_bias(model) == (0.0, None)
    assert torch.equal(model.classifier.bias, torch.zeros(2))


def test_sglang_finds_zeros_where_its_classes_have_a_bias(backbones, checkpoints, load, tmp_path):
    source = checkpoints(backbones("qwen2"), HEADS["mean_and_variance"])
    export(source, tmp_path / "out")
    bias = load_file(tmp_path / "out" / "model.safetensors")["score.bias"]
    assert torch.equal(bias, torch.zeros(2))
    again = load(tmp_path / "out")
    expected = load(source).raw_outputs(TEXTS)
    close(again.raw_outputs(TEXTS), expected)


def test_a_readymade_reward_model_exports_too(backbones, load, tmp_path):
    source = backbones("gpt2", num_labels=1)
    expected = load(source).score(TEXTS).mean
    export(source, tmp_path / "out")
    found = logits(tmp_path / "out", TEXTS)[:, 0]
    close(found, expected)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (HEADS["categorical"], "the mean reward of its categorical head is no linear function"),
        (
            heads.make("mixture", num_components=2),
            "of its mixture head is no linear function of its 6",
        ),
        (
            heads.EnsembleHead(HEADS["categorical"], 2),
            "of its ensemble of categorical head is no linear function of its 8",
        ),
    ],
)
def test_means_that_are_not_linear_are_refused(backbones, checkpoints, tmp_path, head, message):
    source = checkpoints(backbones("gpt2"), head)
    with pytest.raises(ConfigError, match=message):
        export(source, tmp_path / "out", form="scalar")
    assert not (tmp_path / "out").exists()


def test_tokens_are_those_of_the_checkpoint(backbones, checkpoints, tmp_path):
    source = checkpoints(backbones("llama"), HEADS["base"])
    export(source, tmp_path / "out")
    kept, own = AutoTokenizer.from_pretrained(tmp_path / "out"), load_tokenizer(str(source))
    assert kept(TEXTS)["input_ids"] == own(TEXTS)["input_ids"]
