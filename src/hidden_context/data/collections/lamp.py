"""LAMP: writers rank an AI's paragraph, an AI's edit of it and a writer's edit of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from hidden_context.data.checks import Place, describe, read_list
from hidden_context.data.collections.published import (
    choice_of,
    entries_of,
    kept,
    level_of,
    person_of,
    rows_of,
    sort_files,
    text_of,
)
from hidden_context.data.collections.source import LeftOut, Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.errors import DataError

_KINDS = {
    "items": ("instruction", "responses", "rankings"),
    "shown": ("instruction", "responses", "instruction_id"),
    "ranked": ("instruction_id", "rank_1"),
}
_FILES = (
    "Writing_Alignment/preference_ranking/batch*/WRITER.json with WRITER_rankings.json beside it; "
    'or rows {"instruction": …, "responses": […], "rankings": [{"annotator": …, "ranks": […]}]}'
)
_RANKED: Final = "_rankings"

_Item: TypeAlias = "dict[str, Any]"
_Key: TypeAlias = "tuple[str, ...]"


def _read(files: Sequence[Path], left_out: LeftOut) -> Iterator[Example]:
    """Read each instruction with the paragraphs that answer it, and every writer's ranking."""
    found = sort_files(files, _KINDS, f"Give {_FILES}")
    for path in found["items"]:
        for place, row in rows_of(path):
            if row.get("rankings") in (None, []):
                left_out["items that nobody ranked"] += 1
                continue
            yield _example(row, place)
    items: dict[_Key, _Item] = {}
    places: dict[_Key, Place] = {}
    ranked = {_writer(path): path for path in found["ranked"]}
    for path in found["shown"]:
        ranks = _read_ranks(ranked.pop(_writer(path), None), path)
        for place, row in rows_of(path):
            _add(row, ranks, path, place, items, places, left_out)
    for path in ranked.values():
        problem = f"the paragraphs that were ranked are missing: {path.name.replace(_RANKED, '')}"
        raise DataError(problem, file=path, remedy=f"Give {_FILES}")
    for key, item in items.items():
        yield _example(item, places[key])


def _add(
    row: _Item,
    ranks: Mapping[int, dict[str, int]],
    path: Path,
    place: Place,
    items: dict[_Key, _Item],
    places: dict[_Key, Place],
    left_out: LeftOut,
) -> None:
    """Add a writer's ranking to its item; each writer saw the paragraphs in another order."""
    shown = read_list(row.get("responses"), "responses", place, f"Give {_FILES}", "response")
    for number, text in enumerate(shown):
        if not isinstance(text, str):
            problem = f"text is needed, not {describe(text)}"
            raise place.error(problem, f"responses[{number}]", f"Give {_FILES}")
    said = ranks.get(level_of(row, "instruction_id", place, 0))
    if said is None:
        left_out["paragraphs that a writer saw and did not rank"] += 1
        return
    if sorted(said) != [f"Response {number + 1}" for number in range(len(shown))]:
        problem = f"{len(shown)} responses were shown, but {', '.join(sorted(said))} are ranked"
        raise place.error(problem, "responses", f"Give {_FILES}")
    if len(set(shown)) < len(shown):
        left_out["rankings of paragraphs of which two are the same"] += 1
        return
    key = (text_of(row, "instruction", place), *sorted(shown))
    if key not in items:
        places[key] = place
        items[key] = {**row, "batch": path.parent.name, "rankings": []}
    names = [f"Response {shown.index(text) + 1}" for text in items[key]["responses"]]
    entry = {"annotator": _writer(path)[1], "ranks": [said[name] for name in names]}
    items[key]["rankings"].append(entry)


def _read_ranks(path: Path | None, shown: Path) -> dict[int, dict[str, int]]:
    """Read for each instruction the rank of each response, 1 the best."""
    if path is None:
        problem = f"its rankings are missing: {shown.stem}{_RANKED}.json"
        raise DataError(problem, file=shown, remedy=f"Give {_FILES}")
    ranks: dict[int, dict[str, int]] = {}
    for place, row in rows_of(path):
        names = [name for name in row if re.fullmatch(r"rank_\d+", name) and row[name] is not None]
        choices = [f"Response {number + 1}" for number in range(len(names))]
        said = {choice_of(row, name, place, choices): int(name[5:]) for name in names}
        number = level_of(row, "instruction_id", place, 0)
        if len(said) < len(names):
            raise place.error("a response has two ranks", ", ".join(names), f"Give {_FILES}")
        if number in ranks:
            raise place.error(f"{number} is ranked twice", "instruction_id", f"Give {_FILES}")
        ranks[number] = said
    return ranks


def _writer(path: Path) -> tuple[str, str]:
    """Return the folder of a file, and the writer, whom its name alone tells."""
    return str(path.parent), path.name.split(".")[0].removesuffix(_RANKED)


def _example(item: _Item, place: Place) -> Example:
    """Make the example of an item, whose rankings are 1 for the best."""
    instruction = text_of(item, "instruction", place)
    rankings = list(entries_of(item, "rankings", place))
    for prefix, said in rankings:
        person_of(said, "annotator", place, prefix)
        read_list(said.get("ranks"), f"{prefix}ranks", place, f"Give {_FILES}", "rank")
    return read_row(
        {
            "prompt": [{"role": "user", "content": instruction}],
            "responses": item.get("responses"),
            "judgements": [kept(said, "annotator", "ranks") for _, said in rankings],
            "instruction": instruction,
            **kept(item, "id", "batch"),
        },
        file=place.file,
        line=place.line,
    )


SOURCE = Source(
    name="lamp",
    title="LAMP, preference rankings",
    licence="BSD 3-Clause",
    citation=(
        "Chakrabarty, Laban and Wu (2025), Can AI writing be salvaged? Mitigating Idiosyncrasies "
        "and Improving Human-AI Alignment in the Writing Process through Edits, CHI"
    ),
    published="https://github.com/salesforce/creativity_eval",
    files=_FILES,
    holds=("rankings", "annotators"),
    gives=(
        "instructions with three paragraphs each, which three of 13 named writers ranked, 1 the "
        "best; to be split by the column instruction"
    ),
    read=_read,
)
