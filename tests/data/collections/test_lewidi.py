"""Le-Wi-Di: eight data sets of single texts, labelled by people who disagree."""

import gzip
import json

import pytest

from support.published import people_of, row


def item(task, text, annotators, annotations, **columns):
    told = {"text": text, "annotators": annotators, "annotations": annotations}
    return row("lewidi", **{"annotation task": task, **told, "other_info": {}, **columns})


def sarcasm(**labels):
    return row("lewidi:sarcasm", annotators=",".join(labels), annotations=labels)


def inference(**labels):
    names = ",".join(name for name in labels for _ in labels[name].split(","))
    return row("lewidi:inference", annotators=names, annotations=labels)


def document(*items):
    """Items as published: one object, by their names."""
    return {str(number): one for number, one in enumerate(items, start=11)}


@pytest.fixture
def items(imported):
    """Imports items in a file as published."""
    return lambda *rows: imported("lewidi", files={"HS-Brexit_dev.json": document(*rows)})


def ratings(example):
    """The labels of an example by its annotators."""
    assert all(said.answer.response == 0 for said in example.judgements)
    return {said.annotator: said.answer.value for said in example.judgements}


WITHHELD = "texts whose labels for an objective are withheld"


def test_labels_are_paired_with_annotators_in_their_order(items):
    examples, report = items(row("lewidi"))
    assert [(example.objective, ratings(example)) for example in examples] == [
        ("hate_speech", {"HS-Brexit:Ann1": 0.0, "HS-Brexit:Ann4": 1.0}),
        ("aggressive_language", {"HS-Brexit:Ann1": 0.0, "HS-Brexit:Ann4": 0.0}),
    ]
    assert {name: v for name, v in examples[0].columns.items() if name != "judgements"} == {
        "prompt": "",
        "responses": ["Rain again. #weather"],
        "objective": "hate_speech",
        "data_subset": "HS-Brexit_hate_speech",
        "item": "11",
        "split": "dev",
        "lang": "en",
    }
    assert people_of(report) == {
        "HS-Brexit:Ann1": {"group": "target group"},
        "HS-Brexit:Ann4": {"group": "control group"},
    }


def test_labels_that_are_withheld_are_no_labels(items):
    masked = [row("lewidi", annotations=nothing) for nothing in ("", None, float("nan"))]
    named = [sarcasm(Ann3="", Ann4=""), inference(Ann1=""), sarcasm(Ann3="2", Ann4=None)]
    examples, report = items(*masked, *named)
    assert [example.objective for example in examples] == ["aggressive_language"] * 3 + ["sarcasm"]
    assert ratings(examples[3]) == {"CSC:Ann3": 2.0}
    assert report.left_out == {WITHHELD: 3 + 4}


def test_a_text_with_its_context(items):
    (example,), _ = items(sarcasm(Ann844="6", Ann845="1"))
    assert (example.prompt, example.responses) == ("Steve spills the tea.\n\n", ("Well done.",))
    assert ratings(example) == {"CSC:Ann844": 6.0, "CSC:Ann845": 1.0}
    assert example.data_subset == "CSC_sarcasm"
    assert example.columns["context+speaker"] == "232_2089"


def test_each_word_of_an_inference_is_right_or_not(items):
    both = "entailment,neutral"
    rows = [
        inference(Ann1="neutral", Ann2=both, Ann3="contradiction"),
        inference(Ann1="neutral", Ann2=both, Ann3="neutral", Ann4="entailment"),
        inference(Ann1="neutral", Ann3=both, Ann4="neutral"),
    ]
    assert rows[0]["annotators"] == "Ann1,Ann2,Ann2,Ann3"
    examples, _ = items(*rows)
    names = [f"VariErrNLI:Ann{number}" for number in (1, 2, 3)]
    assert {example.objective: ratings(example) for example in examples[:3]} == {
        "entailment": dict(zip(names, (0.0, 1.0, 0.0), strict=True)),
        "neutral": dict(zip(names, (1.0, 1.0, 0.0), strict=True)),
        "contradiction": dict(zip(names, (0.0, 0.0, 1.0), strict=True)),
    }
    # the share of a word is the soft label that the data set gives for labels like these
    shares = [sum(ratings(one).values()) / len(one.judgements) for one in examples[3:]]
    assert shares == pytest.approx([0.5, 0.75, 0.0, 1 / 3, 1.0, 0.0], abs=1e-12)
    assert (examples[0].prompt, examples[0].responses) == ("He made tea.\n\n", ("He drank tea.",))
    assert examples[0].columns["explanations"] == ["It is not said."]


@pytest.mark.parametrize(
    ("before", "prompt"),
    [
        (("Hi.", "tea?", "No."), "Agent: Hi.\n\nUser: tea?\n\nAgent: No.\n\nUser: "),
        (("_", "tea?", "No."), "User: tea?\n\nAgent: No.\n\nUser: "),
        (("_", "_", "_"), "User: "),
    ],
)
def test_what_a_user_says_to_a_bot(before, prompt, items):
    names = ("prev_agent", "prev_user", "agent", "user")
    text = json.dumps(dict(zip(names, (*before, "shut up"), strict=True)))
    info = {"bot": "Bot", "other_annotations": {"sexist": "0,0,1", "target.system": "1,0,1"}}
    people = "Ann2,Ann3,Ann8"
    examples, _ = items(item("abusivness detection", text, people, "-3,1,0", other_info=info))
    assert (examples[0].prompt, examples[0].responses) == (prompt, ("shut up",))
    who = [f"ConvAbuse:{name}" for name in people.split(",")]
    assert [(one.data_subset, one.objective, ratings(one)) for one in examples] == [
        (f"ConvAbuse_{objective}", objective, dict(zip(who, labels, strict=True)))
        for objective, labels in (
            *(("not_abusive", (-3.0, 1.0, 0.0)), ("sexist", (0.0, 0.0, 1.0))),
            ("target.system", (1.0, 0.0, 1.0)),
        )
    ]
    assert examples[2].columns["bot"] == "Bot"


def test_the_other_data_sets_and_that_their_people_are_others(items):
    groups = {"Ann1": "Moderate_Female", "Ann2": "Liberal_Female"}
    questions = {"Question1": "Tea?", "Question2": "Is it tea?"}
    arabic, blm = "misogyny and sexism detection in Arabic tweets", {"domain": "BLM"}
    examples, report = items(
        item(arabic, "نص", "Ann1,Ann2", "1,0", other_info=groups),
        item("offensiveness detection", "Hm.", "Ann1,Ann1", "0,1", other_info=blm),
        item("irony detection", {"post": "p", "reply": "r"}, "Ann1", {"Ann1": "1"}),
        item("paraphrase detection", questions, "Ann1,Ann2", {"Ann1": "-5", "Ann2": "4"}),
    )
    assert [(example.data_subset, ratings(example)) for example in examples] == [
        ("ArMIS_misogyny", {"ArMIS:Ann1": 1.0, "ArMIS:Ann2": 0.0}),
        ("MD-Agreement_offensiveness", {"MD-Agreement:Ann1": 1.0}),  # labelled twice
        ("MP_irony", {"MP:Ann1": 1.0}),
        ("Paraphrase_paraphrase", {"Paraphrase:Ann1": -5.0, "Paraphrase:Ann2": 4.0}),
    ]
    assert examples[1].columns["domain"] == "BLM"
    assert (report.repeated, len(report.annotators)) == (1, 6)
    assert people_of(report) == {f"ArMIS:{who}": {"group": group} for who, group in groups.items()}


def test_tables_of_annotators(imported, refused):
    unknown = {"Gender": "DATA_EXPIRED", "Age": "DATA_EXPIRED"}
    people = {"Ann0": {"Gender": "Female", "Age": "56"}, "Ann1": unknown}
    tables = {
        "CSC": json.dumps({**people, "Ann2": {"Gender": "nan", "Age": "nan"}}),
        "MP": '{"0": {"Age": 19.0, "Country of birth": "Iraq"}, "1": {"Age": NaN}}',
        # a comma after the last entries, as two of the published files have it
        "VariErrNLI": '{\n "Ann1": {\n  "Age": "22",\n  "Education": "postdoc",\n },\n}\n',
    }
    files = {f"{name}_annotators_meta.json": text for name, text in tables.items()}
    refused("the files hold annotators but no labels", "lewidi", files=files)
    files["CSC_train.json"] = document(sarcasm(Ann0="1", Ann1="2", Ann2="3"))
    _, report = imported("lewidi", files=files)
    assert people_of(report) == {
        "CSC:Ann0": {"gender": "Female", "age": 56.0},
        "CSC:Ann1": {},
        "CSC:Ann2": {},
        "MP:Ann0": {"age": 19.0, "country_of_birth": "Iraq"},
        "MP:Ann1": {},
        "VariErrNLI:Ann1": {"age": 22.0, "education": "postdoc"},
    }


def test_rows_and_parquet_say_the_same(items, imported, refused):
    rows = [sarcasm(Ann844="6", Ann845="1"), sarcasm(Ann1="2")]
    published, _ = items(*rows)
    named = [{**one, "id": str(number)} for number, one in enumerate(rows, start=11)]
    packed = gzip.compress(json.dumps(document(*rows)).encode())
    for files in ({"a.jsonl": named}, {"a.parquet": named}, {"CSC_dev.json.gz": packed}):
        assert imported("lewidi", files=files)[0] == published
    damaged = {"CSC_dev.json.gz": packed[:-9]}
    refused(r"CSC_dev\.json\.gz: the gzip file is damaged", "lewidi", files=damaged)


META = "CSC_annotators_meta.json"
ANN1 = r"field '1\.annotations\.Ann1'"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("people.json", '{"A": {"Age": "5"}}', "the name of the file has to begin with the data"),
        (META, '{"A": {"Age": "old"}}', r"field 'A\.Age': a finite number is needed"),
        (META, '{"A": {"Age": 30, "Gender": 4}}', r"'A\.Gender': text is needed, not a number"),
        ("CSC_dev.json", {"1": sarcasm(Ann1="0")}, rf"1, {ANN1}: an integer from 1 to 6 is needed"),
        ("CSC_dev.json", {"1": inference(Ann1="neutral,no")}, f"1, {ANN1}: one of entailment"),
        ("CSC_dev.json", "{}", "the file holds no rows"),
        ("CSC_dev.json", '{"1": {', "not valid JSON"),
        ("CSC_dev.json", '"items"', "an object is needed, not text"),
        ("CSC_dev.json", '{"1": 3}', "line 1, field '1': an object is needed, not a number"),
        ("CSC_dev.json", '{"1": {"a": "b"}}', "the columns annotation task, annotators, annotat"),
    ],
)
def test_odd_files(name, text, message, refused):
    files = {"items.json": document(sarcasm(A="1")), name: text}
    refused(rf"{name}.*{message}", "lewidi", files=files)
