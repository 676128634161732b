"""One set of examples, written in every format, reads as the same examples."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.rows import drop_nulls
from hidden_context.data.sources import load_examples

Row = dict[str, Any]

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
WORDS = st.builds("x{}".format, TEXTS | st.sampled_from(["\r\n", '",\r', "\n\n", "{'role': 1}"]))
SIDES = ("chosen", "rejected")
LISTS = ("annotations", "meta")  # CSV has none


@st.composite
def _said(draw: st.DrawFn) -> Row:
    """What somebody says of a pair, in one or several ways that agree; or nothing."""
    sign = draw(st.sampled_from([-1, 0, 1]))
    said = {
        "preference": (1 + sign) / 2,
        "strength": 2 * sign,
        "margin": sign * 0.25,
        "rating_chosen": 3.0 + sign,
        "rating_rejected": 3.0,
        "weight": 0.5,
        "annotator": draw(WORDS),
    }
    return {key: said[key] for key in said if draw(st.booleans())}


@st.composite
def _message(draw: st.DrawFn, role: str) -> Row:
    message: Row = {"role": role, "content": draw(WORDS)}
    for key in ("name", "lang"):  # one that templates know, and another
        if draw(st.booleans()):
            message[key] = draw(WORDS)
    if role == "assistant" and draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["city", "unit"]), min_size=1, unique=True))
        arguments = {name: draw(WORDS) for name in sorted(names)}
        message["tool_calls"] = [{"function": {"name": "f", "arguments": arguments}}]
    return message


@st.composite
def _row(draw: st.DrawFn, chat: bool) -> Row:
    """A pair, a ranking or a rated response."""
    if chat:
        prompt: Any = [draw(_message("user"))]
        sides: list[Any] = [[draw(_message("assistant"))] for _ in SIDES]
    else:
        prompt, sides = "q" + draw(WORDS), [draw(WORDS) for _ in SIDES]
    form = draw(st.sampled_from(["beside", "inside", "both", "ranking", "rating"]))
    row: Row = {} if form == "inside" else {"prompt": prompt}
    if form == "ranking":
        row |= {"responses": sides, "ranks": draw(st.sampled_from([[1, 2], [2, 1], [1, 1]]))}
    elif form == "rating":
        row |= {"response": sides[0], "rating": 2.5}
    else:
        sides = sides if form == "beside" else [prompt + side for side in sides]
        row |= dict(zip(SIDES, sides, strict=True)) | draw(_said())
        if draw(st.booleans()):
            row["annotations"] = [{"preference": 1.0}, *draw(st.lists(_said(), max_size=2))]
    if draw(st.booleans()):
        row["meta"] = {"id": draw(WORDS), "score": 1.5}
    if draw(st.booleans()):
        row["data_subset"] = draw(WORDS)
    return row


DATA = st.booleans().flatmap(lambda chat: st.lists(_row(chat), min_size=1, max_size=3))


def _with_nulls(value: Any, generator: Any) -> Any:
    """Add null keys to objects here and there, and change the order of keys."""
    if isinstance(value, list):
        return [_with_nulls(item, generator) for item in value]
    if not isinstance(value, dict):
        return value
    items = [(key, _with_nulls(item, generator)) for key, item in value.items()]
    blank = [key for key in ("name", "tool_calls", "extra") if key not in value]
    items += [(key, None) for key in blank if generator.random() < 0.3]
    generator.shuffle(items)
    return dict(items)


def _write(folder: Path, rows: list[Row], generator: Any) -> list[Path]:
    """Write rows in all formats but CSV; return the files and folders."""
    import datasets

    names = list(dict.fromkeys(key for row in rows for key in row))
    generator.shuffle(names)
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    pq.write_table(table, folder / "a.parquet")
    datasets.Dataset(table).save_to_disk(folder / "saved")
    lines = "".join(json.dumps(_with_nulls(row, generator)) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return [folder / name for name in ("a.parquet", "saved", "a.jsonl", "b.jsonl.gz")]


def _write_csv(path: Path, rows: list[Row], generator: Any) -> None:
    names = [*SIDES, *{key for row in rows for key in row} - {*LISTS, *SIDES}]
    names.sort()
    generator.shuffle(names)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            cells = (_with_nulls(row.get(name), generator) for name in names)
            writer.writerow(json.dumps(c) if isinstance(c, list) else c for c in cells)


def _content(example: Example) -> tuple[Any, ...]:
    return (
        example.prompt,
        example.responses,
        example.judgements,
        example.data_subset,
        example.prompt_key,
        example.source_lines,
    )


def _expected(rows: list[Row]) -> list[Example]:
    return [read_row(row, line=number) for number, row in enumerate(rows, start=1)]


@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(DATA, st.randoms(use_true_random=False))
def test_the_same_rows_in_every_format_are_the_same_examples(rows: list[Row], random: Any) -> None:
    import datasets

    datasets.disable_progress_bars()
    expected = _expected(rows)
    with tempfile.TemporaryDirectory() as name:
        for path in _write(Path(name), rows, random):
            found = load_examples(path).examples
            assert [_content(e) for e in found] == [_content(e) for e in expected], path.name
            assert [drop_nulls(e.columns) for e in found] == rows, path.name
        table = datasets.load_from_disk(str(Path(name) / "saved"))
        with mock.patch.object(datasets, "load_dataset", return_value=table):
            assert [_content(e) for e in load_examples("org/a")] == [_content(e) for e in expected]

        pairs = [row for row in rows if SIDES[0] in row]
        carried = [{key: v for key, v in row.items() if key not in LISTS} for row in pairs]
        if carried:
            _write_csv(Path(name) / "a.csv", carried, random)
            found = load_examples(Path(name) / "a.csv").examples
            assert [_content(e) for e in found] == [_content(e) for e in _expected(carried)]
