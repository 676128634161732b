import json
from pathlib import Path

import pytest

from hidden_context.data.annotators import annotators_path, read_annotators, write_annotators
from hidden_context.errors import DataError, MissingFileError

ROWS = [
    {"annotator": "r12", "age": "30-39", "score": 0.5, "religion": None},
    {"annotator": 7, "age": "", "score": 2, "religion": "none"},
    {"annotator": "lone"},
]
KNOWN = {
    "r12": {"age": "30-39", "score": 0.5},
    "7": {"score": 2.0, "religion": "none"},
    "lone": {},
}


@pytest.mark.parametrize("name", ["people.jsonl", "people.jsonl.gz", "people.parquet"])
def test_text_is_a_group_and_a_number_a_quantity(write_rows, name):
    rows = [{**row, "annotator": str(row["annotator"])} for row in ROWS]
    for given in (rows, ROWS)[: 1 + ("json" in name)]:  # names in tables are of one type
        assert read_annotators(write_rows(name, given)) == KNOWN


def test_what_is_written_reads_back(tmp_path):
    path = tmp_path / "new" / "people.jsonl"
    assert write_annotators(path, KNOWN) == 3
    assert read_annotators(path) == KNOWN


def test_csv_has_numbers_where_all_cells_of_a_column_are_numbers(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("annotator,age,score,wave\n12,30,0.5,1\n013,60+,,\n14,,-1e2,2\n")
    assert read_annotators(path) == {
        "12": {"age": "30", "score": 0.5, "wave": 1.0},
        "013": {"age": "60+"},
        "14": {"score": -100.0, "wave": 2.0},
    }
    path.write_text("annotator,score\n12,nan\n")
    with pytest.raises(DataError, match="line 1, field 'score': a finite number is needed"):
        read_annotators(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": "30-39"}, "field 'annotator': the row names no annotator"),
        ({"annotator": ""}, "field 'annotator': the row names no annotator"),
        ({"annotator": ["a"]}, "field 'annotator': text or an integer is needed"),
        ({"annotator": "r12"}, "field 'annotator': 'r12' is on line 1 already"),
        ({"annotator": "b", "traits": {"a": 1}}, "field 'traits': text or a number is needed"),
        ({"annotator": "b", "adult": True}, "field 'adult': text or a number is needed"),
        ({"annotator": "b", "score": 1e999}, "field 'score': a finite number is needed"),
        ({"annotator": "b", "score": "x"}, r"field 'score': text .*, a number \(0.5\) on line 1"),
    ],
)
def test_odd_rows(row, message, tmp_path):
    path = tmp_path / "people.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n{json.dumps(row)}\n")
    with pytest.raises(DataError, match="people.jsonl, line 2, " + message):
        read_annotators(path)


def test_odd_files(tmp_path):
    with pytest.raises(MissingFileError):
        read_annotators(tmp_path / "people.jsonl")
    for name in ("people.jsonl", "people.csv"):
        (tmp_path / name).write_text("\n")
        with pytest.raises(DataError, match="the file holds no rows"):
            read_annotators(tmp_path / name)
    (tmp_path / "people.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match="line 1: not valid JSON"):
        read_annotators(tmp_path / "people.jsonl")


def test_where_the_table_lies():
    assert annotators_path("a/votes.jsonl") == Path("a/votes.annotators.jsonl")
    assert annotators_path("votes.v2.csv.gz") == Path("votes.v2.annotators.jsonl")
    assert annotators_path("folder") == Path("folder.annotators.jsonl")
