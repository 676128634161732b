"""verl, OpenRLHF, ms-swift and tinker-cookbook: their functions, equal to scoring in process."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.integrations import ms_swift, openrlhf, tinker, verl
from hidden_context.integrations.sources import Rewards
from hidden_context.scoring.requests import Scorer

CHAT = [{"role": "user", "content": "What helps?"}]
LONG = "x " * 200
TOLERANCE = {"abs": 1e-6, "rel": 1e-6}


def answer(text):
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("is_async", [False, True])
def test_verl_scores_a_response_after_the_prompt_of_its_row(folders, expected_of, is_async):
    def compute(*given, **options):
        if is_async:
            return asyncio.run(verl.compute_score_async(*given, **options))
        return verl.compute_score(*given, **options)

    options = {"model": folders["factor"], "risk": "cvar:0.05", "reward_router_address": None}
    found = compute("set", "Sleep.", "truth", {"prompt": CHAT}, **options)
    chat = ([CHAT], [answer("Sleep.")])
    assert found["score"] == pytest.approx(expected_of(*chat, name="factor")[0], **TOLERANCE)
    assert found["mean"] == pytest.approx(expected_of(*chat, "mean", "factor")[0], **TOLERANCE)
    assert found["stddev"] > 0
    shares = [value for name, value in found.items() if name.startswith("share_")]
    assert len(shares) > 1
    assert sum(shares) == pytest.approx(1)
    text = compute(None, "With pleasure.", None, {"asked": "Tea? "}, prompt_key="asked", **options)
    want = expected_of(["Tea? "], ["With pleasure."], name="factor")
    assert text["score"] == pytest.approx(want[0], **TOLERANCE)
    with pytest.raises(ConfigError, match=r"reward_kwargs\.model"):
        compute("set", "Sleep.", None, {"prompt": CHAT})
    for row in (None, {"other": 1}):
        with pytest.raises(DataError, match="verl does not hand over the prompt"):
            compute("set", "Sleep.", None, row, **options)
    with pytest.raises(ConfigError, match="asks for one at a time"):
        compute("set", "a", None, {"prompt": CHAT}, model="m", risk="relative_cvar:0.1")


def test_verl_asks_a_server(url, expected_of):
    found = verl.compute_score("", "Sleep.", "", {"prompt": CHAT}, model=url, name="factor")
    want = expected_of([CHAT], [answer("Sleep.")], "mean", "factor")
    assert found["score"] == pytest.approx(want[0], **TOLERANCE)


def test_verl_finds_the_same_keys_in_every_row():
    """Also where one response's reward does not vary, so that its variance has no shares."""
    from hidden_context.integrations.reward import Batch
    from hidden_context.integrations.sources import Answered, Candidates

    found = Answered(
        Candidates("p", ["a"], [0]), Rewards([1], [1], [0], [[0.5]], {"noise": [math.nan]})
    )
    logged = verl._logged(Batch(1, [found], {}))
    assert list(logged) == ["score", "mean", "stddev", "log_sigma", "share_noise"]
    assert math.isnan(logged["share_noise"])
    assert math.isnan(logged["log_sigma"])


def test_openrlhf_queries_keep_their_special_tokens(models, folders, expected, url):
    reward_func = openrlhf.reward_function(models["factor"], "cvar:0.05")
    queries = ["<s>Tea? With pleasure.</s>", "<s>Tea? No.</s>"]
    found = reward_func(queries, ["", ""], [None, None])
    want = expected([query.removeprefix("<s>") for query in queries], name="factor")
    assert found["rewards"].tolist() == pytest.approx(want, **TOLERANCE)
    assert found["rewards"].dtype == torch.float32
    assert found["scores"].equal(found["rewards"])
    logs = found["extra_logs"]
    scorer = Scorer(models["factor"])
    described = scorer.describe(scorer.raw([q.removeprefix("<s>") for q in queries]).complete())
    assert logs["mean"].tolist() == pytest.approx(described.mean.tolist(), 1e-5)
    assert logs["stddev"].tolist() == pytest.approx(described.stddev.tolist(), 1e-5)
    parts = [share for name, share in logs.items() if name.startswith("share_")]
    assert sum(parts).tolist() == pytest.approx([1, 1])
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        reward_func([queries[0], LONG], ["", ""], [None, None])
    with pytest.raises(ConfigError, match=r"--reward\.remote_url URL/get_reward"):
        openrlhf.reward_function(url)
    with pytest.raises(ConfigError, match="asks for one at a time"):
        openrlhf.reward_function(folders["factor"], "relative_cvar:0.1")


ROWS = [[*CHAT, *answer(text)] for text in ("Sleep.", "Tea.", "Nothing.")]


def test_ms_swift_outcome_rewards(models, url, expected_of):
    want = expected_of([CHAT] * 3, [row[-1:] for row in ROWS])
    completions = [row[-1]["content"] for row in ROWS]
    for model in (models["normal"], url):
        reward = ms_swift.reward_orm(model, "cvar:0.05")(args=SimpleNamespace())
        found = reward(completions, messages=ROWS, solution=[1, 2, 3], trainer_state=None)
        assert found == pytest.approx(want, **TOLERANCE)
    with pytest.raises(DataError, match="ms-swift handed over no prompts"):
        reward(completions)
    long = [*ROWS[:1], [*CHAT, *answer(LONG)]]
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        reward(["", ""], messages=long)
    lenient = ms_swift.reward_orm(url, "cvar:0.05", unscored="none")()
    assert lenient(["", ""], messages=long) == [pytest.approx(want[0], **TOLERANCE), None]


def test_ms_swift_plugins_read_the_network_that_it_loaded(folders, expected_of):
    network = AutoModelForSequenceClassification.from_pretrained(folders["normal"])
    plugin = ms_swift.reward_plugin("cvar:0.05")(model=network, template=None)
    found = plugin(inputs=[{"messages": row} for row in ROWS])
    want = expected_of([CHAT] * 3, [row[-1:] for row in ROWS])
    assert found == pytest.approx(want, **TOLERANCE)


def test_ms_swift_plugins_refuse_a_network_that_is_not_ours(folders, tmp_path):
    plugin = ms_swift.reward_plugin()
    one = AutoModelForSequenceClassification.from_pretrained(folders["normal"], num_labels=2)
    one.config.num_labels = 3
    with pytest.raises(CheckpointError, match="has 2 outputs, but was loaded with 3"):
        plugin(one)
    for folder, named in (("", "the reward model"), (str(tmp_path), str(tmp_path))):
        one.config._name_or_path = folder
        with pytest.raises(CheckpointError, match=f"{named} has no .*nothing says how its outputs"):
            plugin(one)


def comparison(a, b):
    return SimpleNamespace(prompt_conversation=CHAT, completion_A=a, completion_B=b)


def test_tinker_is_told_how_divided_people_are(models, url):
    scorer = Scorer(models["factor"])
    texts = [[*CHAT, *answer(text)] for text in ("Sleep.", "Nothing.")]
    p = scorer.describe(scorer.raw(texts).complete()).preferred[1, 0].item()
    assert abs(2 * p - 1) > 0.01
    sides = answer("Sleep."), answer("Nothing.")
    for build in (
        tinker.preference_model_builder(models["factor"]),
        tinker.preference_model_builder(url, name="factor"),
    ):
        model = build()
        forward = asyncio.run(model(comparison(*sides)))
        assert forward == pytest.approx(2 * p - 1, abs=1e-6)
        assert asyncio.run(model(comparison(*sides[::-1]))) == pytest.approx(-forward, abs=1e-6)
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        asyncio.run(model(comparison(sides[0], answer(LONG))))


def test_tinker_messages_in_parts_are_texts_without_their_thinking():
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Sleep."}]
    call = SimpleNamespace(model_dump=lambda: {"name": "f"})
    message = {"role": "assistant", "content": parts, "tool_calls": [call, {"name": "g"}]}
    read = tinker._message(message | {"trainable": True, "name": None})
    assert read == {
        "role": "assistant",
        "content": "Sleep.",
        "tool_calls": [{"name": "f"}, {"name": "g"}],
    }
    with pytest.raises(DataError, match="reads text, and a message holds 'image'"):
        tinker._message({"role": "user", "content": [{"type": "image", "image": "x"}]})
