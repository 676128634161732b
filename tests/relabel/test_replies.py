import json
import math

import pytest

from hidden_context.relabel.replies import (
    MalformedReplyError,
    Reply,
    Verdict,
    read_body,
    read_letter,
    read_reply,
    refused_by_rule,
)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("A", "A"),
        (" B\n", "B"),
        ("**B**", "B"),
        ("(A).", "A"),
        ("Answer: B", "B"),
        ("The answer is A.", "A"),
        ("Response B", "B"),
        ("A\n\nIt answers the question, B does not.", "A"),
        ("<think>B looks fine. So A? No.</think>\nB", "B"),
        ("I find that Reply A is better because it is kind.", "A"),
        ("Reply A is evasive, and B answers.\n\nB", "B"),
        ("A\n\nOn reflection:\n\nB", None),
        ("Answer: **A**\nIt is kind.", "A"),
        ("After all, my final answer is B", "B"),
        ("", None),
        ("C", None),
        ("AB", None),
        ("Both A and B", None),
        ("A good reply would be short.", None),
        ("A is worse, so is B", None),
        ("Answer: A. No, answer: B", None),
        ("b", None),
    ],
)
def test_the_letter_is_found_where_the_text_names_one(text, letter):
    assert read_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I’m very sorry.", "refusal"),
        ("I cannot judge this.", "refusal"),
        ("As an AI, I have no view.", "refusal"),
        ("<think>Hm.</think> I won't do that.", "refusal"),
        ("Bananas.", "unparseable"),
        ("", "unparseable"),
        ("It depends; I can't say.", "unparseable"),
    ],
)
def test_other_texts_are_abstentions_that_keep_them(text, reason):
    assert read_reply(Reply(text)) == Verdict(None, reason, text)


def test_log_probabilities_are_weighed_against_each_other():
    letters = {"A": math.log(0.3), "B": math.log(0.1)}
    assert read_reply(Reply("A", letters)).first == pytest.approx(0.75)
    assert read_reply(Reply("A", {"A": -0.1})).first == 1.0
    assert read_reply(Reply("B", {"B": -0.1})).first == 0.0
    assert read_reply(Reply("B", {"A": -900.0, "B": 0.0})).first == 0.0
    assert read_reply(Reply("A", letters, reason="filter")) == Verdict(None, "filter", "A")


def test_a_reply_is_kept_without_what_is_not_known():
    reply = Reply("A", {"A": -0.5}, 7, 1)
    kept = {"text": "A", "letters": {"A": -0.5}, "input_tokens": 7, "output_tokens": 1}
    assert (reply.to_dict(), Reply(**kept)) == (kept, reply)
    assert Reply("x").to_dict() == {"text": "x"}


def completion(text, tokens=None, **choice):
    logprobs = {} if tokens is None else {"logprobs": {"content": tokens}}
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, **logprobs, **choice}]})


def token(spelt, p, **top):
    listed = [{"token": name, "logprob": math.log(value)} for name, value in top.items()]
    return {"token": spelt, "logprob": math.log(p), "top_logprobs": listed}


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        (
            "Answer: B",
            [token("Answer", 0.9), token(":", 0.9), token(" B", 0.5, **{" B": 0.5, " A": 0.2})],
            {"A": 0.2, "B": 0.5},
        ),
        (  # spellings are added up, and other words left out
            "A",
            [token("A", 0.4, **{"A": 0.4, " A": 0.1, "**B": 0.25, "Both": 0.2}), token("", 1.0)],
            {"A": 0.5, "B": 0.25},
        ),
        # a token that is not listed among the likeliest counts too
        ("B", [token("B", 0.05, A=0.6)], {"A": 0.6, "B": 0.05}),
        (  # behind a reason that names letters the last token is the answer
            "B loses to A\nA",
            [
                *(token(w, 0.9) for w in ("B", " loses to ", "A", "\n")),
                token("A", 0.6, A=0.6, B=0.2),
            ],
            {"A": 0.6, "B": 0.2},
        ),
        # without one token that is the answer there are none
        ("Bananas", [token("A", 0.5)], {}),
        ("Answer: A. So answer A it is", [token(word, 0.5) for word in ("x", "A", "A", "is")], {}),
        ("A", None, {}),
        ("A", [], {}),
    ],
)
def test_probabilities_are_those_of_the_token_that_is_the_answer(text, tokens, expected):
    letters = read_body(completion(text, tokens)).letters
    logs = {letter: math.log(p) for letter, p in expected.items()}
    assert letters == (pytest.approx(logs) if logs else None)


def test_filters_and_refusals_are_told_from_answers():
    filtered = read_body(completion("A", finish_reason="content_filter"))
    assert (filtered.text, filtered.reason) == ("A", "filter")
    body = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    assert read_body(json.dumps(body)) == Reply("No.", reason="refusal")
    body = {"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": True}}
    assert read_body(json.dumps(body)) == Reply("")


@pytest.mark.parametrize(
    "content", ["", "<html>", "[]", "{}", '{"choices": []}', '{"choices": [1]}']
)
def test_what_is_no_reply_is_said_so(content):
    with pytest.raises(MalformedReplyError, match="the response is not a reply"):
        read_body(content)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"message": "This model's maximum context length is 9 tokens."}, "too_long"),
        (400, {"message": "x", "code": "context_length_exceeded"}, "too_long"),
        (413, "entity", "too_long"),
        (400, {"message": "x", "code": "content_filter"}, "filter"),
        (400, {"message": "bad field"}, None),
        (401, {"message": "maximum context length"}, None),
    ],
)
def test_some_errors_are_about_one_question_alone(status, body, reason):
    found = refused_by_rule(status, body)
    assert (None if found is None else found.reason) == reason
