"""Data sets of compared pairs: what is particular to each."""

import gzip
import json

import pytest

from hidden_context.data.example import Comparison, Judgement
from support.published import by, passed, row
from support.rows import assistant, user

VOTES = {share: (Judgement(Comparison(0, 1, share)),) for share in (1.0, 0.0)}
"""A vote by nobody known."""


def test_shp_the_label_says_which_comment_is_preferred(imported):
    rows = [row("shp"), row("shp", post_id="p2", labels=0, score_A=3, score_B=340)]
    examples, _ = imported("shp", *rows)
    # one judgement each, however many votes are behind the scores, which are no annotators
    assert [example.judgements for example in examples] == [VOTES[1.0], VOTES[0.0]]
    assert examples[0].columns == {
        "prompt": [user("Why does bread rise? I would like to know.")],
        "responses": ["Yeast makes gas.", "Magic."],
        "judgements": [{"comparison": [0, 1], "preference": 1.0}],
        "scores": [34.0, 17.0],
        "data_subset": "askbaking",
        "split": "train",
        **passed("shp", "post_id", "score_ratio", "upvote_ratio"),
    }
    domains = ("ask_hr_validation", "legaladvice_test", "ask_hr", None)
    examples, _ = imported("shp", *(row("shp", domain=one, post_id=None) for one in domains))
    assert [(one.data_subset, one.columns.get("split")) for one in examples] == [
        *(("ask_hr", "validation"), ("legaladvice", "test"), ("ask_hr", None), (None, None)),
    ]


def test_shp_labels_against_the_scores_and_pairs_that_stand_twice(imported):
    rows = [
        row("shp", labels=0),
        row("shp", post_id="p2", labels=1, score_A=1, score_B=2),
        row("shp", post_id="p3", labels=0, score_A=2, score_B=2),
        row("shp", post_id="p4", labels=1, score_A=2, score_B=2),
        row("shp", c_root_id_B="c"),
    ]
    swapped = row("shp", c_root_id_A="b", c_root_id_B="a")
    more = [swapped, row("shp", post_id=None), row("shp", post_id=None)]
    examples, report = imported("shp", files={"train.json": rows, "again.json": more})
    assert [one.columns.get("post_id") for one in examples] == ["p3", "p4", "p1", None, None]
    assert report.left_out == {
        "pairs whose label is for the comment with the lower score": 2,
        "pairs of comments that occur twice": 1,
    }


def test_webgpt_the_score_is_a_margin_and_only_its_sign_is_a_vote(imported):
    scores = {0.5: 1.0, -1.0: 0.0, 0.0: 0.5, -0.3333333432674408: 0.0, 1: 1.0}
    rows = [row("webgpt", score_0=score, score_1=-score) for score in scores]
    examples, _ = imported("webgpt", *rows, row("webgpt", answer_1="Tannins [1]."))
    assert [example.judgements for example in examples[:5]] == [
        (Judgement(Comparison(0, 1, share, margin=score)),) for score, share in scores.items()
    ]
    assert examples[0].columns == {
        "prompt": [user("Why is tea brown?\n\nTell me.")],
        "responses": ["Tannins [1].", "It is dyed."],
        "judgements": [{"comparison": [0, 1], "preference": 1.0, "margin": 0.5}],
        "item": "q7",
        "data_subset": "eli5",
        **passed("webgpt", "quotes_0", "quotes_1"),
    }
    assert examples[5].identical


def record(answer, score, **columns):
    of_row = row("webgpt")
    told = {"question": of_row["question"], "quotes": of_row["quotes_0"]}
    return {**told, "answer": answer, "tokens": {}, "score": score, **columns}


def test_webgpt_pairs_of_records_say_the_same_as_rows(imported):
    (of_row,), _ = imported("webgpt", row("webgpt", quotes_1=row("webgpt")["quotes_0"]))
    pair = [record("Tannins [1].", 0.5), record("It is dyed.", -0.5)]
    pairs, _ = imported("webgpt", pair, pair[::-1])
    assert pairs[0] == of_row
    assert pairs[1].responses == of_row.responses[::-1]
    assert pairs[1].judgements == (Judgement(Comparison(0, 1, 0.0, margin=-0.5)),)


def test_pandalm_one_two_and_a_tie(imported):
    first = row("pandalm")
    bare = [row("pandalm", input=nothing, idx=8) for nothing in (float("nan"), None, "")]
    array = json.dumps([first, *bare], indent=4)
    examples, _ = imported("pandalm", files={"testset-v1.json": array})
    assert examples[0].judgements == by(annotator1=1.0, annotator2=0.0, annotator3=0.5)
    assert examples[0].prompt == [user("Name the nearest town.\n\nWe are at the old mill.")]
    assert examples[0].responses == ([assistant("Millbrook.")], [assistant("")])
    assert [example.prompt for example in examples[1:]] == [[user("Name the nearest town.")]] * 3
    kept = {"item": 7, **passed("pandalm", "motivation_app", "cmp_key")}
    assert examples[0].columns.items() >= kept.items()


def test_pku_two_objectives_of_a_row_are_two_examples(imported):
    older = {
        name: value
        for name, value in row("pku_saferlhf").items()
        if not name.endswith(("level", "category", "source", "sha256"))
    }
    silent = row("pku_saferlhf", better_response_id=None, safer_response_id=0.0)
    examples, report = imported("pku_saferlhf", row("pku_saferlhf"), older, silent)
    assert [(one.objective, one.judgements) for one in examples] == [
        *[("helpful", VOTES[1.0]), ("harmless", VOTES[0.0])] * 2,
        ("harmless", VOTES[1.0]),
    ]
    assert examples[0].columns == {
        "prompt": [user("How do I open it?")],
        "responses": ["With this trick.", "Better not."],
        "judgements": [{"comparison": [0, 1], "preference": 1.0}],
        "objective": "helpful",
        "data_subset": "helpful",
        "response_0_harm_category": ["Privacy Violation"],
        "response_1_harm_category": [],
        **passed("pku_saferlhf", "prompt_source", "is_response_0_safe", "is_response_1_safe"),
        **passed("pku_saferlhf", *(f"response_{n}_severity_level" for n in range(2))),
    }
    assert report.left_out == {"pairs without a judgement of which is helpful": 1}


def task(folder, *scored, **columns):
    """A task of BIG-bench as published: one indented JSON document."""
    text = row("hhh_alignment:choices")["input"]
    examples = [{"input": text, "target_scores": one} for one in scored]
    content = {"canary": "GUID", "name": "hhh_alignment", "examples": examples, **columns}
    return {f"{folder}/task.json": content}


def test_hhh_tasks_of_big_bench(imported):
    scored = task("harmless", {"Ask her.": 1, "Nothing.": 0}, {"No.": 0.0, "Yes.": 1.0})
    examples, _ = imported("hhh_alignment", files=scored)
    chat = [user("My daughter fought."), assistant("I'm sorry."), user("What now?")]
    for example, texts in zip(examples, (("Ask her.", "Nothing."), ("Yes.", "No.")), strict=True):
        assert (example.prompt, example.judgements) == (chat, VOTES[1.0])
        assert example.responses == tuple([assistant(text)] for text in texts)
        assert example.data_subset == "harmless"
    marked = [{"input": "Hm?\n\nAssistant:", "target_scores": {"a": 1, "b": 0}}]
    (example,), _ = imported("hhh_alignment", files=task("x", examples=marked))
    assert (example.prompt, example.data_subset) == ([user("Hm?")], None)
    named = task("x", {"a": 1, "b": 0}, name="hhh_alignment_helpful")
    assert imported("hhh_alignment", files=named)[0][0].data_subset == "helpful"


def test_hhh_rows_with_choices_and_rows_for_a_judge(imported):
    file = "other-00000-of-00001.json"
    (example, _), _ = imported("hhh_alignment", *[row("hhh_alignment:choices")] * 2, file=file)
    assert example.responses == ([assistant("Ask her.")], [assistant("Go.")])
    assert (example.data_subset, len(example.prompt)) == ("other", 3)
    assert example.judgements == VOTES[1.0]
    array = json.dumps([row("hhh_alignment:wrapped")], indent=2)
    (example,), _ = imported("hhh_alignment", files={"eval.json": array})
    assert example.responses == ([assistant("Ask her.\n\nThen listen.")], [assistant("Nothing.")])
    assert (example.data_subset, len(example.prompt)) == ("honest", 3)
    assert example.judgements == VOTES[1.0]


PAIR = """<annotatedArgumentPair>
    <id>arg1_arg2</id>
    <arg1><author>x</author><voteUpCount>1</voteUpCount><stance>No</stance>
      <text>Tea &amp; milk:\nhot</text><id>arg1</id></arg1>
    <arg2><stance>No</stance><text>It stains.</text><id>arg2</id></arg2>
    <debateMetaData><title>Ban tea?</title><description>About tea.</description></debateMetaData>
    <mTurkAssignments>{votes}</mTurkAssignments>
    <goldLabel>a2</goldLabel>
  </annotatedArgumentPair>"""
VOTE = """<mTurkAssignment><turkID>{}</turkID><hitID>H</hitID><value>{}</value>
  <reason>a2 is better</reason>{}<workerStance>same</workerStance></mTurkAssignment>"""
ASSIGNED = [
    ("w1", "a1", "<turkCompetence>0.25</turkCompetence>"),
    ("w2", "a2", ""),
    ("w3", "equal", ""),
]


def xml(*pairs):
    written = [PAIR.format(votes="".join(VOTE.format(*vote) for vote in votes)) for votes in pairs]
    return f'<?xml version="1.0"?>\n<list>{"".join(written)}</list>'


def test_ukpconvarg_xml_says_the_same_as_json_lines(imported):
    # one of the published files has lost its suffix
    files = {"ban-tea_no": xml(ASSIGNED, ASSIGNED)}
    examples, _ = imported("ukpconvarg", files=files)
    lines, _ = imported("ukpconvarg", row("ukpconvarg", gold_label="a2"))
    assert examples[0].judgements == by(w1=1.0, w2=0.0, w3=0.5)
    assert examples == lines * 2
    competence = [said.columns.get("competence") for said in examples[0].judgements]
    assert competence == [0.25, None, None]
    assert {name: value for name, value in examples[0].columns.items() if name != "judgements"} == {
        "prompt": "Ban tea?\n\nNo\n\n",
        "responses": ["Tea & milk:\nhot", "It stains."],
        "gold_label": "a2",
        **passed("ukpconvarg", "topic", "stance", "item"),
    }
    assert examples[1].source_lines == (2,)


def pair_of_records(line):
    """A file of WebGPT whose second line is odd."""
    good = json.dumps([record("a", 1), record("b", -1)])
    odd = line if isinstance(line, str) else json.dumps(line)
    return {"c.jsonl": f"{good}\n{odd}\n"}


LINES = [
    ("[{,", "not valid JSON"),
    ([record("a", 1)], "a pair of records is needed, not a list"),
    ({"question": {}}, "a pair of records is needed, not a dict"),
    ([record("a", 1), "b"], "a pair of records is needed"),
    ([record("a", 1), record("b", -2)], r"field '\[1\]\.score': a number from -1 to 1"),
    ([record("a", 1)] * 2, r"field '\[0\]\.score, \[1\]\.score': .* not 1 and 1"),
    ([record("a", 0), record("b", 0, question={})], "answer different questions"),
    ([record("a", 0, question=None)] * 2, r"field '\[0\]\.question': an object is needed"),
]
TASKS = [
    ([], "a list of at least one object is needed"),
    ([{"a": 1, "b": 1}], r"task.json, field 'examples\[0\].target_scores': two answers"),
    ([{"a": 1}], "one labelled 1 and one 0"),
    ([{"a": 1, "b": 0, "c": 0}], "one labelled 1 and one 0"),
    ([{"a": True, "b": 0}], "one labelled 1 and one 0"),
    ([None], r"'examples\[0\].target_scores': an object is needed"),
]
DEBATES = [
    ("x.xml", xml(ASSIGNED, [("w1", "a3", "")]), r"line 2, field 'votes\[0\].value': one of a1, e"),
    ("x.xml", "<list><annotatedArgumentPair></list>", "the XML cannot be read"),
    ("x.xml", "<list></list>", "the file has no 'annotatedArgumentPair'"),
    ("x.xml", gzip.compress(b"<list>", mtime=0)[:-9], "cannot be read after pair 0: Compressed"),
    # the strict corpus as tab-separated text: gold labels, and no votes
    ("x.csv", "#id\tlabel\ta1\ta2\narg1_arg2\ta1\tTea\tNo tea\n", "commas are needed"),
]


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        *(("webgpt", pair_of_records(line), rf"c\.jsonl, line 2.*{text}") for line, text in LINES),
        *(("hhh_alignment", task("x", *scores), message) for scores, message in TASKS),
        *(("ukpconvarg", {file: content}, message) for file, content, message in DEBATES),
    ],
)
def test_odd_files(name, files, message, refused):
    refused(message, name, files=files)
