"""Trees in one row: rewards and gradients of every architecture, and the model put back."""

import copy
from contextlib import nullcontext
from functools import cache
from itertools import accumulate, pairwise

import pytest
import torch

from hidden_context.data.tokens.trees import tree_of
from hidden_context.models.engine.attention import ATTENTION_NAME, TreeUnsupportedError
from hidden_context.models.engine.choose import EngineChoice
from hidden_context.models.engine.forward import padded_outputs, tree_attention_in, tree_outputs
from hidden_context.models.engine.runner import Runner
from hidden_context.models.network.backbone import LoraOptions, add_lora
from support.builders import tiny_classifier

TREE = (
    *("gpt2", "llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mistral, window", "gemma2"),
    *("gemma3_text", "phi3", "opt", "gpt_neox", "gpt_oss"),
)
UNREPLACED = ("bloom", "falcon", "gpt_neo", "gptj", "mpt")
CACHE = dict.fromkeys(UNREPLACED, "its attention cannot be replaced") | {
    "stablelm": "StableLmAttention computes attention in an unsupported way"
}
PADDED = {
    "qwen3_next": "not tree, because 1 of its 2 layers let their attention be replaced",
    "bert": "not tree or cache, because BertForSequenceClassification reads texts as a whole",
}


def made(name, **options):
    window = {"sliding_window": 5} if name.endswith("window") else {}
    return tiny_classifier(name.split(",")[0], **window, **options)


def tokens(*numbers):
    """Token ids that are neither special nor alike."""
    return [3 + (37 * number + number * number) % 417 for number in numbers]


PROMPT = tokens(*range(21))
OTHER = tokens(*range(50, 62))
# for each number of responses trees: to a prompt, to none, a prefix of another, identical ones
FAMILIES = [
    [PROMPT + tokens(100, 101, 102)],
    [PROMPT + tokens(*range(200, 207)), PROMPT + tokens(300)],
    [PROMPT + tokens(*range(400, 400 + n)) for n in (3, 9, 1, 14, 6)],
    [tokens(*range(70, 81)), tokens(*range(90, 97))],
    [OTHER, OTHER + tokens(500, 501, 502)],
    [OTHER, list(OTHER)],
    [tokens(600), tokens(601)],
]
SEQUENCES = [sequence for family in FAMILIES for sequence in family]
_ENDS = [0, *accumulate(map(len, FAMILIES))]
TREES = [tree_of(SEQUENCES, range(*ends)) for ends in pairwise(_ENDS)]


model_of = cache(made)


@cache
def rewards_alone(name):
    """Each text by itself through the model as Transformers makes it."""
    model = made(name, stock=True)
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([ids])).logits for ids in SEQUENCES])


def run_trees(model, sequences=SEQUENCES, trees=TREES):
    with tree_attention_in(model):
        return tree_outputs(model, sequences, trees)


def close(found, expected, tolerance=1e-5):
    return bool(((found - expected).abs() <= tolerance * (1 + expected.abs())).all())


def test_the_families_are_what_their_names_say():
    assert [len(tree.members) for tree in TREES] == [1, 2, 5, 2, 2, 2, 2]
    assert [tree.shared for tree in TREES] == [0, 21, 21, 0, 11, 11, 0]


@pytest.mark.parametrize("name", [*TREE, *CACHE, *PADDED])
def test_the_way_that_auto_takes_is_right_and_has_its_reason(name):
    runner, expected = Runner(model_of(name), 0), rewards_alone(name)
    assert expected.std() > 0.01
    if name in TREE:
        found = runner.raw_outputs(SEQUENCES, 2)
        assert str(runner.choice.engine) == "tree: it agrees with the padded way"
        with torch.no_grad():
            for trees in (TREES, *([tree] for tree in TREES)):  # in one row, and one by one
                members = [member for tree in trees for member in tree.members]
                assert close(run_trees(model_of(name), trees=trees), expected[members])
    else:
        with pytest.warns(UserWarning, match="do not run with the fastest engine"):
            found = runner.raw_outputs(SEQUENCES, 2)
        assert runner.choice.engine.name == ("cache" if name in CACHE else "padded")
        assert (CACHE | PADDED)[name] in runner.choice.engine.reason
    assert close(found, expected)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *((name, way) for name in ("gpt2", "llama") for way in ("tree", "cache", "padded")),
        *((name, "cache") for name in ("mistral, window", "gemma3_text", "gpt_oss", "gpt_neo")),
        ("bert", "padded"),
    ],
)
def test_rewards_do_not_depend_on_the_budget(name, way):
    runner = Runner(model_of(name), 0)
    runner.raw_outputs([tokens(1, 2), tokens(1, 3)], 2, engine=way)  # tried on shorter texts
    for budget in (1, 17, 60, 10**6):
        found = runner.raw_outputs(SEQUENCES, 2, engine=way, tokens_per_batch=budget, batch_size=5)
        assert close(found, rewards_alone(name), 2e-6)
    assert runner.choice.engine.name == way


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_oss"])
def test_bfloat16(name):
    model = copy.deepcopy(model_of(name))
    model.base_model.to(torch.bfloat16)
    with torch.no_grad():
        found, padded = run_trees(model), padded_outputs(model, SEQUENCES, 0)
    assert found.dtype == torch.float32
    assert (found - padded).norm() / padded.norm() < 2e-2


PAIRS = [family for family in FAMILIES if len(family) == 2]
SIDES = [side for pair in PAIRS for side in pair]
PAIR_TREES = [tree_of(SIDES, (place, place + 1)) for place in range(0, len(SIDES), 2)]
WEIGHTS = torch.linspace(-1.0, 1.0, 2 * len(SIDES), dtype=torch.float64).reshape(-1, 2)


def gradients(model, tree):
    model.zero_grad()
    # checkpointed layers run again in the backward pass, so it belongs inside too
    with tree_attention_in(model) if tree else nullcontext():
        raw = tree_outputs(model, SIDES, PAIR_TREES) if tree else padded_outputs(model, SIDES, 0)
        (raw * WEIGHTS.to(raw.dtype)).sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: p.grad.clone() for name, p in trained.items() if p.grad is not None}


def same_gradients(found, expected, tolerance):
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= tolerance * largest, name


def check_gradients(model, tolerance):
    found = gradients(model, tree=True)
    same_gradients(found, gradients(model, tree=False), tolerance)
    return found


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        *((name, torch.float32, 1e-4) for name in TREE),
        *((name, torch.float64, 1e-9) for name in ("gpt2", "opt", "gpt_neox")),
        # Transformers computes RMSNorm in float32, whatever the weights
        *((name, torch.float64, 2e-6) for name in ("llama", "gemma3_text")),
    ],
)
def test_gradients_of_all_weights(name, dtype, tolerance):
    model = copy.deepcopy(model_of(name)).to(dtype).train()
    with torch.no_grad():
        assert close(run_trees(model), padded_outputs(model, SEQUENCES, 0), tolerance)
    assert len(check_gradients(model, tolerance)) == len(list(model.parameters()))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("checkpointed", [None, "reentrant", "not reentrant"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "opt"])
def test_gradients_of_adapters_and_with_checkpointing(name, checkpointed, adapted):
    model = copy.deepcopy(model_of(name))
    if adapted:
        model = add_lora(model, LoraOptions(r=2, alpha=4, dropout=0.0))
        for key, parameter in model.named_parameters():
            if "lora_B" in key:  # zero at the start, which would leave lora_A without gradients
                parameter.data.normal_(std=0.1)
    plain = gradients(model.train(), tree=True)
    if checkpointed is not None:
        model.activation_checkpointing_enable({"use_reentrant": checkpointed == "reentrant"})
        model.enable_input_require_grads()
    found = check_gradients(model, 1e-4)
    same_gradients(found, plain, 1e-5)
    of_adapters = [gradient for key, gradient in found.items() if "lora_" in key]
    assert len(of_adapters) >= 4 * adapted
    assert all(gradient.abs().max() > 0 for gradient in of_adapters)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "bloom"])
def test_the_model_is_put_back_as_it_was(tmp_path, kind):
    model = tiny_classifier(kind).train()
    before = model.config._attn_implementation
    way = EngineChoice(model, 0).choose(SEQUENCES)
    assert way == ("cache" if kind == "bloom" else "tree")
    assert model.training
    assert not model.score._forward_pre_hooks
    assert model.config._attn_implementation == before
    # with ordinary attention the responses of a tree would see each other, without a word
    with pytest.raises(TreeUnsupportedError, match="inside tree_attention_in"):
        tree_outputs(model, SEQUENCES, TREES)
    if way == "cache":
        with pytest.raises(TreeUnsupportedError, match="be replaced"), tree_attention_in(model):
            pass
    else:
        with tree_attention_in(model):
            assert model.config._attn_implementation == ATTENTION_NAME
            model.save_pretrained(tmp_path)
        assert ATTENTION_NAME not in (tmp_path / "config.json").read_text()
        with pytest.raises(ZeroDivisionError), tree_attention_in(model):
            raise ZeroDivisionError
    assert model.config._attn_implementation == before
