"""The guard: what it counts, when it speaks, and how each integration warns or stops."""

import asyncio
import copy
import json
import math
import pickle
import warnings

import httpx2
import numpy as np
import pytest
import torch
from scipy.stats import binom
from transformers import AutoModelForSequenceClassification, TrainerControl

from hidden_context.errors import ConfigError, HiddenContextWarning, OverOptimisedError
from hidden_context.integrations import ms_swift, openrlhf, tinker, verl
from hidden_context.integrations.client import RewardClient
from hidden_context.integrations.guard import Guard, stop_callback
from hidden_context.integrations.reward import score
from hidden_context.integrations.sources import LocalSource, RemoteSource, open_source
from hidden_context.integrations.trl import (
    async_reward_function,
    pair_builder,
    reward_function,
    reward_module,
)
from hidden_context.models.checkpoint.reference import Reference
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.guard import Seen, lower_limit, parse_guard, share_of
from hidden_context.scoring.reference import fit_place
from hidden_context.scoring.requests import Scorer
from support.builders import sample_texts

CHAT = [{"role": "user", "content": "What helps?"}]


def near(model):
    """A model to whose reference its own texts are usual in every way."""
    return with_reference(model, distance=1e9, sigma=1e9, disagreement=0.5)


def far(model):
    """A model to whose reference all texts are far."""
    return with_reference(model, distance=0.0, sigma=1e9, disagreement=0.5)


def with_reference(model, **usual):
    scorer = Scorer(model)
    ready = scorer.prepare(sample_texts(60, 4))
    place = fit_place(scorer.run(ready, with_features=True).features)
    values = {name: torch.full((100,), value) for name, value in usual.items()}
    found = copy.copy(model)
    found.reference = Reference(
        place.location, place.scale, place.whitening, model.readout(),
        head=model.head.to_dict(), facts={}, **values,
    )  # fmt: skip
    return found


def seen(prompt, *distances, sigma=0.0, disagreement=math.nan):
    return Seen(prompt, [sigma] * len(distances), list(distances), disagreement)


@pytest.mark.parametrize(("total", "count"), [(3, 10), (1, 1), (64, 64), (17, 200)])
def test_the_limit_is_clopper_and_pearsons(total, count):
    limit = lower_limit(total, count, 0.99)
    assert binom.sf(total - 1, count, limit) == pytest.approx(0.01)
    assert lower_limit(0, count, 0.99) == 0
    between = lower_limit(total - 0.5, count, 0.99)
    assert lower_limit(total - 1, count, 0.99) <= between < limit


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
    assert "the latest 40, 100% have a distance to the training texts above" in alarm.message
    assert "(at least 71%, by 20 prompts)" in alarm.message
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


def simulated(policy, seed, steps=2000, prompts=4, responses=8):
    """Steps of a training until a guard speaks; None where it never does."""
    generator, guard = np.random.default_rng(seed), Guard()
    for step in range(steps):
        shown = []
        for n in range(prompts):
            sigma, distance, divided = policy(generator, responses)
            shown.append(Seen(f"{step}-{n}", sigma, distance, divided))
        if guard.take(shown) is not None:
            return step
    return None


def like_data(generator, responses):
    """Responses of the data, the worst case: those to one prompt are all alike."""
    return [generator.random()] * responses, [generator.random()] * responses, generator.random()


def shifted(share):
    def policy(generator, responses):
        unusual = generator.random(responses) < share
        return [0.5] * responses, np.where(unusual, 1.0, 0.5).tolist(), 0.5

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
        ("warn:watch=reward", "watches sigma, disagreement, distance"),
    ]:
        with pytest.raises(ConfigError, match=words):
            parse_guard(text)
    guard.take([seen("a", 1.0)])
    again = pickle.loads(pickle.dumps(guard))
    assert again.shares() == guard.shares()
    assert again.take([]) is None


PROMPTS = [f"Tea {n}? " for n in range(10) for _ in range(2)]
COMPLETIONS = ["With pleasure.", "No."] * 10


def test_trl_logs_what_is_known_and_warns_once(models):
    logs = {}
    function = reward_function(far(models["normal"]), guard="warn:window=20")
    with pytest.warns(HiddenContextWarning, match="more contested than the data") as caught:
        rewards = function(PROMPTS, COMPLETIONS, log_metric=logs.__setitem__)
    assert len([one for one in caught if one.category is HiddenContextWarning]) == 1
    plain = reward_function(models["normal"])(PROMPTS, COMPLETIONS)
    assert rewards == pytest.approx(plain, abs=1e-5)
    assert logs["rewards/mean/distance"] == 1.0
    texts = [p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    log_sigma = Scorer(models["normal"]).rewards(Scorer(models["normal"]).raw(texts).raw)
    want = log_sigma.stddev.log().mean().item()
    assert logs["rewards/mean/log_sigma"] == pytest.approx(want, abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HiddenContextWarning)
        function(PROMPTS, COMPLETIONS)  # it has said so
        reward_function(near(models["normal"]), guard="warn:window=20")(PROMPTS, COMPLETIONS)


def test_without_a_reference_distance_is_not_logged_and_a_guard_is_refused(models, folders):
    logs, extra = {}, {}
    given = {"log_metric": logs.__setitem__, "log_extra": extra.__setitem__}
    reward_function(models["normal"])(PROMPTS, COMPLETIONS, **given)
    assert "rewards/mean/distance" not in logs
    assert set(extra) == {"mean sigma", "mean disagreement"}
    model, swift = models["normal"], ms_swift.reward_plugin(guard="warn")
    network = AutoModelForSequenceClassification.from_pretrained(folders["normal"])
    for make in (
        lambda: reward_function(model, guard="warn"),
        lambda: async_reward_function(model, guard="warn"),
        lambda: reward_module(model, guard="warn"),
        lambda: pair_builder(model, guard="warn"),
        lambda: openrlhf.reward_function(model, guard="warn"),
        lambda: ms_swift.reward_orm(model, guard="warn"),
        lambda: swift(network),
        lambda: tinker.preference_model(model, guard="warn"),
        lambda: verl.compute_score(
            "", "Sleep.", "", {"prompt": CHAT}, model=folders["normal"], guard="warn"
        ),
        lambda: score(model, ["p"], ["a"], guard=Guard()),
    ):
        with pytest.raises(ConfigError, match="hidden-context reference CHECKPOINT DATA"):
            make()


STOP = "stop:window=1,level=0.5"  # one response is above, and that is enough


def answer(text):
    return [{"role": "assistant", "content": text}]


def comparison():
    sides = {"completion_A": answer("Sleep."), "completion_B": answer("Tea.")}
    return type("Comparison", (), {"prompt_conversation": CHAT, **sides})()


def test_every_integration_stops(models):
    model = far(models["normal"])
    rows = [[*CHAT, *answer("Sleep.")], [*CHAT, *answer("Tea.")]]
    module = reward_module(model, guard=STOP)
    pairs = [{"prompt": "Tea? ", "responses": ["Yes.", "No."]}]
    for ask in (
        lambda: reward_function(model, guard=STOP)(["p"], ["a"]),
        lambda: asyncio.run(async_reward_function(model, guard=STOP)(["p"], ["a"])),
        lambda: module(torch.tensor([[1, 5, 6]])),
        lambda: pair_builder(model, guard=STOP)(pairs),
        lambda: openrlhf.reward_function(model, guard=STOP)(["<s>Tea?"], ["<s>"], [None]),
        lambda: ms_swift.reward_orm(model, guard=STOP)()(["", ""], messages=rows),
        lambda: asyncio.run(tinker.preference_model(model, guard=STOP)(comparison())),
        lambda: asyncio.run(tinker.preference_model_builder(model, guard=STOP)()(comparison())),
    ):
        with pytest.raises(OverOptimisedError, match="more contested than the data"):
            ask()


def test_verl_keeps_one_window_for_all_its_single_responses(models, tmp_path):
    folder = tmp_path / "model"
    far(models["normal"]).save_pretrained(folder)
    options = {"model": str(folder), "guard": "stop:window=4"}
    for n in range(3):
        row = {"prompt": [{"role": "user", "content": f"What {n}?"}]}
        found = verl.compute_score("", "Sleep.", "", row, **options)
        assert list(found)[:5] == ["score", "mean", "stddev", "log_sigma", "distance"]
        assert found["distance"] == 1.0
        assert found["log_sigma"] == pytest.approx(math.log(found["stddev"]))
    with pytest.raises(OverOptimisedError, match="by 4 prompts"):
        asyncio.run(verl.compute_score_async("", "Sleep.", "", {"prompt": CHAT}, **options))


def test_openrlhf_logs_the_distance(models):
    model = near(models["normal"])
    logs = openrlhf.reward_function(model, guard="stop:window=2")(
        ["<s>Tea? No.", "<s>Rain? No."], ["<s>Tea?", "<s>Rain?"], [None, None]
    )["extra_logs"]
    assert logs["distance"].tolist() == [0, 0]
    assert logs["log_sigma"].tolist() == pytest.approx(logs["stddev"].log().tolist())


def test_ms_swift_reads_the_reference_of_the_network_that_it_loaded(models, tmp_path):
    far(models["normal"]).save_pretrained(tmp_path / "model")
    for dtype in (torch.float32, torch.bfloat16):
        network = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "model", dtype=dtype
        )
        plugin = ms_swift.reward_plugin(guard=STOP)(network)
        with pytest.raises(OverOptimisedError):
            plugin([{"messages": [*CHAT, *answer("Sleep.")]}])


def test_a_trainer_saves_and_stops_where_the_callback_looks(models):
    guard = Guard("stop", window=1, level=0.5)
    function = reward_function(far(models["normal"]), guard=guard)
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


@pytest.mark.slow
def test_grpo_stops_with_a_checkpoint(models, tmp_path):
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from support.builders import tiny_backbone, tiny_tokenizer

    policy = tiny_backbone(tmp_path / "policy", "llama", tokenizer=tiny_tokenizer(bos="<s>"))
    guard = Guard("stop", window=8, level=0.9)
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy),
        args=trl.GRPOConfig(
            str(tmp_path / "out"), max_steps=6, per_device_train_batch_size=4, num_generations=2,
            max_completion_length=6, use_cpu=True, bf16=False, report_to=[], save_steps=100,
            logging_steps=1, disable_tqdm=True,
        ),
        reward_funcs=reward_function(far(models["normal"]), guard=guard, unscored="none"),
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=Dataset.from_dict({"prompt": [f"Tea {n}? " for n in range(12)]}),
        callbacks=[stop_callback(guard)],
    )  # fmt: skip
    with pytest.warns(HiddenContextWarning, match="more contested"):
        trainer.train()
    assert trainer.state.global_step == 2  # four responses a step
    assert (tmp_path / "out" / "checkpoint-2").is_dir()
    assert trainer.state.log_history[0]["rewards/mean/distance"] == 1.0


def test_a_server_answers_percentiles_to_the_client(models, serving, folders):
    """And an earlier one, or one without a reference, is refused by a guard alone."""
    with serving() as url:
        assert score(url, PROMPTS, COMPLETIONS).has_reference is False
        with pytest.raises(ConfigError, match="the server answers none"):
            reward_function(url, guard="warn")(PROMPTS, COMPLETIONS)


def told(percentiles):
    def reply(request):
        n = len(json.loads(request.content)["responses"])
        row = [0.0] * n
        content = {
            "mean": row, "stddev": row, "risk": {"name": "mean", "values": row},
            "preferred": [[0.5] * n] * n, "shares": {}, "percentiles": percentiles,
        }  # fmt: skip
        return httpx2.Response(200, json=content)

    transport = httpx2.MockTransport(reply)
    return RemoteSource(RewardClient("http://127.0.0.1:9", transport=transport))


def test_percentiles_of_a_server_reach_the_guard():
    source = told({"sigma": [0.2, 0.99], "distance": [0.5, 1.0], "disagreement": None})
    batch = score(source, ["p", "p"], ["a", "b"])
    assert batch.distance == [0.5, 1.0]
    assert math.isnan(batch.answered[0].rewards.percentiles.disagreement)
    guard = Guard(window=2, level=0.5)
    with pytest.warns(HiddenContextWarning):
        score(source, ["p", "p"], ["a", "b"], guard=guard)
    assert guard.shares()["sigma"].share == 0.5
    assert guard.shares()["disagreement"].prompts == 0


def test_a_server_that_stops_is_an_error_of_its_own():
    def reply(request):
        error = {"message": "too far", "type": "over_optimised", "item": None}
        return httpx2.Response(409, json={"error": error})

    client = RewardClient("http://127.0.0.1:9", transport=httpx2.MockTransport(reply))
    with pytest.raises(OverOptimisedError, match="9 stopped the training: too far"):
        score(client, ["p"], ["a"])


def test_the_local_source_knows_every_response(models):
    model = far(models["normal"])
    source = open_source(model)
    assert isinstance(source, LocalSource)
    batch = score(source, ["p", "q", "p"], ["a", " x " * 200, "c"], unscored="none")
    assert batch.distance[0] == batch.distance[2] == 1.0
    assert math.isnan(batch.distance[1])
    assert isinstance(model, RewardModel)
