from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.collections.collective_alignment import SOURCE
from hidden_context.data.example import Example, Judgement, Ranking
from hidden_context.errors import DataError
from support.published import jsonl_file, people_of
from support.source_files import import_source, parquet_file

LIKELY = "It is \U0001d603\U0001d5f2\U0001d5ff\U0001d606 likely"  # "very" in mathematical bold


def read(files: Sequence[Path]) -> tuple[list[Example], Counter[str]]:
    examples, report = import_source(SOURCE, files)
    return examples, report.left_out


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def said(
    who: Any, world: str | None, personal: str | None = None, **columns: Any
) -> dict[str, Any]:
    """An assessment; its own taste and the unacceptable answers are asked for together."""
    asked = personal is not None
    return {
        "conversation_id": "c1",
        "annotator_id": who,
        "importance": "Somewhat important",
        "representativeness": LIKELY,
        "subjectivity": "There is one answer",
        "ranking_blocks": {
            "unacceptable": [{"rating": ["D is unacceptable"], "rationale": "Rude."}]
            if asked
            else [],
            "personal": [{"ranking": personal, "rationale": "Mine."}] if asked else [],
            "world": [] if world is None else [{"ranking": world, "rationale": "Fair."}],
        },
        **columns,
    }


def row(*assessments: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {
        "prompt_id": "p1",
        "prompt": {
            "id": "x",
            "messages": [message("developer", "Be kind."), message("user", "Tea?")],
        },
        "responses": [
            {"response_index": letter, "messages": [message("assistant", f"answer {letter}")]}
            for letter in "ABCD"
        ],
        "metadata": {"assessments": list(assessments)},
        **columns,
    }


def person(who: str, **columns: Any) -> dict[str, Any]:
    about = {
        "age": "25-34",
        "gender": "Woman",
        "education_level": "Prefer not to say",
        "country_of_residence": "Kenya",
        "generative_ai_usage": "Daily",
        "ideal-model-behavior": "It should be honest.",
        **columns,
    }
    return {"annotator_id": who, "demographics": about, "assessments": []}


def test_rankings_for_the_world_and_for_oneself(tmp_path: Path) -> None:
    rows = [row(said("ann", "A>B=C>D", "D > C = B > A"), said("bob", "A=B=C=D"))]
    (personal, world), left_out = read([jsonl_file(tmp_path / "comparisons.jsonl", rows)])
    assert (personal.objective, personal.data_subset) == ("personal", "personal")
    assert personal.judgements == (Judgement(Ranking((3, 2, 2, 1)), "ann"),)
    assert (world.objective, world.columns["item"]) == ("world", "p1")
    assert world.judgements == (
        Judgement(Ranking((1, 2, 2, 3)), "ann"),
        Judgement(Ranking((1, 1, 1, 1)), "bob"),
    )
    # system messages were renamed for the release
    assert world.prompt == [message("system", "Be kind."), message("user", "Tea?")]
    assert world.responses == tuple([message("assistant", f"answer {x}")] for x in "ABCD")
    assert left_out == {"assessments without a personal ranking": 1}


def test_what_passes_through(tmp_path: Path) -> None:
    rows = [row(said("ann", "A>B>C>D", "B>A>C>D"), said("bob", "A>B>C>D"))]
    (personal, world), _ = read([jsonl_file(tmp_path / "comparisons.jsonl", rows)])
    columns = personal.judgements[0].columns
    assert columns["representativeness"] == "It is very likely"
    assert (columns["importance"], columns["rationale"]) == ("Somewhat important", "Mine.")
    assert columns["unacceptable"] == ["D is unacceptable"]
    assert world.judgements[0].columns["rationale"] == "Fair."
    assert "unacceptable" not in world.judgements[1].columns  # it was not asked


def test_an_answer_that_was_not_ranked_has_no_rank(tmp_path: Path) -> None:
    rows = [row(said("ann", "C>A"), said("bob", " D=B >A "))]
    ((world,), _) = read([jsonl_file(tmp_path / "comparisons.jsonl", rows)])
    assert [judgement.answer for judgement in world.judgements] == [
        Ranking((2, None, 1, None)),
        Ranking((2, 1, None, 1)),
    ]


@pytest.mark.parametrize("ranking", ["", "A", "A>B>B>C", "A>B>E", "A>>B", "none", "A>B C>D"])
def test_what_is_no_order(ranking: str, tmp_path: Path) -> None:
    rows = [row(said("ann", ranking), said("bob", "B>A>C>D"))]
    ((world,), left_out) = read([jsonl_file(tmp_path / "comparisons.jsonl", rows)])
    assert world.judgements == (Judgement(Ranking((2, 1, 3, 4)), "bob"),)
    assert left_out["rankings that are no order of the answers"] == 1


def test_what_nobody_ranked_and_who_ranked_twice(tmp_path: Path) -> None:
    again = row(said("ann", "A>B>C>D"), said("ann", "B>A>C>D"), prompt_id="p2")
    files = [jsonl_file(tmp_path / "comparisons.jsonl", [row(said("ann", None)), again])]
    examples, report = import_source(SOURCE, files)
    assert [example.columns["item"] for example in examples] == ["p2"]
    assert report.repeated == 1
    assert report.left_out == {
        "assessments without a personal ranking": 3,
        "assessments without a world ranking": 1,
        "prompts without a personal ranking": 2,
        "prompts without a world ranking": 1,
    }


def test_who_the_annotators_are(tmp_path: Path) -> None:
    files = [
        jsonl_file(tmp_path / "comparisons.jsonl", [row(said("ann", "A>B>C>D"))]),
        jsonl_file(tmp_path / "annotators.jsonl", [person("ann"), person("bob", age=40)]),
        jsonl_file(tmp_path / "merged.jsonl", [{**person("ann"), "prompt_id": "p1"}] * 2),
    ]
    source_files = [files[0], files[2]]
    _, report = import_source(SOURCE, source_files)
    known = {"age": "25-34", "gender": "Woman", "country_of_residence": "Kenya"}
    assert people_of(report) == {"ann": {**known, "generative_ai_usage": "Daily"}}
    assert SOURCE.read_annotators is not None
    assert SOURCE.read_annotators(files)["bob"]["age"] == 40


def test_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [row(said("ann", "A>B=C>D", "D>C=B>A"), said("bob", "A=B>C>D"))]
    path = parquet_file(tmp_path / "comparisons.parquet", rows)
    assert read([path]) == read([jsonl_file(tmp_path / "comparisons.jsonl", rows)])


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            row(said(None, "A>B")),
            r"line 1, field 'metadata.assessments\[0\].annotator_id': an annotator's name",
        ),
        (
            row(said("ann", "A>B", ranking_blocks=None)),
            r"field 'metadata.assessments\[0\].ranking_blocks': an object is needed, not null",
        ),
        (
            row(said("ann", "A>B", ranking_blocks={"world": [{"ranking": 1}], "personal": []})),
            r"'metadata.assessments\[0\].ranking_blocks.world\[0\].ranking': text is needed",
        ),
        (row(prompt={"messages": []}), "field 'messages': a list of at least one object"),
        (row(prompt="Tea?"), "field 'prompt': an object is needed, not text"),
        (
            row(prompt={"messages": [message("human", "Tea?")]}),
            r"field 'prompt.messages\[0\].role': one of developer, system, user, assistant",
        ),
        (
            row(responses=[{"response_index": "A", "messages": [message("assistant", "a")]}] * 2),
            "field 'responses': two answers have one 'response_index'",
        ),
        (
            row(said("ann", "A>B"), prompt_id=None),
            "field 'prompt_id': text or an integer is needed",
        ),
    ],
)
def test_odd_rows(odd: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read([jsonl_file(tmp_path / "comparisons.jsonl", [odd])])


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    twice = [row(said("ann", "A>B>C>D"))] * 2
    with pytest.raises(DataError, match="line 2, field 'prompt_id': 'p1' stands twice"):
        read([jsonl_file(tmp_path / "comparisons.jsonl", twice)])
    people = jsonl_file(tmp_path / "annotators.jsonl", [person("ann")])
    with pytest.raises(DataError, match="annotators alone hold no prompts"):
        read([people])
    one = jsonl_file(tmp_path / "one.jsonl", twice[:1])
    jsonl_file(people, [person("ann"), person("ann", age="55+")])
    with pytest.raises(DataError, match="line 2, field 'demographics': 'ann' has other demogr"):
        read([one, people])
    jsonl_file(people, [person("ann", gender=["a", "b"])])
    with pytest.raises(DataError, match=r"field 'demographics.gender': text or a number is needed"):
        read([one, people])
