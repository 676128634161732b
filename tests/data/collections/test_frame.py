"""The list of sources, and what every import does: terms, counts, whole files, clear errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hidden_context.cli.main import main
from hidden_context.data.collections import NAMES, find_source
from hidden_context.data.collections.published import choice_of, level_of, rows_of
from hidden_context.data.collections.save import save_source
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import ConfigError, DataError, MissingFileError
from support.published import jsonl_file

KNOWN = {"ann": {"age": 31.0}}


def read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    for path in files:
        for place, row in rows_of(path):
            if row.get("skip"):
                left_out["rows to skip"] += 1
                continue
            entry = {"annotator": row["who"], "comparison": [0, 1]}
            built = {"prompt": "p", "responses": ["a", "b"], "judgements": [entry, entry]}
            yield read_row(built, file=place.file, line=place.line)


def source(known: dict[str, dict[str, str | float]] | None = None) -> Source:
    reader = None if known is None else (lambda _: known)
    facts = {"holds": ("comparisons",), "gives": "votes"}
    return Source(
        "toy", "Toy", "MIT", "Nobody", "nowhere", "any", **facts, read=read, read_annotators=reader
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_source_says_where_it_is_from(name: str) -> None:
    found = find_source(name)
    assert found.name == name
    assert found.published.startswith("https://")
    assert all((found.title, found.licence, found.citation, found.files, found.gives))
    assert any(f"({year})" in found.citation for year in range(2015, 2027))


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_names_each_source(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    (line,) = (row for row in page.splitlines() if row.startswith(f"| `{name}` |"))
    assert find_source(name).licence.split(";")[0].split(" (")[0] in line


def test_an_unknown_source() -> None:
    with pytest.raises(ConfigError, match="'ukp' is no source that is read; choose ukpconvarg, "):
        find_source("ukp")


def test_counts_and_files(tmp_path: Path) -> None:
    rows = [{"who": "ann"}, {"skip": True}, {"who": None}]
    path = jsonl_file(tmp_path / "rows.jsonl", rows)
    output = tmp_path / "new" / "out.jsonl.gz"
    report = save_source(source({"ann": {"age": 31.0}}), [str(path)], output)
    assert str(report).splitlines() == [
        f"{output}: items 2, judgements 4, abstentions 0, annotators 1",
        f"{tmp_path}/new/out.annotators.jsonl: what is known of annotators, 1 described",
        "judged again by the same annotator: 1",
        "left out: 1 rows to skip",
    ]
    assert json.loads((tmp_path / "new/out.annotators.jsonl").read_text()) == {
        "annotator": "ann",
        "age": 31.0,
    }
    # of other people nothing is known: what stood there is of the old ones
    save_source(source(), [path], output)
    assert sorted(p.name for p in output.parent.iterdir()) == ["out.jsonl.gz"]


def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [{"who": "ann"}, {"who": ["b"]}])
    output = tmp_path / "out.jsonl"
    output.write_text("old")
    with pytest.raises(DataError, match=r"rows.jsonl, line 2, field 'judgements\[0\].annotator'"):
        save_source(source(KNOWN), [path], output)
    assert output.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]
    jsonl_file(path, [{"skip": True}])
    with pytest.raises(DataError, match=r"nothing was found to import \(1 rows to skip\)"):
        save_source(source(), [path], output)
    assert output.read_text() == "old"


def test_files_and_outputs_that_cannot_be(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "rows.jsonl", [{"who": "ann"}])
    with pytest.raises(ConfigError, match=r"rows\.jsonl is one of the files to import"):
        save_source(source(), [path], path)
    other = jsonl_file(tmp_path / "out.annotators.jsonl", [{"who": "ann"}])
    with pytest.raises(ConfigError, match=r"out\.annotators\.jsonl is one of the files to import"):
        save_source(source(), [other], tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match=r"out.csv; a name that ends in .jsonl"):
        save_source(source(), [path], tmp_path / "out.csv")
    with pytest.raises(ConfigError, match=r"rows\.jsonl is given twice"):
        save_source(source(), [path, tmp_path / "." / "rows.jsonl"], tmp_path / "out.jsonl")
    with pytest.raises(MissingFileError, match=r"gone\.jsonl does not exist"):
        save_source(source(), [tmp_path / "gone.jsonl"], tmp_path / "out.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="No files are given"):
        save_source(source(), [tmp_path / "empty"], tmp_path / "out.jsonl")


def test_files_of_no_known_kind(tmp_path: Path) -> None:
    empty = tmp_path / "rows.jsonl"
    empty.write_text("")
    with pytest.raises(DataError, match=r"the file holds no rows\. Give preference"):
        save_source(find_source("helpsteer3"), [empty], tmp_path / "out.jsonl")
    wide = jsonl_file(tmp_path / "wide.jsonl", [{f"c{n}": n for n in range(20)}])
    with pytest.raises(DataError, match=r"the file has c0, .*, c11 …\. Give"):
        save_source(find_source("helpsteer3"), [wide], tmp_path / "out.jsonl")


def test_values_as_text_and_as_numbers(tmp_path: Path) -> None:
    place = next(rows_of(jsonl_file(tmp_path / "rows.jsonl", [{}])))[0]
    assert level_of({"n": " -2 "}, "n", place) == level_of({"n": -2.0}, "n", place) == -2
    with pytest.raises(DataError, match=r"field 'x.n': an integer is needed, not 1.5"):
        level_of({"n": "1.5"}, "n", place, prefix="x.")
    with pytest.raises(DataError, match="field 'n': one of a, b is needed, not null"):
        choice_of({}, "n", place, ("a", "b"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = [{"score": -1, "reasoning": "r"}, {"score": 2, "reasoning": "r"}]
    row = {
        "context": [{"role": "user", "content": "Tea?"}],
        "response1": "Yes.",
        "response2": "No.",
        "individual_preference": scores,
    }
    path, output = jsonl_file(tmp_path / "train.jsonl", [row]), tmp_path / "out.jsonl"
    assert main(["data", "import", "helpsteer3", "--output", str(output), str(path)]) == 0
    out = capsys.readouterr().out
    assert "HelpSteer3-Preference. Licence: CC BY 4.0. Published at https://hugging" in out
    assert "Please cite Wang, Zeng" in out
    assert f"{output}: items 1, judgements 2, abstentions 0, annotators not named\n" in out
    assert main(["data", "inspect", str(output)]) == 0
    assert "responses: 2; judgements: 2" in capsys.readouterr().out


def test_the_list_of_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", "--list"]) == 0
    out = capsys.readouterr().out
    for name in NAMES:
        assert f"{name}: {find_source(name).title}\n" in out
    assert "  licence  CC BY 4.0\n" in out


@pytest.mark.parametrize(
    "arguments", [[], ["dices"], ["dices", "f.csv"], ["dices", "--output", "out.jsonl"]]
)
def test_what_the_command_needs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "import", *arguments]) == 2
    assert "A source, its files and --output are needed" in capsys.readouterr().err
