"""verl, OpenRLHF, ms-swift and tinker-cookbook: their functions, equal to scoring in process."""

import asyncio
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.integrations import ms_swift, openrlhf, tinker, verl
from hidden_context.integrations.reward import Batch, score
from hidden_context.integrations.sources import Answered, Candidates, Rewards
from support.rows import assistant, user

CHAT = [user("What helps?")]
LONG = "x " * 200
TOLERANCE = {"abs": 1e-6, "rel": 1e-6}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("behind", ["folder", "server"])
def test_verl_scores_a_response_after_the_prompt_of_its_row(
    folders, url, expected_of, is_async, behind
):
    def compute(*given, **options):
        if is_async:
            return asyncio.run(verl.compute_score_async(*given, **options))
        return verl.compute_score(*given, **options)

    options = {"risk": "cvar:0.05", "reward_router_address": None, "model": folders["factor"]}
    options |= {"model": url, "name": "factor"} if behind == "server" else {}
    found = compute("set", "Sleep.", "truth", {"prompt": CHAT}, **options)
    chat = ([CHAT], [[assistant("Sleep.")]])
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


def test_verl_finds_the_same_keys_in_every_row():
    """Also where one response's reward does not vary, so that its variance has no shares."""
    found = Answered(
        Candidates("p", ["a"], [0]), Rewards([1], [1], [0], [[0.5]], {"noise": [math.nan]})
    )
    logged = verl._logged(Batch.of([found]))
    assert list(logged) == ["score", "mean", "stddev", "log_sigma", "share_noise"]
    assert math.isnan(logged["share_noise"])
    assert math.isnan(logged["log_sigma"])


def test_openrlhf_queries_keep_their_special_tokens(models, folders, url):
    reward_func = openrlhf.reward_function(models["factor"], "cvar:0.05")
    queries = ["<s>Tea? With pleasure.</s>", "<s>Tea? No.</s>"]
    found = reward_func(queries, ["", ""], [None, None])
    texts = [query.removeprefix("<s>") for query in queries]
    batch = score(models["factor"], [None, None], texts, "cvar:0.05")
    assert found["rewards"].tolist() == pytest.approx(batch.values, **TOLERANCE)
    assert found["rewards"].dtype == torch.float32
    assert found["scores"].equal(found["rewards"])
    logs = found["extra_logs"]
    assert logs["mean"].tolist() == pytest.approx(batch.mean, 1e-5)
    assert logs["stddev"].tolist() == pytest.approx(batch.stddev, 1e-5)
    parts = [share for name, share in logs.items() if name.startswith("share_")]
    assert sum(parts).tolist() == pytest.approx([1, 1])
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        reward_func([queries[0], LONG], ["", ""], [None, None])
    with pytest.raises(ConfigError, match=r"--reward\.remote_url URL/get_reward"):
        openrlhf.reward_function(url)
    with pytest.raises(ConfigError, match="asks for one at a time"):
        openrlhf.reward_function(folders["factor"], "relative_cvar:0.1")


ROWS = [[*CHAT, assistant(text)] for text in ("Sleep.", "Tea.", "Nothing.")]


def test_ms_swift_outcome_rewards(models, url, expected_of):
    want = expected_of([CHAT] * 3, [row[-1:] for row in ROWS])
    completions = [row[-1]["content"] for row in ROWS]
    for model in (models["normal"], url):
        reward = ms_swift.reward_orm(model, "cvar:0.05")(args=SimpleNamespace())
        found = reward(completions, messages=ROWS, solution=[1, 2, 3], trainer_state=None)
        assert found == pytest.approx(want, **TOLERANCE)
    with pytest.raises(DataError, match="ms-swift handed over no prompts"):
        reward(completions)
    long = [*ROWS[:1], [*CHAT, assistant(LONG)]]
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


@pytest.mark.parametrize("behind", ["model", "server"])
def test_tinker_is_told_how_divided_people_are(models, url, chance, behind):
    where = (models["factor"], {}) if behind == "model" else (url, {"name": "factor"})
    model = tinker.preference_model_builder(where[0], **where[1])()

    def compare(*texts):
        a, b = ([assistant(text)] for text in texts)
        asked = SimpleNamespace(prompt_conversation=CHAT, completion_A=a, completion_B=b)
        return asyncio.run(model(asked))

    assert compare("Sleep.", "Nothing.") == pytest.approx(2 * chance - 1, abs=1e-6)
    assert compare("Nothing.", "Sleep.") == pytest.approx(1 - 2 * chance, abs=1e-6)
    with pytest.raises(DataError, match="item 1 cannot be scored"):
        compare("Sleep.", LONG)


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
