"""PluriHarms: a hundred people rate prompts for harm, and describe themselves."""

from __future__ import annotations

from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.collections.source import Examples, Published, Row, Source

_PROMPTS: Final = ("Question_Index", "Question_Content")
_UNSURE: Final = (None, "", "Unsure", "nan", "NaN")


def _read(files: Published) -> Examples:
    """Read each prompt as a text with a rating or an abstention by each person."""
    _check_files(files)
    people = list(files.rows("people", once="Participant_ID"))
    for row in files.rows("prompts", once="Question_Index"):
        field = f"Rating_{row.text('Question_Index')}"
        features: dict[str, Any] = {n: row.number(n) for n in row if n not in _PROMPTS}
        yield row.example(
            prompt="",
            responses=[row.text("Question_Content")],
            judgements=[_entry(said, field) for said in people],
            objective="harm",
            item=row["Question_Index"],
            **features,
        )


def _entry(said: Row, field: str) -> dict[str, Any]:
    who = {"annotator": said.annotator("Participant_ID")}
    if field not in said:
        raise said.error("the column is missing", field)
    if said[field] in _UNSURE:
        return {**who, "abstains": True}
    return {**who, "response": 0, "rating": said.number(field, 0, 100)}


def _read_annotators(files: Published) -> Covariates:
    """Read people's self-descriptions as groups, and three survey factors as numbers."""
    _check_files(files)
    known: Covariates = {}
    for row in files.rows("people"):
        values = known[row.annotator("Participant_ID")] = {}
        for name, value in row.items():
            if name.startswith("Factor_"):
                values |= row.numbers(name)
            elif not name.startswith(("Participant_", "Rating_", "Trial_")) and value is not None:
                values[name] = str(value).strip()
    return known


def _check_files(files: Published) -> None:
    counts = [len(files.of_kind[kind]) for kind in ("people", "prompts")]
    if counts != [1, 1]:
        problem = "one file with people's ratings and one with prompts are needed"
        raise files.error(f"{problem}, not {counts[0]} and {counts[1]}")


SOURCE = Source(
    title="PluriHarms",
    licence="MIT",
    citation=(
        "Li, Mire, Fleisig, Pyatkin, Collins, Sap and Levine (2026), PluriHarms: Benchmarking the "
        "Full Spectrum of Human Judgments on AI Harm, ICLR"
    ),
    published="https://github.com/guldenakkuss/PluriHarms-release",
    files="data/annotations.csv and data/prompts.csv, one of each",
    columns={"people": ("Participant_ID", "Rating_1"), "prompts": _PROMPTS},
    holds=("ratings", "abstentions", "annotators", "covariates"),
    gives=(
        "150 prompts, each rated for harm from 0 to 100 (the most harmful) by 100 people; unsure "
        "is an abstention; demographics and three psychological factors of each person"
    ),
    examples=_read,
    people=_read_annotators,
)
