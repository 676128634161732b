import base64
import json
import math
import struct

import pytest
import torch
from starlette.testclient import TestClient

from hidden_context.data.dialogue import join
from hidden_context.risk import parse
from hidden_context.scoring.prepare import MarkedText, TokenIds
from hidden_context.scoring.requests import Scorer
from hidden_context.serve.routes.distribution import _or_null
from hidden_context.serve.schema import RequestError, restored
from hidden_context.serve.service import finite
from support.builders import CHAT_TEMPLATE, sample_texts, tiny_tokenizer

TEXTS = sample_texts(4, 8)
PROMPT = "\n\nHuman: What about tea?\n\nAssistant:"
RESPONSES = ["It is kind.", "It is rude.", "Let me see."]
CHAT = [{"role": "user", "content": "Tea?"}]


@pytest.fixture(scope="module")
def numbers(models):
    """Values of a risk measure in process: ``numbers("normal", asked, "mean")``."""

    def of(name, asked, risk="mean"):
        scorer = Scorer(models[name])
        return parse(risk)(scorer.rewards(scorer.raw(asked).complete())).tolist()

    return of


def test_a_distribution_is_what_the_model_gives_in_process(client, models):
    body = {"prompt": PROMPT, "responses": RESPONSES, "risk": "cvar:0.05"}
    reply = client.post("/v1/distribution", json={**body, "measures": ["quantile:0.1"]}).json()
    rewards = models["normal"].score_responses(PROMPT, RESPONSES)
    p = rewards[:, None].log_prob_greater(rewards[None, :]).exp()

    def near(values):
        return pytest.approx(values.tolist(), abs=1e-6)

    assert reply == {
        "object": "distribution",
        "model": "normal",
        "head": "mean_and_variance",
        "n": 3,
        "mean": near(rewards.mean),
        "stddev": near(rewards.stddev),
        "risk": {"name": "cvar:0.05", "values": near(rewards.cvar(0.05))},
        "measures": {"quantile:0.1": near(rewards.quantile(0.1))},
        "preferred": [near(row) for row in p],
        "shares": {"unsplit": [1.0] * 3},
        "groups": {},
        "percentiles": None,
    }


def test_tools_reach_the_chat_template_and_the_risk_is_the_servers(client, models, monkeypatch):
    template = "{{ bos_token }}{{ tools | length if tools else 0 }}{{ messages[-1]['content'] }}"
    monkeypatch.setattr(models["normal"].tokenizer, "chat_template", template)
    expected = models["normal"].score(["<s>0Yes.", "<s>1Yes."]).mean.tolist()
    body = {"prompt": CHAT, "responses": ["Yes."]}
    for tools, mean in zip(([], [{"name": "f"}]), expected, strict=True):
        reply = client.post("/v1/distribution", json=body | {"tools": tools}).json()
        assert reply["mean"] == [pytest.approx(mean, abs=1e-5)]
        assert reply["risk"] == {"name": "mean", "values": reply["mean"]}
    monkeypatch.setattr(models["normal"].tokenizer, "chat_template", None)
    reply = client.post("/v1/distribution", json=body)
    assert reply.status_code == 422
    assert "no chat template" in reply.json()["error"]["message"]


def test_people_and_groups_and_relative_measures(client, models):
    body = {"model": "factor", "prompt": PROMPT, "responses": RESPONSES}
    wanted = {"risk": "relative_quantile:0.1", "annotator": "ann", "groups": {"young": ["bob", 7]}}
    reply = client.post("/v1/distribution", json=body | wanted).json()
    scorer = Scorer(models["factor"])
    raw = scorer.raw([join(PROMPT, one) for one in RESPONSES]).raw
    risk = parse("relative_quantile:0.1")
    own = scorer.describe(raw, [risk], "ann", {"young": ["bob", "7"]})
    assert reply["risk"]["values"] == pytest.approx(own.values[str(risk)].tolist(), abs=1e-6)
    assert set(reply["shares"]) == {"shared_context", "noise"}
    for group in ("young", "worst_group"):
        value = own.groups[str(risk)][group].tolist()
        assert reply["groups"][group][str(risk)] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "status", "kind", "item", "words"),
    [
        ({"responses": ["fine", " "]}, 422, "not_scored", 1, "text 1 cannot be scored: nothing"),
        ({"responses": ["fine", "w " * 300]}, 422, "not_scored", 1, "more than 128"),
        ({"responses": []}, 422, "invalid_request", None, "no text"),
        ({"responses": ["fine", 5]}, 422, "invalid_request", 1, "responses.1"),
        ({"responses": ["a", "b"], "rsik": "mean"}, 422, "invalid_request", None, "rsik"),
        ({"model": "other"}, 404, "model_not_found", None, "models are normal, factor"),
        ({"model": "@mean"}, 404, "model_not_found", None, "models are"),
        ({"risk": "cvar"}, 422, "invalid_request", None, "needs a"),
        ({"measures": ["luck"]}, 422, "invalid_request", None, "not known"),
        ({"risk": "relative_cvar:0.1"}, 422, "invalid_request", None, "needs a head"),
        ({"measures": ["relative_cvar:0.1"]}, 422, "invalid_request", None, "needs a head"),
        ({"annotator": "ann"}, 422, "invalid_request", None, "has not learned annotators"),
        ({"model": "factor", "annotator": "zoe"}, 422, "invalid_request", None, "zoe"),
        ({"model": "factor", "groups": {"x": ["zoe"]}}, 422, "invalid_request", None, "zoe"),
        ({"model": "factor", "groups": {"worst_group": ["ann"]}}, 422, "invalid_request", None, ""),
        ({"model": "factor", "risk": "relative_cvar:0.1", "responses": ["a"]}, 422,
         "invalid_request", None, "only one"),
        ({"prompt": [{"role": "\ud800", "content": "a"}]}, 422, "invalid_request", None,
         "half a character"),
        ({"prompt": "\ud800"}, 422, "not_scored", 0, "half a character"),
    ],
)  # fmt: skip
def test_a_refused_request_says_why(client, change, status, kind, item, words):
    body = {"prompt": PROMPT, "responses": ["a", "b"]} | change
    headers = {"Content-Type": "application/json"}
    reply = client.post("/v1/distribution", content=json.dumps(body), headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["item"]) == (status, kind, item)
    assert words in error["message"]


MARKED = [f"<s>{text}" for text in TEXTS]
USUAL, OWN = [MarkedText(text) for text in MARKED], {"model": "model", "messages": MARKED}
IDS = [TokenIds((1, 5, 6)), TokenIds((1, 7))]


def embedding(item):
    found = item["embedding"]
    return found if isinstance(found, list) else struct.unpack("<f", base64.b64decode(found))


READ = {
    "/get_reward": lambda reply: reply["rewards"],
    "/classify": lambda reply: [item["probs"][0] for item in reply["data"]],
    "/v1/embeddings": lambda reply: [embedding(item)[0] for item in reply["data"]],
    "/v1/score/evaluation": lambda reply: reply["scores"],
}


@pytest.mark.parametrize(
    ("url", "body", "asked", "name", "risk"),
    [
        ("/get_reward", {"query": MARKED, "labels": [3]}, TEXTS, "normal", "mean"),
        ("/get_reward?model=factor@cvar:0.1", {"query": MARKED}, USUAL, "factor", "cvar:0.1"),
        # verl in vLLM mode: the BOS that it cut off is put back
        ("/classify", {"input": TEXTS[0], "use_activation": False}, TEXTS[:1], "normal", "mean"),
        ("/classify", {"input": TEXTS}, TEXTS, "normal", "mean"),
        ("/classify", {"input": MARKED, "add_special_tokens": False}, TEXTS, "normal", "mean"),
        ("/classify", {"messages": CHAT, "model": "normal@cvar:0.1"}, [CHAT], "normal", "cvar:0.1"),
        # verl in SGLang mode
        ("/v1/embeddings", {"model": "normal", "input": TEXTS[1]}, TEXTS[1:2], "normal", "mean"),
        ("/v1/embeddings", {"input": [[1, 5, 6], [1, 7]], "encoding_format": "base64"}, IDS,
         "normal", "mean"),
        # LLaMA-Factory, which always says "model"
        ("/v1/score/evaluation", OWN, TEXTS, "normal", "mean"),
        ("/v1/score/evaluation?model=factor@cvar:0.1", OWN, USUAL, "factor", "cvar:0.1"),
    ],
)  # fmt: skip
def test_every_contract_gives_the_risk_measure_of_each_text(
    client, numbers, url, body, asked, name, risk
):
    found = READ[url.partition("?")[0]](client.post(url, json=body).json())
    assert found == pytest.approx(numbers(name, asked, risk), abs=1e-5)


def test_replies_have_the_fields_of_their_contracts(client, folders, models):
    tokens = len(models["normal"].tokenizer(TEXTS[0])["input_ids"])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    usage |= {"completion_tokens": 0, "prompt_tokens_details": None}
    body = {"model": folders["normal"], "input": TEXTS[0]}
    reply = client.post("/classify", json=body).json()
    assert reply.pop("id").startswith("classify-")
    item = {"index": 0, "label": "LABEL_0", "probs": reply["data"][0]["probs"], "num_classes": 1}
    listed = {"object": "list", "model": "normal", "usage": usage}
    assert reply == {**listed, "created": reply["created"], "data": [item]}
    reply = client.post("/v1/embeddings", json=body).json()
    item = {"object": "embedding", "index": 0, "embedding": item["probs"]}
    assert reply == {**listed, "data": [item]}
    reply = client.post("/v1/score", json={"items": TEXTS[0]}).json()
    assert reply == {**listed, "object": "scoring", "scores": reply["scores"]}
    reply = client.post("/v1/score/evaluation", json=OWN).json()
    assert reply.pop("id").startswith("scoreval-")
    assert reply == {"object": "score.evaluation", "model": "normal", "scores": reply["scores"]}
    assert client.post("/v1/score/evaluation", json=OWN | {"model": "x"}).status_code == 404


def test_openrlhf_logs_numbers_beside_the_rewards(client, numbers):
    reply = client.post("/get_reward", json={"query": MARKED}).json()
    logs, measures = reply["extra_logs"], {"quantile:0.05", "quantile:0.95"}
    assert reply["rewards"] == reply["scores"] == logs["mean"]
    assert set(logs) == {"mean", "stddev", "log_sigma", "share_unsplit"} | measures
    assert logs["log_sigma"] == pytest.approx([math.log(one) for one in logs["stddev"]])
    assert all(len(values) == 4 for values in logs.values())
    assert logs["quantile:0.05"] == pytest.approx(numbers("normal", USUAL, "quantile:0.05"))
    reply = client.post("/get_reward?model=factor", json={"query": MARKED}).json()
    assert {"share_shared_context", "share_noise"} <= set(reply["extra_logs"])


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        ("/classify", {"text": TEXTS}, TEXTS),
        ("/classify", {"input_ids": [[1, 5, 6], [1, 7]]}, IDS),
        ("/v1/score", {"query": PROMPT, "items": [" Yes.", " No."]},
         [PROMPT + " Yes.", PROMPT + " No."]),
        ("/v1/score", {"query": [5, 6], "items": [[1], [1, 7]], "item_first": True},
         [TokenIds((1, 5, 6)), TokenIds((1, 7, 5, 6))]),
    ],
)  # fmt: skip
def test_sglangs_own_contracts_answer_raw_outputs(client, models, path, body, asked):
    raw = Scorer(models["normal"]).raw(asked).raw.tolist()
    reply = client.post(path, json=body).json()
    found = reply["scores"] if path == "/v1/score" else [item["embedding"] for item in reply]
    assert found == [pytest.approx(one, abs=1e-5) for one in raw]


def test_sglangs_own_contract_answers_one_text_by_itself_or_the_risk(client, application, numbers):
    ids = client.post("/classify", json={"input_ids": [1, 9]}).json()
    assert ids["meta_info"]["prompt_tokens"] == 2
    with TestClient(application(sglang_outputs="risk")) as own:
        reply = own.post("/classify", json={"text": TEXTS[0], "model": "normal@cvar:0.1"}).json()
    assert reply["embedding"] == pytest.approx(numbers("normal", TEXTS[:1], "cvar:0.1"))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/classify", {"input": "a", "use_activation": True}, "no activation"),
        ("/classify", {"input": "a", "messages": []}, "either input or messages"),
        ("/classify", {}, "either input or messages"),
        ("/classify", [], "the body"),
        ("/classify", {"text": "a", "input_ids": [1]}, "either text or input_ids"),
        ("/classify", {"input": []}, "no text"),
        ("/classify", {"input": ["a", ""]}, "text 1 cannot be scored"),
        ("/classify", {"input": "a", "model": "factor@relative_cvar:0.1"}, "by itself"),
        ("/v1/embeddings", {"input": [1, 99999]}, "not a token id of the model"),
        ("/v1/score", {"items": ["a"], "apply_softmax": True}, "no softmax"),
        ("/v1/score", {"query": "a", "items": [[1]]}, "both be token ids"),
        ("/v1/score", {"query": [1], "items": "a"}, "both be token ids"),
        ("/get_reward", {"query": "a"}, "query"),
    ],
)
def test_what_a_contract_cannot_mean_is_refused(client, path, body, words):
    reply = client.post(path, json=body)
    assert reply.status_code == 422
    assert words in reply.json()["error"]["message"]


def test_a_number_that_is_not_finite_is_an_error_of_its_item_and_a_share_is_null():
    assert finite(torch.tensor([1.0, 2.0]), "mean") == [1.0, 2.0]
    with pytest.raises(RequestError) as caught:
        finite(torch.tensor([1.0, torch.inf]), "entropic:2")
    assert (caught.value.status, caught.value.kind, caught.value.item) == (422, "not_scored", 1)
    assert caught.value.message == "text 1 cannot be scored: its entropic:2 is not finite"
    assert _or_null(torch.tensor([0.5, torch.nan])) == [0.5, None]  # shares of nothing


def test_the_status_pages(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    loaded = client.get("/v1/models").json()["data"]
    facts = [(one["id"], one["num_outputs"], one["max_model_len"]) for one in loaded]
    assert facts == [("normal", 2, 128), ("factor", 4, 128)]
    client.post("/v1/embeddings", json={"input": "a b"})
    page = client.get("/metrics").text
    assert 'hidden_context_requests_total{route="/v1/embeddings",status="200"}' in page
    assert 'hidden_context_texts_total{model="normal"}' in page
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/distribution", "/get_reward", "/classify", "/v1/score/evaluation"} <= set(paths)
    assert client.get("/docs").status_code == 200
    assert client.get("/nowhere").json()["error"]["type"] == "http"
    assert client.get("/get_reward").headers["allow"] == "POST"


OPENING = "{{ bos_token }}" + CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"bos": "<s>", "chat_template": OPENING}, True),
        ({"bos": "<s>", "frame": "<s> $A", "chat_template": OPENING}, False),
        ({"bos": "<s>", "chat_template": CHAT_TEMPLATE}, False),
        ({"bos": "<s>", "chat_template": "{{ bos_token }}{{ messages[-1]['content'] }}"}, False),
        ({"bos": "<s>", "chat_template": "{{ raise_exception('no') }}"}, False),
        ({"bos": "<s>"}, False),
        ({"chat_template": CHAT_TEMPLATE}, False),
    ],
)
def test_a_bos_that_only_the_template_writes_is_put_back(options, missing):
    """Before chats that were rendered and whose BOS was cut off, as verl does."""
    tokenizer = tiny_tokenizer(**options)
    answered = [*CHAT, {"role": "assistant", "content": "Yes."}]
    texts = []
    if missing:
        for chat in (answered, [{"role": "system", "content": "Be kind."}, *answered]):
            whole = tokenizer.apply_chat_template(chat, tokenize=False)
            texts.append(whole.removeprefix(tokenizer.bos_token))
    others = ["Tea?", "plain", "a", TokenIds((1,)), "<s><user> Tea?" if missing else "<user> Tea?"]
    assert restored([*texts, *others], tokenizer) == [*(f"<s>{text}" for text in texts), *others]
