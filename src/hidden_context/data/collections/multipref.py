"""MultiPref: two crowdworkers and two experts compare answers overall and by three aspects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from hidden_context.data.annotators import Covariates
from hidden_context.data.checks import describe
from hidden_context.data.collections.source import Examples, Published, Row, Source, user

_WORKERS: Final = ("normal", "expert")
_ASPECTS: Final = ("overall", "helpful", "truthful", "harmless")
_STRENGTHS: Final = {
    "A-is-clearly-better": 2,
    "A-is-slightly-better": 1,
    "Tie": 0,
    "B-is-slightly-better": -1,
    "B-is-clearly-better": -2,
}
_CONFIDENCES: Final = {"absolutely-confident": 3, "fairly-confident": 2, "not-confident": 1}
_PASSED: Final = (
    *("prompt_id", "source", "category", "subject_study", "highest_level_degree"),
    *("model_a", "model_b"),
)


def _read(files: Published) -> Examples:
    """Read each comparison as one example per judged aspect."""
    for row in files.rows("comparisons"):
        annotations = list(_annotations(row))
        if not annotations:
            row.leave_out("comparisons without annotations")
        for aspect in _ASPECTS if annotations else ():
            entries = [_entry(said, worker, aspect) for said, worker in annotations]
            if all("abstains" in entry for entry in entries):
                row.leave_out(f"comparisons without a judgement for {aspect}")
                continue
            yield row.example(
                prompt=user(row.text("text")),
                responses=row.texts("completion_a", "completion_b"),
                judgements=entries,
                criterion=aspect,
                item=row.get("comparison_id"),
                **row.kept(*_PASSED),
            )


def _annotations(row: Row) -> Iterator[tuple[Row, str]]:
    """Yield each annotation with the kind of worker."""
    for worker in _WORKERS:
        for said in row.entries_or_none(f"{worker}_worker_annotations"):
            yield said, worker


def _entry(said: Row, worker: str, aspect: str) -> dict[str, Any]:
    """Read an annotator's preference on one aspect; a missing preference is an abstention."""
    entry: dict[str, Any] = {"annotator": said.annotator("evaluator"), "worker": worker}
    if said.get(f"{aspect}_pref") is None:
        return {**entry, "abstains": True}
    entry["comparison"] = [0, 1]
    entry["strength"] = _STRENGTHS[said.choice(f"{aspect}_pref", _STRENGTHS)]
    sure = said.get(f"{aspect}_confidence")
    if isinstance(sure, str) and sure in _CONFIDENCES:
        entry["confidence"] = _CONFIDENCES[sure]
    elif sure is not None:
        said.leave_out(f"confidences with an unknown name ({describe(sure)}); their votes are kept")
    return entry


def _read_annotators(files: Published) -> Covariates:
    """Read which annotators are experts; an annotator may have worked as both kinds."""
    known: Covariates = {}
    for row in files.rows("comparisons"):
        for said, worker in _annotations(row):
            values = known.setdefault(said.annotator("evaluator"), {})
            if values.setdefault("worker", worker) != worker:
                values["worker"] = "normal and expert"
    return known


SOURCE = Source(
    title="MultiPref",
    licence="ODC-BY 1.0",
    citation=(
        "Miranda, Wang, Elazar, Kumar, Pyatkin, Brahman, Smith, Hajishirzi and Dasigi (2024), "
        "Hybrid Preferences: Learning to Route Instances for Human vs. AI Feedback, "
        "arXiv:2410.19133"
    ),
    published="https://huggingface.co/datasets/allenai/multipref",
    files="MultiPref-Train.jsonl, or data/train-00000-of-00001.parquet",
    columns={
        "comparisons": (*(f"{one}_worker_annotations" for one in _WORKERS), "completion_a", "text")
    },
    holds=("comparisons", "ties", "annotators", "covariates"),
    gives=(
        "pairs of answers compared by two crowdworkers and two experts: better by two levels, or a "
        "tie, with how sure they are (1 to 3); overall, helpful, truthful and harmless have a row "
        "each: choose one with --data_subset overall"
    ),
    examples=_read,
    people=_read_annotators,
)
