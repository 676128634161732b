"""Le-Wi-Di: eight data sets of single texts, labelled by people who disagree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.lewidi import SOURCE
from hidden_context.data.example import Example, Judgement, Rating
from hidden_context.errors import DataError
from support.published import jsonl_file, people_of
from support.source_files import import_source, parquet_file


def item(task: str, text: Any, annotators: str, annotations: Any, **columns: Any) -> dict[str, Any]:
    return {
        "annotation task": task,
        "text": text,
        "annotators": annotators,
        "number of annotations": len(annotators.split(",")),
        "annotations": annotations,
        "soft_label": {"0": 0.5, "1": 0.5},
        "split": "dev",
        "lang": "en",
        "other_info": {},
        **columns,
    }


def brexit(annotations: Any = "0,1", **columns: Any) -> dict[str, Any]:
    info = {
        "other annotations": {
            "aggressive language detection": "0,0",
            "offensive language detection": "1,0",
        },
        "annotators group": "group1,group2",
        "group1": "target group",
        "group2": "control group",
    }
    row = item("hate speech detection", "Rain again. #weather", "Ann1,Ann4", annotations)
    return {**row, "hard_label": "0", "other_info": info, **columns}


def sarcasm(**labels: Any) -> dict[str, Any]:
    text = {"context": "Steve spills the tea.", "response": "Well done."}
    names = ",".join(labels)
    info = {"context+speaker": "232_2089"}
    return item("sarcasm detection", text, names, labels, other_info=info)


def inference(**labels: str) -> dict[str, Any]:
    text = {"context": "He made tea.", "statement": "He drank tea."}
    names = ",".join(name for name in labels for _ in labels[name].split(","))
    info = {"explanations": ["It is not said."]}
    return item("natural language inference", text, names, labels, other_info=info)


def document(path: Path, *items: Any) -> Path:
    """Write items as published: one object, indented, by their names."""
    path.parent.mkdir(exist_ok=True)
    named = {str(number): one for number, one in enumerate(items, start=11)}
    path.write_text(json.dumps(named, indent=4), encoding="utf-8")
    return path


def import_items(path: Path, *items: Any) -> Any:
    return import_source(SOURCE, [document(path / "HS-Brexit_dev.json", *items)])


def ratings(example: Example) -> dict[str, float]:
    """The labels of an example by its annotators."""
    answers = {str(said.annotator): said.answer for said in example.judgements}
    assert all(isinstance(said, Rating) and said.response == 0 for said in answers.values())
    return {who: said.value for who, said in answers.items() if isinstance(said, Rating)}


def test_labels_are_paired_with_annotators_in_their_order(tmp_path: Path) -> None:
    examples, report = import_items(tmp_path, brexit())
    assert [(example.objective, ratings(example)) for example in examples] == [
        ("hate_speech", {"HS-Brexit:Ann1": 0.0, "HS-Brexit:Ann4": 1.0}),
        ("aggressive_language", {"HS-Brexit:Ann1": 0.0, "HS-Brexit:Ann4": 0.0}),
        ("offensive_language", {"HS-Brexit:Ann1": 1.0, "HS-Brexit:Ann4": 0.0}),
    ]
    hate = examples[0]
    assert hate.judgements[1] == Judgement(Rating(0, 1.0), "HS-Brexit:Ann4")
    assert (hate.prompt, hate.responses) == ("", ("Rain again. #weather",))
    assert hate.data_subset == "HS-Brexit_hate_speech"
    assert (hate.columns["item"], hate.columns["split"], hate.columns["lang"]) == (
        *("11", "dev", "en"),
    )
    assert (report.examples, report.judgements, report.left_out) == (3, 6, {})
    assert people_of(report) == {
        "HS-Brexit:Ann1": {"group": "target group"},
        "HS-Brexit:Ann4": {"group": "control group"},
    }


@pytest.mark.parametrize("nothing", ["", None, float("nan")])
def test_labels_that_are_withheld_are_no_labels(nothing: Any, tmp_path: Path) -> None:
    masked = brexit(nothing, soft_label={"0": float("nan"), "1": float("nan")})
    examples, report = import_items(tmp_path, masked)
    assert [example.objective for example in examples] == [
        "aggressive_language",
        "offensive_language",
    ]
    assert report.left_out == {"texts whose labels for an objective are withheld": 1}


def test_labels_by_name_that_are_withheld(tmp_path: Path) -> None:
    rows = [sarcasm(Ann3="", Ann4=""), inference(Ann1=""), sarcasm(Ann3="2", Ann4=None)]
    (example,), report = import_items(tmp_path, *rows)
    assert ratings(example) == {"CSC:Ann3": 2.0}
    assert report.left_out == {"texts whose labels for an objective are withheld": 4}


def test_a_text_with_its_context(tmp_path: Path) -> None:
    (example,), _ = import_items(tmp_path, sarcasm(Ann844="6", Ann845="1"))
    assert example.prompt == "Steve spills the tea.\n\n"
    assert example.responses == ("Well done.",)
    assert ratings(example) == {"CSC:Ann844": 6.0, "CSC:Ann845": 1.0}
    assert (example.objective, example.data_subset) == ("sarcasm", "CSC_sarcasm")
    assert example.columns["context+speaker"] == "232_2089"


def test_each_word_of_an_inference_is_right_or_not(tmp_path: Path) -> None:
    row = inference(Ann1="neutral", Ann2="entailment,neutral", Ann3="contradiction")
    assert row["annotators"] == "Ann1,Ann2,Ann2,Ann3"
    examples, _ = import_items(tmp_path, row)
    found = {example.objective: ratings(example) for example in examples}
    names = [f"VariErrNLI:Ann{number}" for number in (1, 2, 3)]
    assert found == {
        "entailment": dict(zip(names, (0.0, 1.0, 0.0), strict=True)),
        "neutral": dict(zip(names, (1.0, 1.0, 0.0), strict=True)),
        "contradiction": dict(zip(names, (0.0, 0.0, 1.0), strict=True)),
    }
    assert examples[0].prompt == "He made tea.\n\n"
    assert examples[0].responses == ("He drank tea.",)
    assert examples[0].columns["explanations"] == ["It is not said."]


def test_the_share_of_a_word_is_the_published_soft_label(tmp_path: Path) -> None:
    both = "entailment,neutral"
    rows = [
        inference(Ann1="neutral", Ann2=both, Ann3="neutral", Ann4="entailment"),
        inference(Ann1="neutral", Ann3=both, Ann4="neutral"),
    ]
    examples, _ = import_items(tmp_path, *rows)
    shares = [sum(ratings(one).values()) / len(one.judgements) for one in examples]
    # entailment, neutral, contradiction, as the data set gives them for labels like these
    assert shares == pytest.approx([0.5, 0.75, 0.0, 1 / 3, 1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("before", "prompt"),
    [
        (("Hi.", "tea?", "No."), "Agent: Hi.\n\nUser: tea?\n\nAgent: No.\n\nUser: "),
        (("_", "tea?", "No."), "User: tea?\n\nAgent: No.\n\nUser: "),
        (("_", "_", "_"), "User: "),
    ],
)
def test_what_a_user_says_to_a_bot(before: tuple[str, ...], prompt: str, tmp_path: Path) -> None:
    names = ("prev_agent", "prev_user", "agent", "user")
    text = json.dumps(dict(zip(names, (*before, "shut up"), strict=True)))
    info = {"bot": "Bot", "other_annotations": {"sexist": "0,0,1", "target.system": "1,0,1"}}
    row = item("abusivness detection", text, "Ann2,Ann3,Ann8", "-3,1,0", other_info=info)
    examples, _ = import_items(tmp_path, row)
    abuse, sexist, target = examples
    assert (abuse.prompt, abuse.responses) == (prompt, ("shut up",))
    assert abuse.objective == "not_abusive"
    assert list(ratings(abuse).values()) == [-3.0, 1.0, 0.0]
    assert list(ratings(sexist)) == [f"ConvAbuse:Ann{number}" for number in (2, 3, 8)]
    assert (sexist.data_subset, list(ratings(sexist).values())) == (
        *("ConvAbuse_sexist", [0.0, 0.0, 1.0]),
    )
    assert (target.objective, target.columns["bot"]) == ("target.system", "Bot")


def test_the_other_data_sets_and_that_their_people_are_others(tmp_path: Path) -> None:
    groups = {"Ann1": "Moderate_Female", "Ann2": "Liberal_Female"}
    rows = [
        item(
            "misogyny and sexism detection in Arabic tweets",
            "نص",
            "Ann1,Ann2",
            "1,0",
            lang="ar",
            other_info=groups,
        ),
        item("offensiveness detection", "Hm.", "Ann1,Ann1", "0,1", other_info={"domain": "BLM"}),
        item("irony detection", {"post": "p", "reply": "r"}, "Ann1", {"Ann1": "1"}),
        item(
            "paraphrase detection",
            {"Question1": "Tea?", "Question2": "Is it tea?"},
            "Ann1,Ann2",
            {"Ann1": "-5", "Ann2": "4"},
        ),
    ]
    examples, report = import_items(tmp_path, *rows)
    assert [(example.data_subset, len(example.judgements)) for example in examples] == [
        ("ArMIS_misogyny", 2),
        ("MD-Agreement_offensiveness", 2),
        ("MP_irony", 1),
        ("Paraphrase_paraphrase", 2),
    ]
    assert ratings(examples[3]) == {"Paraphrase:Ann1": -5.0, "Paraphrase:Ann2": 4.0}
    assert examples[1].columns["domain"] == "BLM"
    assert report.repeated == 1
    assert len(report.annotators) == 6
    assert people_of(report) == {
        "ArMIS:Ann1": {"group": "Moderate_Female"},
        "ArMIS:Ann2": {"group": "Liberal_Female"},
    }


def test_tables_of_annotators(tmp_path: Path) -> None:
    items = document(tmp_path / "CSC_train.json", sarcasm(Ann0="1", Ann1="2", Ann2="3"))
    csc = tmp_path / "CSC_annotators_meta.json"
    unknown = {"Gender": "DATA_EXPIRED", "Age": "DATA_EXPIRED"}
    people = {"Ann0": {"Gender": "Female", "Age": "56"}, "Ann1": unknown}
    csc.write_text(json.dumps({**people, "Ann2": {"Gender": "nan", "Age": "nan"}}))
    irony = tmp_path / "MP_annotators_meta.json"
    irony.write_text(
        '{"0": {"Age": 19.0, "Gender": "Male", "Country of birth": "Iraq"}, "1": {"Age": NaN}}'
    )
    comma = tmp_path / "VariErrNLI_annotators_meta.json"
    comma.write_text('{\n "Ann1": {\n  "Age": "22",\n  "Education": "postdoc",\n },\n}\n')
    _, report = import_source(SOURCE, [csc, items, irony, comma])
    assert people_of(report) == {
        "CSC:Ann0": {"gender": "Female", "age": 56.0},
        "CSC:Ann1": {},
        "CSC:Ann2": {},
        "MP:Ann0": {"age": 19.0, "gender": "Male", "country_of_birth": "Iraq"},
        "MP:Ann1": {},
        "VariErrNLI:Ann1": {"age": 22.0, "education": "postdoc"},
    }


def test_rows_and_parquet_say_the_same(tmp_path: Path) -> None:
    rows = [sarcasm(Ann844="6", Ann845="1"), sarcasm(Ann1="2")]
    published, _ = import_items(tmp_path, *rows)
    named = [{"id": str(number), **row} for number, row in enumerate(rows, start=11)]
    lines, _ = import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", named)])
    table, _ = import_source(SOURCE, [parquet_file(tmp_path / "rows.parquet", named)])
    packed = tmp_path / "CSC_dev.json.gz"
    packed.write_bytes(gzip.compress((tmp_path / "HS-Brexit_dev.json").read_bytes()))
    assert published == lines == table == import_source(SOURCE, [packed])[0]
    assert [list(ratings(example)) for example in table] == [
        ["CSC:Ann844", "CSC:Ann845"],
        ["CSC:Ann1"],
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (brexit("0,1,0"), "field 'annotations': 3 labels are given by 2 annotators"),
        (brexit("0,2"), "field 'annotations': a number from 0 to 1 is needed, not 2"),
        (brexit("0,yes"), "field 'annotations': a finite number is needed"),
        (brexit(3), "field 'annotations': text is needed, not a number"),
        (brexit(text=None), "field 'text': text is needed, not null"),
        (brexit(other_info="x"), "field 'other_info': an object is needed"),
        (
            brexit(other_info={"other annotations": {"offensive": "1"}}),
            r"field 'other_info\.other annotations\.offensive': 1 labels are given by 2",
        ),
        (brexit(other_info={"annotators group": "a"}), "field 'other_info': 1 groups are given"),
        (sarcasm(Ann1="0"), r"field 'annotations\.Ann1': a number from 1 to 6 is needed, not 0"),
        (sarcasm(Ann1="2.5"), r"field 'annotations\.Ann1': an integer is needed, not 2.5"),
        (inference(Ann1="neutral,no"), r"field 'annotations\.Ann1': one of entailment, neutral"),
        (item("irony detection", {"post": "p"}, "Ann1", {}), r"field 'text\.reply': text is"),
        (item("irony detection", "{,", "Ann1", {}), "field 'text': not valid JSON"),
        (item("irony detection", 3, "Ann1", {}), "field 'text': an object with post, reply"),
        (item("humour", "x", "Ann1", "1"), "field 'annotation task': the task is missing or unk"),
    ],
)
def test_odd_items(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"HS-Brexit_dev\.json, line 2, " + message):
        import_items(tmp_path, brexit(), row)


def test_odd_files(tmp_path: Path) -> None:
    people = tmp_path / "CSC_annotators_meta.json"
    people.write_text('{"Ann0": {"Gender": "Female", "Age": "56"}}')
    with pytest.raises(DataError, match="annotators alone hold no labels"):
        import_source(SOURCE, [people])
    items = document(tmp_path / "CSC_train.json", sarcasm(Ann0="1"))
    renamed = people.rename(tmp_path / "people.json")
    with pytest.raises(DataError, match=r"people\.json: the name of the file has to say of which"):
        import_source(SOURCE, [items, renamed])
    renamed.write_text('{"Ann0": {"Age": "old"}}')
    named = renamed.rename(tmp_path / "CSC_annotators_meta.json")
    with pytest.raises(DataError, match=r"field 'Ann0\.Age': a finite number is needed"):
        import_source(SOURCE, [items, named])
    named.write_text('{"Ann0": {"Age": "30", "Gender": 4}}')
    with pytest.raises(DataError, match=r"field 'Ann0\.Gender': text is needed, not a number"):
        import_source(SOURCE, [items, named])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "the file holds no rows"),
        ('{"1": {', "not valid JSON"),
        ('"items"', "an object is needed, not text"),
        ('{"1": 3}', "line 1, field '1': an object is needed, not a number"),
        ('{"1": {"prompt": "a"}}', "the columns annotation task, annotators, annotations are"),
    ],
)
def test_files_that_are_none_of_it(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "CSC_dev.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"CSC_dev\.json.*" + message):
        import_source(SOURCE, [path])
    with pytest.raises(DataError, match=r"rows\.jsonl: the columns annotation task, .* are needed"):
        import_source(SOURCE, [jsonl_file(tmp_path / "rows.jsonl", [{"prompt": "a"}])])


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "CSC_dev.json.gz"
    packed = gzip.compress(json.dumps({"1": sarcasm(Ann1="2")}).encode())
    path.write_bytes(packed[:-9])
    with pytest.raises(DataError, match=r"CSC_dev\.json\.gz: the gzip file is damaged"):
        import_source(SOURCE, [path])
