"""Le-Wi-Di: texts that people label differently, from the shared tasks of 2023 and 2025."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.source import Examples, Published, Row, Source
from hidden_context.data.storage.files import GZIP_ERRORS, loads, open_binary, read_json
from hidden_context.data.storage.rows import data_suffix, holds_array
from hidden_context.errors import DataError

_OF_PEOPLE: Final = ("Age", "Gender")
_UNKNOWN: Final = (None, "", "nan", "DATA_EXPIRED", "CONSENT_REVOKED")
_PASSED: Final = (
    *("domain", "bot", "conversation_id(s)", "context+speaker", "source", "level"),
    *("language_variety", "explanations"),
)
_SPEAKERS: Final = {"prev_agent": "Agent", "prev_user": "User", "agent": "Agent", "user": "User"}
_NOTHING_SAID: Final = "_"
_TRAILING_COMMA: Final = re.compile(rb",(\s*[}\]])")

# Annotators' names and labels for one objective, in order; a name may occur twice.
_Said: TypeAlias = "list[tuple[str, float]]"


@dataclass(frozen=True, slots=True)
class _Task:
    """The labelling task of one of the data sets.

    Attributes:
        name: The data set.
        objective: The meaning of a high label; empty if a label is a word of ``_LABELS``.
        low: The lowest label.
        high: The highest label.
        parts: The parts of its texts; the last part was labelled. None for a plain text.
    """

    name: str
    objective: str
    low: int
    high: int
    parts: tuple[str, ...] = ()


_TASKS: Final = {
    "hate speech detection": _Task("HS-Brexit", "hate_speech", 0, 1),
    "misogyny and sexism detection in Arabic tweets": _Task("ArMIS", "misogyny", 0, 1),
    "abusivness detection": _Task(  # as it is spelt there
        "ConvAbuse", "not_abusive", -3, 1, tuple(_SPEAKERS)
    ),
    "offensiveness detection": _Task("MD-Agreement", "offensiveness", 0, 1),
    "sarcasm detection": _Task("CSC", "sarcasm", 1, 6, ("context", "response")),
    "irony detection": _Task("MP", "irony", 0, 1, ("post", "reply")),
    "paraphrase detection": _Task("Paraphrase", "paraphrase", -5, 5, ("Question1", "Question2")),
    "natural language inference": _Task("VariErrNLI", "", 0, 1, ("context", "statement")),
}
_LABELS: Final = ("entailment", "neutral", "contradiction")
"""The words of an inference, each of which an annotator finds right or not."""


def _read(files: Published) -> Examples:
    """Read each text once for each labelled objective."""
    if not files.of_kind["items"]:
        raise files.error("the files hold annotators but no labels", files.paths[0])
    for row in files.rows("items"):
        task, info = _task_of(row), row.object_or_empty("other_info")
        prompt, text = _texts(row, task)
        for objective, said in _labels(row, info, task):
            if not said:
                row.leave_out("texts whose labels for an objective are withheld")
                continue
            yield row.example(
                prompt=prompt,
                responses=[text],
                judgements=[
                    {"annotator": f"{task.name}:{who}", "response": 0, "rating": label}
                    for who, label in said
                ],
                objective=objective,
                data_subset=f"{task.name}_{objective}",
                item=row.get("id"),
                **row.kept("split", "lang"),
                **info.kept(*_PASSED),
            )


def _task_of(row: Row) -> _Task:
    return _TASKS[row.choice("annotation task", _TASKS)]


def _texts(row: Row, task: _Task) -> tuple[str, str]:
    """Return the preceding text and the labelled text, both by people and so not a chat."""
    if not task.parts:
        return "", row.text("text")
    if isinstance(row.get("text"), str):  # one data set writes its parts as JSON
        row = row.with_values({"text": row.json("text", "an object")})
    *before, last = row.object("text").texts(*task.parts)
    if task.parts[-1] != "user":
        return f"{before[0]}\n\n", last
    turns = [
        f"{_SPEAKERS[name]}: {text}\n\n"
        for name, text in zip(task.parts, before, strict=False)
        if text not in ("", _NOTHING_SAID)
    ]
    return "".join([*turns, "User: "]), "" if last == _NOTHING_SAID else last


def _labels(row: Row, info: Row, task: _Task) -> Iterator[tuple[str, _Said]]:
    """Yield each objective with the annotators' labels, which a test set may withhold.

    ``other_info`` may hold further labels by the same annotators.
    """
    names = _parts_of(row, "annotators")
    if not task.objective:
        said = row.object_or_empty("annotations")
        words = {who: _parts_of(said, who) for who in said}
        for who, chosen in words.items():
            for label in chosen:
                said.with_values({who: label}).choice(who, _LABELS)
        for label in _LABELS:
            yield label, [(who, float(label in chosen)) for who, chosen in words.items() if chosen]
    elif isinstance(row["annotations"], Mapping):
        said = row.object("annotations")
        given = [who for who, label in said.items() if label not in (None, "")]
        yield task.objective, [(who, float(said.level(who, task.low, task.high))) for who in given]
    else:
        yield task.objective, _paired(names, row, "annotations", task.low, task.high)
    for field in ("other annotations", "other_annotations"):
        others = info.object_or_empty(field)
        for name in others:
            objective = name.removesuffix(" detection").replace(" ", "_")
            yield objective, _paired(names, others, name, 0, 1)


def _paired(names: Sequence[str], row: Row, field: str, low: int, high: int) -> _Said:
    """Pair the labels of a comma-separated text with the annotators in order."""
    labels = _parts_of(row, field)
    if labels and len(labels) != len(names):
        problem = f"labels: {len(labels)}, annotators: {len(names)}; one by each is needed"
        raise row.error(problem, field)
    return [
        (who, float(row.with_values({field: label}).level(field, low, high)))
        for who, label in zip(names, labels, strict=bool(labels))
    ]


def _parts_of(row: Row, field: str) -> list[str]:
    """Return the parts of a comma-separated text; no parts if it is null, NaN or empty."""
    value = row.get(field)
    if value is None or value != value:  # NaN, where a test set withholds it
        return []
    return [part.strip() for part in row.text(field).split(",") if part.strip()]


def _read_annotators(files: Published) -> Covariates:
    """Read the tables of annotators and the groups that the items name."""
    known: Covariates = {}
    for row in files.rows("items"):
        info, names = row.object_or_empty("other_info"), _parts_of(row, "annotators")
        groups = [str(info.get(one, one)) for one in _parts_of(info, "annotators group")]
        groups = groups or [info.text(who) for who in names if who in info]
        if len(groups) not in (0, len(names)):
            problem = f"groups: {len(groups)}, annotators: {len(names)}; one of each is needed"
            raise row.error(problem, "other_info")
        for who, group in zip(names, groups, strict=False):
            known.setdefault(f"{_task_of(row).name}:{who}", {})["group"] = group
    for path in files.of_kind["people"]:
        name = path.name.split("_annotators_meta")[0]
        if name not in {task.name for task in _TASKS.values()}:
            problem = "the name of the file has to begin with the data set of the annotators"
            raise files.error(problem, path)
        for row in files.rows_of(path):
            # One data set uses a bare number as a name.
            who = f"Ann{row['id']}" if row["id"].isdigit() else row["id"]
            known.setdefault(f"{name}:{who}", {}).update(_described(row))
    return known


def _described(row: Row) -> dict[str, str | float]:
    """Read an annotator's self-description, with age as a number."""
    values: dict[str, str | float] = {}
    for field, value in row.items():
        if field != "id" and value not in _UNKNOWN and value == value:
            name = field.lower().replace(" ", "_")
            values[name] = row.number(field, 0, 150) if field == "Age" else row.text(field)
    return values


class _Files(Published):
    """Files of items and tables of annotators, whose rows have their name in the column ``id``."""

    def kind_of(self, path: Path) -> str:
        """Return whether a file is a table of annotators (a JSON object) or a file of items."""
        first: Mapping[str, Any] = next(self.rows_of(path), {})
        is_told = "annotations" not in first and any(name in first for name in _OF_PEOPLE)
        return "people" if is_told and _is_document(path) else super().kind_of(path)

    def rows_of(self, path: Path) -> Iterator[Row]:
        """Yield the entries of a JSON object as published, or the rows of any other format."""
        if not _is_document(path):
            yield from super().rows_of(path)
            return
        document = _read_document(path)
        if not isinstance(document, dict):
            raise self.error(f"an object is needed, not {describe(document)}", path)
        for number, (name, entry) in enumerate(document.items(), start=1):
            inner = Row({name: entry}, Place(path, number), self).object(name)
            yield inner.with_values({**inner, "id": name})


def _is_document(path: Path) -> bool:
    return data_suffix(path) in (".json", ".json.gz") and not holds_array(path)


def _read_document(path: Path) -> Any:
    """Read a JSON document; two published files have a comma after their last entries."""
    try:
        return read_json(path)
    except DataError:
        with contextlib.suppress(ValueError, *GZIP_ERRORS), open_binary(path) as file:
            return loads(_TRAILING_COMMA.sub(rb"\1", file.read()))
        raise


SOURCE = Source(
    title="Learning with Disagreements (Le-Wi-Di), 2023 and 2025",
    licence="not stated; each of its eight data sets has its own terms",
    citation=(
        "Leonardelli, Abercrombie, Almanea, Basile, Fornaciari, Plank, Rieser, Uma and Poesio "
        "(2023), SemEval-2023 Task 11: Learning with Disagreements (LeWiDi), SemEval; "
        "Leonardelli, Casola, Peng, Rizzi, Basile, Fersini, Frassinelli, Jang, Pavlovic, Plank and "
        "Poesio (2025), LeWiDi-2025 at NLPerspectives: The Third Edition of the Learning with "
        "Disagreements Shared Task, NLPerspectives"
    ),
    published="https://github.com/Le-Wi-Di/le-wi-di.github.io",
    files=(
        "the JSON files of items, of 2023 (data_post-competition.zip) or 2025 (LeWiDi_3-2025), and "
        "…_annotators_meta.json beside them under their published names"
    ),
    columns={"items": ("annotation task", "annotators", "annotations")},
    holds=("ratings", "annotators", "covariates"),
    gives=(
        "single texts with the labels of named annotators, as ratings in the units of each data "
        "set: hate speech, misogyny, offensiveness, irony and the three labels of an inference "
        "(each 1 or 0), abuse (-3 to 1, 1 none), sarcasm (1 to 6), paraphrases (-5 to 5); each in "
        "the data_subset DATASET_OBJECTIVE, such as CSC_sarcasm; annotators' names begin with "
        "their data set; their groups, or how they describe themselves"
    ),
    examples=_read,
    people=_read_annotators,
    reader=_Files,
)
