"""Prompts, responses and a risk measure in, rewards out: in this process and from a server.

The functions of verl, OpenRLHF, ms-swift and tinker-cookbook give the same rewards.
"""

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hidden_context import risk
from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.integrations import ms_swift, openrlhf, sources, tinker, verl
from hidden_context.integrations.client import RewardClient, RewardServerError
from hidden_context.integrations.reward import (
    Batch,
    finite_mean,
    group_by_prompt,
    score,
    score_async,
    single_measure,
)
from hidden_context.integrations.sources import (
    Answered,
    Candidates,
    LocalSource,
    RemoteSource,
    Rewards,
    open_source,
)
from hidden_context.scoring.requests import Scorer
from support.models import refusal
from support.rows import assistant, user

PROMPTS = ["Tea? ", "Rain? ", "Tea? ", "Tea? ", "Rain? "]
RESPONSES = ["With pleasure.", "Never.", "No.", "Perhaps later.", "It may."]
CHAT = [user("What helps?")]
LONG = "x " * 200
TOLERANCE = {"abs": 1e-6, "rel": 1e-6}


@pytest.fixture(params=["local", "server"])
def source(request, models, url):
    """The factor model, in this process and behind the server."""
    if request.param == "server":
        return RemoteSource(RewardClient(url), "factor")
    return LocalSource(Scorer(models["factor"]))


def test_equal_prompts_are_put_together_in_the_order_they_came():
    groups = group_by_prompt(PROMPTS, RESPONSES)
    assert [group.prompt for group in groups] == ["Tea? ", "Rain? "]
    assert [group.items for group in groups] == [[0, 2, 3], [1, 4]]
    assert groups[1].responses == ["Never.", "It may."]
    tools = [[{"name": "a"}], None, [{"name": "b"}], [{"name": "a"}], None]
    groups = group_by_prompt(PROMPTS, RESPONSES, tools)
    assert [group.items for group in groups] == [[0, 3], [1, 4], [2]]
    with pytest.raises(DataError, match="5 prompts for 1 responses"):
        group_by_prompt(PROMPTS, RESPONSES[:1])


@pytest.mark.parametrize("measure", ["cvar:0.1", "relative_cvar:0.1"])
def test_rewards_keep_the_order_and_are_those_of_each_prompt_s_responses(source, models, measure):
    scorer, asked = Scorer(models["factor"]), (source, PROMPTS, RESPONSES, measure)
    batches = score(*asked), asyncio.run(score_async(*asked))
    for prompt, items in (("Tea? ", [0, 2, 3]), ("Rain? ", [1, 4])):
        raw = scorer.raw([prompt + RESPONSES[n] for n in items]).complete()
        found = scorer.describe(raw, [risk.parse(measure)])
        divided = torch.full((len(items),), sources.disagreement(found.preferred.tolist()))
        wanted = {"values": found.values[measure], "mean": found.mean, "stddev": found.stddev}
        wanted |= {"disagreement": divided} | found.shares
        for batch in batches:
            assert not batch.reasons
            columns = vars(batch) | batch.shares
            for name, values in wanted.items():
                near = pytest.approx(values.tolist(), abs=1e-6, rel=1e-5)
                assert [columns[name][n] for n in items] == near
    assert len({round(value, 3) for value in batch.mean}) == 5


def test_a_relative_measure_compares_the_responses_to_a_prompt(source):
    with pytest.raises(ConfigError, match="item 1 is the only response to"):
        score(source, PROMPTS[:3], RESPONSES[:3], "relative_cvar:0.1")
    with pytest.raises(ConfigError, match="asks for one at a time"):
        single_measure("relative_cvar:0.1")
    assert single_measure("cvar:0.05") == "cvar:0.05"


def test_what_cannot_be_scored_is_an_error_or_has_no_reward(source, expected_of):
    prompts = [CHAT, CHAT, CHAT, [user("?")]]
    responses = [[assistant(text)] for text in ("Sleep. ", LONG, "Tea. ", LONG)]
    with pytest.raises(DataError, match=r"item 1 cannot be scored: .*unscored='none'"):
        score(source, prompts, responses)
    batch = score(source, prompts, responses, unscored="none")
    assert sorted(batch.reasons) == [1, 3]
    assert [math.isnan(value) for value in batch.values] == [False, True, False, True]
    want = expected_of(prompts[:1] * 2, [responses[0], responses[2]], "mean", "factor")
    assert [batch.values[0], batch.values[2]] == pytest.approx(want, **TOLERANCE)
    again = asyncio.run(score_async(source, prompts, responses, unscored="none"))
    assert again.reasons == batch.reasons


def test_texts_as_a_whole_and_text_before_messages(source, expected, expected_of):
    batch = score(source, [None, None], RESPONSES[:2])
    assert batch.values == pytest.approx(expected(RESPONSES[:2], "mean", "factor"), abs=1e-6)
    answers = [[assistant(text)] for text in RESPONSES[:2]]
    batch = score(source, ["Tea?", "Tea?"], answers)
    want = expected_of(["Tea?"] * 2, answers, "mean", "factor")
    assert batch.values == pytest.approx(want, **TOLERANCE)


def test_one_response_has_no_disagreement():
    assert math.isnan(Rewards([1.0], [1.0], [1.0], [[0.5]], {}).disagreement)
    two = Rewards([1, 2], [1, 2], [1, 1], [[0.5, 0.8], [0.2, 0.5]], {})
    assert two.disagreement == pytest.approx(0.32)
    assert finite_mean([1.0, math.nan, 4.0]) == 2.5
    assert finite_mean([math.nan]) is None


def test_models_are_opened_from_anything_that_names_one(folders, models, url):
    scorer = Scorer(models["normal"])
    local = LocalSource(scorer)
    assert open_source(local) is local
    assert open_source(scorer).scorer is scorer
    assert open_source(models["normal"]).scorer.model is models["normal"]
    assert open_source(Path(folders["normal"])).scorer.model.head.type == "mean_and_variance"
    remote = open_source(url, name="factor", annotator="ann")
    assert (remote.client.url, remote.model, remote.annotator) == (url, "factor", "ann")
    assert open_source(remote) is remote
    shared = sources.shared_source(folders["normal"])
    assert sources.shared_source(folders["normal"]) is shared
    with pytest.raises(ConfigError, match="name='a' is for servers"):
        open_source(local.scorer, name="a")
    with pytest.raises(ConfigError, match=r"not from Linear\. A bare network"):
        open_source(torch.nn.Linear(2, 2))


def test_numbers_that_are_none_are_read_as_such_and_made_up_ones_refused(answering):
    assert math.isnan(score(answering(), ["p"], ["a"]).shares["noise"][0])
    for values in ([None], [1.0, 2.0]):
        with pytest.raises(RewardServerError, match="a reward that is not a number"):
            score(answering(risk={"name": "mean", "values": values}), ["p"], ["a"])
    with pytest.raises(RewardServerError, match=r"lacks a field, or has a wrong one \(KeyError"):
        score(answering(risk={}), ["p"], ["a"])


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
    assert "ms-swift handed over no prompts" in refusal(reward, completions, error=DataError)
    long = [*ROWS[:1], [*CHAT, assistant(LONG)]]
    assert "item 1 cannot be scored" in refusal(reward, ["", ""], messages=long, error=DataError)
    lenient = ms_swift.reward_orm(url, "cvar:0.05", unscored="none")()
    assert lenient(["", ""], messages=long) == [pytest.approx(want[0], **TOLERANCE), None]


def test_ms_swift_plugins_read_the_network_that_it_loaded(folders, expected_of):
    network = AutoModelForSequenceClassification.from_pretrained(folders["normal"])
    plugin = ms_swift.reward_plugin("cvar:0.05")(model=network, template=None)
    found = plugin(inputs=[{"messages": row} for row in ROWS])
    assert found == pytest.approx(expected_of([CHAT] * 3, [row[-1:] for row in ROWS]), **TOLERANCE)


def test_ms_swift_plugins_refuse_a_network_that_is_not_ours(folders, tmp_path):
    plugin = ms_swift.reward_plugin()
    one = AutoModelForSequenceClassification.from_pretrained(folders["normal"], num_labels=2)
    one.config.num_labels = 3
    assert "has 2 outputs, but was loaded with 3" in refusal(plugin, one)
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
    assert "item 1 cannot be scored" in refusal(compare, "Sleep.", LONG, error=DataError)


def test_tinker_messages_in_parts_are_texts_without_their_thinking():
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Sleep."}]
    call = SimpleNamespace(model_dump=lambda: {"name": "f"})
    message = {"role": "assistant", "content": parts, "tool_calls": [call, {"name": "g"}]}
    wanted = {**assistant("Sleep."), "tool_calls": [{"name": "f"}, {"name": "g"}]}
    assert tinker._message(message | {"trainable": True, "name": None}) == wanted
    with pytest.raises(DataError, match="reads text, and a message holds 'image'"):
        tinker._message({"role": "user", "content": [{"type": "image", "image": "x"}]})
