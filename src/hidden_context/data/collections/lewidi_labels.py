"""Le-Wi-Di's labels: what each task asked for, and what each annotator said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.fields import object_of
from hidden_context.data.collections.published import choice_of, level_of, text_of

_REMEDY: Final = "Give the file as it is published"
_OTHERS: Final = ("other annotations", "other_annotations")

# For each objective the labels by the annotators' names, in order; a name may stand twice.
Said: TypeAlias = "list[tuple[str, float]]"


@dataclass(frozen=True, slots=True)
class Task:
    """What one of the data sets was labelled for.

    Attributes:
        name: The data set.
        objective: What a high label says; empty where a label is a word of ``LABELS``.
        low: The lowest label.
        high: The highest.
        parts: The parts of its texts, the last of which was labelled; none for a text as it is.
    """

    name: str
    objective: str
    low: int
    high: int
    parts: tuple[str, ...] = ()


TASKS: Final = {
    "hate speech detection": Task("HS-Brexit", "hate_speech", 0, 1),
    "misogyny and sexism detection in Arabic tweets": Task("ArMIS", "misogyny", 0, 1),
    "abusivness detection": Task(  # as it is spelt there
        "ConvAbuse", "not_abusive", -3, 1, ("prev_agent", "prev_user", "agent", "user")
    ),
    "offensiveness detection": Task("MD-Agreement", "offensiveness", 0, 1),
    "sarcasm detection": Task("CSC", "sarcasm", 1, 6, ("context", "response")),
    "irony detection": Task("MP", "irony", 0, 1, ("post", "reply")),
    "paraphrase detection": Task("Paraphrase", "paraphrase", -5, 5, ("Question1", "Question2")),
    "natural language inference": Task("VariErrNLI", "", 0, 1, ("context", "statement")),
}
LABELS: Final = ("entailment", "neutral", "contradiction")
"""The words of an inference, each of which an annotator finds right or not."""


def task_of(row: Mapping[str, Any], place: Place) -> Task:
    """Return the task of an item.

    Raises:
        DataError: If it is missing or unknown.
    """
    name = row.get("annotation task")
    if not isinstance(name, str) or name not in TASKS:
        problem = f"the task is missing or unknown ({describe(name)}), not one of {list(TASKS)}"
        raise place.error(problem, "annotation task", _REMEDY)
    return TASKS[name]


def read_labels(
    row: Mapping[str, Any], info: Mapping[str, Any], task: Task, place: Place
) -> Iterator[tuple[str, Said]]:
    """Yield what the annotators of an item said of each objective.

    Args:
        row: The item.
        info: Its ``other_info``, which may hold what else the same annotators said.
        task: What it was labelled for.
        place: Where it stands, for errors.

    Yields:
        The objective, and the labels for it; none where a test set withholds them.

    Raises:
        DataError: If a label is none of the task, or there is not one for each annotator.
    """
    names = split_names(row, "annotators", place)
    said = row.get("annotations")
    if not task.objective:
        words = _words(object_of(row, "annotations", place, needed=False), place)
        for label in LABELS:
            yield label, [(who, float(label in chosen)) for who, chosen in words]
    elif isinstance(said, Mapping):
        given = {who: label for who, label in said.items() if label not in (None, "")}
        bounds = (place, task.low, task.high, "annotations.")
        yield task.objective, [(who, float(level_of(given, who, *bounds))) for who in given]
    else:
        yield task.objective, _paired(names, row, "annotations", task.low, task.high, place)
    for field in _OTHERS:
        others = object_of(info, field, place, "other_info.", needed=False)
        for name in others:
            objective = name.removesuffix(" detection").replace(" ", "_")
            yield objective, _paired(names, others, name, 0, 1, place, f"other_info.{field}.")


def _paired(
    names: Sequence[str],
    row: Mapping[str, Any],
    field: str,
    low: int,
    high: int,
    place: Place,
    prefix: str = "",
) -> Said:
    """Pair the labels of a comma-separated text with the annotators, in their order."""
    labels = split_names(row, field, place, prefix)
    if labels and len(labels) != len(names):
        problem = f"{len(labels)} labels are given by {len(names)} annotators"
        raise place.error(problem, prefix + field, _REMEDY)
    return [
        (who, float(level_of({field: label}, field, place, low, high, prefix)))
        for who, label in zip(names, labels, strict=bool(labels))
    ]


def _words(said: Mapping[str, Any], place: Place) -> list[tuple[str, list[str]]]:
    """Return the labels that each annotator finds right, one or several."""
    words = []
    for who in said:
        chosen = split_names(said, who, place, "annotations.")
        for label in chosen:
            choice_of({who: label}, who, place, LABELS, "annotations.")
        if chosen:
            words.append((who, chosen))
    return words


def split_names(row: Mapping[str, Any], field: str, place: Place, prefix: str = "") -> list[str]:
    """Return the parts of a comma-separated text; none where it is null, empty or not a number.

    Raises:
        DataError: If it is something else.
    """
    value = row.get(field)
    if value is None or value != value:  # NaN, where a test set withholds it
        return []
    return [part.strip() for part in text_of(row, field, place, prefix).split(",") if part.strip()]
