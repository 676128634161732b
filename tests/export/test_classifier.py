"""Exports as one classifier: Transformers alone has to give the checkpoint's rewards."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hidden_context import heads
from hidden_context.data.storage.files import read_json
from hidden_context.errors import ConfigError
from hidden_context.export.output_layer import PADDING_TOKEN, settle_bias
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_classifier, tiny_tokenizer
from support.models import close, export, load

TEXTS = sample_texts(6)
HEADS = {
    "base": heads.make("base"),
    "mean_and_variance": heads.make("mean_and_variance"),
    "categorical": heads.make("categorical", num_atoms=4),
    "quantile": heads.make("quantile", num_atoms=4),
    "factor": heads.make("factor", num_factors=2),
}
LINEAR = ("base", "mean_and_variance", "quantile", "factor")
BOTH = ("full", "scalar")


def logits(folder, texts=TEXTS):
    """What a stranger gets: Transformers' own class and tokenizer, one padded batch."""
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(info["missing_keys"] | info["mismatched_keys"])
    assert info["unexpected_keys"] <= {"score.bias"}
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    assert (batch["attention_mask"].sum(1) < batch["input_ids"].shape[1]).any()
    assert (batch["attention_mask"][:, 0] == 1).all()  # padding is on the right
    with torch.inference_mode():
        return model.eval()(**batch).logits


def outputs(model, form, texts=TEXTS):
    """What an export has to give: all raw outputs, or the mean reward; run as a stranger runs."""
    raw = model.raw_outputs(texts, engine="padded")
    return raw if form == "full" else model.head.distribution(raw).mean.unsqueeze(1)


def check(checkpoint, folder, form="full", texts=TEXTS, constant=0.0, **options):
    """Export a checkpoint, and hold the folder against it by Transformers and by this package."""
    own = load(checkpoint)
    expected = outputs(own, form, texts) - constant
    exported = export(checkpoint, folder, form=form, **options)
    assert exported.folder == folder
    assert exported.agreement.greatest <= 2e-6 * max(1, expected.abs().max())
    close(logits(folder, texts), expected)
    again = load(folder)
    close(outputs(again, form, texts), expected)
    assert again.head == (own.head if form == "full" else HEADS["base"])
    if own.reward_scale is not None:
        assert again.reward_scale.mean == pytest.approx(own.reward_scale.mean - constant)
    return exported, again


@pytest.mark.parametrize(
    ("kind", "name", "form"),
    [
        *((kind, name, "full") for kind in ("gpt2", "llama", "gpt_neox") for name in HEADS),
        *((kind, name, "scalar") for kind in ("gpt2", "llama") for name in LINEAR),
        *(
            (kind, "mean_and_variance", form)
            for kind in ("bert", "roberta", "distilbert", "t5", "qwen2", "opt")
            for form in BOTH
        ),
    ],
)
def test_rewards_come_back(checkpoint, tmp_path, kind, name, form):
    tuning = "full" if kind in ("distilbert", "t5") else "lora"
    check(checkpoint(kind, HEADS[name], tuning=tuning), tmp_path / "out", form)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("lora" in name for name in weights)
    if kind == "qwen2":  # SGLang finds zeros where its classes have a bias
        assert torch.equal(weights["score.bias"], torch.zeros(2 if form == "full" else 1))


@pytest.mark.parametrize(
    ("form", "names"),
    [("full", {str(n): f"raw_{n}" for n in range(4)}), ("scalar", {"0": "reward"})],
)
def test_servers_are_told_that_outputs_are_numbers(checkpoint, tmp_path, form, names):
    source = checkpoint("llama", HEADS["factor"])
    export(source, tmp_path / "out", form=form)
    config = read_json(tmp_path / "out" / "config.json")
    assert config["problem_type"] == "regression"
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert (config["id2label"], config["pad_token_id"]) == (names, 0)
    card = (tmp_path / "out" / "README.md").read_text()
    facts = {"loads with": "AutoModelForSequenceClassification", "form": form}
    for name, fact in (facts | {"exported from": source}).items():
        assert f"- {name}: {fact}" in card
    assert not list((tmp_path / "out").glob("*adapter*"))


def test_what_was_learned_beside_the_network_comes_back(checkpoint, tmp_path):
    options = LikelihoodOptions(3, inference="variational", names=("anna", "ben"), seed=5)
    likelihood = make_likelihood(HEADS["factor"], options)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(torch.randn_like(parameter))
    source = checkpoint("gpt2", HEADS["factor"], likelihood=likelihood)
    _, again = check(source, tmp_path / "full")
    assert again.likelihood.options == options
    state = again.likelihood.state_dict()
    torch.testing.assert_close(state, likelihood.state_dict(), rtol=0, atol=0)
    ben = load(source).score(TEXTS, annotator="ben").mean
    torch.testing.assert_close(again.score(TEXTS, annotator="ben").mean, ben, atol=1e-5, rtol=1e-5)
    exported, again = check(source, tmp_path / "scalar", "scalar")
    assert "annotators, ties and ratings is not in the folder" in exported.notes[0]
    assert again.likelihood.options == LikelihoodOptions()


def test_a_padding_token_that_ends_texts_is_replaced(checkpoint, tmp_path):
    """With it Transformers would read the reward before the end of a text."""
    shared = tiny_tokenizer(bos="<s>", pad="</s>", chat_template=CHAT_TEMPLATE)
    source = checkpoint("llama", HEADS["mean_and_variance"], tokenizer=shared)
    texts = [*TEXTS[:3], f"{TEXTS[0]}</s>", f"{TEXTS[4]}</s>"]
    expected = load(source).raw_outputs(texts)
    assert (expected[0] - expected[3]).abs().max() > 0.1
    exported, _ = check(source, tmp_path / "out", texts=texts)
    (note,) = exported.notes
    assert note.endswith(f"is {PADDING_TOKEN} now: the tokenizer's own shares </s> with texts")
    config = read_json(tmp_path / "out" / "config.json")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token == PADDING_TOKEN
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert config["vocab_size"] > tokenizer.pad_token_id


def test_a_tokenizer_without_padding_gets_one(checkpoint, tmp_path):
    bare = tiny_tokenizer(eos=None, pad=None)
    exported, _ = check(checkpoint("gpt2", HEADS["base"], tokenizer=bare), tmp_path / "out")
    assert exported.notes[0].endswith("the tokenizer's own is missing")


def test_low_precision_is_checked_more_loosely_and_says_so(checkpoint, tmp_path):
    source = checkpoint("llama", HEADS["mean_and_variance"])
    greatest = load(source).raw_outputs(TEXTS).abs().max()
    exported = export(source, tmp_path / "out", dtype="bfloat16")
    assert exported.agreement.allowed == pytest.approx(0.1 * max(1, greatest), rel=0.5)
    assert 1e-6 < exported.agreement.greatest <= exported.agreement.allowed
    weights = load_file(tmp_path / "out" / "model.safetensors")
    kinds = {name: weight.dtype for name, weight in weights.items()}
    assert kinds.pop("score.weight") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16


def ensemble_of(member, count, **units):
    return heads.EnsembleHead(HEADS[member], count, **units)


@pytest.mark.parametrize("form", BOTH)
def test_ensembles_of_heads_export_their_mean(checkpoint, tmp_path, form):
    """Its constant, the members' locations, goes into GPT-2's last normalisation."""
    units = {"location": (1.0, -2.0, 4.0), "scale": (0.5, 2.0, 1.5)}
    source = checkpoint("gpt2", ensemble_of("mean_and_variance", 3, **units))
    exported, _ = check(source, tmp_path / "out", form)
    moved = ["went into the layer normalisation" in note for note in exported.notes]
    assert moved == [True] * (form == "scalar")


def test_a_constant_without_a_place_is_refused_or_left_out_as_asked(checkpoint, tmp_path):
    source = checkpoint("llama", ensemble_of("base", 2, location=(1.0, -2.0), scale=(0.5, 2.0)))
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"absorb the bias -0\.5.*--drop_constant"):
        export(source, out, form="scalar")
    assert not list(tmp_path.glob("out*"))
    constant = (-1 / 0.5 + 2 / 2.0) / 2
    exported, _ = check(source, out, "scalar", constant=constant, drop_constant=True)
    note = "the constant -0.5 was left out: a reward is the checkpoint's minus it"
    assert exported.notes == (note,)
    assert note in (out / "README.md").read_text()


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "opt"])
@pytest.mark.parametrize("form", BOTH)
def test_a_bias_goes_into_the_last_normalisation(checkpoint, tmp_path, kind, form):
    head, bias = HEADS["factor"], [0.5, -1.0, 2.0, 0.25]
    source = checkpoint(kind, head, tuning="full", bias=bias)
    expected = load(checkpoint(kind, head, tuning="full")).raw_outputs(TEXTS) + torch.tensor(bias)
    torch.testing.assert_close(load(source).raw_outputs(TEXTS), expected, atol=1e-5, rtol=1e-5)
    exported, _ = check(source, tmp_path / "out", form)
    shown = "0.5, -1, 2, 0.25" if form == "full" else "0.5"
    assert exported.notes[0].startswith(f"the bias {shown} of score went into the layer")


def test_a_bias_without_a_place_is_refused(checkpoint, tmp_path):
    source = checkpoint("llama", HEADS["mean_and_variance"], tuning="full", bias=[0.5, -1.0])
    with pytest.raises(ConfigError, match=r"the bias 0\.5, -1,.* Serve the checkpoint itself"):
        export(source, tmp_path / "out")
    export(source, tmp_path / "scalar", form="scalar", drop_constant=True)
    # one of zeros needs none
    check(checkpoint("llama", HEADS["base"], tuning="full", bias=[0.0]), tmp_path / "zeros")
    assert "score.bias" not in load_file(tmp_path / "zeros" / "model.safetensors")


def test_a_bias_that_no_normalisation_can_make_up_for_is_refused():
    """Of an output that reads nothing, only a bias of its own can be the constant."""
    model = tiny_classifier("gpt2")
    model.score.bias = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    with torch.no_grad():
        model.score.weight[1] = 0
    before = model.transformer.ln_f.bias.clone()
    with pytest.raises(ConfigError, match="normalisation before it can absorb the bias 1, 2,"):
        settle_bias(model)
    assert torch.equal(model.transformer.ln_f.bias, before)
    # BERT's class draws the bias of its last layer where a folder has none
    model = tiny_classifier("bert")
    model.classifier.bias = None
    assert settle_bias(model) == (0.0, None)
    assert torch.equal(model.classifier.bias, torch.zeros(2))


def test_a_readymade_reward_model_exports_too(backbones, tmp_path):
    check(backbones("gpt2", num_labels=1), tmp_path / "out")
