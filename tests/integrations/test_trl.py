"""TRL: reward functions, what they log, the reward network, pairs, best of n, and its trainers."""

import asyncio
import math

import pytest
import torch
import trl
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)

from hidden_context.errors import ConfigError, DataError, HiddenContextWarning
from hidden_context.integrations import reward
from hidden_context.integrations.reward import score
from hidden_context.integrations.sources import Answered, LocalSource, Rewards
from hidden_context.integrations.trl import (
    Guard,
    async_reward_function,
    best_of_n,
    check_reward_functions,
    pair_builder,
    reward_function,
    reward_module,
    stop_callback,
)
from hidden_context.models.checkpoint.head_file import HEAD_FILE
from support.builders import tiny_backbone, tiny_tokenizer
from support.rows import assistant, user
from support.runs import spied
from support.scoring import FAR, with_reference

PROMPTS = ["Tea? ", "Tea? ", "Rain? ", "Rain? "]
COMPLETIONS = ["With pleasure.", "No.", "It may.", "Never."]


def logging():
    """What a reward function logs, metrics and columns, and how the trainer takes it."""
    metrics, columns = {}, {}
    return metrics, columns, {"log_metric": metrics.__setitem__, "log_extra": columns.__setitem__}


@pytest.mark.parametrize("behind", ["model", "url"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_reward_function_returns_the_risk_measure_and_logs_the_rest(
    models, url, behind, is_async
):
    model = models["factor"] if behind == "model" else url
    name = {"name": "factor"} if behind == "url" else {}
    make = async_reward_function if is_async else reward_function
    function, (metrics, columns, logs) = make(model, "cvar:0.05", **name), logging()
    rewards = function(PROMPTS, COMPLETIONS, completion_ids=[], **logs)
    rewards = asyncio.run(rewards) if is_async else rewards
    batch = score(models["factor"], PROMPTS, COMPLETIONS, "cvar:0.05")
    assert rewards == pytest.approx(batch.values, abs=1e-6, rel=1e-6)
    assert function.__name__ == "cvar:0.05"
    for what, values in (("sigma", batch.stddev), ("disagreement", batch.disagreement)):
        assert columns[f"cvar:0.05 {what}"] == pytest.approx(values, 1e-5)
        assert metrics[f"rewards/cvar:0.05/{what}"] == pytest.approx(sum(values) / 4, 1e-5)
    shares = [value for key, value in metrics.items() if "share" in key or "noise" in key]
    assert sum(shares) == pytest.approx(1)
    # nothing is unscored, and distances are known by a reference alone
    assert {f"rewards/cvar:0.05/{what}" for what in ("unscored", "distance")}.isdisjoint(metrics)
    assert set(columns) == {"cvar:0.05 sigma", "cvar:0.05 disagreement"}


def test_a_completion_without_a_reward_stops_or_is_none(models):
    completions = ["With pleasure.", "x " * 200, "It may.", "Never."]
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        reward_function(models["normal"])(PROMPTS, completions)
    metrics, columns, logs = logging()
    rewards = reward_function(models["normal"], unscored="none")(PROMPTS, completions, **logs)
    assert [one is None for one in rewards] == [False, True, False, False]
    assert metrics["rewards/mean/unscored"] == 1
    assert columns["mean sigma"][1] is None


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
    with pytest.raises(ConfigError, match=r"not object\. Use reward_function"):
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
    """Answers what it is told: values by response, and P of one response against another."""

    def __init__(self, values, **chances):
        self.values = values
        self.chances = chances | {pair[::-1]: 1 - p for pair, p in chances.items()}

    def answer(self, asked, risk):
        return [Answered(group, self._rewards(group.responses)) for group in asked]

    def _rewards(self, responses):
        values = [self.values[one] for one in responses]
        preferred = [[self.chances.get(a + b, 0.5) for b in responses] for a in responses]
        return Rewards(values, values, [1.0] * len(values), preferred, {})


VALUES = {"a": 2.0, "b": 1.0, "c": 0.0}
TOLD = Told(VALUES, ab=0.55, ac=0.9, bc=0.75)
TIED = Told({"a": 1.0, "b": 1.0, "c": 3.0}, ab=0.2, ca=0.3, cb=0.4)


@pytest.mark.parametrize(
    ("told", "options", "responses", "sides", "contested"),
    [
        # the most agreed come first, and contested ones are skipped
        (TOLD, {"pairs": 3}, ["cab"], ["ac", "bc"], 1),
        (TOLD, {"pairs": 3, "contested": "keep"}, ["cab"], ["ac", "bc", "ab"], 0),
        # softened labels are rows in proportion
        (TOLD, {"contested": "soften", "copies": 4, "pairs": 2}, ["cab"],
         ["ac"] * 4 + ["bc"] * 3 + ["cb"], 0),
        # caution decides the side, and equal values leave it to people
        (TIED, {"pairs": 3, "contested": "keep"}, ["abc"], ["ba", "cb", "ca"], 0),
        (TIED, {"agreement": 0.9}, ["abc"], [], 3),
        # no pair is made across two examples of equal prompts
        (TOLD, {"pairs": 9}, ["ac", "cb"], ["ac", "bc"], 0),
    ],
)  # fmt: skip
def test_pairs_are_chosen_by_risk_and_agreement(told, options, responses, sides, contested):
    built = pair_builder(told, **options)([{"prompt": "p", "responses": [*r]} for r in responses])
    assert [row["chosen"] + row["rejected"] for row in built.rows] == sides
    assert built.contested == contested
    assert (built.without_pair, built.unscored) == ([] if sides else [0], {})


def test_rows_say_how_agreed_their_pair_is():
    example = {"prompt": "p", "responses": ["c", "a", "b"], "id": 7}
    rows = pair_builder(TOLD, contested="soften", pairs=2)([example]).rows
    for row, sides, p, gap in ((rows[0], "ac", 0.9, 2.0), (rows[-1], "cb", 0.25, -1.0)):
        said = {"probability": p, "disagreement": 2 * p * (1 - p), "risk_gap": gap}
        wanted = {"prompt": "p", "id": 7, "chosen": sides[0], "rejected": sides[1]}
        assert row == wanted | {name: pytest.approx(value) for name, value in said.items()}


def test_texts_after_messages_become_messages():
    (row,) = pair_builder(TOLD)([{"prompt": [user("p")], "responses": ["a", "c"]}]).rows
    assert (row["chosen"], row["rejected"]) == ([assistant("a")], [assistant("c")])


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
        ({"contested": "drop"}, "contested is skip, soften or keep"),
        ({"agreement": 1.0}, "agreement is a probability"),
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"copies": 1}, "copies at least 2"),
    ],
)
def test_bad_options_are_errors(options, problem):
    with pytest.raises(ConfigError, match=problem):
        pair_builder(Told(VALUES), **options)


def test_examples_that_make_no_pair_are_errors():
    with pytest.raises(DataError, match="example 0 has no 'prompt'"):
        pair_builder(TOLD)([{"responses": ["a", "b"]}])
    for responses in (["a"], "ab"):
        with pytest.raises(DataError, match="fewer than two responses"):
            pair_builder(TOLD)([{"prompt": "p", "responses": responses}])


def test_the_best_of_n_is_the_first_of_the_greatest():
    best = best_of_n(Told(VALUES | {"d": 2.0}, **TOLD.chances), "p", ["c", "a", "d", "b"])
    assert (best.index, best.response, best.values) == (1, "a", [0.0, 2.0, 2.0, 1.0])
    p = [0.9, 0.75, 0.55, 0.5, 0.5, 0.5]
    assert best.disagreement == pytest.approx(sum(2 * x * (1 - x) for x in p) / 6)
    assert best.stddev == [1.0] * 4
    assert math.isnan(best_of_n(Told(VALUES), "p", ["b"]).disagreement)
    with pytest.raises(DataError, match="no response to choose from"):
        best_of_n(Told(VALUES), "p", [])


RISK = "cvar:0.05"
ASKED = ["Tea? ", "Rain? "]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    tokenizer = tiny_tokenizer(bos="<s>")
    return tiny_backbone(tmp_path_factory.mktemp("policy"), "llama", tokenizer=tokenizer)


def trainer_of(method, policy, folder, rows, settings, **given):
    """A trainer of TRL that takes two steps, or as many as asked for."""
    quiet = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    quiet |= {"use_cpu": True, "bf16": False, "report_to": [], "seed": 1}
    return getattr(trl, f"{method}Trainer")(
        model=AutoModelForCausalLM.from_pretrained(policy),
        args=getattr(trl, f"{method}Config")(output_dir=str(folder), **quiet | settings),
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=Dataset.from_list(rows),
        **given,
    )


def train(policy, functions, folder, method="GRPO", trainer=None, **options):
    """Train by reward functions; return the trainer."""
    settings = {"per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 6}
    given = {"reward_funcs": check_reward_functions(functions), **(trainer or {})}
    rows = [{"prompt": prompt} for prompt in ASKED * 4]
    running = trainer_of(method, policy, folder, rows, settings | options, **given)
    running.train()
    return running


def logged(running, name="mean"):
    return [one[f"rewards/{RISK}/{name}"] for one in running.state.log_history if "reward" in one]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GRPO", "RLOO"])
@pytest.mark.parametrize("make", [reward_function, async_reward_function])
@pytest.mark.parametrize("behind", ["process", "server"])
def test_logged_rewards_are_those_of_scoring(
    method, make, behind, policy, models, url, expected_of, tmp_path, monkeypatch
):
    asked = spied(monkeypatch, reward, "_groups", lambda *given: list(map(list, given[:2])))
    remote = behind == "server"
    function = make(url if remote else models["normal"], RISK, name="normal" if remote else None)
    running = train(policy, [function], tmp_path, method)
    want = [sum(expected_of(*given)) / 4 for given in asked]
    assert len(want) == 2
    assert logged(running) == pytest.approx(want, abs=1e-5, rel=1e-5)
    assert min(logged(running, "sigma")) > 0
    assert all(0 <= divided <= 0.5 for divided in logged(running, "disagreement"))


@pytest.mark.slow
def test_the_reward_network_and_the_function_agree(policy, models, tmp_path):
    module, function = reward_module(models["normal"], RISK), reward_function(models["normal"])
    processing = {"reward_processing_classes": [module.tokenizer, None]}
    by_network = train(policy, [module, function], tmp_path, trainer=processing)
    assert all("rewards/mean/mean" in one for one in by_network.state.log_history[:2])
    both = train(policy, [reward_function(models["normal"], RISK), function], tmp_path)
    assert logged(by_network) == pytest.approx(logged(both), rel=1e-5)


@pytest.mark.slow
def test_a_guard_stops_with_a_checkpoint(policy, models, tmp_path):
    guard, model = Guard("stop", window=8, level=0.9), with_reference(models["normal"], **FAR)
    function = reward_function(model, RISK, guard=guard, unscored="none")
    stopped = {"callbacks": [stop_callback(guard)]}
    with pytest.warns(HiddenContextWarning, match="more contested"):
        running = train(policy, [function], tmp_path, trainer=stopped, max_steps=6)
    assert running.state.global_step == 2  # four responses a step
    assert (tmp_path / "checkpoint-2").is_dir()
    assert logged(running, "distance")[0] == 1.0


@pytest.mark.slow
def test_dpo_takes_the_rows_of_pairs(policy, models, tmp_path):
    build = pair_builder(models["normal"], RISK, contested="soften")
    rows = build([{"prompt": p, "responses": ["Yes.", "Never, thanks."]} for p in ASKED]).rows
    running = trainer_of("DPO", policy, tmp_path, rows, {"max_steps": 1})
    assert len(running.train_dataset) == len(rows) == 8
    running.train()
    assert running.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
