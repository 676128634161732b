"""MultiPref: two crowdworkers and two experts compare two answers, overall and by three aspects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import Place, describe
from hidden_context.data.collections.published import (
    choice_of,
    entries_of,
    kept,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row

_WORKERS: Final = ("normal", "expert")
_COLUMNS = (*(f"{worker}_worker_annotations" for worker in _WORKERS), "completion_a", "text")
_FILES = "MultiPref-Train.jsonl, or data/train-00000-of-00001.parquet"

ASPECTS: Final = ("overall", "helpful", "truthful", "harmless")
STRENGTHS: Final = {
    "A-is-clearly-better": 2,
    "A-is-slightly-better": 1,
    "Tie": 0,
    "B-is-slightly-better": -1,
    "B-is-clearly-better": -2,
}
CONFIDENCES: Final = {"absolutely-confident": 3, "fairly-confident": 2, "not-confident": 1}
_PASSED = (
    *("prompt_id", "source", "category", "subject_study", "highest_level_degree"),
    *("model_a", "model_b"),
)


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each comparison as one example for each aspect that somebody judged."""
    for path in sort_files(files, {"comparisons": _COLUMNS}, f"Give {_FILES}")["comparisons"]:
        for place, row in rows_of(path):
            said = list(_annotations(row, place))
            if not said:
                left_out["comparisons without annotations"] += 1
            for aspect in ASPECTS if said else ():
                entries = [_entry(*one, aspect, place, left_out) for one in said]
                if all("abstains" in entry for entry in entries):
                    left_out[f"comparisons that nobody judged by {aspect}"] += 1
                    continue
                yield read_row(
                    {
                        "prompt": [{"role": "user", "content": text_of(row, "text", place)}],
                        "responses": [text_of(row, f"completion_{s}", place) for s in "ab"],
                        "judgements": entries,
                        "objective": aspect,
                        "data_subset": aspect,
                        "item": row.get("comparison_id"),
                        **kept(row, *_PASSED),
                    },
                    file=place.file,
                    line=place.line,
                )


def _annotations(
    row: Mapping[str, Any], place: Place
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield each annotation with its name in errors and the kind of worker."""
    for worker in _WORKERS:
        field = f"{worker}_worker_annotations"
        if row.get(field) in (None, []):
            continue
        for prefix, said in entries_of(row, field, place):
            yield prefix, worker, said


def _entry(
    prefix: str, worker: str, said: Mapping[str, Any], aspect: str, place: Place, left_out: LeftOut
) -> dict[str, Any]:
    """Read what somebody says of one aspect; nothing is an abstention."""
    who = person_of(said, "evaluator", place, prefix)
    entry: dict[str, Any] = {"annotator": who, "worker": worker}
    field = f"{aspect}_pref"
    if said.get(field) is None:
        return {**entry, "abstains": True}
    entry["comparison"] = [0, 1]
    entry["strength"] = STRENGTHS[choice_of(said, field, place, tuple(STRENGTHS), prefix)]
    sure = said.get(f"{aspect}_confidence")
    if isinstance(sure, str) and sure in CONFIDENCES:
        entry["confidence"] = CONFIDENCES[sure]
    elif sure is not None:
        left_out[f"confidences of an unknown name ({describe(sure)}), not their votes"] += 1
    return entry


def _read_annotators(files: Sequence[Path]) -> Covariates:
    """Read which annotators are experts; somebody may have worked as both."""
    known: Covariates = {}
    for path in files:
        for place, row in rows_of(path):
            for prefix, worker, said in _annotations(row, place):
                values = known.setdefault(person_of(said, "evaluator", place, prefix), {})
                if values.setdefault("worker", worker) != worker:
                    values["worker"] = "normal and expert"
    return known


SOURCE = Source(
    name="multipref",
    title="MultiPref",
    licence="ODC-BY 1.0",
    citation=(
        "Miranda, Wang, Elazar, Kumar, Pyatkin, Brahman, Smith, Hajishirzi and Dasigi (2024), "
        "Hybrid Preferences: Learning to Route Instances for Human vs. AI Feedback, "
        "arXiv:2410.19133"
    ),
    published="https://huggingface.co/datasets/allenai/multipref",
    files=_FILES,
    holds=("comparisons", "ties", "annotators", "covariates"),
    gives=(
        "pairs of answers compared by two crowdworkers and two experts: better by two levels, or a "
        "tie, with how sure they are (1 to 3); overall, helpful, truthful and harmless have a row "
        "each: choose one with --data_subset overall"
    ),
    read=_read,
    read_annotators=_read_annotators,
)
