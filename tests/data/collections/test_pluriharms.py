from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Abstention, Judgement, Rating
from hidden_context.errors import DataError
from support.published import csv_file, import_files, people_of


def person(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "Participant_ID": number,
        "Sexual_Orientation": " Straight (heterosexual)",
        "Age": "25-34 years old",
        "Rating_1": "100",
        "Rating_2": "0.0",
        "Factor_1": "-1.5",
        "Trial_1": 86,
        "Trial_2": 1,
        **columns,
    }


PROMPTS = [
    # the order of the rows says nothing: Rating_N is of the prompt whose Question_Index is N
    {"Question_Index": 2, "Question_Content": "Hide it, then.", "Harm_Level": "0.25"},
    {"Question_Index": 1, "Question_Content": 'How, "exactly",\ndoes one?', "Harm_Level": "1"},
]


def files(folder: Path, people: list[dict[str, Any]]) -> list[Path]:
    return [csv_file(folder / "prompts.csv", PROMPTS), csv_file(folder / "annotations.csv", people)]


def test_ratings_by_number_with_unsure_as_abstention(tmp_path: Path) -> None:
    people = [person(0), person(1, Rating_1="", Rating_2="33.0"), person(7, Rating_2="Unsure")]
    examples, report = import_files("pluriharms", files(tmp_path, people))
    second, first = examples
    assert second.responses == ("Hide it, then.",)
    assert first.responses == ('How, "exactly",\ndoes one?',)
    assert second.prompt == ""
    assert second.judgements == (
        Judgement(Rating(0, 0.0), "0"),
        Judgement(Rating(0, 33.0), "1"),
        Judgement(Abstention(), "7"),
    )
    assert first.judgements == (
        Judgement(Rating(0, 100.0), "0"),
        Judgement(Abstention(), "1"),
        Judgement(Rating(0, 100.0), "7"),
    )
    assert first.columns["Harm_Level"] == 1.0
    assert (first.columns["item"], first.objective) == ("1", "harm")
    assert (report.judgements, report.abstentions, len(report.annotators)) == (4, 2, 3)


def test_what_people_say_of_themselves(tmp_path: Path) -> None:
    people = [person(0), person(1, Age="", Factor_1="2")]
    _, report = import_files("pluriharms", files(tmp_path, people))
    assert people_of(report) == {
        "0": {
            "Sexual_Orientation": "Straight (heterosexual)",
            "Age": "25-34 years old",
            "Factor_1": -1.5,
        },
        "1": {"Sexual_Orientation": "Straight (heterosexual)", "Factor_1": 2.0},
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Rating_1": "101"}, r"annotations.csv, line 1, field 'Rating_1': a number from 0 to 100"),
        ({"Rating_1": "high"}, r"field 'Rating_1': a finite number is needed, not text \('high'\)"),
        ({"Participant_ID": ""}, r"field 'Participant_ID': an annotator's name is needed"),
        ({"Factor_1": "x"}, r"field 'Factor_1': a finite number is needed"),
    ],
)
def test_odd_values(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("pluriharms", files(tmp_path, [person(0, **changed)]))


def test_numbers_that_stand_twice(tmp_path: Path) -> None:
    prompts, people = files(tmp_path, [person(0), person(0, Rating_1="3")])
    with pytest.raises(DataError, match="line 2, field 'Participant_ID': 0 stands on an earlier"):
        import_files("pluriharms", [prompts, people])
    csv_file(people, [person(0)])
    csv_file(prompts, [PROMPTS[0], {**PROMPTS[1], "Question_Index": 2}])
    with pytest.raises(DataError, match="line 2, field 'Question_Index': 2 stands on an earlier"):
        import_files("pluriharms", [prompts, people])


def test_both_files_are_needed(tmp_path: Path) -> None:
    prompts, people = files(tmp_path, [person(0)])
    with pytest.raises(DataError, match="not 0 and 1"):
        import_files("pluriharms", [prompts])
    short = {name: value for name, value in person(0).items() if name != "Rating_2"}
    with pytest.raises(DataError, match="field 'Rating_2': the column is missing"):
        import_files("pluriharms", [prompts, csv_file(people, [short])])
    other = csv_file(tmp_path / "other.csv", [{"a": 1, "b": 2}])
    with pytest.raises(DataError, match="the file has a, b"):
        import_files("pluriharms", [prompts, other])


@pytest.mark.real_data
def test_the_published_files(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "people"
    found = sorted(folder.glob("pluriharms_*.csv.gz"))
    copies = [tmp_path / path.name for path in found]
    for path, copy in zip(found, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    examples, report = import_files("pluriharms", copies)
    assert len(examples) == 150
    assert len(report.annotators) == report.described == 100
    assert report.judgements + report.abstentions == 150 * 100
    assert report.abstentions == 275
    people = people_of(report)
    assert all(isinstance(values["Factor_3"], float) for values in people.values())
    assert len({values["Age"] for values in people.values()}) == 6
