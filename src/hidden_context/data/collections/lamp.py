"""LAMP: writers rank an AI's paragraph, an edit by an AI and an edit by a writer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.collections.source import Examples, Published, Row, Source, user
from hidden_context.data.example import Example

_RANKED: Final = "_rankings"

# By instruction and texts: the first row, its folder, and the rankings of all writers.
_Items: TypeAlias = "dict[tuple[str, ...], tuple[Row, str, list[dict[str, Any]]]]"


def _read(files: Published) -> Examples:
    """Read each instruction with its paragraphs and every writer's ranking."""
    for row in files.rows("items"):
        said = row.entries_or_none("rankings")
        if not said:
            row.leave_out("items without a ranking")
            continue
        for one in said:
            one.annotator("annotator")
            one.listed("ranks", "rank")
        rankings = [one.kept("annotator", "ranks") for one in said]
        yield _example(row, rankings, row.kept("id", "batch"))
    items: _Items = {}
    ranked = {_writer(path): path for path in files.of_kind["ranked"]}
    for path in files.of_kind["shown"]:
        ranks = _read_ranks(ranked.pop(_writer(path), None), path, files)
        for row in files.rows_of(path):
            _add(row, ranks, path, items)
    for path in ranked.values():
        shown = path.name.replace(_RANKED, "")
        raise files.error(f"the paragraphs that were ranked are missing: {shown}", path)
    for row, batch, rankings in items.values():
        yield _example(row, rankings, {**row.kept("id"), "batch": batch})


def _example(row: Row, rankings: list[dict[str, Any]], columns: Mapping[str, Any]) -> Example:
    """Make the example of an item; rank 1 is the best."""
    instruction = row.text("instruction")
    return row.example(
        prompt=user(instruction),
        responses=row.get("responses"),
        judgements=rankings,
        instruction=instruction,
        **columns,
    )


def _add(row: Row, ranks: Mapping[int, dict[str, int]], path: Path, items: _Items) -> None:
    """Add a writer's ranking to its item; each writer saw the paragraphs in a different order."""
    shown = row.listed_texts("responses")
    said = ranks.get(row.level("instruction_id", 0))
    if said is None:
        row.leave_out("paragraphs that a writer did not rank")
    elif sorted(said) != [f"Response {number + 1}" for number in range(len(shown))]:
        problem = f"{len(shown)} responses were shown, but {', '.join(sorted(said))} are ranked"
        raise row.error(problem, "responses")
    elif len(set(shown)) < len(shown):
        row.leave_out("rankings with two identical paragraphs")
    else:
        key = (row.text("instruction"), *sorted(shown))
        first, _, rankings = items.setdefault(key, (row, path.parent.name, []))
        names = [f"Response {shown.index(text) + 1}" for text in first["responses"]]
        rankings.append({"annotator": _writer(path)[1], "ranks": [said[name] for name in names]})


def _read_ranks(path: Path | None, shown: Path, files: Published) -> dict[int, dict[str, int]]:
    """Read the rank of each response by instruction; 1 is the best."""
    if path is None:
        raise files.error(f"its rankings are missing: {shown.stem}{_RANKED}.json", shown)
    ranks: dict[int, dict[str, int]] = {}
    for row in files.rows_of(path):
        names = [name for name in row if re.fullmatch(r"rank_\d+", name) and row[name] is not None]
        choices = [f"Response {number + 1}" for number in range(len(names))]
        said = {row.choice(name, choices): int(name[5:]) for name in names}
        number = row.level("instruction_id", 0)
        if len(said) < len(names):
            raise row.error("a response has two ranks", ", ".join(names))
        if number in ranks:
            raise row.error(f"{number} is ranked twice", "instruction_id")
        ranks[number] = said
    return ranks


def _writer(path: Path) -> tuple[str, str]:
    """Return the folder of a file and the writer, whom only the file name gives."""
    return str(path.parent), path.name.split(".")[0].removesuffix(_RANKED)


SOURCE = Source(
    title="LAMP, preference rankings",
    licence="BSD 3-Clause",
    citation=(
        "Chakrabarty, Laban and Wu (2025), Can AI writing be salvaged? Mitigating Idiosyncrasies "
        "and Improving Human-AI Alignment in the Writing Process through Edits, CHI"
    ),
    published="https://github.com/salesforce/creativity_eval",
    files=(
        "Writing_Alignment/preference_ranking/batch*/WRITER.json with WRITER_rankings.json beside "
        'it; or rows {"instruction": …, "responses": […], "rankings": [{"annotator": …, "ranks": '
        "[…]}]}"
    ),
    columns={
        "items": ("instruction", "responses", "rankings"),
        "shown": ("instruction", "responses", "instruction_id"),
        "ranked": ("instruction_id", "rank_1"),
    },
    holds=("rankings", "annotators"),
    gives=(
        "instructions with three paragraphs each, which three of 13 named writers ranked, 1 the "
        "best; split them by the column instruction"
    ),
    examples=_read,
)
