"""TRL: reward functions, what they log, the reward network, pairs and best of n."""

import asyncio
import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations.sources import Answered, LocalSource, Rewards
from hidden_context.integrations.trl import (
    async_reward_function,
    best_of_n,
    check_reward_functions,
    pair_builder,
    reward_function,
    reward_module,
)
from hidden_context.models.checkpoint.head_file import HEAD_FILE
from hidden_context.scoring.requests import Scorer

PROMPTS = ["Tea? ", "Tea? ", "Rain? ", "Rain? "]
COMPLETIONS = ["With pleasure.", "No.", "It may.", "Never."]


class Logs:
    """What a reward function logs, as the trainer takes it."""

    def __init__(self):
        self.metrics, self.columns = {}, {}

    def given(self):
        return {"log_metric": self.metrics.__setitem__, "log_extra": self.columns.__setitem__}


@pytest.mark.parametrize("behind", ["model", "url"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_reward_function_returns_the_risk_measure_and_logs_the_rest(
    models, url, expected_of, behind, is_async
):
    model = models["factor"] if behind == "model" else url
    name = {"name": "factor"} if behind == "url" else {}
    make = async_reward_function if is_async else reward_function
    function, logs = make(model, "cvar:0.05", **name), Logs()
    rewards = function(PROMPTS, COMPLETIONS, completion_ids=[], **logs.given())
    rewards = asyncio.run(rewards) if is_async else rewards
    want = expected_of(PROMPTS, COMPLETIONS, "cvar:0.05", "factor")
    assert rewards == pytest.approx(want, abs=1e-6, rel=1e-6)
    assert function.__name__ == "cvar:0.05"
    scorer = Scorer(models["factor"])
    texts = [p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    found = [scorer.describe(scorer.raw(pair).complete()) for pair in (texts[:2], texts[2:])]
    sigma = torch.cat([one.stddev for one in found])
    divided = [2 * p * (1 - p) for p in (one.preferred[0, 1].item() for one in found)]
    assert logs.metrics["rewards/cvar:0.05/sigma"] == pytest.approx(sigma.mean().item(), 1e-5)
    assert logs.metrics["rewards/cvar:0.05/disagreement"] == pytest.approx(sum(divided) / 2, 1e-5)
    assert logs.columns["cvar:0.05 sigma"] == pytest.approx(sigma.tolist(), 1e-5)
    shares = [value for key, value in logs.metrics.items() if "share" in key or "noise" in key]
    assert sum(shares) == pytest.approx(1)
    assert "rewards/cvar:0.05/unscored" not in logs.metrics


def test_a_completion_without_a_reward_stops_or_is_none(models):
    completions = ["With pleasure.", "x " * 200, "It may.", "Never."]
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        reward_function(models["normal"])(PROMPTS, completions)
    logs = Logs()
    rewards = reward_function(models["normal"], unscored="none")(
        PROMPTS, completions, **logs.given()
    )
    assert [one is None for one in rewards] == [False, True, False, False]
    assert logs.metrics["rewards/mean/unscored"] == 1
    assert logs.columns["mean sigma"][1] is None


def test_the_one_logit_is_the_risk_measure(models, expected):
    module = reward_module(models["normal"], "cvar:0.05")
    texts = ["Tea? With pleasure.", "Rain?"]
    asked = module.tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
    )
    logits = module(**asked).logits
    assert logits.shape == (2, 1)
    assert logits[:, 0].tolist() == pytest.approx(expected(texts), abs=1e-6, rel=1e-6)
    marked = module.tokenizer(texts[:1], return_tensors="pt")["input_ids"]  # with its BOS
    assert module(marked).logits[:, 0].tolist() == pytest.approx(expected(texts[:1]), abs=1e-6)
    assert (module.config.num_labels, module.config._name_or_path) == (1, "cvar:0.05")
    with pytest.raises(DataError, match="item 0 cannot be scored"):
        module(torch.full((1, 500), 5))


def test_a_reward_network_needs_a_model_that_reads_tokens(folders, models):
    assert check_reward_functions(reward_module(folders["normal"])).measure.name == "mean"
    with pytest.raises(ConfigError, match="asks for one at a time"):
        reward_module(models["factor"], "relative_cvar:0.1")
    with pytest.raises(ConfigError, match=r"not of object\. Use reward_function"):
        reward_module(object())


def test_a_bare_network_of_several_outputs_is_refused(folders, models, tmp_path):
    bare = AutoModelForSequenceClassification.from_pretrained(folders["normal"])
    for given in (bare, folders["normal"], models["normal"], [print, bare]):
        with pytest.raises(ConfigError, match=r"reads the first of 2 outputs of .* as the reward"):
            check_reward_functions(given)
    function, module = reward_function(models["normal"]), reward_module(models["normal"])
    one = torch.nn.Linear(1, 1)
    one.config = PretrainedConfig(num_labels=1)
    fine = [function, module, one, torch.nn.Linear(1, 1), "elsewhere/model"]
    assert check_reward_functions(fine) is fine
    (tmp_path / HEAD_FILE).write_text("{")
    assert check_reward_functions(str(tmp_path)) == str(tmp_path)


class Told(LocalSource):
    """Answers what it is told: values by response, and P of each response against the next."""

    def __init__(self, values, preferred=None):
        self.values, self.chances = values, preferred or {}

    def answer(self, asked, risk):
        return [Answered(group, self._rewards(group)) for group in asked]

    def _rewards(self, group):
        values = [self.values[_text(one)] for one in group.responses]
        preferred = [[self._chance(a, b) for b in group.responses] for a in group.responses]
        return Rewards(values, values, [1.0] * len(values), preferred, {})

    def _chance(self, a, b):
        a, b = _text(a), _text(b)
        if (b, a) in self.chances:
            return 1 - self.chances[b, a]
        return self.chances.get((a, b), 0.5)


def _text(response):
    return response if isinstance(response, str) else response[-1]["content"]


VALUES = {"a": 2.0, "b": 1.0, "c": 0.0}
CHANCES = {("a", "b"): 0.55, ("a", "c"): 0.9, ("b", "c"): 0.75}
EXAMPLE = {"prompt": "p", "responses": ["c", "a", "b"], "id": 7}


def sides(rows):
    return [(row["chosen"], row["rejected"]) for row in rows]


def test_pairs_come_the_most_agreed_first_and_contested_ones_are_skipped():
    built = pair_builder(Told(VALUES, CHANCES), pairs=3)([EXAMPLE])
    assert sides(built.rows) == [("a", "c"), ("b", "c")]
    assert built.contested == 1
    first = built.rows[0]
    assert (first["id"], first["prompt"], first["risk_gap"]) == (7, "p", 2.0)
    assert first["probability"] == pytest.approx(0.9)
    assert first["disagreement"] == pytest.approx(0.18)
    assert "responses" not in first
    assert (built.without_pair, built.unscored) == ([], {})
    kept = pair_builder(Told(VALUES, CHANCES), pairs=3, contested="keep")([EXAMPLE])
    assert sides(kept.rows) == [("a", "c"), ("b", "c"), ("a", "b")]
    assert kept.contested == 0


def test_softened_labels_are_rows_in_proportion():
    build = pair_builder(Told(VALUES, CHANCES), contested="soften", copies=4, pairs=2)
    rows = build([EXAMPLE]).rows
    assert sides(rows) == [("a", "c")] * 4 + [("b", "c")] * 3 + [("c", "b")]
    assert rows[-1]["probability"] == pytest.approx(0.25)
    assert rows[-1]["risk_gap"] == -1


def test_caution_decides_the_side_and_equal_values_leave_it_to_people():
    told = Told({"a": 1.0, "b": 1.0, "c": 3.0}, {("a", "b"): 0.2, ("c", "a"): 0.3, ("c", "b"): 0.4})
    example = {"prompt": "p", "responses": ["a", "b", "c"]}
    rows = pair_builder(told, contested="keep", pairs=3)([example]).rows
    assert sides(rows) == [("b", "a"), ("c", "b"), ("c", "a")]
    assert rows[0]["probability"] == pytest.approx(0.8)
    built = pair_builder(told, agreement=0.9)([example])
    assert (built.rows, built.contested, built.without_pair) == ([], 3, [0])


def test_equal_prompts_of_two_examples_make_no_pair_across_them():
    examples = [{"prompt": "p", "responses": ["a", "c"]}, {"prompt": "p", "responses": ["c", "b"]}]
    built = pair_builder(Told(VALUES, CHANCES), pairs=9)(examples)
    assert sides(built.rows) == [("a", "c"), ("b", "c")]


def test_texts_after_messages_become_messages():
    chat = [{"role": "user", "content": "p"}]
    (row,) = pair_builder(Told(VALUES, CHANCES))([{"prompt": chat, "responses": ["a", "c"]}]).rows
    assert row["chosen"] == [{"role": "assistant", "content": "a"}]
    assert row["rejected"] == [{"role": "assistant", "content": "c"}]


def test_unscored_responses_are_named_and_left_out(models):
    example = {"prompt": "Tea? ", "responses": ["Yes.", "x " * 200, "Never, thanks."]}
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        pair_builder(models["normal"])([example])
    built = pair_builder(models["normal"], contested="keep", pairs=5, unscored="none")([example])
    assert list(built.unscored) == [(0, 1)]
    assert len(built.rows) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"contested": "drop"}, "skipped, softened or kept"),
        ({"agreement": 1.0}, "agreement is a probability"),
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"copies": 1}, "copies at least 2"),
    ],
)
def test_bad_options_are_errors(options, problem):
    with pytest.raises(ConfigError, match=problem):
        pair_builder(Told(VALUES), **options)


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        ({"responses": ["a", "b"]}, "example 0 has no 'prompt'"),
        ({"prompt": "p", "responses": ["a"]}, "fewer than two responses"),
        ({"prompt": "p", "responses": "ab"}, "fewer than two responses"),
    ],
)
def test_examples_that_make_no_pair_are_errors(example, problem):
    with pytest.raises(DataError, match=problem):
        pair_builder(Told(VALUES))([example])


def test_the_best_of_n_is_the_first_of_the_greatest():
    best = best_of_n(Told(VALUES | {"d": 2.0}, CHANCES), "p", ["c", "a", "d", "b"])
    assert (best.index, best.response, best.values) == (1, "a", [0.0, 2.0, 2.0, 1.0])
    p = [0.9, 0.75, 0.55, 0.5, 0.5, 0.5]
    assert best.disagreement == pytest.approx(sum(2 * x * (1 - x) for x in p) / 6)
    assert best.stddev == [1.0] * 4
    assert math.isnan(best_of_n(Told(VALUES), "p", ["b"]).disagreement)
    with pytest.raises(DataError, match="no response to choose from"):
        best_of_n(Told(VALUES), "p", [])


def test_the_best_by_a_risk_measure(models, expected_of):
    responses = ["With pleasure.", "No.", "Never, thanks."]
    for measure in ("mean", "cvar:0.05"):
        want = expected_of(["Tea? "] * 3, responses, measure)
        best = best_of_n(models["normal"], "Tea? ", responses, measure)
        assert best.values == pytest.approx(want, abs=1e-6, rel=1e-6)
        assert best.index == max(range(3), key=want.__getitem__)
