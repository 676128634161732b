"""Sequence classifiers: where the reward is read, from which features, and by which kernels."""

import itertools
from functools import partial
from unittest.mock import Mock

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification
from transformers.activations import GELUActivation, NewGELUActivation

from hidden_context.errors import DataError, HiddenContextError
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.engine.runner import Features, Runner
from hidden_context.models.network import modules
from hidden_context.models.network.tokenizer import prepare_tokenizer
from hidden_context.models.sequence import SequenceRewardModel
from support.builders import DECODERS, ENCODERS, sample_texts, tiny_classifier, tiny_tokenizer
from support.models import load, one_by_one
from support.paper_layout import one_thread

__all__ = ["one_thread"]

TEXTS = sample_texts(64)
SHARED = [5, 6, 7, 8, 9, 10, 11, 12]
SEQUENCES = [[*SHARED, 20, 21], [3, 4, 5], [*SHARED, 30], [*SHARED, 31, 32, 33], [40, 41]]


close = partial(torch.allclose, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS, "electra", "t5"])
def test_rewards_do_not_depend_on_the_batch(backbones, kind):
    model = load(backbones(kind, num_labels=1, spread=1.0 if kind == "t5" else 5.0))
    alone = model.raw_outputs(TEXTS, batch_size=1)
    assert (alone.shape, alone.dtype) == ((64, 1), torch.float32)
    spread = float(alone.std())
    assert spread > 1e-3
    for size in (7, 64):
        difference = (model.raw_outputs(TEXTS, batch_size=size) - alone).abs().max()
        assert difference < 1e-5 * max(1.0, spread)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_pad_equal_to_eos_and_texts_that_end_in_eos(backbones, kind):
    tokenizer = tiny_tokenizer(pad=None)
    model = load(backbones(kind, num_labels=1, tokenizer=tokenizer, pad_token_id=2))
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id == 2
    texts = [text + "</s>" * (index % 3) for index, text in enumerate(TEXTS[:16])]
    raw, module = model.raw_outputs(texts, batch_size=16), model.module
    for text, output in zip(texts, raw, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        assert (ids[0, -1] == 2) == text.endswith("</s>")
        by_hand = modules.final_linear(module)[1](module.base_model(input_ids=ids)[0][0, -1])
        assert torch.allclose(output, by_hand, atol=1e-5)
    # a final EOS is read, which the stock pooling passes over
    plain, ended = model.raw_outputs([TEXTS[0], TEXTS[0] + "</s>"])
    stock = AutoModelForSequenceClassification.from_pretrained(model.base_model)
    for expected in (plain, one_by_one(stock, model.tokenizer, [TEXTS[0] + "</s>"])[0]):
        assert (expected - ended).abs() > 1e-3


@pytest.mark.parametrize("kind", ["gpt2", "llama", "roberta", "bert"])
def test_bfloat16_backbones_give_float32_rewards_that_do_not_tie(backbones, kind):
    folder = backbones(kind, num_labels=1)
    exact, model = load(folder).raw_outputs(TEXTS)[:, 0], load(folder, dtype="bfloat16")
    dtypes = {name: weight.dtype for name, weight in model.module.named_parameters()}
    assert set(dtypes.values()) == {torch.bfloat16, torch.float32}
    head = {dtypes[name] for name in dtypes if name.startswith(("score", "classifier"))}
    assert head == {torch.float32}
    half = model.raw_outputs(TEXTS)[:, 0]
    assert half.dtype == torch.float32
    assert len(half.unique()) == len(exact.unique())
    assert len(half.bfloat16().unique()) < len(half.unique())  # what a bfloat16 head would tie
    assert torch.corrcoef(torch.stack([exact, half]))[0, 1] > 0.9


@pytest.mark.parametrize("pad", ["<pad>", None])
def test_an_encoder_decoder_reads_at_the_last_eos_however_many_a_text_holds(backbones, pad):
    """Compared with Transformers' own class, which takes one text after the other."""
    folder = backbones("t5", num_labels=1, spread=1.0)
    stock, model = AutoModelForSequenceClassification.from_pretrained(folder), load(folder)
    tokenizer = tiny_tokenizer(bos="<s>", frame="$A </s>", pad=pad)
    prepare_tokenizer(tokenizer)  # without a padding token it pads with EOS
    model = SequenceRewardModel(model.module, tokenizer, model.likelihood, 128)
    texts = ["Tea? Yes.", "Tea? </s> No.", "</s></s> Rain", "Snow, and rain, and more rain </s>"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert [each.count(2) for each in ids] == [1, 2, 3, 2]
    alone = one_by_one(stock, tokenizer, texts)
    for size in (1, 2, 4):
        assert torch.allclose(model.raw_outputs(texts, batch_size=size), alone, atol=1e-5)
    # features keep the order, although texts are run by their numbers of EOS
    raw, features = model.run_tokens(ids, 4, engine="padded", with_features=True)
    each = torch.cat([model.run_tokens([one], with_features=True)[1] for one in ids])
    assert close(raw, alone)
    assert close(features, each)
    with pytest.raises(DataError, match="has no end-of-sequence token"):
        model.raw_outputs_of_tokens([ids[0], [5, 6, 7]])


def test_gradients_pass_through_texts_with_different_numbers_of_eos():
    module = tiny_classifier("t5", 1)
    ids = torch.tensor([[5, 6, 2, 0], [7, 2, 8, 2]])
    module(ids, attention_mask=(ids != 0).long()).logits.square().sum().backward()
    assert modules.final_linear(module)[1].weight.grad.abs().max() > 0


def test_tokens_beyond_the_vocabulary_are_named_and_padding_may_be_one(backbones):
    model = load(backbones("llama", num_labels=1))
    expected = model.raw_outputs_of_tokens([[5, 6, 7], [8]], engine="padded")
    model.runner = Runner(model.module, 420)
    for engine in ("padded", "tree", "cache"):
        found = model.raw_outputs_of_tokens([[5, 6, 7], [8]], engine=engine)
        assert torch.allclose(found, expected, atol=1e-5)
        with pytest.raises(DataError, match="token id 420, but the model's vocabulary has 420"):
            model.raw_outputs_of_tokens([[5, 6, 7], [5, 420]], engine=engine)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta", "t5"])
def test_raw_outputs_are_read_from_features_whichever_way_texts_are_run(backbones, kind):
    spread = 0.5 if kind == "t5" else 1.0
    model = load(backbones(kind, num_labels=2, spread=spread), "mean_and_variance")
    ((_, layer),) = modules.output_layers(classifier_of(model.module))
    ways = ("padded", "tree", "cache") if kind in ("gpt2", "llama") else ("padded",)
    sequences = [[*ids, 2] for ids in SEQUENCES] if kind == "t5" else SEQUENCES
    plain = model.raw_outputs_of_tokens(sequences, engine="padded")
    for way, batch in itertools.product(ways, (1, 2, 16)):
        raw, features = model.run_tokens(sequences, batch, engine=way, with_features=True)
        assert features.shape == (5, 1, layer.in_features)
        assert close(raw, plain)
        assert close(layer(features[:, 0]), raw)
    assert model.run_tokens(sequences)[1] is None
    assert model.readout().equal(layer.weight.detach().flatten())
    assert not layer._forward_pre_hooks


def test_an_ensemble_has_the_features_of_every_member(saved):
    model = load(saved("ensemble"))
    raw, features = model.run_tokens(SEQUENCES, with_features=True)
    assert features.shape == (5, 3, 32)
    weights = model.readout().reshape(3, 2, 32)
    assert close(torch.einsum("bmd,mkd->bmk", features, weights).flatten(1), raw)
    assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3
    for number in range(3):
        alone = load(saved("ensemble") / f"member_{number}")
        own = alone.run_tokens(SEQUENCES, with_features=True)[1]
        assert close(own[:, 0], features[:, number])
        assert alone.readout().equal(weights[number].flatten())


def test_memory_that_runs_out_loses_and_doubles_no_features(backbones):
    model = load(backbones("gpt2", num_labels=2, spread=1.0), "mean_and_variance")
    want = model.run_tokens(SEQUENCES, engine="padded", with_features=True)[1]
    once = Mock(side_effect=[torch.OutOfMemoryError("CUDA out of memory"), *[None] * 5])
    model.module.score.register_forward_hook(once)
    found = model.run_tokens(SEQUENCES, engine="padded", with_features=True)[1]
    assert once.call_count > 2  # the first pass is parted
    assert close(found, want)


def test_a_layer_that_reads_something_else_is_refused():
    module = tiny_classifier("gpt2", 1)
    with pytest.raises(HiddenContextError, match="this model cannot have a reference"):
        Features([module.score], 2).keep(module, [[1], [2]], [0, 1], seen=[])


FUSED = nn.GELU(approximate="tanh")
needs_kernel = pytest.mark.skipif(
    modules.linear_gelu_kernel() is None, reason="this PyTorch has no product with a GELU inside"
)


def block_and_inputs(dtype=torch.bfloat16):
    """A feed-forward block in evaluation mode, weights of a size that matters, and some inputs."""
    torch.manual_seed(0)
    block = modules.gelu_blocks(tiny_classifier("gpt2"))[0].eval()
    with torch.no_grad():
        for layer in (block.c_fc, block.c_proj):
            layer.weight.normal_(std=layer.weight.shape[0] ** -0.5)
            layer.bias.normal_()
    return block.to(dtype), torch.randn(2, 37, block.c_fc.weight.shape[0]).to(dtype)


def by_hand(block, inputs, dtype):
    """The block in steps, each rounded to a precision."""
    x, inner, outer = inputs.to(dtype), block.c_fc, block.c_proj
    hidden = functional.gelu(x @ inner.weight.to(dtype) + inner.bias.to(dtype), approximate="tanh")
    return (hidden @ outer.weight.to(dtype) + outer.bias.to(dtype)).detach()


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of the kernel."""
    kernel = modules.linear_gelu_kernel()
    counting = Mock(side_effect=kernel)
    monkeypatch.setattr(modules, "linear_gelu_kernel", lambda: kernel and counting)
    return counting


@needs_kernel
def test_it_is_no_further_from_the_exact_block_than_the_steps_are(calls):
    block, inputs = block_and_inputs()
    exact = by_hand(block, inputs, torch.float64)
    with torch.inference_mode():
        found = block(inputs).double()
    assert calls.call_count == 1
    apart = (found - exact).norm() / exact.norm()
    steps = (by_hand(block, inputs, torch.bfloat16).double() - exact).norm() / exact.norm()
    assert 0 < apart < 4e-3
    assert apart < 1.05 * steps


ADAPTER = LoraConfig(target_modules=["c_fc"], init_lora_weights=False, fan_in_fan_out=True)
CHANGES = {
    "adapter": lambda block, hear: inject_adapter_in_model(ADAPTER, block),
    "float32": lambda block, hear: None,
    "ReLU": lambda block, hear: setattr(block, "act", nn.ReLU()),
    "training": lambda block, hear: setattr(block.train().dropout, "p", 1.0),
    "hook": lambda block, hear: block.c_fc.register_forward_hook(hear),
    "pre-hook": lambda block, hear: block.c_fc.register_forward_pre_hook(hear),
}


@pytest.mark.parametrize("change", CHANGES)
def test_everything_else_is_the_blocks_own_way(calls, change):
    dtype, hear = getattr(torch, change, torch.bfloat16), Mock(return_value=None)
    block, inputs = block_and_inputs(dtype)
    CHANGES[change](block, hear)
    with torch.inference_mode():
        found = block(inputs)
        assert hear.called == change.endswith("hook")
        assert torch.equal(found, super(modules.GeluInProduct, block).forward(inputs))
    if dtype == torch.float32:
        assert torch.allclose(found.double(), by_hand(block, inputs, torch.float64), atol=1e-5)
    block.eval()(inputs.requires_grad_()).float().sum().backward()  # so are gradients
    assert inputs.grad is not None
    assert not calls.called


def exact_kernel(inputs, weight, bias, *_):
    plain = functional.linear(inputs.float(), weight.float(), bias.float())
    return functional.gelu(plain, approximate="tanh")


@pytest.mark.parametrize(
    ("mistake", "used"),
    [
        (lambda values: values, True),
        (lambda values: values + 1.0, False),
        (lambda values: values - 0.03, False),
        (lambda values: values.nan_to_num(), False),
        (lambda values: values[:, :1], False),
        (Mock(side_effect=RuntimeError("built without oneDNN")), False),
    ],
    ids=["none", "far", "near", "hides NaN", "shape", "refuses"],
)
def test_a_kernel_that_is_wrong_is_not_used(mistake, used, monkeypatch):
    def wrong(*arguments):
        return mistake(exact_kernel(*arguments))

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", wrong)
    monkeypatch.setattr(modules, "linear_gelu_kernel", modules.linear_gelu_kernel.__wrapped__)
    assert modules.linear_gelu_kernel() == (wrong if used else None)
    if not used:
        block, inputs = block_and_inputs()
        with torch.inference_mode():
            assert torch.equal(block(inputs), super(modules.GeluInProduct, block).forward(inputs))


def test_gpt2_has_one_in_each_layer_and_its_rewards_and_gradients_stay():
    ids, found = torch.arange(3, 40)[None], []
    for fused in (False, True):
        model = tiny_classifier("gpt2", stock=True, n_layer=3)
        weights = list(model.state_dict())
        if fused:
            assert [modules.fuse_gelu(model), modules.fuse_gelu(model)] == [3, 0]
            kinds = [module for module in model.modules() if isinstance(module, nn.GELU)]
            assert [module.approximate for module in kinds] == ["tanh"] * 3
        assert any(isinstance(each, NewGELUActivation) for each in model.modules()) == (not fused)
        assert list(model.state_dict()) == weights
        assert model.config.activation_function == "gelu_new"
        model.config.pad_token_id = None
        raw = model(input_ids=ids).logits
        raw.sum().backward()
        found.append((raw.detach(), model.transformer.wte.weight.grad))
    for plain, own in zip(*found, strict=True):
        assert torch.allclose(plain, own, atol=1e-5, rtol=1e-4)


def test_other_activations_stay():
    assert modules.fuse_gelu(tiny_classifier("llama", stock=True)) == 0
    assert [len(modules.gelu_blocks(tiny_classifier(kind))) for kind in ("gpt2", "llama")] == [2, 0]
    x = torch.linspace(-3, 3, 101)
    for kind in ("bert", "gpt_neox"):
        model = tiny_classifier(kind)  # specialised for rewards
        assert modules.fuse_gelu(tiny_classifier(kind, stock=True)) == 0
        exact = [module for module in model.modules() if isinstance(module, GELUActivation)]
        assert len(exact) == 2
        assert torch.allclose(exact[0](x), x * torch.special.ndtr(x), atol=1e-6)
        assert (exact[0](x) - FUSED(x)).abs().max() > 1e-4

    class Other(NewGELUActivation):
        """Might compute something else."""

    parent = nn.Sequential(Other(), nn.Sequential(NewGELUActivation()))
    assert modules.fuse_gelu(parent) == 1
    assert type(parent[0]) is Other
