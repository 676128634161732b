"""Le-Wi-Di: texts that people label differently, of the shared tasks of 2023 and 2025."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.fields import object_of
from hidden_context.data.collections.lewidi_files import iter_entries, read_people, sort_files
from hidden_context.data.collections.lewidi_labels import (
    TASKS,
    Task,
    read_labels,
    split_names,
    task_of,
)
from hidden_context.data.collections.published import kept, text_of
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.unique_names import loads
from hidden_context.errors import DataError

_FILES: Final = (
    "the JSON files of items, of 2023 (data_post-competition.zip) or 2025 (LeWiDi_3-2025), and "
    "…_annotators_meta.json beside them under their published names"
)
_REMEDY: Final = f"Give {_FILES}"
_PASSED: Final = (
    *("domain", "bot", "conversation_id(s)", "context+speaker", "source", "level"),
    *("language_variety", "explanations"),
)
_SPEAKERS: Final = {"prev_agent": "Agent", "prev_user": "User", "agent": "Agent", "user": "User"}
_NOTHING_SAID: Final = "_"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each text once for each objective that it was labelled for."""
    items, _ = sort_files(files, _REMEDY)
    if not items:
        raise DataError("annotators alone hold no labels", file=files[0], remedy=_REMEDY)
    for path in items:
        for place, item, row in iter_entries(path, _REMEDY):
            task = task_of(row, place)
            prompt, text = _texts(row, task, place)
            info = object_of(row, "other_info", place, needed=False)
            for objective, said in read_labels(row, info, task, place):
                if not said:
                    left_out["texts whose labels for an objective are withheld"] += 1
                    continue
                yield read_row(
                    {
                        "prompt": prompt,
                        "responses": [text],
                        "judgements": [
                            {"annotator": f"{task.name}:{who}", "response": 0, "rating": label}
                            for who, label in said
                        ],
                        "objective": objective,
                        "data_subset": f"{task.name}_{objective}",
                        "item": item,
                        **kept(row, "split", "lang"),
                        **kept(info, *_PASSED),
                    },
                    file=place.file,
                    line=place.line,
                )


def _texts(row: Mapping[str, Any], task: Task, place: Place) -> tuple[str, str]:
    """Return what comes before the labelled text, and that text; they are people's, so no chat."""
    if not task.parts:
        return "", text_of(row, "text", place)
    parts = row.get("text")
    if isinstance(parts, str):  # one data set writes its parts as JSON
        try:
            parts = loads(parts)
        except ValueError as error:
            raise place.error(f"not valid JSON: {error}", "text", _REMEDY) from error
    if not isinstance(parts, Mapping):
        problem = f"an object with {', '.join(task.parts)} is needed, not {describe(parts)}"
        raise place.error(problem, "text", _REMEDY)
    texts = {name: text_of(parts, name, place, "text.") for name in task.parts}
    *before, last = task.parts
    if last != "user":
        return f"{texts[before[0]]}\n\n", texts[last]
    spoken = {name: "" if text == _NOTHING_SAID else text for name, text in texts.items()}
    turns = "".join(f"{_SPEAKERS[name]}: {spoken[name]}\n\n" for name in before if spoken[name])
    return f"{turns}{_SPEAKERS[last]}: ", spoken[last]


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read what tables say of the annotators, and the groups that the items say they are of."""
    items, tables = sort_files(files, _REMEDY)
    known: Covariates = {}
    for path in items:
        for place, _, row in iter_entries(path, _REMEDY):
            task, info = task_of(row, place), object_of(row, "other_info", place, needed=False)
            names = split_names(row, "annotators", place)
            groups = split_names(info, "annotators group", place, "other_info.")
            groups = [str(info.get(group, group)) for group in groups] or [
                text_of(info, who, place, "other_info.") for who in names if who in info
            ]
            if len(groups) not in (0, len(names)):
                problem = f"{len(groups)} groups are given of {len(names)} annotators"
                raise place.error(problem, "other_info", _REMEDY)
            for who, group in zip(names, groups, strict=False):
                known.setdefault(f"{task.name}:{who}", {})["group"] = group
    for path in tables:
        name = path.name.split("_annotators_meta")[0]
        if name not in {task.name for task in TASKS.values()}:
            problem = "the name of the file has to say of which data set the annotators are"
            raise DataError(problem, file=path, remedy=_REMEDY)
        for who, values in read_people(path, _REMEDY).items():
            known.setdefault(f"{name}:{who}", {}).update(values)
    return known


SOURCE = Source(
    name="lewidi",
    title="Learning with Disagreements (Le-Wi-Di), 2023 and 2025",
    licence="not stated; each of its eight data sets has terms of its own",
    citation=(
        "Leonardelli, Abercrombie, Almanea, Basile, Fornaciari, Plank, Rieser, Uma and Poesio "
        "(2023), SemEval-2023 Task 11: Learning with Disagreements (LeWiDi), SemEval; "
        "Leonardelli, Casola, Peng, Rizzi, Basile, Fersini, Frassinelli, Jang, Pavlovic, Plank and "
        "Poesio (2025), LeWiDi-2025 at NLPerspectives: The Third Edition of the Learning with "
        "Disagreements Shared Task, NLPerspectives"
    ),
    published="https://github.com/Le-Wi-Di/le-wi-di.github.io",
    files=_FILES,
    holds=("ratings", "annotators", "covariates"),
    gives=(
        "single texts with the labels of named annotators, as ratings in the units of each data "
        "set: hate speech, misogyny, offensiveness, irony and the three labels of an inference "
        "(each 1 or 0), abuse (-3 to 1, 1 none), sarcasm (1 to 6), paraphrases (-5 to 5); each in "
        "the data_subset DATASET_OBJECTIVE, such as CSC_sarcasm; annotators' names begin with "
        "their data set; their groups, or what they say of themselves"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
