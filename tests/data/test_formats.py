"""One set of examples, written in every format, reads as the same examples."""

import copy
import csv
import gzip
import json
import tempfile
from pathlib import Path
from unittest import mock

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hidden_context.data.importers import read_row
from hidden_context.data.reshape import merge_prompts
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.rows import drop_nulls
from hidden_context.training.workflow import as_examples
from support.rows import assistant, user

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
WORDS = st.builds("x{}".format, TEXTS | st.sampled_from(["\r\n", '",\r', "\n\n", "{'role': 1}"]))
SIDES = ("chosen", "rejected")
LISTS = ("annotations", "meta")  # CSV has none


@st.composite
def _said(draw):
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
def _message(draw, role):
    message = {"role": role, "content": draw(WORDS)}
    for key in ("name", "lang"):  # one that templates know, and another
        if draw(st.booleans()):
            message[key] = draw(WORDS)
    if role == "assistant" and draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["city", "unit"]), min_size=1, unique=True))
        arguments = {name: draw(WORDS) for name in sorted(names)}
        message["tool_calls"] = [{"function": {"name": "f", "arguments": arguments}}]
    return message


@st.composite
def _row(draw, chat):
    """A pair, a ranking or a rated response."""
    if chat:
        prompt = [draw(_message("user"))]
        sides = [[draw(_message("assistant"))] for _ in SIDES]
    else:
        prompt, sides = "q" + draw(WORDS), [draw(WORDS) for _ in SIDES]
    form = draw(st.sampled_from(["beside", "inside", "both", "ranking", "rating"]))
    row = {} if form == "inside" else {"prompt": prompt}
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


def _with_nulls(value, generator=None):
    """Add null keys to objects as tables do; or here and there, in another order of keys."""
    if isinstance(value, list):
        return [_with_nulls(item, generator) for item in value]
    if not isinstance(value, dict):
        return value
    items = [(key, _with_nulls(item, generator)) for key, item in value.items()]
    blank = [key for key in ("name", "tool_calls", "extra") if key not in value]
    items += [(key, None) for key in blank if generator is None or generator.random() < 0.3]
    if generator is not None:
        generator.shuffle(items)
    return dict(items)


def _write(folder, rows, generator):
    """Write rows in all formats but CSV; return the files and folders."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    generator.shuffle(names)
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    pq.write_table(table, folder / "a.parquet")
    datasets.Dataset(table).save_to_disk(folder / "saved")
    lines = "".join(json.dumps(_with_nulls(row, generator)) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return [folder / name for name in ("a.parquet", "saved", "a.jsonl", "b.jsonl.gz")]


def _write_csv(path, rows, generator):
    names = sorted({*SIDES, *(key for row in rows for key in row)} - {*LISTS})
    generator.shuffle(names)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            cells = (_with_nulls(row.get(name), generator) for name in names)
            writer.writerow(json.dumps(c) if isinstance(c, list) else c for c in cells)


def _content(data, *more):
    names = ("prompt", "responses", "judgements", "data_subset", "prompt_key", *more)
    return [tuple(getattr(example, name) for name in names) for example in data]


def _same(found, rows):
    """Tell whether examples are those of rows, and name their lines."""
    read = [read_row(row, line=number) for number, row in enumerate(rows, start=1)]
    return _content(found, "source_lines") == _content(read, "source_lines")


@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(DATA, st.randoms(use_true_random=False))
def test_the_same_rows_in_every_format_are_the_same_examples(rows, random):
    datasets.disable_progress_bars()
    filled = [_with_nulls({"text": None, "ranks": None, **row}) for row in rows]
    before = copy.deepcopy(filled)
    read = [read_row(row, line=number) for number, row in enumerate(filled, start=1)]
    assert _same(read, rows)
    assert [example.columns for example in read] == filled == before  # as they were read
    with tempfile.TemporaryDirectory() as name:
        for path in _write(Path(name), rows, random):
            found = load_examples(path).examples
            assert _same(found, rows), path.name
            assert [drop_nulls(e.columns) for e in found] == rows, path.name
        table = datasets.load_from_disk(str(Path(name) / "saved"))
        assert _content(as_examples(table)) == _content(read)
        with mock.patch.object(datasets, "load_dataset", return_value=table):
            assert _same(load_examples("org/a"), rows)

        pairs = [row for row in rows if SIDES[0] in row]
        carried = [{key: v for key, v in row.items() if key not in LISTS} for row in pairs]
        if carried:
            _write_csv(Path(name) / "a.csv", carried, random)
            assert _same(load_examples(Path(name) / "a.csv").examples, carried)


CALL = {"function": {"name": "look_up", "arguments": {"city": "Rome"}}}
TOOL = {"role": "tool", "name": "look_up", "content": "Sun."}
PROMPT = [{"role": "system", "content": "Be kind."}, user("Rain today?") | {"name": "Ann"}]
CHOSEN = [assistant("Let me see.") | {"tool_calls": [CALL]}, TOOL, assistant("None.")]
REJECTED = [assistant("Why?")]
WHOLE = {"chosen": [*PROMPT, *CHOSEN], "rejected": [*PROMPT, *REJECTED]}
# With a prompt column that both sides repeat, or do not; and without.
BESIDE = {"prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED}
ROWS = [BESIDE, {"prompt": PROMPT} | WHOLE, WHOLE]


def test_keys_are_left_out_at_every_depth_and_list_entries_stay():
    value = {"a": None, "b": [None, {"c": None, "d": {"e": None}}], "f": (1, {"g": None}), "h": ""}
    before = copy.deepcopy(value)
    assert drop_nulls(value) == {"b": [None, {"d": {}}], "f": [1, {}], "h": ""}
    assert value == before
    assert [drop_nulls(plain) for plain in (None, "a", 0)] == [None, "a", 0]


@pytest.mark.parametrize(
    "row",
    [
        *ROWS,
        {"prompt": PROMPT, "responses": [CHOSEN, REJECTED]},
        {"messages": [*PROMPT, *CHOSEN]},
    ],
)
def test_rows_to_score_have_the_same_texts(write_rows, row):
    nulls = dict.fromkeys([*SIDES, "text", "ranks"]) | _with_nulls(row)
    (plain,) = read_scoring_rows(write_rows("a.jsonl", [row]))
    assert plain.texts[0] == [*PROMPT, *CHOSEN]
    for path in (write_rows("b.jsonl", [nulls]), write_rows("a.parquet", [row])):
        (other,) = read_scoring_rows(path)
        assert (other.kind, other.texts, other.blank) == (plain.kind, plain.texts, plain.blank)


def test_equal_prompts_merge_whatever_the_order_of_their_keys():
    for example in map(read_row, ROWS):
        assert (example.prompt, example.responses) == (PROMPT, (CHOSEN, REJECTED))
    turned = [dict(reversed(message.items())) for message in PROMPT]
    first, second = read_row(BESIDE), read_row({**BESIDE, "prompt": turned, "chosen": [TOOL]})
    (merged,) = merge_prompts([first, second])
    assert merged.responses == (CHOSEN, REJECTED, [TOOL])
