"""The policy study's real language model: who learns from what, what is drawn, chosen and kept."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit import cell, markdown
from policy import gpu_grpo
from policy.best_of_n import best_of_subsets
from policy.real import measures, summary
from policy.real.prompts import Division, Question, divide, load_jailbreaks, questions
from policy.real.responses import ATTENTION, answer_all, draw, in_passes, register
from policy.rewards import REWARDS
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.data.splits.division import first_question
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.distributions import NormalReward
from hidden_context.errors import ConfigError, DataError


def pair(number: int, subset: str = "helpful", turn: int = 0) -> Example:
    prompt = f"Human: question {number}"
    if turn:
        prompt += f"\n\nAssistant: so\n\nHuman: and {turn}"
    columns = {"data_subset": subset, "objective": ("helpful", "harmless")[number % 2]}
    judged = (Judgement(Comparison(0, 1)),)
    return Example(f"{prompt}\n\nAssistant:", (" yes, here", " no"), judged, columns)


PAIRS = [
    pair(n, ("helpful", "harmless")[n % 2], turn) for n in range(60) for turn in range(n % 3 + 1)
]


# -- who learns from what ---------------------------------------------------------------------


def test_no_first_question_stands_on_two_sides_and_no_pair_is_lost() -> None:
    division = divide(PAIRS)
    sides = (division.train, division.judges, division.held_out)
    keys = [{first_question(each) for each in side} for side in sides]
    assert len(set.union(*keys)) == sum(map(len, keys)) == 60
    assert [len(each) for each in keys] == [24, 24, 12]  # two fifths, two fifths, one fifth
    assert Counter(map(str, itertools.chain(*sides))) == Counter(map(str, PAIRS))


def test_the_division_does_not_hang_on_the_order_of_the_rows_but_on_the_seed() -> None:
    first, again = divide(PAIRS), divide(PAIRS[::-1])
    assert Counter(map(str, first.train)) == Counter(map(str, again.train))
    assert Counter(map(str, first.train)) != Counter(map(str, divide(PAIRS, seed=1).train))
    with pytest.raises(DataError, match="4 first questions"):
        divide([pair(n) for n in range(4)])


def test_one_prompt_of_each_first_question_is_asked_and_few_are_the_first_of_more() -> None:
    jailbreaks = [f"Human: pretend {n}\n\nAssistant: " for n in range(9)]
    many = questions(PAIRS, jailbreaks, 20, 9)
    sets = Counter(question.set for question in many)
    assert sets == {"helpful": 20, "harmless": 20, "jailbreak": 9}
    assert len({question.prompt.split("\n\n")[0] for question in many}) == len(many)
    few = {question.id: question for question in questions(PAIRS, jailbreaks, 5, 2)}
    assert len(few) == 12
    assert few == {question.id: question for question in many if question.id in few}
    with pytest.raises(DataError, match="there are 30 helpful prompts to ask, fewer than 31"):
        questions(PAIRS, jailbreaks, 31, 2)
    with pytest.raises(DataError, match="there are 9 jailbreak prompts"):
        questions(PAIRS, jailbreaks, 3, 10)


def test_a_prompt_is_asked_as_its_turns_and_a_jailbreak_as_one() -> None:
    text = "Human: Hi there\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"
    turns = Question("helpful-0", "helpful", text).messages()
    said = [("user", "Hi there"), ("assistant", "Hello"), ("user", "Bye")]
    assert [(turn["role"], turn["content"]) for turn in turns] == said
    (only,) = Question("jailbreak-0", "jailbreak", text).messages()
    assert only["content"] == "Hi there\n\nAssistant: Hello\n\nHuman: Bye"
    example = Question("helpful-0", "helpful", text).example(["So long", "Bye: \n\nHuman: no"])
    assert example.texts[0].endswith("Human: Bye\n\nAssistant: So long")
    assert example.known_prompt == text


@pytest.mark.parametrize(
    ("rows", "said"),
    [("", "no rows"), ('{"prompt": "Human: a"}\n{"prompt": " "}\n', "line 2, field 'prompt'")],
)
def test_broken_jailbreak_files_are_named(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "jailbroken_responses.jsonl").write_text(rows)
    with pytest.raises(DataError, match=said):
        load_jailbreaks(tmp_path)


# -- what is drawn ----------------------------------------------------------------------------


def test_tokens_are_drawn_by_their_distribution_function() -> None:
    logits = torch.tensor([0.1, 0.2, 0.0, 0.4, 0.3]).log().repeat(6, 1)
    uniform = torch.tensor([0.0, 0.0999, 0.1001, 0.3001, 0.6999, 0.9999])
    assert draw(logits, uniform).tolist() == [0, 0, 1, 3, 3, 4]
    even = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = torch.bincount(draw(logits[:1].expand(1000, -1), even), minlength=5)
    assert counts.tolist() == [100, 200, 0, 400, 300]


def test_a_model_attends_to_shared_prompts_as_to_the_whole_texts() -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(config).eval()
    register()
    prompts = [torch.arange(7)[None], torch.tensor([[30, 20, 10]])]  # of two responses each
    responses = torch.tensor([[9, 8, 7], [3, 4, 5], [1, 2, 3], [8, 8, 6]])
    starts = torch.tensor([[prompt.shape[1]] for prompt in prompts for _ in range(2)])
    with torch.inference_mode():
        whole, prefixes = [], []
        for number, prompt in enumerate(prompts):
            texts = torch.cat([prompt.expand(2, -1), responses[2 * number : 2 * number + 2]], 1)
            whole.append(model(texts).logits[:, prompt.shape[1] :])
            cache = DynamicCache(config=config)
            model(prompt, past_key_values=cache)
            prefixes.append([(layer.keys, layer.values) for layer in cache.layers])
        model.set_attn_implementation(ATTENTION)
        cache = DynamicCache(config=config)
        for step in range(3):
            states = {"past_key_values": cache, "prefixes": prefixes}
            out = model(responses[:, step : step + 1], position_ids=starts + step, **states)
            expected = torch.cat(whole)[:, step]
            torch.testing.assert_close(out.logits[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_passes_hold_every_prompt_once_and_like_lengths_together() -> None:
    asked = [Question(f"q-{n}", "helpful", "x" * (n * 37 % 50 + 1)) for n in range(50)]
    passes = in_passes(asked, 8)
    assert sorted(len(each) for each in passes) == [2, 8, 8, 8, 8, 8, 8]
    flat = list(itertools.chain(*passes))
    assert Counter(flat) == Counter(asked)
    assert max(len(p[-1].prompt) - len(p[0].prompt) for p in passes) == 7
    assert [len(question.prompt) for question in flat] != sorted(len(q.prompt) for q in flat)


# -- what is kept -----------------------------------------------------------------------------


class Fake:
    """Answers with the prompt's name; breaks off before a pass."""

    def __init__(self, break_at: int = -1) -> None:
        self.asked: list[str] = []
        self.passes, self.break_at = 0, break_at

    def __call__(self, some: Sequence[Question]) -> list[dict[str, Any]]:
        if self.passes == self.break_at:
            raise KeyboardInterrupt
        self.passes += 1
        self.asked += [question.id for question in some]
        return [
            {"id": q.id, "set": q.set, "prompt": q.prompt, "responses": [q.id, "é"]} for q in some
        ]


ASKED = [Question(f"helpful-{n}", "helpful", f"Human: {'x' * n}") for n in range(40)]


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path, options = tmp_path / "responses.jsonl", {"count": 2}
    broken, again = Fake(break_at=1), Fake()
    with pytest.raises(KeyboardInterrupt):
        answer_all(ASKED, path, options, lambda: broken, lambda _: None)
    assert len(broken.asked) in (8, 16)
    rows = answer_all(ASKED, path, options, lambda: again, lambda _: None)
    assert not set(broken.asked) & set(again.asked)
    assert len(broken.asked) + len(again.asked) == 40
    assert [row["id"] for row in rows] == [question.id for question in ASKED]
    assert [row["id"] for _, row in iter_jsonl(path)] == broken.asked + again.asked
    answer_all(ASKED, path, options, lambda: pytest.fail("nothing is left"), lambda _: None)


def test_rows_of_other_options_or_prompts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "responses.jsonl"
    answer_all(ASKED[:3], path, {"count": 2}, Fake, lambda _: None)
    with pytest.raises(ConfigError, match=r"count is 2, but this run has 3"):
        answer_all(ASKED[:3], path, {"count": 3}, Fake, lambda _: None)
    other = [Question("helpful-0", "helpful", "Human: something else")]
    with pytest.raises(DataError, match="helpful-0 answers another prompt"):
        answer_all(other, path, {"count": 2}, Fake, lambda _: None)


# -- what is chosen ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_subsets_is_that_of_every_subset(n: int) -> None:
    for row in np.array([[0.3, 1.0, 1.0, -2.0, 5.0], [2.0] * 5]):
        expected = np.zeros(5)
        for drawn in itertools.combinations(range(5), n):
            best = [i for i in drawn if row[i] == max(row[list(drawn)])]
            expected[best] += 1 / len(best) / math.comb(5, n)
        np.testing.assert_allclose(best_of_subsets([row], [n])[0, 0], expected, atol=1e-15)


# -- what is measured -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't help with that.", True),
        (' "I’m sorry, this is not something I do.', True),
        ("I cannot provide that.", True),
        ("As an AI language model, I do not.", True),
        ("No, that would hurt.", True),
        ("Sorry to hear that! First, take a knife", True),  # crude
        ("Sure, here is how. I'm sorry for the length.", False),
        ("Nobody will know if you do it at night.", False),
        ("I can help you with that.", False),
        ("", False),
    ],
)
def test_refusals_are_read_from_the_first_words(text: str, expected: bool) -> None:
    assert measures.refuses(text) is expected


def test_judges_are_brought_to_one_unit_within_prompts() -> None:
    judged = np.random.default_rng(1).normal(size=(5, 16)) * 3 + np.arange(5)[:, None] * 10
    found = measures.standardised(judged)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-12)
    assert np.square(found).mean() == pytest.approx(1)
    np.testing.assert_allclose(measures.standardised(judged * 7 + 2), found, atol=1e-12)
    np.testing.assert_array_equal(measures.standardised(np.ones((2, 3))), 0)


def test_expectations_and_paired_differences_by_hand() -> None:
    judged = {"helpful": np.array([[1.0, -1.0]] * 6), "harmless": np.array([[-1.0, 1.0]] * 6)}
    columns = measures.per_response(judged, [["Sorry, no", "Sure"]] * 6, [[3, 9]] * 6)
    np.testing.assert_allclose(columns["helpful"], [[1, -1]] * 6)
    np.testing.assert_allclose(columns["worse"], -1)
    np.testing.assert_allclose(columns["split"], 2)
    first = measures.per_prompt([[2.0, 1.0]] * 6, columns, (1, 2))
    np.testing.assert_allclose(first["helpful"], [[0] * 6, [1] * 6])
    np.testing.assert_allclose(first["tokens"], [[6] * 6, [3] * 6])
    np.testing.assert_allclose(first["refusals"], [[0.5] * 6, [1] * 6])


def test_differences_are_paired_and_intervals_are_those_of_prompts() -> None:
    generator = np.random.default_rng(0)
    size = (len(measures.SIZES), 40)
    base, shift = generator.normal(size=size) * 10, generator.normal(size=size)
    found = measures.by_set(
        {"worse": base + shift}, {"base": {"worse": base}}, ["a"] * 15 + ["b"] * 25
    )
    mean, low, high = found["b"]["worse"]["4"]["base"]
    own = shift[2, 15:]
    assert mean == pytest.approx(own.mean())
    half = 1.96 * own.std(ddof=1) / 5
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.2)  # of 4 if unpaired
    assert found["all"]["worse"]["16"]["mean"][0] == pytest.approx((base + shift)[4].mean())


def test_correlations_within_prompts_leave_out_what_prompts_differ_by() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=(6, 16))
    shifted = -2 * one + 10 * generator.normal(size=(6, 1))
    np.testing.assert_allclose(measures.correlation(one, shifted), -1)
    one[2] = 3.0  # nothing to correlate there
    np.testing.assert_allclose(measures.correlation(one, shifted), -1)
    assert np.isnan(measures.correlation(np.ones((6, 16)), one)).all()


def test_disagreement_is_that_of_two_people_about_the_other_responses() -> None:
    mean, stddev = torch.tensor([[0.0, 1.0, -1.0]]), torch.tensor([[1.0, 0.5, 2.0]])
    found = summary.disagreement(NormalReward(mean.double(), stddev.double()))
    gap, spread = np.subtract.outer(mean[0], mean[0]), np.hypot.outer(stddev[0], stddev[0])
    p = stats.norm.cdf(gap / spread)
    differ = (2 * p * (1 - p))[~np.eye(3, dtype=bool)].reshape(3, 2)
    np.testing.assert_allclose(found[0], differ.mean(1), atol=1e-6)


def test_accuracy_of_length_counts_the_longer_response_as_right_and_a_tie_half() -> None:
    sides = [("longer", "short")] * 6 + [("no", "longer")] * 2 + [("same", "size")] * 2
    pairs = [
        Example(f"Human: {n}\n\nAssistant:", both, (), {"objective": objective})
        for objective in measures.JUDGES
        for n, both in enumerate(sides)
    ]
    tie = NormalReward(torch.zeros(20, 2).double(), torch.ones(20, 2).double())
    found = summary.accuracies({"a judge": {"pairs": tie}}, Division([], [], pairs))
    assert found["the longer response"]["both"][0] == pytest.approx(0.7)
    assert found["a judge"]["helpful"][0] == pytest.approx(0.5)


def test_each_of_the_worlds_choices_is_a_try_of_its_reward() -> None:
    assert set(summary.CHOSEN) == {reward.title for reward in REWARDS}
    for reward in REWARDS:
        assert summary.CHOSEN[reward.title] in reward.names


def test_a_gpu_run_is_estimated_by_its_tokens() -> None:
    found = gpu_grpo.estimate(gpu_grpo.ModelSettings(steps=10, batch=8, tokens=100))
    assert found["tokens"] == 8000
    learning = 8 * 135e6 * (800 + 8 * 150) / 6e13
    assert found["seconds"] == pytest.approx(10 * (100 * 0.02 + learning))


def test_gains_are_in_standard_deviations_of_the_start() -> None:
    variances = {"helpful variance": [4.0] * 2, "harmless variance": [0.0, 0.5]}
    start = {"helpful": [0.0, 10.0], "harmless": [1.0, 1.0], **variances}
    policy = {"helpful": [12.0, 4.0], "harmless": [0.5, 1.0]}
    policy |= {"tokens": [10.0, 20.0], "refusals": [0.0, 0.5]}
    found = gpu_grpo.gains({"jailbreak": start}, {"jailbreak": policy})["jailbreak"]
    assert found["helpful"] == pytest.approx((2 + 4) / 2 / 2)
    assert found["harmless"] == pytest.approx(-0.25 / 0.5)
    assert found["worse"] == found["harmless"]
    assert (found["tokens"], found["refusals"]) == (15.0, 0.25)


def test_numbers_of_tables() -> None:
    assert cell([-0.123, -0.2, 0.05], 2) == "−0.12 [−0.20, +0.05]"
    assert cell([0.5, math.nan, math.nan], 2) == "+0.50"
    assert cell([math.nan] * 3, 2) == "–"
    assert cell([0.625, 0.6, 0.65], 1, signed=False, factor=100) == "62.5 [60.0, 65.0]"
    assert markdown(["a"], [["1"]], "T").splitlines() == ["### T", "", "| a |", "|---|", "| 1 |"]
