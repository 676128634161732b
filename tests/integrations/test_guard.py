"""The guard: what it counts, when it speaks, and how each integration warns or stops."""

import asyncio
import math
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binom
from transformers import AutoModelForSequenceClassification, TrainerControl

from hidden_context.errors import ConfigError, HiddenContextWarning, OverOptimisedError
from hidden_context.integrations import ms_swift, openrlhf, tinker, verl
from hidden_context.integrations.guard import Guard, stop_callback
from hidden_context.integrations.reward import score
from hidden_context.integrations.trl import (
    async_reward_function,
    pair_builder,
    reward_function,
    reward_module,
)
from hidden_context.scoring.guard import Seen, lower_limit, parse_guard, share_of
from support.rows import assistant, user
from support.scoring import FAR, with_reference

CHAT = [user("What helps?")]


STOP = "stop:window=1,level=0.5"  # one response is above, and that is enough


@pytest.fixture(scope="module")
def contested(models):
    """A model to whose reference all texts are far."""
    return with_reference(models["normal"], **FAR)


def seen(prompt, *distances, sigma=0.0, disagreement=math.nan):
    return Seen(prompt, [sigma] * len(distances), list(distances), disagreement)


@pytest.mark.parametrize(("total", "count"), [(3, 10), (1, 1), (64, 64), (17, 200)])
def test_the_limit_is_clopper_and_pearsons(total, count):
    limit = lower_limit(total, count, 0.99)
    assert binom.sf(total - 1, count, limit) == pytest.approx(0.01)
    assert lower_limit(0, count, 0.99) == 0
    assert lower_limit(total - 1, count, 0.99) <= lower_limit(total - 0.5, count, 0.99) < limit


def test_prompts_count_once_however_many_responses_they_have():
    window = [seen("a", 1.0, 0.96), seen("a", 0.95, 0.2), seen("b", 0.99), seen("c", 0.1, 0.2)]
    share = share_of(window, "distance", 0.99)
    assert (share.share, share.prompts) == (pytest.approx((0.5 + 1 + 0) / 3), 3)
    assert share.lower == lower_limit(1.5, 3, 0.99)
    assert share_of(window, "sigma", 0.99) == share_of([], "sigma", 0.99).__class__(0.0, 0.0, 3)
    divided = [seen("a", 0, disagreement=0.99), seen("a", 0, disagreement=0.1), seen("b", 0)]
    assert share_of(divided, "disagreement", 0.99).share == 0.5
    assert share_of(divided, "disagreement", 0.99).prompts == 1


def test_it_speaks_when_the_window_is_full_and_the_limit_is_above_the_bound():
    guard = Guard(window=40)
    far_ones = [seen(str(n), 1.0, 1.0) for n in range(20)]
    assert guard.take(far_ones[:19]) is None
    alarm = guard.take(far_ones[19:])
    assert set(alarm.shares) == {"distance"}
    assert alarm.shares["distance"].lower == pytest.approx(0.001 ** (1 / 20))
    assert alarm.begins
    assert "latest 40 responses, 100% have a distance to the training texts above" in alarm.message
    assert "(at least 71%, from 20 prompts)" in alarm.message
    assert not guard.take([seen("z", 1.0)]).begins
    assert guard.take([seen(f"n{n}", 0.0, 0.0) for n in range(20)]) is None
    assert guard.alarm is None
    assert guard.take(far_ones).begins


def test_the_window_keeps_the_latest_responses():
    guard = Guard(window=6)
    guard.take([seen("a", 1.0, 1.0), seen("b", 0.0, 0.0), seen("c", 0.0, 0.0)])
    assert guard.shares()["distance"].prompts == 3
    guard.take([seen("d", 0.0, 0.0)])
    assert guard.shares()["distance"] == share_of([seen(p, 0.0) for p in "bcd"], "distance", 0.999)
    guard.take([seen("e", 0.0)])  # a prompt's responses leave together: six are left of them
    assert guard.shares()["distance"].prompts == 4
    assert Guard(watch=["sigma"]).shares().keys() == {"sigma"}


def simulated(policy, seed, steps=2000):
    """Steps of a training, each of four prompts, until a guard speaks; None if it never does."""
    generator, guard = np.random.default_rng(seed), Guard()
    for step in range(steps):
        if guard.take([Seen(f"{step}-{n}", *policy(generator)) for n in range(4)]) is not None:
            return step
    return None


def like_data(generator):
    """Eight responses of the data, the worst case: those to one prompt are all alike."""
    return [generator.random()] * 8, [generator.random()] * 8, generator.random()


def shifted(share):
    def policy(generator):
        return [0.5] * 8, np.where(generator.random(8) < share, 1.0, 0.5).tolist(), 0.5

    return policy


def test_false_alarms_are_rare_and_shifts_are_found():
    """Of 30 runs of 2000 steps whose prompts' responses are all alike, at most one has an alarm."""
    false = [simulated(like_data, seed) for seed in range(30)]
    assert sum(step is not None for step in false) <= 1
    found = [simulated(shifted(0.5), seed, 60) for seed in range(20)]
    assert all(step is not None and step < 12 for step in found)  # 8 steps fill the window
    found = [simulated(shifted(0.1), seed, 200) for seed in range(10)]
    assert found == [None] * 10


def test_guards_are_written_as_text():
    guard = parse_guard("stop:window=512,bound=0.2,level=0.9,watch=distance+sigma")
    assert (guard.action, guard.window, guard.bound, guard.level) == ("stop", 512, 0.2, 0.9)
    assert guard.watch == ("distance", "sigma")
    assert parse_guard("warn").bound == 0.1
    assert parse_guard(guard) is guard
    for text, words in [
        ("shout", "warns or stops"),
        ("warn:windows=4", "cannot be read at 'windows=4'"),
        ("warn:window=x", "cannot be read at 'window=x'"),
        ("warn:window=0", "at least 1"),
        ("warn:bound=1", "between 0 and 1"),
        ("warn:watch=reward", "can watch sigma, disagreement, distance"),
    ]:
        with pytest.raises(ConfigError, match=words):
            parse_guard(text)
    guard.take([seen("a", 1.0)])
    again = pickle.loads(pickle.dumps(guard))
    assert again.shares() == guard.shares()
    assert again.take([]) is None


PROMPTS = [f"Tea {n}? " for n in range(10) for _ in range(2)]
COMPLETIONS = ["With pleasure.", "No."] * 10
NEAR = FAR | {"distance": torch.full((100,), 1e9)}


def test_trl_logs_what_is_known_and_warns_once(models, contested):
    logs = {}
    function = reward_function(contested, guard="warn:window=20")
    with pytest.warns(HiddenContextWarning, match="more contested than the data") as caught:
        rewards = function(PROMPTS, COMPLETIONS, log_metric=logs.__setitem__)
    assert len([one for one in caught if one.category is HiddenContextWarning]) == 1
    plain = reward_function(models["normal"])(PROMPTS, COMPLETIONS)
    assert rewards == pytest.approx(plain, abs=1e-5)
    assert logs["rewards/mean/distance"] == 1.0
    sigma = score(models["normal"], PROMPTS, COMPLETIONS).stddev
    want = sum(map(math.log, sigma)) / len(sigma)
    assert logs["rewards/mean/log_sigma"] == pytest.approx(want, abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HiddenContextWarning)
        function(PROMPTS, COMPLETIONS)  # it has said so
        near = with_reference(models["normal"], **NEAR)
        reward_function(near, guard="warn:window=20")(PROMPTS, COMPLETIONS)


PAIR = [{"prompt": "Tea? ", "responses": ["Yes.", "No."]}]
SIDES = {"completion_A": [assistant("Sleep.")], "completion_B": [assistant("Tea.")]}
COMPARISON = SimpleNamespace(prompt_conversation=CHAT, **SIDES)
ROWS = [[*CHAT, *side] for side in SIDES.values()]


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, **guard: reward_function(model, **guard)(["p"], ["a"]),
        lambda model, **guard: asyncio.run(async_reward_function(model, **guard)(["p"], ["a"])),
        lambda model, **guard: reward_module(model, **guard)(torch.tensor([[1, 5, 6]])),
        lambda model, **guard: pair_builder(model, **guard)(PAIR),
        lambda model, **guard: openrlhf.reward_function(model, **guard)(["<s>a"], [""], [None]),
        lambda model, **guard: ms_swift.reward_orm(model, **guard)()(["", ""], messages=ROWS),
        lambda model, **guard: asyncio.run(tinker.preference_model(model, **guard)(COMPARISON)),
        lambda model, **guard: asyncio.run(
            tinker.preference_model_builder(model, **guard)()(COMPARISON)
        ),
        lambda model, guard: score(model, ["p"], ["a"], guard=parse_guard(guard)),
    ],
)
def test_every_integration_stops_and_needs_a_reference(models, contested, ask):
    with pytest.raises(OverOptimisedError, match="more contested than the data"):
        ask(contested, guard=STOP)
    with pytest.raises(ConfigError, match="hidden-context reference CHECKPOINT DATA"):
        ask(models["normal"], guard="warn")


def test_verl_keeps_one_window_for_all_its_single_responses(contested, folders, tmp_path):
    folder = tmp_path / "model"
    contested.save_pretrained(folder)
    options = {"model": str(folder), "guard": "stop:window=4"}
    for n in range(3):
        row = {"prompt": [{"role": "user", "content": f"What {n}?"}]}
        found = verl.compute_score("", "Sleep.", "", row, **options)
        assert list(found)[:5] == ["score", "mean", "stddev", "log_sigma", "distance"]
        assert found["distance"] == 1.0
        assert found["log_sigma"] == pytest.approx(math.log(found["stddev"]))
    with pytest.raises(OverOptimisedError, match="from 4 prompts"):
        asyncio.run(verl.compute_score_async("", "Sleep.", "", {"prompt": CHAT}, **options))
    with pytest.raises(ConfigError, match="hidden-context reference CHECKPOINT DATA"):
        verl.compute_score("", "a", "", row, model=folders["normal"], guard="warn")


def test_openrlhf_logs_the_distance(models):
    model = with_reference(models["normal"], **NEAR)
    logs = openrlhf.reward_function(model, guard="stop:window=2")(
        ["<s>Tea? No.", "<s>Rain? No."], ["<s>Tea?", "<s>Rain?"], [None, None]
    )["extra_logs"]
    assert logs["distance"].tolist() == [0, 0]
    assert logs["log_sigma"].tolist() == pytest.approx(logs["stddev"].log().tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ms_swift_reads_the_reference_of_the_network_that_it_loaded(
    contested, folders, tmp_path, dtype
):
    contested.save_pretrained(tmp_path / "model")
    load = AutoModelForSequenceClassification.from_pretrained
    plugin = ms_swift.reward_plugin(guard=STOP)
    with pytest.raises(OverOptimisedError):
        plugin(load(tmp_path / "model", dtype=dtype))([{"messages": ROWS[0]}])
    with pytest.raises(ConfigError, match="hidden-context reference CHECKPOINT DATA"):
        plugin(load(folders["normal"]))


def test_a_trainer_saves_and_stops_where_the_callback_looks(contested):
    guard = Guard("stop", window=1, level=0.5)
    function = reward_function(contested, guard=guard)
    callback, control = stop_callback(guard), TrainerControl()
    callback.on_step_end(None, None, control)
    assert not control.should_training_stop
    with pytest.warns(HiddenContextWarning, match="more contested"):  # no error any more
        assert len(function(["p"], ["a"])) == 1
    callback.on_step_end(None, None, control)
    assert control.should_training_stop
    assert control.should_save
    with pytest.raises(ConfigError, match="only warns"):
        stop_callback(Guard("warn"))


def test_a_server_without_a_reference_is_refused_by_a_guard_alone(url):
    assert score(url, PROMPTS, COMPLETIONS).has_reference is False
    with pytest.raises(ConfigError, match="the server returns none"):
        reward_function(url, guard="warn")(PROMPTS, COMPLETIONS)


def test_percentiles_of_a_model_or_a_server_reach_the_guard(contested, answering):
    batch = score(contested, ["p", "q", "p"], ["a", " x " * 200, "c"], unscored="none")
    assert batch.distance == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    told = {"sigma": [0.2, 0.99], "distance": [0.5, 1.0], "disagreement": None}
    source = answering(percentiles=told, shares={})
    batch = score(source, ["p", "p"], ["a", "b"])
    assert batch.distance == [0.5, 1.0]
    assert math.isnan(batch.answered[0].rewards.percentiles.disagreement)
    guard = Guard(window=2, level=0.5)
    with pytest.warns(HiddenContextWarning):
        score(source, ["p", "p"], ["a", "b"], guard=guard)
    assert guard.shares()["sigma"].share == 0.5
    assert guard.shares()["disagreement"].prompts == 0


def test_a_server_that_stops_is_an_error_of_its_own(answering):
    error = {"message": "too far", "type": "over_optimised", "item": None}
    with pytest.raises(OverOptimisedError, match="9 stopped the training: too far"):
        score(answering(409, error=error), ["p"], ["a"])
