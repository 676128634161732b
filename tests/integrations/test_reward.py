"""Prompts, responses and a risk measure in, rewards out: in this process and from a server."""

import asyncio
import math
from pathlib import Path

import pytest
import torch

from hidden_context import risk
from hidden_context.errors import ConfigError, DataError
from hidden_context.integrations import sources
from hidden_context.integrations.client import RewardClient, RewardServerError
from hidden_context.integrations.reward import (
    finite_mean,
    group_by_prompt,
    score,
    score_async,
    single_measure,
)
from hidden_context.integrations.sources import LocalSource, RemoteSource, Rewards, open_source
from hidden_context.scoring.requests import Scorer

PROMPTS = ["Tea? ", "Rain? ", "Tea? ", "Tea? ", "Rain? "]
RESPONSES = ["With pleasure.", "Never.", "No.", "Perhaps later.", "It may."]
CHAT = [{"role": "user", "content": "What helps?"}]


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
    assert [one.items for one in group_by_prompt(PROMPTS, RESPONSES, tools)] == [
        [0, 3],
        [1, 4],
        [2],
    ]
    with pytest.raises(DataError, match="5 prompts do not go with 1 responses"):
        group_by_prompt(PROMPTS, RESPONSES[:1])


@pytest.mark.parametrize("measure", ["cvar:0.1", "relative_cvar:0.1"])
def test_rewards_keep_the_order_and_are_those_of_each_prompt_s_responses(source, models, measure):
    scorer, asked = Scorer(models["factor"]), (source, PROMPTS, RESPONSES, measure)
    batches = score(*asked), asyncio.run(score_async(*asked))
    for prompt, items in (("Tea? ", [0, 2, 3]), ("Rain? ", [1, 4])):
        raw = scorer.raw([prompt + RESPONSES[n] for n in items]).complete()
        found = scorer.describe(raw, risk.parse(measure))
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
    with pytest.raises(ConfigError, match="item 1 is the only one to its own"):
        score(source, PROMPTS[:3], RESPONSES[:3], "relative_cvar:0.1")
    with pytest.raises(ConfigError, match="asks for one at a time"):
        single_measure("relative_cvar:0.1")
    assert single_measure("cvar:0.05") == "cvar:0.05"


def test_what_cannot_be_scored_is_an_error_or_has_no_reward(source, expected_of):
    prompts = [CHAT, CHAT, CHAT, [{"role": "user", "content": "?"}]]
    texts = ["Sleep. ", "x " * 200, "Tea. ", "y " * 200]
    responses = [[{"role": "assistant", "content": text}] for text in texts]
    with pytest.raises(DataError, match=r"item 1 cannot be scored: .*unscored='none'"):
        score(source, prompts, responses)
    batch = score(source, prompts, responses, unscored="none")
    assert sorted(batch.reasons) == [1, 3]
    assert [math.isnan(value) for value in batch.values] == [False, True, False, True]
    want = expected_of(prompts[:1] * 2, [responses[0], responses[2]], "mean", "factor")
    assert [batch.values[0], batch.values[2]] == pytest.approx(want, abs=1e-6, rel=1e-6)
    again = asyncio.run(score_async(source, prompts, responses, unscored="none"))
    assert again.reasons == batch.reasons


def test_texts_as_a_whole_and_text_before_messages(source, expected, expected_of):
    batch = score(source, [None, None], RESPONSES[:2])
    assert batch.values == pytest.approx(expected(RESPONSES[:2], "mean", "factor"), abs=1e-6)
    answers = [[{"role": "assistant", "content": text}] for text in RESPONSES[:2]]
    batch = score(source, ["Tea?", "Tea?"], answers)
    want = expected_of(["Tea?"] * 2, answers, "mean", "factor")
    assert batch.values == pytest.approx(want, abs=1e-6, rel=1e-6)


def test_one_response_has_no_disagreement():
    assert math.isnan(Rewards([1.0], [1.0], [1.0], [[0.5]], {}).disagreement)
    assert Rewards([1, 2], [1, 2], [1, 1], [[0.5, 0.8], [0.2, 0.5]], {}).disagreement == (
        pytest.approx(0.32)
    )
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
    with pytest.raises(ConfigError, match="a model's name 'a' is for servers"):
        open_source(local.scorer, name="a")
    with pytest.raises(ConfigError, match=r"not from Linear\. A bare network"):
        open_source(torch.nn.Linear(2, 2))


def test_numbers_that_are_none_are_read_as_such_and_made_up_ones_refused(answering):
    batch = score(answering(), ["p"], ["a"])
    assert math.isnan(batch.shares["noise"][0])
    for values in ([None], [1.0, 2.0]):
        with pytest.raises(RewardServerError, match="a reward that is not a number"):
            score(answering(risk={"name": "mean", "values": values}), ["p"], ["a"])
    with pytest.raises(RewardServerError, match=r"without what is needed \(KeyError"):
        score(answering(risk={}), ["p"], ["a"])
