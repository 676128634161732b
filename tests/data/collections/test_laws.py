"""What every source does with the files of every kind, with damaged files, and with odd values."""

import gzip
import json
import re

import pytest

from hidden_context.data.collections import NAMES, find_source
from hidden_context.data.collections.helpsteer2 import ATTRIBUTES
from hidden_context.data.example import Comparison, Ranking, Rating
from support.published import CHAT, ROWS, replaced, row, value_at

TABLES = {"dices:ratings", "chatbot_arena:55k", "community_alignment", "shp", "personalllm"}
"""The kinds whose columns hold single values, as CSV does."""


def held(examples):
    """The kinds of judgements that examples hold."""
    kinds = {Comparison: "comparisons", Ranking: "rankings", Rating: "ratings"}
    judgements = [judgement for example in examples for judgement in example.judgements]
    found = {kinds.get(type(one.answer), "abstentions") for one in judgements}
    shares = [one.answer.preference for one in judgements if isinstance(one.answer, Comparison)]
    found |= {"ties"} if 0.5 in shares else set()
    return found | ({"annotators"} if any(one.annotator for one in judgements) else set())


def test_there_is_a_row_of_each_source():
    assert set(NAMES) - {kind.split(":")[0] for kind in ROWS} == {"pluriharms"}  # two CSV files


@pytest.mark.parametrize("kind", ROWS)
def test_every_format_says_the_same(kind, imported, refused):
    name = kind.split(":")[0]
    examples, report = imported(name, ROWS[kind])
    assert held(examples) <= set(find_source(name).holds)
    assert report.judgements > 0
    aside = {"summarize_from_feedback:axes": 1, "collective_alignment": 1}
    assert sum(report.left_out.values()) == aside.get(kind, 0)
    assert imported(name, ROWS[kind], file="rows.parquet")[0] == examples
    if kind in TABLES:
        told, _ = imported(name, ROWS[kind], file="rows.csv")
        assert [(one.texts, one.judgements) for one in told] == [
            (one.texts, one.judgements) for one in examples
        ]
    line = json.dumps(ROWS[kind]).encode()
    packed = gzip.compress(b"\xef\xbb\xbf" + line + b"\r\n\r\n")
    assert imported(name, files={"rows.jsonl.gz": packed})[0] == examples
    cut = {"rows.jsonl.gz": packed[:-9]}
    refused(r"rows.jsonl.gz: the gzip file is damaged", name, files=cut)


@pytest.mark.parametrize("kind", ROWS)
def test_a_later_row_without_columns(kind, imported, refused):
    name = kind.split(":")[0]
    silent = ("helpsteer3", "multipref", "pku_saferlhf", "lamp", "personalllm")
    if name in silent or kind == "ultrafeedback:answers":  # it says that nobody judged
        assert sum(imported(name, ROWS[kind], {})[1].left_out.values()) >= 1
    else:
        message = r"rows.jsonl, line 2, field '[\w -]+': .* needed|is missing"
        refused(message, name, ROWS[kind], {})


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_another_source_is_refused(name, refused):
    same = {  # has the columns of
        "helpsteer": "helpsteer2:ratings",
        "helpsteer2": "helpsteer:rated",
        "mt_bench_human": "chatbot_arena:33k",
    }
    for kind in ROWS:
        if kind.split(":")[0] != name and same.get(name) != kind:
            file = f"{kind.replace(':', '_')}.jsonl"
            refused(rf"{file}: the columns .* are needed.* Give ", name, ROWS[kind], file=file)


NAME = "an annotator's name is needed, not null"
LABEL = "conversations[1].label"
EACH_ONCE = "attributes and ratings are needed, each once, not "
UNEQUAL = {"name": ["quality"], "value": [], "count": [1]}

# A path alone stands for a value of another kind: an object, or text for an object or a list, which
# must not be empty either.
ODD = {
    "ukpconvarg": [
        *("votes", "votes[0]"),
        ("votes[1].value", "a3", r"one of a1, equal, a2 is needed, not text \('a3'\)"),
        ("votes[1].annotator", "", NAME),
    ],
    "dices:ratings": [("Q_overall", "Maybe", "one of Yes, No, Unsure is needed, not text")],
    "mt_bench_human": [
        ("winner", "tie (inconsistent)", "one of model_a, tie, model_b, tie"),
        ("model_b", "m", "two different models are needed, not 'm' twice"),
        ("turn", 3, "an integer from 1 to 2 is needed, not 3"),
        ("conversation_b", CHAT[:1], "the question and 1 answers to it are needed"),
        ("conversation_b", CHAT[2:], ".* the same question for both"),
    ],
    "helpsteer2:preference": [
        "all_preferences_unprocessed[0]",
        ("all_preferences_unprocessed[0].strength", 4, "an integer from -3 to 3"),
        ("all_preferences_unprocessed[1].strength", -99, "an integer from -3"),
        ("all_preferences_unprocessed", "[]", "a list of objects is needed, not text"),
        ("all_preferences_unprocessed", {}, "a list of objects is needed, not a dict"),
    ],
    "helpsteer2:ratings": [
        ("helpfulness", 5, "an integer from 0 to 4 is needed, not 5"),
        ("helpfulness", [], "a list of at least one rating is needed"),
    ],
    "helpsteer3": [
        *("context", "individual_preference[0]"),
        ("individual_preference[0].score", -4, "an integer from -3 to 3 is needed"),
    ],
    "multipref": [
        *("expert_worker_annotations[0]", "completion_b"),
        ("normal_worker_annotations[0].overall_pref", "A is better", "one of A-is-clearly-better"),
        ("expert_worker_annotations[1].evaluator", None, NAME),
    ],
    "prism:conversations": [
        *("conversation_history", "conversation_history[0]", "conversation_history[1].content"),
        ("conversation_history[1].score", 0, "an integer from 1 to 100 is needed"),
        ("conversation_history[0].role", "system", "one of user, model is needed, not text"),
        ("conversation_history[1].turn", 2, "an answer comes before the message of turn 2"),
        ("conversation_history[4].turn", 0, "turn 0 has two messages of the person"),
    ],
    "summarize_from_feedback:comparisons": [
        *(
            "info",
            "info.post",
            "info.id",
            "summaries[1].text",
            "split",
            "extra",
            "extra.confidence",
        ),
        ("choice", 2, "an integer from 0 to 1 is needed, not 2"),
        ("summaries", [{"text": "a"}], "two summaries are needed, not 1"),
        ("info", {"id": "x"}, "a 'post' or an 'article' is needed"),
    ],
    "summarize_from_feedback:axes": [
        *("summary", "summary.axes"),
        ("summary.axes.overall", 8, "an integer from 1 to 7 is needed"),
        ("summary.axes.accuracy", 2.5, "an integer is needed, not a number"),
    ],
    "pku_saferlhf": [
        "is_response_1_safe",
        ("better_response_id", -1, "an integer from 0 to 1 is needed"),
        ("response_0_severity_level", 4, "an integer from 0 to 3 is needed"),
    ],
    "lamp": ["rankings[0]", "rankings[0].ranks", ("rankings[0].annotator", None, NAME)],
    "hhh_alignment:wrapped": [
        ("source", "kind", "one of harmless, helpful, honest, other is needed"),
        ("rejected_instruction", "Nothing.", "no instruction and response to evaluate are found"),
    ],
    "hhh_alignment:choices": [
        *("targets", "targets.choices", "targets.labels"),
        ("targets", None, "an object is needed, not null"),
    ],
    "chatbot_arena:33k": [
        *("question_id", "model_b"),
        ("winner", "model_c", r"one of model_a, tie, model_b, tie \(bothbad\), both_bad"),
        ("conversation_a[0].role", "human", "one of user, assistant, system is needed"),
    ],
    "chatbot_arena:140k": [
        *("full_conversation[0]", "full_conversation[0].user", "full_conversation[1].model_side_a"),
        ("evaluation_order", None, "an integer is needed, not null"),
    ],
    "chatbot_arena:55k": [
        ("winner_tie", 2, "an integer from 0 to 1 is needed"),
        ("winner_model_a", 0, "exactly one of .* has to be 1; the row has 0"),
        ("prompt", "Tea?", "the JSON of a list is needed, not text"),
        ("response_a", "[]", "a list of at least one text is needed"),
    ],
    "community_alignment": [
        ("first_turn_preferred_response", "response_e", "one of response_a, .* is needed, not"),
        ("in_balanced_subset", "maybe", r"true or false is needed, not text \('maybe'\)"),
    ],
    "ultrafeedback:answers": [
        *("completions[0].overall_score", "completions[0].response"),
        *("completions[0].annotations.honesty", "completions[0].annotations.honesty.Rating"),
    ],
    "ultrafeedback:pairs": [
        ("chosen-rating", 3.0, "at least the rating of the rejected answer is needed"),
    ],
    "shp": [("labels", 2, "an integer from 0 to 1 is needed, not 2")],
    "personalllm": ["response_3_gemma_7b"],
    "collective_alignment": [
        *("prompt.messages", "metadata.assessments", "metadata.assessments[0].ranking_blocks"),
        "metadata.assessments[0].ranking_blocks.world[0].ranking",
        ("metadata.assessments[0].annotator_id", None, NAME),
        ("prompt.messages[0].role", "human", "one of developer, system, user, assistant"),
    ],
    "webgpt": [
        *("question", "question.full_text"),
        ("score_0", 1.5, "a number from -1 to 1 is needed"),
    ],
    "nectar": [
        *("answers", "answers[2].answer"),
        ("answers[2].rank", 0.0, "an integer from 1 to 3 is needed, not 0"),
        ("answers[2].rank", 8.0, "an integer from 1 to 3 is needed, not 8"),
    ],
    "pandalm": [
        ("annotator2", 3, "an integer from 0 to 2 is needed, not 3"),
        ("annotator1", 0.5, "an integer is needed, not a number"),
    ],
    "lewidi": [
        *("annotators", "text", "other_info"),
        ("annotations", "0,1,0", "labels: 3, annotators: 2; one by each is needed"),
        ("annotations", "0,2", "an integer from 0 to 1 is needed, not 2"),
        ("annotations", 3, "text is needed, not a number"),
        ("other_info.other annotations.offensive", "1", "labels: 1, annotators: 2"),
        ("annotation task", "humour", "one of hate speech detection, misogyny"),
    ],
    "helpsteer:rated": [
        ("helpfulness", 5, "an integer from 0 to 4 is needed, not 5"),
        ("verbosity", 0.5, "an integer is needed, not a number"),
    ],
    "helpsteer:conversations": [
        *("system", "conversations", "conversations[0].value"),
        (LABEL, "quality:5", "a number from 0 to 4 is needed"),
        (LABEL, "quality", rf"{EACH_ONCE}text \('quality'\).*The attributes are"),
        (LABEL, "quality:1,quality:2", f"{EACH_ONCE}text"),
        (LABEL, "charm:2", f"{EACH_ONCE}text"),
        (LABEL, 4, rf"{EACH_ONCE}a number \(4\)"),
    ],
    "oasst": [
        *("prompt", "prompt.replies[0].message_id", "prompt.replies[0].text"),
        ("prompt.replies", 3, "a list of objects is needed, not a number"),
        *("prompt.replies[0].labels", "prompt.replies[0].labels.quality"),
        ("prompt.role", "system", "one of prompter, assistant is needed"),
        ("prompt.replies[0].labels.quality.value", 1.5, "a number from 0 to 1 is needed"),
        ("prompt.replies[0].labels.quality.count", 0, "an integer of at least 1 is needed"),
        ("prompt.replies[0].labels", UNEQUAL, "lists of names, values and counts with the same"),
    ],
}


def odd_values():
    """Each kind, path, odd value and problem."""
    for kind, path in ((kind, path) for kind, odds in ODD.items() for path in odds):
        if isinstance(path, str):
            odd = {dict: ["odd"], list: ["odd", []]}.get(type(value_at(kind, path)), [{"odd": 1}])
            yield from ((kind, path, value, ".* needed") for value in odd)
        else:
            yield kind, *path


@pytest.mark.parametrize(
    ("kind", "path", "value", "problem"),
    list(odd_values()),
)
def test_an_odd_value_is_named_with_file_line_and_field(kind, path, value, problem, refused):
    place = rf"rows\.jsonl, line 1, field '{re.escape(path)}': "
    refused(place + problem, kind.split(":")[0], replaced(kind, path, value))


@pytest.mark.parametrize("kind", ROWS)
def test_columns_that_are_needed_are_there_and_hold_no_object(kind, refused):
    name, columns = kind.split(":")[0], ROWS[kind].keys()
    passed = {"item", "anony", "good_natured", "evaluation_session_id"}  # as they are
    passed |= {*ATTRIBUTES[1:]} if name == "helpsteer2" else set()
    kinds = [{*names} for names in find_source(name).columns.values()]
    for column in next(names for names in kinds if columns >= names):
        if column not in passed:
            place = rf"rows\.jsonl, line 1, field '{re.escape(column)}\b.*': .*(needed|missing)"
            refused(place, name, row(kind, **{column: {"odd": ["value"]}}))
        rest = {other: value for other, value in ROWS[kind].items() if other != column}
        if not any(rest.keys() >= names for names in kinds):
            has = f"the file has {re.escape(', '.join(list(rest)[:12]))}"
            refused(rf"the columns .*{re.escape(column)}.* are needed, {has}.* Give", name, rest)


TWICE = [{"response_index": "A", "messages": CHAT[1:2]}] * 2
HHH = "hhh_alignment:choices"
OF_ANOTHER = ROWS["hhh_alignment:wrapped"]["rejected_instruction"].replace("What now?", "Eh?")
TASK = {"annotation task": "irony detection", "annotations": {}, "other_info": {}}


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ("helpsteer3", {"context": ["Hola"]}, r"field 'prompt\[0\]': a chat message is needed"),
        ("webgpt", {"score_1": 0.5}, r"'score_0, score_1': the scores .* not 0.5 and 0.5"),
        ("webgpt", {"question": {"full_text": "?", "dataset": 3}}, "'data_subset': text is needed"),
        ("nectar", {"num_responses": 7}, "field 'answers': 3 answers are given, not 7"),
        ("chatbot_arena:55k", {"winner_tie": 1}, "'winner_model_a': .* has to be 1; the row has 2"),
        ("collective_alignment", {"responses": TWICE}, "'responses': two answers have the same"),
        (HHH, {"targets": {"choices": ["a", "b"], "labels": [1]}}, r"'targets': two .* not \[1\]"),
        (HHH, {"targets": {"choices": ["a", 2], "labels": [0, 1]}}, "'targets': text is needed"),
        ("hhh_alignment:wrapped", {"rejected_instruction": OF_ANOTHER}, "answer different"),
        ("lamp", {"responses": ["a", "b"]}, "one rank for each response is needed: 2, not 3"),
        ("lewidi", {"other_info": {"annotators group": "a"}}, "'other_info': groups: 1, annot"),
        ("lewidi", {**TASK, "text": {"post": "p"}}, r"field 'text\.reply': text is needed"),
        ("lewidi", {**TASK, "text": "{,"}, "field 'text': the JSON of an object is needed"),
        ("lewidi", {**TASK, "text": 3}, "field 'text': an object is needed"),
    ],
)
def test_odd_rows(kind, columns, message, refused):
    refused(rf"rows\.jsonl, line 1, .*{message}", kind.split(":")[0], row(kind, **columns))
