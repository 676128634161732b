"""Any number of sequences: plans of batches, budgets, tuning, and memory that runs out."""

import logging
import re
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.models.engine import budget as budgets
from hidden_context.models.engine import forward
from hidden_context.models.engine import runner as runner_module
from hidden_context.models.engine.runner import Runner, batch_tokens, plan
from support.builders import tiny_classifier
from support.models import memory_of

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


COUNTS = st.integers(1, 60)


@given(SEQUENCES, st.sampled_from(WAYS), COUNTS, st.integers(1, 5), st.none() | COUNTS, st.data())
def test_plans(sequences, way, tokens, batch_size, limit, data):
    everything = st.permutations(range(len(sequences)))
    members = data.draw(everything)[: data.draw(st.integers(1, len(sequences)))]
    budget = budgets.TokenBudget(tokens)
    budget.limit = limit
    batches = plan(sequences, members, way, budget, batch_size)
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


def test_padded_batches_hold_texts_of_like_length_and_trees_count_prompts_once():
    sequences = [[5] * length for length in (3, 40, 4, 41, 5)]
    batches = plan(sequences, range(5), "padded", budgets.TokenBudget(82), 16)
    assert [[tree.members[0] for tree in batch] for batch in batches] == [[3, 1], [4, 2, 0]]
    assert [batch_tokens(batch, "padded") for batch in batches] == [82, 15]
    sequences = [[*range(3, 33), 100 + number] for number in range(4)]
    (batch,) = plan(sequences, range(4), "tree", budgets.TokenBudget(34), 1)
    assert (batch_tokens(batch, "tree"), batch[0].shared) == (34, 30)


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


@torch.no_grad()
def alone(model, texts=TEXTS):
    return torch.cat([model(torch.tensor([ids]), torch.ones(1, len(ids))).logits for ids in texts])


@pytest.mark.parametrize("way", WAYS)
def test_equal_texts_are_run_once_and_get_one_reward(models, way):
    model = models[KINDS[way]]
    runner = Runner(model, 0)
    order = [3, 1, 0, 3, 2, 1, 1, 0, 3]
    expected = runner.raw_outputs(TEXTS[:4], 2, engine=way)
    with memory_of(model) as memory:
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
        assert runner._budgets[budgets.DEFAULT_TOKENS["cpu"]].tokens <= 40
    for each in (found, again):
        assert torch.allclose(each, expected, atol=1e-5)


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
    found = re.match(r"one text of (\d+) tokens does not fit .*--max_length", str(caught.value))
    assert 20 < int(found[1]) <= max(map(len, TEXTS))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_other_errors_are_raised_as_they_are(models, monkeypatch):
    broken = Mock(side_effect=RuntimeError("shapes do not fit"))
    monkeypatch.setattr(forward, "padded_outputs", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Runner(models["gpt2"], 0).raw_outputs(TEXTS, 2, engine="padded")


def test_a_gpu_s_budget_is_tuned_once_there_is_enough(models, monkeypatch):
    on_gpu = {"device_of": lambda module: torch.device("cuda")}
    monkeypatch.setattr(runner_module, "forward", SimpleNamespace(**vars(forward) | on_gpu))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    tried, start, runner = [], budgets.DEFAULT_TOKENS["cuda"], Runner(models["gpt2"], 0)

    def tune(run, start):
        tried.append((start, run(64)))
        return 128

    monkeypatch.setattr(runner_module, "tune", tune)
    texts = [[3 + number] * 32 for number in range(start // 8)]
    few = texts[:10]
    with torch.no_grad():
        for sequences, asked, found in (
            *((few, None, start), (texts, 500, 500)),
            *((texts, None, 128), (few, None, 128)),
        ):
            assert len(tried) == (found == 128 and sequences is few)
            assert runner._budget(sequences, "padded", 16, asked).tokens == found
    assert tried == [(start, 64)]


growing = float


def saturating(tokens):
    """Throughput with half of its highest value at 1000 tokens."""
    return 1e5 * tokens / (tokens + 1000)


@pytest.mark.parametrize(
    ("throughput", "limits", "start", "budget"),
    [
        # doubling n gains (2n + 2000) / (2n + 1000) - 1: 5.8 % at 8,192 and 3.0 % at 16,384
        (saturating, {}, 1024, 16_384),
        (lambda tokens: 1000.0, {}, 512, 512),
        (lambda tokens: tokens if tokens <= 400 else 10.0, {}, 100, 400),
        (growing, {"memory": 5000}, 1024, 4096),
        (saturating, {"memory": 100}, 1024, 1024),  # none for the first budget either
        (growing, {"available": 3000}, 1024, 4096),
        (growing, {"most": 4500}, 1000, 4000),
    ],
    ids=["saturating", "constant", "falling", "memory", "no memory", "no more to run", "most"],
)
def test_the_budget_is_where_throughput_stops_growing(throughput, limits, start, budget):
    now, runs = [0.0], []

    def run(tokens):
        runs.append(tokens)
        if tokens > limits.get("memory", 10**9):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        done = min(tokens, limits.get("available", 10**9))
        first = 60.0 * (runs.count(tokens) == 1)  # the first pass of a size is not timed
        now.append(now[-1] + first + done / throughput(done))
        return done

    most = limits.get("most", 2**18)
    assert budgets.tune(run, start, most, clock=lambda: now[-1]) == budget
    assert max(runs) <= 2 * budget
    assert runs[:2] == [start, start][: len(runs)]


def test_other_errors_of_tuning_are_raised():
    with pytest.raises(RuntimeError, match="shapes"):
        budgets.tune(Mock(side_effect=RuntimeError("shapes do not fit")), 10)


ALLOCATOR = "DefaultCPUAllocator: "


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("whatever"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError(f"[enforce fail at alloc] {ALLOCATOR}can't allocate memory"), True),
        (RuntimeError(f"{ALLOCATOR}not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas`"), True),
        (RuntimeError("CUDA error: device-side assert"), False),
        (ValueError("out of memory"), False),
        (OSError(), False),
    ],
)
def test_errors_of_memory(error, memory):
    assert budgets.is_out_of_memory(error) == memory


def test_memory_that_cannot_be_had_is_such_an_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert budgets.is_out_of_memory(caught.value)


def test_half_of_what_was_too_much(caplog):
    budget = budgets.TokenBudget(1000)
    assert budget.limit is None
    with caplog.at_level(logging.WARNING, "hidden_context"):
        budget.halve(900)
    assert (budget.tokens, budget.limit) == (450, 450)
    assert caplog.messages == [
        "out of memory with 900 tokens in one forward pass; tokens_per_batch goes from 1000 to 450"
    ]
    budget.halve(3000)  # a longer text, or several that share a beginning
    assert (budget.tokens, budget.limit) == (225, 225)
    for _ in range(20):
        budget.halve(3000)
    assert (budget.tokens, budget.limit) == (1, 1)


@pytest.mark.parametrize(
    ("device", "dtype", "kind", "factor"),
    [
        ("cpu", torch.float32, "cpu", 1),
        ("cpu", torch.bfloat16, "cpu", 2),
        ("cuda:1", torch.float32, "cuda", 1),
        ("cuda", torch.bfloat16, "cuda", 1),
        ("xpu", torch.float32, "cuda", 1),
    ],
)
def test_defaults(device, dtype, kind, factor):
    expected = factor * budgets.DEFAULT_TOKENS[kind]
    assert budgets.default_tokens(torch.device(device), dtype) == expected
