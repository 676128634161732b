from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections import find_source
from hidden_context.data.collections.save import save_source
from hidden_context.data.example import Comparison, Judgement
from hidden_context.data.importers import read_row
from hidden_context.data.rows import iter_rows, require_row
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file

PAIR = """<annotatedArgumentPair>
    <id>arg1_arg2</id>
    <arg1><author>x</author><voteUpCount>1</voteUpCount><stance>No</stance>
      <text>Tea &amp; milk:\n{first}</text><id>arg1</id>
      <originalHTML>&lt;p&gt;Tea&lt;/p&gt;</originalHTML></arg1>
    <arg2><stance>No</stance><text>It stains.</text><id>arg2</id></arg2>
    <debateMetaData><title>Ban tea?</title><description>About tea.</description></debateMetaData>
    <mTurkAssignments>{votes}</mTurkAssignments>
    {gold}
  </annotatedArgumentPair>"""
VOTE = """<mTurkAssignment><turkID>{who}</turkID><hitID>H</hitID><value>{value}</value>
  <reason>a2 is better</reason>{competence}<workerStance>same</workerStance></mTurkAssignment>"""


def vote(who: str, value: str, competence: str = "") -> str:
    return VOTE.format(who=who, value=value, competence=competence)


def pair(votes: str, gold: str = "", first: str = "hot") -> str:
    return PAIR.format(votes=votes, gold=gold, first=first)


def xml_file(path: Path, *pairs: str) -> Path:
    path.write_text(f'<?xml version="1.0"?>\n<list>{"".join(pairs)}</list>', encoding="utf-8")
    return path


def row(**columns: Any) -> dict[str, Any]:
    return {
        "topic": "Ban tea?",
        "stance": "No",
        "argument1": "Tea & milk:\nhot",
        "argument2": "It stains.",
        "gold_label": None,
        "votes": [{"annotator": "w1", "value": "equal", "competence": 0.25}],
        **columns,
    }


def test_votes_of_the_published_xml(tmp_path: Path) -> None:
    competence = "<turkRank>3</turkRank><turkCompetence>0.272</turkCompetence>"
    votes = vote("A1", "a1", competence) + vote("B2", "a2") + vote("C3", "equal")
    # one of the published files has lost its suffix
    named = xml_file(tmp_path / "ban-tea_no", pair(votes, "<goldLabel>a2</goldLabel>"), pair(votes))
    examples, report = import_files("ukpconvarg", [named])
    first, second = examples
    assert first.prompt == "Ban tea?\n\nNo\n\n"
    assert first.responses == ("Tea & milk:\nhot", "It stains.")
    assert first.judgements == (
        Judgement(Comparison(0, 1, 1.0), "A1"),
        Judgement(Comparison(0, 1, 0.0), "B2"),
        Judgement(Comparison(0, 1, 0.5), "C3"),
    )
    assert first.judgements[0].columns["competence"] == 0.272
    assert first.judgements[1].columns.get("competence") is None
    assert (first.columns["topic"], first.columns["stance"]) == ("Ban tea?", "No")
    assert (first.columns["gold_label"], second.columns["gold_label"]) == ("a2", None)
    assert (first.columns["item"], second.source_lines) == ("arg1_arg2", (2,))
    assert (report.examples, report.judgements, report.abstentions) == (2, 6, 0)
    assert report.annotators == {"A1", "B2", "C3"}
    assert report.table is None


def test_the_same_pairs_as_json_lines_and_xml(tmp_path: Path) -> None:
    lines = jsonl_file(tmp_path / "votes.jsonl", [row()])
    (from_lines,), _ = import_files("ukpconvarg", [lines])
    competence = "<turkCompetence>0.25</turkCompetence>"
    packed = tmp_path / "votes.xml.gz"
    packed.write_bytes(
        gzip.compress(xml_file(tmp_path / "x", pair(vote("w1", "equal", competence))).read_bytes())
    )
    (from_xml,), _ = import_files("ukpconvarg", [packed])
    assert from_lines.judgements == from_xml.judgements
    assert (from_lines.prompt, from_lines.responses) == (from_xml.prompt, from_xml.responses)


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "full-XML"
    folder.mkdir()
    (folder / ".DS_Store").write_bytes(b"\0")
    xml_file(folder / "b.xml", pair(vote("A1", "a1")))
    xml_file(folder / "a.xml", pair(vote("B2", "a1"), first="cold"))
    report = save_source(find_source("ukpconvarg"), [folder], tmp_path / "out.jsonl")
    assert report.annotators == {"A1", "B2"}
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["responses"][0][-4:] for one in rows] == ["cold", "\nhot"]


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (vote("A1", "a3"), r"field 'votes\[0\].value': one of a1, equal, a2 is needed"),
        (vote("A1", "a1") + vote("", "a1"), r"field 'votes\[1\].annotator': an annotator's name"),
        ("", "field 'votes': a list of at least one object is needed"),
    ],
)
def test_odd_votes(votes: str, message: str, tmp_path: Path) -> None:
    path = xml_file(tmp_path / "x.xml", pair(vote("A1", "a1")), pair(votes))
    with pytest.raises(DataError, match="line 2, " + message):
        import_files("ukpconvarg", [path])


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text("<list><annotatedArgumentPair></list>")
    with pytest.raises(DataError, match="the XML cannot be read"):
        import_files("ukpconvarg", [path])
    path.write_text("<list></list>")
    with pytest.raises(DataError, match="the file has no 'annotatedArgumentPair'"):
        import_files("ukpconvarg", [path])
    path.write_bytes(gzip.compress(b"<list>")[:-9])
    with pytest.raises(
        DataError, match="the XML cannot be read after pair 0: Compressed file ended"
    ):
        import_files("ukpconvarg", [path])
    # the strict corpus as tab-separated text: gold labels, and no votes
    table = tmp_path / "strict.csv"
    table.write_text("#id\tlabel\ta1\ta2\narg1_arg2\ta1\tTea\tNo tea\n")
    with pytest.raises(DataError, match="commas are needed"):
        import_files("ukpconvarg", [table])
    lines = jsonl_file(tmp_path / "votes.jsonl", [row(votes=["a1"])])
    with pytest.raises(DataError, match=r"field 'votes\[0\]': an object is needed"):
        import_files("ukpconvarg", [lines])
    lines = jsonl_file(tmp_path / "votes.jsonl", [row(argument2=None)])
    with pytest.raises(DataError, match="field 'argument2': text is needed, not null"):
        import_files("ukpconvarg", [lines])


@pytest.mark.real_data
def test_the_published_votes(real_data: Path, tmp_path: Path) -> None:
    published = real_data / "people" / "ukpconvarg1.jsonl.gz"
    output = tmp_path / "out.jsonl"
    report = save_source(find_source("ukpconvarg"), [published], output)
    examples = [read_row(require_row(row)) for _, row in iter_rows(output)]
    assert len(examples) == 16_927
    assert len(report.annotators) == 3_815
    votes = Counter(len(example.judgements) for example in examples)
    assert votes == {5: 16_927 - 190, 4: 190}
    answers = [[said.answer.preference for said in e.judgements] for e in examples]  # type: ignore[union-attr]
    assert sum(given.count(0.5) for given in answers) == 19_105
    assert sum(len(set(given)) > 1 for given in answers) == 13_598
    assert len({example.columns["topic"] for example in examples}) == 16
    assert len({example.prompt_key for example in examples}) == 32
