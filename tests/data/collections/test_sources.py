"""The list of sources, and what every import does: terms, counts, whole files, clear errors."""

import json
from pathlib import Path
from typing import get_args

import pytest

from hidden_context.cli.main import main
from hidden_context.data.checks import Place
from hidden_context.data.collections import NAMES, find_source, save_source
from hidden_context.data.collections.source import Kind, Published, Row, Source
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.published import ROWS


def read(files):
    for path in files.paths:
        for row in files.rows_of(path):
            if row.get("skip"):
                row.leave_out("rows to skip")
                continue
            entry = {"annotator": row["who"], "comparison": [0, 1]}
            yield row.example(prompt="p", responses=["a", "b"], judgements=[entry, entry])


def source(known=None):
    facts = {"holds": ("comparisons",), "gives": "votes", "examples": read}
    people = None if known is None else (lambda _: known)
    return Source("Toy", "MIT", "Nobody", "nowhere", "any", **facts, people=people)


@pytest.mark.parametrize("name", NAMES)
def test_each_source_says_what_it_is_and_the_documentation_names_it(name):
    found = find_source(name)
    assert found.name == name
    assert found.published.startswith("https://")
    assert all((found.title, found.files, found.gives))
    assert any(f"({year})" in found.citation for year in range(2015, 2027))
    assert ("covariates" in found.holds) == (found.people is not None)
    assert {"comparisons", "rankings", "ratings"} & set(found.holds)
    assert set(found.holds) <= set(get_args(Kind))
    page = Path(__file__).parents[3] / "docs" / "guides" / "data.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    (line,) = (row for row in lines if row.startswith(f"| `{name}` |"))
    assert found.licence.split(";")[0].split(" (")[0] in line


def test_an_unknown_source():
    with pytest.raises(ConfigError, match="'ukp' is not a known source; choose chatbot_arena, "):
        find_source("ukp")


def test_counts_and_files(write_rows, tmp_path):
    path = write_rows("rows.jsonl", [{"who": "ann"}, {"skip": True}, {"who": None}])
    output = tmp_path / "new" / "out.jsonl.gz"
    report = save_source(source({"ann": {"age": 31.0}}), [str(path)], output)
    assert str(report).splitlines() == [
        f"{output}: items 2, judgements 4, abstentions 0, annotators 1",
        f"{tmp_path}/new/out.annotators.jsonl: what is known of annotators, 1 described",
        "repeated judgements by the same annotator: 1",
        "left out: rows to skip (1)",
    ]
    table = json.loads((tmp_path / "new/out.annotators.jsonl").read_text())
    assert table == {"annotator": "ann", "age": 31.0}
    # nothing is known of other people: the table was of the old ones
    save_source(source(), [path], output)
    assert [p.name for p in output.parent.iterdir()] == ["out.jsonl.gz"]


def test_a_folder_stands_for_its_files(written, tmp_path):
    files = {"in/b.jsonl": [{"who": "ann"}], "in/a.jsonl": [{"who": "bob"}], "in/.DS_Store": b"0"}
    written(files)
    report = save_source(source(), [tmp_path / "in"], tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(one)["judgements"][0]["annotator"] for one in lines] == ["bob", "ann"]
    assert report.annotators == {"ann", "bob"}


def test_an_error_leaves_what_stood_there(write_rows, tmp_path):
    path = write_rows("rows.jsonl", [{"who": "ann"}, {"who": ["b"]}])
    output = tmp_path / "out.jsonl"
    output.write_text("old")
    with pytest.raises(DataError, match=r"rows.jsonl, line 2, field 'judgements\[0\].annotator'"):
        save_source(source({"ann": {"age": 31.0}}), [path], output)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]
    write_rows("rows.jsonl", [{"skip": True}])
    with pytest.raises(
        DataError, match=r"nothing was found to import; left out: rows to skip \(1\)"
    ):
        save_source(source(), [path], output)
    assert output.read_text() == "old"


@pytest.mark.parametrize(
    ("files", "output", "error", "message"),
    [
        (["rows.jsonl"], "rows.jsonl", ConfigError, r"rows\.jsonl is one of the files to import"),
        (["out.annotators.jsonl"], "out.jsonl", ConfigError, r"annotators\.jsonl is one of the"),
        (["rows.jsonl"], "out.csv", ConfigError, r"out.csv; a name that ends in .jsonl"),
        (["rows.jsonl", "./rows.jsonl"], "out.jsonl", ConfigError, r"rows\.jsonl is given twice"),
        (["gone.jsonl"], "out.jsonl", MissingFileError, r"gone\.jsonl does not exist"),
        (["empty"], "out.jsonl", ConfigError, "No files are given"),
    ],
)
def test_files_and_outputs_that_cannot_be(files, output, error, message, write_rows, tmp_path):
    for name in ("rows.jsonl", "out.annotators.jsonl"):
        write_rows(name, [{"who": "ann"}])
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        save_source(source(), [f"{tmp_path}/{name}" for name in files], tmp_path / output)


def test_files_of_no_known_kind(refused):
    refused(r"the file holds no rows\. Give pref", "helpsteer3", files={"empty.jsonl": ""})
    refused(r"the file has c0, .*, c11 …\. Give", "helpsteer3", {f"c{n}": n for n in range(20)})


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        *(("level", value, -2) for value in (" -2 ", -2.0)),
        *(("identifier", *pair) for pair in (("a7", "a7"), (12, "12"), (12.0, "12"), (0, "0"))),
        *(("truth", value, True) for value in (True, "True")),
        *(("truth", value, False) for value in (False, "FALSE")),
    ],
)
def test_values_of_tables(read, value, result):
    assert getattr(Row({"field": value}, Place(), Published()), read)("field") == result


@pytest.mark.parametrize(
    ("read", "values", "problem"),
    [
        ("text", [None, 3, ["a"], {}], "text is needed, not "),
        ("object", [None, "a", [{}]], "an object is needed, not "),
        ("listed_texts", [[]], "a list of at least one text is needed, not an empty list"),
        ("level", ["1.5", 1.5], "an integer is needed, not a number"),
        ("number", [None], "a number is needed, not null"),
        ("number", ["high", True, [3]], "a finite number is needed, not "),
        ("identifier", [None, "", 1.5, True, ["a"]], "text or an integer that identifies the row"),
        ("truth", [None, "", "yes", 1, 0.0], "true or false is needed, not "),
    ],
)
def test_odd_values_of_tables(read, values, problem):
    for value in values:
        row = Row({"field": value}, Place("rows.csv", 3), Published(), "x.")
        with pytest.raises(DataError, match=rf"rows.csv, line 3, field 'x\.field': {problem}"):
            getattr(row, read)("field")


def test_the_command(write_rows, tmp_path, capsys):
    path, output = write_rows("train.jsonl", [ROWS["helpsteer3"]]), tmp_path / "out.jsonl"
    assert main(["data", "import", "helpsteer3", "--output", str(output), str(path)]) == 0
    out = capsys.readouterr().out
    assert "HelpSteer3-Preference. Licence: CC BY 4.0. Published at https://hugging" in out
    assert "Please cite Wang, Zeng" in out
    assert f"{output}: items 1, judgements 3, abstentions 0, annotators not named\n" in out
    assert main(["data", "inspect", str(output)]) == 0
    assert "responses: 2; judgements: 3" in capsys.readouterr().out
    assert main(["data", "import", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: {find_source(name).title}\n" in out for name in NAMES)
    assert "  licence  CC BY 4.0\n" in out


@pytest.mark.parametrize(
    "arguments", [[], ["dices"], ["dices", "f.csv"], ["dices", "--output", "out.jsonl"]]
)
def test_what_the_command_needs(arguments, capsys):
    assert main(["data", "import", *arguments]) == 2
    assert "A source, its files and --output are needed" in capsys.readouterr().err
