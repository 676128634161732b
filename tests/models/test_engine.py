from __future__ import annotations

import copy
import dataclasses
import importlib.util
import shutil
import warnings

import pytest
import torch

from hidden_context import heads
from hidden_context.data.trees import TreeLayout
from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.likelihood import make_likelihood
from hidden_context.models.backbone import LoraOptions, add_lora
from hidden_context.models.engine import attention as attention_module
from hidden_context.models.engine import choose as engine_module
from hidden_context.models.engine.choose import Engine, EngineChoice, evaluating, example_sequences
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe, ProbeOptions
from hidden_context.models.sequence import SequenceRewardModel
from support.builders import FILLERS, tiny_classifier, tiny_tokenizer

TEXTS = [[3 + (7 * place + 13 * row) % 400 for place in range(20 + 3 * row)] for row in range(6)]
AGREES = "it agrees with the padded way"


def choose(model, sequences=TEXTS, **options):
    """Choose a way; also return the texts of warnings."""
    choice = EngineChoice(model, 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        way = choice.choose(sequences, **options)
    assert choice.engine.name == way
    return choice, [str(w.message) for w in caught if w.category is HiddenContextWarning]


def test_auto_takes_the_tree_without_a_word():
    choice, said = choose(tiny_classifier("llama"))
    assert choice.engine == Engine("tree", AGREES)
    assert said == []


def test_auto_says_once_why_it_takes_another_way():
    model = tiny_classifier("bloom")
    choice = EngineChoice(model, 0)
    with pytest.warns(HiddenContextWarning) as caught:
        found = [choice.choose(TEXTS), choice.choose(TEXTS), choice.choose(TEXTS, ways=("tree",))]
    assert found == ["cache", "cache", "padded"]
    assert [str(warning.message) for warning in caught] == [
        "shared prompts are not run in the fastest way (cache: not tree, because its attention "
        f"cannot be replaced; {AGREES})."
    ]
    assert choice.engine == Engine("padded", "not tree, because its attention cannot be replaced")


def test_each_way_is_tried_once(monkeypatch):
    model = tiny_classifier("gpt2")
    choice = EngineChoice(model, 0)
    passes = []
    model.score.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        choice.choose(TEXTS)
    assert len(passes) == 2  # padded and tree
    choice.choose(TEXTS, "padded")
    assert choice.engine == Engine("padded", "it was asked for")
    assert len(passes) == 2


@pytest.mark.parametrize("way", ["tree", "cache", "padded"])
def test_a_way_that_is_asked_for(way):
    choice, said = choose(tiny_classifier("gpt2"), wanted=way)
    assert choice.engine.name == way
    assert choice.engine.reason.startswith("it was asked for")
    assert said == []


def test_a_name_that_is_not_known():
    message = "engine 'trees' is not known; choose auto, tree, cache, padded"
    with pytest.raises(ConfigError, match=message):
        EngineChoice(tiny_classifier("gpt2"), 0).choose(TEXTS, "trees")


@pytest.mark.parametrize("way", ["tree", "cache"])
def test_encoders_have_no_prompts_to_share(way):
    model = tiny_classifier("bert")
    with pytest.raises(ConfigError, match=f"--engine {way} does not fit .* reads texts as a whole"):
        EngineChoice(model, 0).choose(TEXTS, way)
    choice, said = choose(model)
    assert choice.engine.name == "padded"
    assert choice.engine.reason.startswith("not tree or cache, because BertForSequence")
    assert len(said) == 1


def test_a_mixture_of_attention_and_recurrence_is_padded():
    choice, said = choose(tiny_classifier("qwen3_next"))
    assert choice.engine.name == "padded"
    assert "not tree, because 1 of its 2 layers let their attention be replaced" in said[0]
    assert "not cache, because " in said[0]


def changed(change):
    """The package's attention, told of a layout that ``change`` has made wrong."""
    original = attention_module.tree_attention

    def attention(module, query, key, value, mask, tree=None, **options):
        if tree is not None:
            tree = change(module, tree)
        return original(module, query, key, value, mask, tree, **options)

    return attention


def without_beginnings(module, tree: TreeLayout):
    return dataclasses.replace(tree, blocks=tuple(b._replace(shared=0) for b in tree.blocks))


def with_part_of_beginnings(module, tree: TreeLayout):
    blocks = tuple(b._replace(shared=max(0, b.shared - 1)) for b in tree.blocks)
    return dataclasses.replace(tree, blocks=blocks)


def with_what_the_sibling_says(module, tree: TreeLayout):
    """Every block attends to all that lies before it in the row."""
    whole = tree.blocks[0]._replace(length=tree.num_tokens)
    return dataclasses.replace(tree, blocks=(whole,), longest=tree.num_tokens)


WRONG = {
    "no beginning": without_beginnings,
    "not all of the beginning": with_part_of_beginnings,
    "siblings are seen": with_what_the_sibling_says,
}
TROUBLESOME = {
    "usual": TEXTS,
    "single tokens": [[50], [60]],
    "two tokens": [[50, 51], [50, 60]],
    "one token over and over": [[50] * 30, [50] * 40],
    "identical texts": [TEXTS[0], TEXTS[0]],
    "one text": TEXTS[:1],
    "the lowest ids": [[1], [1, 1]],
}


@pytest.mark.parametrize("texts", TROUBLESOME.values(), ids=TROUBLESOME)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_attention_that_is_silently_wrong_is_caught(monkeypatch, kind, wrong, texts):
    model = tiny_classifier(kind)
    assert EngineChoice(model, 0).refusal("tree", texts) is None
    monkeypatch.setattr(attention_module, "tree_attention", changed(wrong))
    choice, said = choose(model, texts)
    assert choice.engine.name == "cache"
    assert "not tree, because hidden states differ by" in said[0]
    assert "(relative) from the padded way's" in said[0]
    with pytest.raises(ConfigError, match="--engine tree does not fit this model: hidden states"):
        EngineChoice(model, 0).choose(texts, "tree")


def test_a_wrong_way_is_caught_behind_a_head_that_hardly_speaks(monkeypatch):
    model = tiny_classifier("gpt2")
    with torch.no_grad():
        model.score.weight.mul_(1e-9)
    monkeypatch.setattr(attention_module, "tree_attention", changed(without_beginnings))
    assert choose(model)[0].engine.name == "cache"


def test_a_model_as_initialised_is_no_excuse(monkeypatch):
    model = tiny_classifier("gpt2", spread=1.0)
    monkeypatch.setattr(attention_module, "tree_attention", changed(without_beginnings))
    assert choose(model)[0].engine.name == "cache"


def test_wrapped_models_too(monkeypatch):
    model = add_lora(tiny_classifier("gpt2"), LoraOptions(r=2))
    assert choose(model)[0].engine == Engine("tree", AGREES)
    monkeypatch.setattr(attention_module, "tree_attention", changed(without_beginnings))
    assert choose(model)[0].engine.name == "cache"


def test_a_layer_that_did_not_take_part_is_caught(monkeypatch):
    def unseen(module, tree):
        last = getattr(module, "layer_idx", 0) == 1
        return dataclasses.replace(tree, seen=set()) if last else tree

    monkeypatch.setattr(attention_module, "tree_attention", changed(unseen))
    choice, said = choose(tiny_classifier("llama"))
    assert choice.engine.name == "cache"
    assert "not tree, because 1 of its 2 layers let their attention be replaced" in said[0]


def test_what_is_not_a_number_does_not_agree(monkeypatch):
    def broken(*args, **options):
        found, none = attention(*args, **options)
        return found * torch.nan, none

    attention = attention_module.tree_attention
    monkeypatch.setattr(attention_module, "tree_attention", broken)
    assert "differ by nan" in choose(tiny_classifier("gpt2"))[1][0]


def test_errors_of_a_model_are_reasons():
    model = tiny_classifier("gpt2")

    def refuse(module, args, options):
        if "tree" in options:
            raise RuntimeError("no trees here.\nand more")

    model.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    choice, said = choose(model)
    assert choice.engine.name == "cache"
    assert "not tree, because no trees here; " in said[0]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_precision_has_its_tolerance(monkeypatch, kind):
    for dtype in (torch.float64, torch.bfloat16):
        model = copy.deepcopy(tiny_classifier(kind, spread=2.0))
        model.base_model.to(dtype)
        assert choose(model)[0].engine.name == "tree"
        with monkeypatch.context() as context:
            context.setattr(attention_module, "tree_attention", changed(without_beginnings))
            assert choose(model)[0].engine.name == "cache"


def test_memory_that_runs_out_is_no_verdict(monkeypatch):
    sizes = []
    padded = engine_module.padded_outputs

    def little_memory(module, sequences, pad_token_id):
        sizes.append(max(map(len, sequences)))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return padded(module, sequences, pad_token_id)

    monkeypatch.setattr(engine_module, "padded_outputs", little_memory)
    texts = [[3 + place % 400 for place in range(length)] for length in (3000, 40)]
    model, limit = tiny_classifier("llama"), 300
    choice, said = choose(model, texts)
    assert choice.engine == Engine("tree", AGREES)
    assert (sizes, said) == ([2048, 1024, 512, 256], [])
    limit = 0
    choice, _ = choose(model, texts)
    assert choice.engine.reason == "not tree or cache, because there is no memory to try it"


def test_examples_are_real_sequences_that_branch():
    long, other, short = example_sequences(TEXTS)
    assert (long, short) == (TEXTS[-1], TEXTS[0])
    cut = 2 * len(long) // 3
    assert len(other) == len(long)
    assert other[:cut] == long[:cut]
    assert other[cut:] != long[cut:]
    assert set(other) <= set(long)
    assert [len(ids) for ids in example_sequences(TEXTS, most=16)] == [16, 16, 16]


@pytest.mark.parametrize("texts", TROUBLESOME.values(), ids=TROUBLESOME)
def test_examples_share_something_and_differ_in_what_they_say(texts):
    long, other, _ = example_sequences(texts)
    largest = max(max(text) for text in texts)
    assert len(other) == len(long) > 1
    assert long[0] == other[0]
    assert 0 <= min(long) <= max(long) <= largest
    assert len(set(long)) >= min(12, largest + 1)


def test_dropout_is_off_inside_and_on_again_behind():
    model = tiny_classifier("gpt2", resid_pdrop=0.5).train()
    assert choose(model)[0].engine.name == "tree"
    assert model.training
    with evaluating(model):
        assert not model.transformer.h[0].training
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.transformer.h[0].training


def reward_model(kind="gpt2", max_length=128, **options):
    model = tiny_classifier(kind, 2, **options)
    return SequenceRewardModel(
        model, tiny_tokenizer(), make_likelihood(heads.make("mean_and_variance")), max_length
    )


RESPONSES = [f" {' '.join(FILLERS[: n % 5 + 1])} {n}" for n in range(16)]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("tokens_per_batch", [None, 10])
def test_best_of_16(kind, tokens_per_batch):
    model = reward_model(kind)
    prompt = "\n\nHuman: What about tea and bread and rain?\n\nAssistant:"
    together = model.score_responses(prompt, RESPONSES, tokens_per_batch=tokens_per_batch)
    assert model.engine == Engine("tree", AGREES)
    apart = model.score([prompt + response for response in RESPONSES], 1, engine="padded")
    assert together.batch_shape == (16,)
    assert together.mean.std() > 1e-3
    assert torch.allclose(together.mean, apart.mean, atol=1e-5, rtol=1e-5)
    assert torch.allclose(together.stddev, apart.stddev, atol=1e-5, rtol=1e-5)


def test_a_prompt_longer_than_the_budget_is_still_run_once_for_a_pass():
    model = reward_model("llama")
    prompt = "\n\nHuman: " + " ".join(FILLERS * 3) + "\n\nAssistant:"
    count = len(model.tokenizer(prompt)["input_ids"])
    assert count > 50
    rows = []
    model.module.base_model.register_forward_pre_hook(
        lambda module, args, options: rows.append(options["input_ids"].numel()), with_kwargs=True
    )
    model.score_responses(prompt, RESPONSES, tokens_per_batch=1)
    texts = [model.tokenizer(prompt + response)["input_ids"] for response in RESPONSES]
    passes = rows[2:]  # behind the two that tried the way
    assert len(passes) < len(texts) / 2
    assert max(passes) <= 4 * max(map(len, texts))
    assert sum(passes) < sum(map(len, texts)) / 2


def test_one_text_has_nothing_to_share():
    model = reward_model("bloom")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(["tea"])
    assert model.engine.name == "padded"


def test_frozen_backbones_refuse_the_tree(backbones):
    featurizer = Featurizer(backbones("gpt2"), FeaturizerOptions(max_length=50))
    shape = ProbeOptions(hidden=0, members=1)
    probe = Probe(64, heads.make("base"), shape)
    model = FrozenRewardModel(featurizer, probe, shape, make_likelihood(heads.make("base")))
    for way in ("tree", "cache"):
        with pytest.raises(ConfigError, match=f"--engine {way} does not fit this model"):
            model.score(["tea"], engine=way)
    with pytest.raises(ConfigError, match="is not known"):
        model.score(["tea"], engine="trees")
    assert model.engine.name == "padded"


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler for kernels"
)
@pytest.mark.skipif(not importlib.util.find_spec("torch._inductor"), reason="no inductor")
def test_compiled_models_give_the_same_rewards():
    model = reward_model("gpt2", n_layer=1)
    sets = []
    for shared in (20, 26, 17):  # the last two rows are equally long, but laid out otherwise
        start = TEXTS[5][:shared]
        sets.append([[*start, *TEXTS[0][:7]], [*start, *TEXTS[1][: 23 - shared // 2]], TEXTS[2]])
    expected = [model.raw_outputs_of_tokens(texts, engine="padded") for texts in sets]
    model.compile()
    for texts, raw in zip(sets, expected, strict=True):
        found = model.raw_outputs_of_tokens(texts)
        assert torch.allclose(found, raw, atol=1e-5, rtol=1e-5)
    assert model.engine.name == "tree"


def test_examples_are_no_longer_than_the_texts_of_a_model_with_few_positions():
    uniform = [[5] * 100, [6, 5]]
    assert [len(ids) for ids in example_sequences(uniform)][:2] == [100, 100]
    model = tiny_classifier("gpt2", n_positions=100)
    assert choose(model, uniform)[0].engine.name == "tree"
