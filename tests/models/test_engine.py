"""Which way texts are run: tried on real texts, never silently wrong, and told with its reason."""

import dataclasses
import importlib.util
import re
import shutil
import warnings
from functools import partial

import pytest
import torch

from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.likelihood import make_likelihood
from hidden_context.models.engine import attention as attention_module
from hidden_context.models.engine import forward
from hidden_context.models.engine.choose import Engine, EngineChoice, evaluating, example_sequences
from hidden_context.models.network.backbone import LoraOptions, add_lora
from hidden_context.models.sequence import SequenceRewardModel
from support.builders import FILLERS, tiny_classifier, tiny_tokenizer
from support.models import NORMAL, memory_of

TEXTS = [[3 + (7 * place + 13 * row) % 400 for place in range(20 + 3 * row)] for row in range(6)]
AGREES = "it agrees with the padded way"


def choose(model, sequences=TEXTS, **options):
    """Choose a way; also return the texts of warnings."""
    choice = EngineChoice(model, 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way = choice.choose(sequences, **options)
    assert choice.engine.name == way
    return choice.engine, [str(w.message) for w in caught if w.category is HiddenContextWarning]


def test_auto_says_once_why_it_takes_another_way():
    choice = EngineChoice(tiny_classifier("bloom"), 0)
    with pytest.warns(HiddenContextWarning) as caught:
        found = [choice.choose(TEXTS), choice.choose(TEXTS), choice.choose(TEXTS, ways=("tree",))]
    assert found == ["cache", "cache", "padded"]
    assert [str(warning.message) for warning in caught] == [
        "shared prompts do not run with the fastest engine (cache: not tree, because its attention "
        f"cannot be replaced; {AGREES})."
    ]
    assert choice.engine == Engine("padded", "not tree, because its attention cannot be replaced")


def test_each_way_is_tried_once():
    model, passes = tiny_classifier("gpt2"), []
    choice = EngineChoice(model, 0)
    model.score.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        choice.choose(TEXTS)
    choice.choose(TEXTS, "padded")
    assert len(passes) == 2  # padded and tree


@pytest.mark.parametrize("way", ["tree", "cache", "padded"])
def test_a_way_that_is_asked_for(way):
    agrees = "" if way == "padded" else ", and agrees with the padded way"
    engine = Engine(way, f"it was requested{agrees}")
    assert choose(tiny_classifier("gpt2"), wanted=way) == (engine, [])
    if way != "padded":
        message = f"--engine {way} does not work with this model: Bert.* reads texts as a whole"
        with pytest.raises(ConfigError, match=message):
            choose(tiny_classifier("bert"), wanted=way)


def shared(count):
    """``shared(count)``: blocks see as many of their beginning's tokens as ``count`` says."""

    def change(module, tree):
        blocks = tuple(block._replace(shared=count(block.shared)) for block in tree.blocks)
        return dataclasses.replace(tree, blocks=blocks)

    return change


without_beginnings = shared(lambda count: 0)
with_part_of_beginnings = shared(lambda count: max(0, count - 1))


def with_what_the_sibling_says(module, tree):
    """Every block attends to all that lies before it in the row."""
    whole = tree.blocks[0]._replace(length=tree.num_tokens)
    return dataclasses.replace(tree, blocks=(whole,), longest=tree.num_tokens)


def unseen(module, tree):
    """The last layer does not take part."""
    last = getattr(module, "layer_idx", 0) == 1
    return dataclasses.replace(tree, seen=set()) if last else tree


@pytest.fixture
def wrong(monkeypatch):
    """``wrong(change)``: attention is told of a layout that ``change`` has made wrong."""
    original = attention_module.tree_attention

    def wrong(change):
        def attention(module, *states, tree=None, **options):
            return original(module, *states, tree=tree and change(module, tree), **options)

        monkeypatch.setattr(attention_module, "tree_attention", attention)

    return wrong


TROUBLESOME = {
    "usual": TEXTS,
    "single tokens": [[50], [60]],
    "two tokens": [[50, 51], [50, 60]],
    "one token over and over": [[50] * 30, [50] * 40],
    "identical texts": [TEXTS[0], TEXTS[0]],
    "one text": TEXTS[:1],
    "the lowest ids": [[1], [1, 1]],
}


WRONG = [without_beginnings, with_part_of_beginnings, with_what_the_sibling_says]


@pytest.mark.parametrize("texts", TROUBLESOME.values(), ids=TROUBLESOME)
@pytest.mark.parametrize("change", WRONG)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_attention_that_is_silently_wrong_is_caught(wrong, kind, change, texts):
    model = tiny_classifier(kind)
    assert EngineChoice(model, 0).refusal("tree", texts) is None
    wrong(change)
    engine, said = choose(model, texts)
    assert engine.name == "cache"
    assert re.search(r"not tree, because hidden states differ by .* \(relative\) from the", said[0])
    with pytest.raises(ConfigError, match=r"--engine tree does not work .*: hidden states"):
        choose(model, texts, wanted="tree")


def hardly_speaks():
    model = tiny_classifier("gpt2")
    model.score.weight.data.mul_(1e-9)
    return model


def in_precision(kind, dtype):
    model = tiny_classifier(kind, spread=2.0)
    model.base_model.to(dtype)
    return model


@pytest.mark.parametrize(
    "make",
    [
        hardly_speaks,
        lambda: tiny_classifier("gpt2", spread=1.0),
        lambda: add_lora(tiny_classifier("gpt2"), LoraOptions(r=2)),
        *(
            partial(in_precision, kind, dtype)
            for dtype in (torch.float64, torch.bfloat16)
            for kind in ("gpt2", "llama")
        ),
    ],
    ids=["weak head", "as initialised", "LoRA", *("gpt2 64", "llama 64", "gpt2 16", "llama 16")],
)
def test_it_is_caught_in_models_of_every_kind(wrong, make):
    model = make()
    assert choose(model) == (Engine("tree", AGREES), [])
    wrong(without_beginnings)
    assert choose(model)[0].name == "cache"


def test_other_reasons_against_a_way(wrong, monkeypatch):
    model, attention = tiny_classifier("gpt2"), attention_module.tree_attention

    def broken(*args, **options):
        return attention(*args, **options)[0] * torch.nan, None

    def refuse(module, args, options):
        if "tree" in options:
            raise RuntimeError("no trees here.\nand more")

    monkeypatch.setattr(attention_module, "tree_attention", broken)
    assert "differ by nan" in choose(model)[1][0]
    model.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    assert "not tree, because no trees here; " in choose(model)[1][0]
    wrong(unseen)
    engine, said = choose(tiny_classifier("llama"))
    assert engine.name == "cache"
    assert "not tree, because 1 of its 2 layers let their attention be replaced" in said[0]


def test_memory_that_runs_out_is_no_verdict(monkeypatch):
    sizes = []
    padded = forward.padded_outputs

    def little_memory(module, sequences, pad_token_id):
        sizes.append(max(map(len, sequences)))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return padded(module, sequences, pad_token_id)

    monkeypatch.setattr(forward, "padded_outputs", little_memory)
    texts = [[3 + place % 400 for place in range(length)] for length in (3000, 40)]
    model, limit = tiny_classifier("llama"), 300
    assert choose(model, texts) == (Engine("tree", AGREES), [])
    assert sizes == [2048, 1024, 512, 256]
    limit = 0
    reason = "not tree or cache, because trying it runs out of memory"
    assert choose(model, texts)[0] == Engine("padded", reason)


@pytest.mark.parametrize("texts", TROUBLESOME.values(), ids=TROUBLESOME)
def test_examples_share_something_and_differ_in_what_they_say(texts):
    long, other, short = example_sequences(texts)
    largest = max(map(max, texts))
    assert len(other) == len(long) > 1
    assert 0 <= min(long) <= max(long) <= largest
    assert len(set(long)) >= min(12, largest + 1)
    cut = 2 * len(long) // 3
    assert other[:cut] == long[:cut]
    assert short in texts
    assert max(map(len, example_sequences(texts, most=16))) <= 16


def test_examples_are_real_sequences_of_at_most_the_longest_texts_length():
    long, other, short = example_sequences(TEXTS)
    assert (long, short) == (TEXTS[-1], TEXTS[0])
    assert other != long
    assert set(other) <= set(long)
    uniform = [[5] * 100, [6, 5]]
    assert [len(ids) for ids in example_sequences(uniform)][:2] == [100, 100]
    assert choose(tiny_classifier("gpt2", n_positions=100), uniform)[0].name == "tree"


def test_evaluation_mode_ends_behind_the_block_whatever_happens():
    model = tiny_classifier("gpt2", resid_pdrop=0.5).train()
    with evaluating(model):
        assert not model.transformer.h[0].training
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.transformer.h[0].training


def reward_model(kind="gpt2", **options):
    module, likelihood = tiny_classifier(kind, 2, **options), make_likelihood(NORMAL)
    return SequenceRewardModel(module, tiny_tokenizer(), likelihood, 128)


RESPONSES = [f" {' '.join(FILLERS[: n % 5 + 1])} {n}" for n in range(16)]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("tokens_per_batch", [None, 10, 1])
def test_the_prompt_of_best_of_16_is_run_once_for_a_pass(kind, tokens_per_batch):
    model = reward_model(kind)
    prompt = "\n\nHuman: " + " ".join(FILLERS * 3) + "\n\nAssistant:"
    texts = [prompt + response for response in RESPONSES]
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in texts]
    assert 50 < min(lengths) <= max(lengths) <= 128
    with memory_of(model.module) as memory:
        together = model.score_responses(prompt, RESPONSES, tokens_per_batch=tokens_per_batch)
    assert model.engine == Engine("tree", AGREES)
    passes = memory.passes[2:]  # behind the two that tried the way
    assert len(passes) < len(texts) / 2
    assert max(passes) <= max(4 * max(lengths), tokens_per_batch or 1024)
    assert sum(passes) < sum(lengths) / 2
    apart = model.score(texts, 1, engine="padded")
    assert together.mean.std() > 1e-3
    for found, expected in ((together.mean, apart.mean), (together.stddev, apart.stddev)):
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("error")
def test_one_text_has_nothing_to_share():
    model = reward_model("bloom")
    model.score(["tea"])
    assert model.engine.name == "padded"


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("torch._inductor")
    or not (shutil.which("g++") or shutil.which("clang++")),
    reason="no inductor, or no C++ compiler for its kernels",
)
def test_compiled_models_give_the_same_rewards():
    model, sets = reward_model(n_layer=1), []
    for count in (20, 26, 17):  # the last two rows are equally long, but laid out otherwise
        start = TEXTS[5][:count]
        sets.append([[*start, *TEXTS[0][:7]], [*start, *TEXTS[1][: 23 - count // 2]], TEXTS[2]])
    expected = [model.raw_outputs_of_tokens(texts, engine="padded") for texts in sets]
    model.compile()
    for texts, raw in zip(sets, expected, strict=True):
        assert torch.allclose(model.raw_outputs_of_tokens(texts), raw, atol=1e-5, rtol=1e-5)
    assert model.engine.name == "tree"
