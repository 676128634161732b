import logging
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.models.engine import runner as runner_module
from hidden_context.models.engine.budget import DEFAULT_TOKENS, TokenBudget
from hidden_context.models.engine.runner import Runner, batch_tokens, plan
from support.builders import tiny_classifier

WAYS = ("tree", "cache", "padded")
SEQUENCES = st.lists(
    st.builds(
        lambda prompt, shared, own: [prompt] * shared + own,
        st.integers(1, 3),
        st.sampled_from([0, 9, 15]),
        st.lists(st.integers(4, 6), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=12,
)


def budget_of(tokens, limit=None):
    budget = TokenBudget(tokens)
    budget.limit = limit
    return budget


@given(
    SEQUENCES,
    st.sampled_from(WAYS),
    st.integers(1, 60),
    st.integers(1, 5),
    st.none() | st.integers(1, 60),
    st.data(),
)
def test_plans(sequences, way, tokens, batch_size, limit, data):
    everything = st.permutations(range(len(sequences)))
    members = data.draw(everything)[: data.draw(st.integers(1, len(sequences)))]
    batches = plan(sequences, members, way, budget_of(tokens, limit), batch_size)
    planned = [member for batch in batches for tree in batch for member in tree.members]
    assert sorted(planned) == sorted(members)
    for batch in batches:
        longest = max(len(sequences[member]) for tree in batch for member in tree.members)
        texts = sum(len(tree.members) for tree in batch)
        size = batch_tokens(batch, way)
        for tree in batch:
            assert {len(sequences[i]) > tree.shared for i in tree.members} == {True}
        if any(len(tree.members) > 1 for tree in batch):
            assert way != "padded"
            assert size <= max(tokens, 4 * longest)
            assert limit is None or len(batch) > 1 or size <= limit
        elif texts > 1:
            assert size <= tokens
        if way == "cache":
            assert len(batch) == 1 or not any(tree.shared for tree in batch)
        if way == "padded" or (way == "cache" and not batch[0].shared):
            assert texts <= batch_size
            assert size == texts * longest
        else:
            assert size == sum(tree.num_tokens for tree in batch)


def test_padded_batches_hold_texts_of_like_length():
    sequences = [[5] * length for length in (3, 40, 4, 41, 5)]
    batches = plan(sequences, range(5), "padded", TokenBudget(82), 16)
    assert [[tree.members[0] for tree in batch] for batch in batches] == [[3, 1], [4, 2, 0]]
    assert [batch_tokens(batch, "padded") for batch in batches] == [82, 15]


def test_trees_count_prompts_once():
    prompt = list(range(3, 33))
    sequences = [[*prompt, 100 + number] for number in range(4)]
    (batch,) = plan(sequences, range(4), "tree", TokenBudget(34), 1)
    assert batch_tokens(batch, "tree") == 34
    assert batch[0].shared == 30


PROMPTS = [[3 + (5 * place + 11 * row) % 400 for place in range(12 + 4 * row)] for row in range(3)]
TEXTS = [
    [*prompt, *[3 + (row * 31 + place * 17) % 400 for place in range(1 + 3 * row)]]
    for prompt in PROMPTS
    for row in range(4)
]
TEXTS += [[7, 8, 9], TEXTS[0], TEXTS[5][:14], [50]]
KINDS = {"tree": "llama", "cache": "bloom", "padded": "gpt2"}


@pytest.fixture(scope="module")
def models():
    return {kind: tiny_classifier(kind) for kind in KINDS.values()}


def alone(model, texts=TEXTS):
    with torch.no_grad():
        return torch.cat(
            [model(torch.tensor([text]), torch.ones(1, len(text))).logits for text in texts]
        )


@contextmanager
def memory_of(model, limit):
    """Inside, passes of more tokens than ``limit`` run out of memory; their sizes are counted."""
    memory = SimpleNamespace(limit=limit, passes=[], failed=0)

    def spend(module, args, options):
        size = options["input_ids"].numel()
        if size > memory.limit:
            memory.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        memory.passes.append(size)

    handle = model.base_model.register_forward_pre_hook(spend, with_kwargs=True)
    try:
        yield memory
    finally:
        handle.remove()


@pytest.mark.parametrize("way", WAYS)
def test_equal_texts_are_run_once_and_get_one_reward(models, way):
    model = models[KINDS[way]]
    runner = Runner(model, 0)
    order = [3, 1, 0, 3, 2, 1, 1, 0, 3]
    expected = runner.raw_outputs(TEXTS[:4], 2, engine=way)
    with memory_of(model, 10**6) as memory:
        assert torch.equal(runner.raw_outputs(TEXTS[:4], 2, engine=way), expected)
        once, memory.passes[:] = sum(memory.passes), []
        found = runner.raw_outputs([list(TEXTS[n]) for n in order], 2, engine=way)
        assert torch.allclose(found, expected[order], atol=1e-6)
        assert sum(memory.passes) == once
        memory.passes.clear()
        same = runner.raw_outputs([TEXTS[2]] * 5, 2)
    assert torch.equal(same, same[:1].expand(5, 2))
    assert torch.allclose(same[0], expected[2], atol=1e-6)
    assert memory.passes == [len(TEXTS[2])]


def test_nothing_to_run_and_numbers_that_make_no_sense(models):
    runner = Runner(models["gpt2"], 0)
    assert runner.raw_outputs([], 3).shape == (0, 3)
    for options in ({"batch_size": 0}, {"tokens_per_batch": 0}, {"tokens_per_batch": -5}):
        with pytest.raises(ConfigError, match="at least 1"):
            runner.raw_outputs(TEXTS, 2, **options)


def test_float32_on_the_cpu_and_training_mode_put_back():
    found = Runner(tiny_classifier("gpt2").double(), 0).raw_outputs(TEXTS, 2)
    assert (found.dtype, found.device.type, found.requires_grad) == (torch.float32, "cpu", False)
    model = tiny_classifier("gpt2", resid_pdrop=0.5).train()
    expected = alone(tiny_classifier("gpt2"))
    assert torch.allclose(Runner(model, 0).raw_outputs(TEXTS, 2), expected, atol=1e-5)
    assert model.training


@pytest.mark.parametrize("way", WAYS)
def test_memory_that_runs_out(models, way, caplog):
    model = models[KINDS[way]]
    runner, expected = Runner(model, 0), alone(model)
    runner.choice.choose(TEXTS, way)
    with memory_of(model, 40) as memory:
        with caplog.at_level(logging.WARNING, "hidden_context"):
            found = runner.raw_outputs(TEXTS, 2, engine=way, tokens_per_batch=300)
        first = caplog.messages[0]
        assert "tokens in one forward pass; tokens_per_batch goes from 300 to" in first
        assert len(caplog.messages) == memory.failed > 0
        budget, failed = runner._budgets[300].tokens, memory.failed
        assert budget < 300
        # what was learned is remembered
        again = runner.raw_outputs(TEXTS, 2, engine=way, tokens_per_batch=300)
        assert (memory.failed, runner._budgets[300].tokens) == (failed, budget)
        # by the budget of that name alone
        runner.raw_outputs(TEXTS, 2, engine=way)
        assert memory.failed > failed
        assert runner._budgets[DEFAULT_TOKENS["cpu"]].tokens <= 40
    for each in (found, again):
        assert torch.allclose(each, expected, atol=1e-5)


def test_the_budget_is_half_of_what_was_tried(models, caplog):
    texts = [[3 + number] * 10 for number in range(16)]
    with memory_of(models["gpt2"], 90) as memory:
        Runner(models["gpt2"], 0).raw_outputs(texts, 2, engine="padded", tokens_per_batch=160)
    assert memory.passes == [80, 80]
    assert caplog.messages == [
        "out of memory with 160 tokens in one forward pass; tokens_per_batch goes from 160 to 80"
    ]


@pytest.mark.parametrize("way", ["tree", "cache"])
@pytest.mark.parametrize("tokens", [1, 50, 1000])
def test_texts_that_share_a_prompt_are_parted_where_memory_asks_for_it(models, way, tokens):
    """Together they need more than there is, each by itself does not."""
    model = models[KINDS[way]]
    prompt = [3 + place for place in range(60)]
    texts = [[*prompt, 100 + number, *[200 + number] * 9] for number in range(5)]
    runner, expected = Runner(model, 0), alone(model, texts)
    runner.choice.choose(texts, way)
    with memory_of(model, 75) as memory:
        found = runner.raw_outputs(texts, 2, engine=way, tokens_per_batch=tokens)
    assert torch.allclose(found, expected, atol=1e-5)
    assert max(memory.passes) <= 75


@pytest.mark.parametrize("way", WAYS)
def test_a_text_too_large_for_memory_is_said(models, way):
    model = models[KINDS[way]]
    runner = Runner(model, 0)
    runner.choice.choose(TEXTS, way)
    with memory_of(model, 20), pytest.raises(HiddenContextError) as caught:
        runner.raw_outputs(TEXTS, 2, engine=way)
    found = re.match(
        r"there is no memory for one text of (\d+) tokens\..*--max_length", str(caught.value)
    )
    assert 20 < int(found[1]) <= max(map(len, TEXTS))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_other_errors_are_raised_as_they_are(models, monkeypatch):
    def broken(*args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(runner_module, "padded_outputs", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Runner(models["gpt2"], 0).raw_outputs(TEXTS, 2, engine="padded")


def test_a_gpu_s_budget_is_tuned_once_there_is_enough(models, monkeypatch):
    monkeypatch.setattr(runner_module, "device_of", lambda module: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    tried = []

    def tune(run, start):
        tried.append((start, run(64)))
        return 128

    monkeypatch.setattr(runner_module, "tune", tune)
    start = DEFAULT_TOKENS["cuda"]
    runner = Runner(models["gpt2"], 0)

    def budget(sequences, tokens_per_batch=None):
        return runner._budget(sequences, "padded", 16, tokens_per_batch).tokens

    texts = [[3 + number] * 32 for number in range(start // 8)]
    with torch.no_grad():
        assert budget(texts[:10]) == start
        assert budget(texts, 500) == 500
        assert tried == []
        assert budget(texts) == 128
        assert budget(texts[:10]) == 128
    assert tried == [(start, 64)]
