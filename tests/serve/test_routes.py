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
from hidden_context.serve.errors import RequestError
from hidden_context.serve.routes.distribution import _or_null
from hidden_context.serve.service import finite
from support.builders import sample_texts

TEXTS = sample_texts(4, 8)
PROMPT = "\n\nHuman: What about tea?\n\nAssistant:"
RESPONSES = ["It is kind.", "It is rude.", "Let me see."]


@pytest.fixture(scope="module")
def numbers(models):
    """Values of a risk measure in process: ``numbers("normal", asked, "mean")``."""

    def of(name, asked, risk="mean"):
        scorer = Scorer(models[name])
        return scorer.values(scorer.raw(asked).complete(), parse(risk)).tolist()

    return of


def test_a_distribution_is_what_the_model_gives_in_process(client, models):
    body = {"prompt": PROMPT, "responses": RESPONSES, "risk": "cvar:0.05"}
    reply = client.post("/v1/distribution", json={**body, "measures": ["quantile:0.1"]}).json()
    rewards = models["normal"].score_responses(PROMPT, RESPONSES)
    assert {key: reply[key] for key in ("object", "model", "head", "n")} == {
        "object": "distribution",
        "model": "normal",
        "head": "mean_and_variance",
        "n": 3,
    }
    assert reply["mean"] == pytest.approx(rewards.mean.tolist(), abs=1e-6)
    assert reply["stddev"] == pytest.approx(rewards.stddev.tolist(), abs=1e-6)
    assert reply["risk"]["name"] == "cvar:0.05"
    assert reply["risk"]["values"] == pytest.approx(rewards.cvar(0.05).tolist(), abs=1e-6)
    quantile = rewards.quantile(0.1).tolist()
    assert reply["measures"] == {"quantile:0.1": pytest.approx(quantile, abs=1e-6)}
    first = rewards[0].log_prob_greater(rewards[1]).exp().item()
    assert reply["preferred"][0][1] == pytest.approx(first, abs=1e-6)
    assert reply["preferred"][1][0] == pytest.approx(1 - first, abs=1e-6)
    assert reply["shares"] == {"unsplit": [1.0] * 3}
    assert reply["groups"] == {}


def test_chats_whole_texts_and_the_servers_risk(client, models):
    chat = [{"role": "user", "content": "Tea?"}]
    reply = client.post("/v1/distribution", json={"prompt": chat, "responses": ["Yes.", "No."]})
    expected = models["normal"].score_responses(chat, ["Yes.", "No."]).mean.tolist()
    assert reply.json()["mean"] == pytest.approx(expected, abs=1e-6)
    assert reply.json()["risk"] == {"name": "mean", "values": reply.json()["mean"]}
    whole = [join(PROMPT, "Yes."), join(chat, "Yes.")]
    reply = client.post("/v1/distribution", json={"responses": whole}).json()
    assert reply["mean"] == pytest.approx(models["normal"].score(whole).mean.tolist(), abs=1e-6)
    answers = [[{"role": "assistant", "content": "Yes."}]]
    reply = client.post("/v1/distribution", json={"prompt": "Tea?", "responses": answers}).json()
    expected = models["normal"].score_responses("Tea?", answers).mean.tolist()
    assert reply["mean"] == pytest.approx(expected, abs=1e-6)


def test_tools_reach_the_chat_template(serving, models):
    template = "{{ bos_token }}{{ tools | length if tools else 0 }}{{ messages[-1]['content'] }}"
    chat = [{"role": "user", "content": "Tea?"}]
    before = models["normal"].tokenizer.chat_template
    models["normal"].tokenizer.chat_template = template
    try:
        with TestClient(serving("normal")) as client:
            body = {"prompt": chat, "responses": ["Yes."]}
            plain = client.post("/v1/distribution", json=body).json()
            tools = client.post("/v1/distribution", json={**body, "tools": [{"name": "f"}]}).json()
        texts = ["<s>0Yes.", "<s>1Yes."]
        expected = models["normal"].score(texts).mean.tolist()
    finally:
        models["normal"].tokenizer.chat_template = before
    assert [plain["mean"][0], tools["mean"][0]] == pytest.approx(expected, abs=1e-5)


def test_people_and_groups_and_relative_measures(client, models):
    body = {"model": "factor", "prompt": PROMPT, "responses": RESPONSES}
    wanted = {"risk": "relative_quantile:0.1", "annotator": "ann", "groups": {"young": ["bob", 7]}}
    reply = client.post("/v1/distribution", json=body | wanted).json()
    scorer = Scorer(models["factor"])
    raw = scorer.raw([join(PROMPT, one) for one in RESPONSES]).raw
    risk = parse("relative_quantile:0.1")
    own = scorer.describe(raw, risk, annotator="ann", groups={"young": ["bob", "7"]})
    assert reply["risk"]["values"] == pytest.approx(own.values[str(risk)].tolist(), abs=1e-6)
    assert set(reply["shares"]) == {"shared_context", "noise"}
    for group in ("young", "worst_group"):
        value = own.groups[group][str(risk)].tolist()
        assert reply["groups"][group][str(risk)] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "status", "kind", "item", "words"),
    [
        ({"responses": ["fine", " "]}, 422, "not_scored", 1, "text 1 cannot be scored: nothing"),
        ({"responses": ["fine", "w " * 300]}, 422, "not_scored", 1, "more than 128"),
        ({"responses": []}, 422, "invalid_request", None, "no text"),
        ({"responses": ["fine", 5]}, 422, "invalid_request", 1, "responses.1"),
        ({"responses": ["a", "b"], "rsik": "mean"}, 422, "invalid_request", None, "rsik"),
        ({"model": "other"}, 404, "model_not_found", None, "loaded are normal, factor"),
        ({"model": "@mean"}, 404, "model_not_found", None, "loaded are"),
        ({"risk": "cvar"}, 422, "invalid_request", None, "needs a"),
        ({"measures": ["luck"]}, 422, "invalid_request", None, "not known"),
        ({"risk": "relative_cvar:0.1"}, 422, "invalid_request", None, "needs a head"),
        ({"measures": ["relative_cvar:0.1"]}, 422, "invalid_request", None, "needs a head"),
        ({"annotator": "ann"}, 422, "invalid_request", None, "knows no annotators"),
        ({"model": "factor", "annotator": "zoe"}, 422, "invalid_request", None, "zoe"),
        ({"model": "factor", "groups": {"x": ["zoe"]}}, 422, "invalid_request", None, "zoe"),
        ({"model": "factor", "groups": {"worst_group": ["ann"]}}, 422, "invalid_request", None, ""),
        ({"model": "factor", "prompt": [{"role": "user", "content": "a"}]}, 422,
         "invalid_request", None, "no chat template"),
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


def test_openrlhf_gets_rewards_of_texts_that_carry_their_bos(client, numbers):
    marked = [f"<s>{text}" for text in TEXTS[:2]]
    body = {"query": marked, "prompts": ["x", "y"], "labels": [None, 3]}
    reply = client.post("/get_reward", json=body).json()
    asked = [MarkedText(text) for text in marked]
    assert reply["rewards"] == reply["scores"] == pytest.approx(numbers("normal", asked), abs=1e-6)
    assert reply["rewards"] == pytest.approx(numbers("normal", TEXTS[:2]), abs=1e-6)
    logs = reply["extra_logs"]
    measures = {"quantile:0.05", "quantile:0.95"}
    assert set(logs) == {"mean", "stddev", "log_sigma", "share_unsplit"} | measures
    assert logs["log_sigma"] == pytest.approx([math.log(one) for one in logs["stddev"]])
    assert all(len(values) == 2 for values in logs.values())
    assert logs["quantile:0.05"] == pytest.approx(numbers("normal", asked, "quantile:0.05"))
    url = "/get_reward?model=factor@cvar:0.1"
    reply = client.post(url, json={"query": marked}).json()
    assert reply["rewards"] == pytest.approx(numbers("factor", asked, "cvar:0.1"), abs=1e-6)
    assert {"share_shared_context", "share_noise"} <= set(reply["extra_logs"])


def test_verl_in_vllm_mode_gets_the_bos_it_cut_off(client, folders, numbers):
    body = {"model": folders["normal"], "input": TEXTS[0], "use_activation": False}
    reply = client.post("/classify", json=body).json()
    assert reply["data"][-1]["probs"][-1] == pytest.approx(numbers("normal", TEXTS[:1])[0])
    assert set(reply) == {"id", "object", "created", "model", "data", "usage"}
    assert reply["data"][0]["num_classes"] == 1
    count = reply["usage"]["prompt_tokens"]
    assert count == reply["usage"]["total_tokens"] > 5
    several = client.post("/classify", json={"input": TEXTS}).json()["data"]
    assert [one["index"] for one in several] == [0, 1, 2, 3]
    found = [one["probs"][0] for one in several]
    assert found == pytest.approx(numbers("normal", TEXTS), abs=1e-5)
    bare = {"input": f"<s>{TEXTS[0]}", "add_special_tokens": False}
    reply = client.post("/classify", json=bare).json()
    assert reply["data"][0]["probs"] == pytest.approx(numbers("normal", TEXTS[:1]))
    assert reply["usage"]["prompt_tokens"] == count
    chat = [{"role": "user", "content": "Tea?"}]
    reply = client.post("/classify", json={"messages": chat, "model": "normal@cvar:0.1"}).json()
    assert reply["data"][0]["probs"] == pytest.approx(numbers("normal", [chat], "cvar:0.1"))


def test_verl_in_sglang_mode_reads_an_embedding_of_one_number(client, numbers):
    reply = client.post("/v1/embeddings", json={"model": "normal", "input": TEXTS[1]}).json()
    assert reply["data"][-1]["embedding"][-1] == pytest.approx(numbers("normal", TEXTS[1:2])[0])
    body = {"input": [[1, 5, 6], [1, 7]], "encoding_format": "base64"}
    reply = client.post("/v1/embeddings", json=body).json()
    found = [struct.unpack("<f", base64.b64decode(one["embedding"]))[0] for one in reply["data"]]
    asked = [TokenIds((1, 5, 6)), TokenIds((1, 7))]
    assert found == pytest.approx(numbers("normal", asked), abs=1e-6)
    assert reply["usage"]["prompt_tokens"] == 5


def test_sglangs_own_contract_answers_raw_outputs_or_the_risk(client, serving, models, numbers):
    raw = Scorer(models["normal"]).raw(TEXTS).raw.tolist()
    one = client.post("/classify", json={"text": TEXTS[0]}).json()
    assert one["embedding"] == pytest.approx(raw[0], abs=1e-6)
    several = client.post("/classify", json={"text": TEXTS}).json()
    assert [item["embedding"] for item in several] == [pytest.approx(r, abs=1e-5) for r in raw]
    ids = client.post("/classify", json={"input_ids": [1, 9]}).json()
    assert ids["meta_info"]["prompt_tokens"] == 2
    with TestClient(serving(sglang_outputs="risk")) as own:
        reply = own.post("/classify", json={"text": TEXTS[0], "model": "normal@cvar:0.1"}).json()
    assert reply["embedding"] == pytest.approx(numbers("normal", TEXTS[:1], "cvar:0.1"))


def test_sglangs_scores_join_the_query_and_each_item(client, models):
    body = {"query": PROMPT, "items": [" Yes.", " No."], "model": "normal"}
    reply = client.post("/v1/score", json=body).json()
    raw = Scorer(models["normal"]).raw([PROMPT + " Yes.", PROMPT + " No."]).raw.tolist()
    assert reply["scores"] == [pytest.approx(one, abs=1e-6) for one in raw]
    ids = {"query": [1, 5], "items": [[6], [7, 8]], "item_first": True}
    raw = Scorer(models["normal"]).raw([TokenIds((6, 1, 5)), TokenIds((7, 8, 1, 5))]).raw
    reply = client.post("/v1/score", json=ids).json()
    assert reply["scores"] == [pytest.approx(one, abs=1e-6) for one in raw.tolist()]
    alone = client.post("/v1/score", json={"items": TEXTS[0]}).json()["scores"]
    assert len(alone) == 1


def test_llama_factory_always_says_model(client, numbers):
    body = {"model": "model", "messages": [f"<s>{text}" for text in TEXTS]}
    reply = client.post("/v1/score/evaluation", json=body).json()
    assert reply["scores"] == pytest.approx(numbers("normal", TEXTS), abs=1e-5)
    assert reply["model"] == "normal"
    url = "/v1/score/evaluation?model=factor@cvar:0.1"
    reply = client.post(url, json=body).json()
    asked = [MarkedText(text) for text in body["messages"]]
    assert reply["scores"] == pytest.approx(numbers("factor", asked, "cvar:0.1"), abs=1e-5)
    assert client.post("/v1/score/evaluation", json=body | {"model": "x"}).status_code == 404


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
        ("/v1/embeddings", {"input": [1, 99999]}, "no token of the model"),
        ("/v1/score", {"items": ["a"], "apply_softmax": True}, "no softmax"),
        ("/v1/score", {"query": "a", "items": [[1]]}, "token ids both"),
        ("/v1/score", {"query": [1], "items": "a"}, "token ids both"),
        ("/get_reward", {"query": "a"}, "query"),
    ],
)
def test_what_a_contract_cannot_mean_is_refused(client, path, body, words):
    reply = client.post(path, json=body)
    assert reply.status_code == 422
    assert words in reply.json()["error"]["message"]


def test_a_number_that_is_not_finite_is_an_error_of_its_item():
    assert finite(torch.tensor([1.0, 2.0]), "mean") == [1.0, 2.0]
    with pytest.raises(RequestError) as caught:
        finite(torch.tensor([1.0, torch.inf]), "entropic:2")
    assert (caught.value.status, caught.value.kind, caught.value.item) == (422, "not_scored", 1)
    assert caught.value.message == "text 1 cannot be scored: its entropic:2 is not finite"


def test_shares_of_nothing_are_null():
    assert _or_null(torch.tensor([0.5, torch.nan])) == [0.5, None]


def test_the_status_pages(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    loaded = client.get("/v1/models").json()["data"]
    assert [(one["id"], one["num_outputs"], one["max_model_len"]) for one in loaded] == [
        ("normal", 2, 128),
        ("factor", 4, 128),
    ]
    client.post("/v1/embeddings", json={"input": "a b"})
    page = client.get("/metrics").text
    assert 'hidden_context_requests_total{route="/v1/embeddings",status="200"}' in page
    assert 'hidden_context_texts_total{model="normal"}' in page
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/distribution", "/get_reward", "/classify", "/v1/score/evaluation"} <= set(paths)
    assert client.get("/docs").status_code == 200
    assert client.get("/nowhere").json()["error"]["type"] == "http"
    assert client.get("/get_reward").headers["allow"] == "POST"
