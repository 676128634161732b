"""Percentiles in answers, and guards of a server: what is logged, counted and refused."""

import pytest
from starlette.testclient import TestClient

from hidden_context.data.dialogue import join
from hidden_context.scoring.requests import Scorer
from support.scoring import FAR, with_reference

PROMPT = "\n\nHuman: What about tea?\n\nAssistant:"
RESPONSES = ["It is kind.", "It is rude.", "Let me see."]


@pytest.fixture(scope="module")
def scorer(models):
    """A model with a reference in which usual distances are those of some of its own texts."""
    return Scorer(with_reference(models["normal"]))


@pytest.fixture(scope="module")
def contested(models):
    """The same model, to whose reference every text is far."""
    return {"normal": Scorer(with_reference(models["normal"], **FAR))}


def test_a_distribution_has_the_percentiles_of_scoring_in_process(application, scorer):
    body = {"prompt": PROMPT, "responses": RESPONSES}
    with TestClient(application("normal", scorers={"normal": scorer})) as client:
        reply = client.post("/v1/distribution", json=body).json()
        alone = client.post("/v1/distribution", json={**body, "responses": RESPONSES[:1]}).json()
        logs = client.post("/get_reward", json={"query": ["<s>Tea? No."]}).json()["extra_logs"]
    answers = scorer.raw([join(PROMPT, one) for one in RESPONSES])
    want = scorer.describe(answers.raw, distance=answers.distance).percentiles
    assert reply["percentiles"]["distance"] == pytest.approx(want.distance, abs=0.02)
    assert 0 < min(want.distance) <= max(want.distance) <= 1
    assert reply["percentiles"]["sigma"] == pytest.approx(want.sigma, abs=0.011)
    assert reply["percentiles"]["disagreement"] == pytest.approx(want.disagreement, abs=0.011)
    assert alone["percentiles"]["disagreement"] is None
    assert 0 <= logs["distance"][0] <= 1


def test_a_guard_that_warns_logs_once_and_shows_its_shares(application, contested, caplog):
    app = application("normal", scorers=contested, guard="warn:window=6")
    with TestClient(app) as client, caplog.at_level("WARNING", "hidden_context.serve"):
        for n in range(3):
            body = {"prompt": f"Tea {n}? ", "responses": ["Yes.", "No."]}
            assert client.post("/v1/distribution", json=body).status_code == 200
        client.post("/v1/embeddings", json={"model": None, "input": ["Rain? Never."]})
        page = client.get("/metrics").text
    found = [record for record in caplog.records if record.getMessage() == "guard"]
    assert [record.fields for record in found] == [{"model": "normal", "shares": {"distance": 1.0}}]
    assert 'guard_share{model="normal",quantity="distance"} 1.0' in page
    assert 'guard_share{model="normal",quantity="sigma"} 0.0' in page


def test_a_guard_that_stops_answers_409(application, contested):
    app = application("normal", scorers=contested, guard="stop:window=4,level=0.995")

    def ask(*prompts):
        query = [f"a {n}" for n in range(len(prompts))]
        return client.post("/get_reward", json={"query": query, "prompts": prompts})

    with TestClient(app) as client:
        replies = [ask("x", "y"), ask("x", "y"), ask("z")]
        # four responses are enough, but two prompts are not
        assert [reply.status_code for reply in replies] == [200, 200, 409]
        error = replies[-1].json()["error"]
        assert (error["type"], error["item"]) == ("over_optimised", None)
        assert "have a distance to the training texts above" in error["message"]
        asked = {"prompt": [{"role": "user", "content": "Tea?"}], "responses": ["No."]}
        assert client.post("/v1/distribution", json=asked).status_code == 409
        assert client.get("/ready").status_code == 200
