"""Bodies that the OpenAPI page allows, and bodies that nothing allows: never a status 500."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hidden_context.serve.routes import ROUTERS

POSTED = (route for router in ROUTERS for route in router.routes if "POST" in route.methods)
REPLIES = {route.path: route.response_model for route in POSTED}
POSTS = tuple(REPLIES)
FIELDS = (
    *("model", "prompt", "responses", "tools", "risk", "measures", "annotator", "groups", "query"),
    *("prompts", "labels", "input", "messages", "text", "input_ids", "items", "item_first"),
    *("add_special_tokens", "use_activation", "encoding_format", "role", "content", "tool_calls"),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(("normal", "factor", "factor@cvar:0.1", "model", "mean", "user", "ann", ""))
)
KEYS = st.sampled_from(FIELDS) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
HEADERS = {"Content-Type": "application/json"}
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6) | VALUES


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(POSTS), body=BODIES)
def test_no_body_makes_the_server_fail(client, path, body):
    reply = client.post(path, content=json.dumps(body), headers=HEADERS)
    assert reply.status_code < 500, (path, body)
    text = reply.text
    assert "NaN" not in text
    assert "Infinity" not in text
    if reply.status_code >= 400:
        assert set(reply.json()["error"]) == {"message", "type", "item"}


@pytest.mark.parametrize("path", POSTS)
def test_what_the_openapi_page_allows_is_answered_as_it_says(client, path):
    page = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    reply_model = TypeAdapter(REPLIES[path])
    assert path in page
    answered = []

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), database=None)
    @given(case=page[path]["POST"].as_strategy())
    def check(case):
        reply = client.post(path, content=json.dumps(case.body), headers=HEADERS, params=case.query)
        assert reply.status_code in (200, 404, 413, 422)
        if reply.status_code == 200:
            reply_model.validate_python(reply.json(), strict=True)
        answered.append(reply.status_code)

    check()
    assert len(answered) >= 6
