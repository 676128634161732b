"""Tables as rows: Parquet, what Arrow and the datasets library hold, and CSV."""

import datetime
import gzip
import json
import uuid
from decimal import Decimal
from functools import partial

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import json_line, write_jsonl
from hidden_context.data.storage.layouts import iter_dataset_rows, iter_saved_rows
from hidden_context.data.storage.rows import iter_rows
from hidden_context.errors import DataError
from support.rows import assistant, user

WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
NAME = uuid.UUID(int=7)
PAIR = {"chosen": "a", "rejected": "b"}


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path, use_deprecated_int96_timestamps="old" in path.name)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([b"\x89PNG"]), "iVBORw=="),
        (pa.array([b"abc"], pa.large_binary()), "YWJj"),
        (pa.array([b"abc"], pa.binary(3)), "YWJj"),
        (pa.array([datetime.datetime(3024, 1, 2)], pa.timestamp("us")), "3024-01-02T00:00:00"),
        (pa.array([{"bytes": b"abc", "path": None}]), {"bytes": "YWJj", "path": None}),
        (pa.array([[b"abc", None]]), ["YWJj", None]),
        (pa.array([Decimal("1.250")]), "1.250"),
        (pa.array([[{"d": Decimal("-1234567890123456.78")}]]), [{"d": "-1234567890123456.78"}]),
        (pa.array([datetime.timedelta(minutes=1, milliseconds=250)]), 60.25),
        (pa.array([3_000_000_001], pa.duration("ns")), 3.000000001),
        (pa.array([WHEN]), "2024-05-06T07:08:09+00:00"),
        (pa.array([WHEN.date()]), "2024-05-06"),
        (pa.array([WHEN.time()]), "07:08:09"),
        (pa.array([1_000_000_001], pa.timestamp("ns")), "1970-01-01T00:00:01.000000001"),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array([NAME.bytes], pa.binary(16)).cast(pa.uuid()), str(NAME)),
        (pa.array([[("k", b"v")]], pa.map_(pa.string(), pa.binary())), {"k": "dg=="}),
        (pa.array([[(1, 2.5)]], pa.map_(pa.int64(), pa.float64())), {"1": 2.5}),
        (pa.array([[(b"k", [("l", 1)])]], pa.map_(pa.binary(), pa.map_(pa.string(), pa.int8()))),
         {"aw==": {"l": 1}}),
        (pa.array([[{"m": [("k", "v")]}, None]],
                  pa.list_(pa.struct({"m": pa.map_(pa.string(), pa.string())}))),
         [{"m": {"k": "v"}}, None]),
        (pa.array([float("nan")]), None),
        (pa.array([1.5], pa.float16()), 1.5),
        (pa.nulls(1), None),
    ],
)  # fmt: skip
def test_every_type_has_a_written_form(tmp_path, values, expected):
    # in timestamps of 96 bits some years are beyond the range of nanoseconds
    name = "old.parquet" if str(expected).startswith("3024") else "a.parquet"
    ((_, row),) = iter_rows(write_parquet(tmp_path / name, x=values))
    assert json.loads(json_line(row))["x"] == expected


def test_a_value_that_python_lacks_is_found_when_rows_are_read(tmp_path):
    days, texts = pa.array([0] * 1500 + [10**7], pa.date32()), ["a"] * 1501
    path = write_parquet(tmp_path / "a.parquet", chosen=texts, rejected=texts, day=days)
    words = r"a\.parquet, field 'day': .* after row 1024 cannot be read as date32.*as text"
    with pytest.raises(DataError, match=words):
        load_examples(path)
    path = write_parquet(tmp_path / "b.parquet", chosen=[b"a"], rejected=["b"])
    with pytest.raises(DataError, match=r"field 'chosen': text or a list .* not a bytes"):
        list(read_scoring_rows(path))


def test_values_of_arrows_json_type(tmp_path):
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    answers = ({"role": "assistant", "tool_calls": [call]}, assistant("a") | {"name": None})
    chats = [[user("q"), answer] for answer in answers]
    messages = [[json.dumps(message) for message in chat] for chat in chats]
    whole = pa.array([json.dumps(chat) for chat in chats], pa.string()).cast(pa.json_())
    listed = pa.array(messages, pa.list_(pa.string())).cast(pa.list_(pa.json_()))
    path = write_parquet(tmp_path / "a.parquet", whole=whole, messages=listed)
    expected = [{"whole": chat, "messages": chat} for chat in chats]
    assert [row for _, row in iter_rows(path)] == expected
    assert [row.texts[0][1].get("content") for row in read_scoring_rows(path)][1] == "a"
    twice = pa.array(['{"a": 1, "a": 2}']).cast(pa.json_())
    broken = write_parquet(tmp_path / "b.parquet", x=twice)
    with pytest.raises(DataError, match=r"field 'x'.*the key 'a' occurs twice"):
        list(iter_rows(broken))


def test_json_values_of_the_datasets_library(tmp_path):
    if not hasattr(datasets, "Json"):
        pytest.skip("the library has no JSON type")
    row = {"chosen": [user("q"), assistant("a")], "rejected": [user("q")]}
    kinds = {"chosen": datasets.List(datasets.Json()), "rejected": datasets.Json()}
    table = datasets.Dataset.from_list([row], features=datasets.Features(kinds))
    table.save_to_disk(tmp_path / "t")
    expected = [(1, row)]
    assert list(iter_dataset_rows(table, "t")) == expected
    assert list(iter_saved_rows(tmp_path / "t")) == expected


def test_two_columns_or_keys_of_one_name(tmp_path):
    one, two = pa.array(["a"]), pa.array(["b"])
    table = pa.Table.from_arrays([one, two, two], names=["chosen", "rejected", "chosen"])
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("rejected,chosen,chosen\n")  # of no rows too
    for name in ("a.parquet", "a.csv"):
        words = rf"{name}, field 'chosen': two columns have this name\. Rename"
        with pytest.raises(DataError, match=words):
            load_examples(tmp_path / name)
    struct = pa.StructArray.from_arrays([one, two], names=["k", "k"])
    path = write_parquet(tmp_path / "b.parquet", x=struct, **{k: [v] for k, v in PAIR.items()})
    with pytest.raises(DataError, match=r"field 'x'.*duplicate field names"):
        load_examples(path)
    entries = pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(DataError, match=r"field 'x'.*the key 'k' occurs twice in one map"):
        list(iter_rows(write_parquet(tmp_path / "c.parquet", x=entries)))


def test_saved_tables_have_the_same_values(tmp_path):
    row = {**PAIR, "x": {"bytes": b"abc", "when": WHEN.replace(tzinfo=None)}, "d": Decimal("1.5")}
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "t")
    (example,) = load_examples(tmp_path / "t").examples
    assert example.columns == row
    write_jsonl(tmp_path / "a.jsonl", [example.columns, {"y": np.int64(3)}])
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0]) == {
        **PAIR, "x": {"bytes": "YWJj", "when": "2024-05-06T07:08:09"}, "d": "1.5",
    }  # fmt: skip


def test_parquet_holds_what_the_lines_would_in_types_that_fit_all_rows(write_rows, tmp_path):
    rows = [
        {"id": n, "text": None, "raw": None if n % 3 else [0.1 * n, -1.5], "extra": {"x": n}}
        for n in range(2500)
    ]
    rows[2400] |= {"id": 0.5, "text": "s", "extra": {"y": "z"}}
    rows[2400]["late"] = {"day": WHEN.date(), "price": Decimal("1.10"), "x": float("nan")}
    path = write_rows("rows.parquet", rows)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rows.parquet"]
    rows[2400]["late"] = {"day": "2024-05-06", "price": "1.10", "x": None}
    assert [row for _, row in iter_rows(path)] == [
        {"late": None, **row, "extra": {"x": None, "y": None} | row["extra"]} for row in rows
    ]
    schema, types = pq.read_schema(path), {"id": pa.float64(), "text": pa.string()}
    assert schema.names == ["id", "text", "raw", "extra", "late"]
    assert {name: schema.field(name).type for name in types} == types
    assert schema.field("raw").type == pa.list_(pa.float64())


@pytest.mark.parametrize("place", [slice(1, 2), slice(1024, None)])  # in one batch, or the next
def test_values_without_a_common_type_name_the_column(write_rows, tmp_path, place):
    rows = [{"id": 0, "label": "A"} for _ in range(2048)]
    for row in rows[place]:
        row["label"] = 3
    (tmp_path / "rows.parquet").write_bytes(b"earlier")
    words = r"rows\.parquet, field 'label': its values have no common type"
    with pytest.raises(DataError, match=words):
        write_rows("rows.parquet", rows)
    with pytest.raises(KeyError):
        write_rows("rows.parquet", ({}[row["label"]] for row in rows))
    left = [(each.name, each.read_bytes()) for each in tmp_path.iterdir()]
    assert left == [("rows.parquet", b"earlier")]


CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": 'Yes, "now".'}]
OTHER = [CHAT[0], {"role": "assistant", "content": "No."}]


def read(path):
    return [row for _, row in iter_rows(path)]


@pytest.mark.parametrize("pack", [bytes, partial(gzip.compress, compresslevel=1)])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gzip_by_content_byte_order_mark_blank_lines_and_long_cells(tmp_path, pack, end):
    # of a length prime to that of every buffer, so that each line break is at an edge somewhere
    cell = "word\r\n; \n\r.\r." * 100_000
    lines = ["\ufeffchosen,rejected,id", "", "a,b,1", "", "", f'c,"{cell}",', ""]
    (tmp_path / "a.csv").write_bytes(pack(end.join(lines).encode()))
    assert list(iter_rows(tmp_path / "a.csv")) == [
        (1, {"chosen": "a", "rejected": "b", "id": "1"}),
        (2, {"chosen": "c", "rejected": cell, "id": None}),
    ]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_need_commas_between(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text(f'chosen{mark}rejected\n"a"{mark}"b, c"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: commas are needed .* Write it again with commas"):
        read(path)
    (tmp_path / "b.csv").write_text(f'text,"a{mark}b"\nc,d\n', encoding="utf-8")
    assert read(tmp_path / "b.csv") == [{"text": "c", f"a{mark}b": "d"}]


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (["chosen", "rejected"], (CHAT, OTHER)),
        (["prompt", "chosen", "rejected"], (CHAT, [*CHAT[:1], *CHAT])),
        (["messages"], (CHAT,)),
        (["text"], (CHAT,)),
    ],
)
def test_messages_in_cells_to_score(write_rows, names, texts):
    cells = {"prompt": CHAT[:1], "chosen": CHAT, "rejected": OTHER, "messages": CHAT, "text": CHAT}
    if "prompt" in names:
        cells |= {"chosen": CHAT[1:], "rejected": CHAT}
    given = {name: json.dumps(cells[name], indent=1) for name in names}
    (row,) = read_scoring_rows(write_rows("a.csv", [given]))
    assert row.texts == texts
    for value, words in (  # messages of another form are an error, as in JSON Lines
        ([{"from": "human", "value": "a"}], r"field 'text\[0\]'.*'role' has to be text"),
        ([CHAT], r"field 'text\[0\]': a chat message is needed, not a list"),
        (CHAT[0], "field 'text': text or a list of chat messages"),
    ):
        with pytest.raises(DataError, match=words):
            list(read_scoring_rows(write_rows("a.csv", [{"text": json.dumps(value)}])))


@pytest.mark.parametrize(
    "cell",
    [
        str(CHAT),
        str([{**CHAT[0], "name": None}, CHAT[1]]),
        str(tuple(CHAT)),
        str(CHAT[0]),
        str([CHAT]),
        str([{"from": "human", "value": "Tea?"}]),
        f"array([{CHAT[0]},\n       {CHAT[1]}], dtype=object)",
        f"[{CHAT[0]}\n {CHAT[1]}]",  # as NumPy shows arrays
        json.dumps(CHAT)[:-9],  # cut off, as by Excel
        json.dumps(CHAT)[:-2] + ', "role": "user"}]',
    ],
)
@pytest.mark.parametrize("name", ["prompt", "rejected"])
def test_messages_as_python_shows_them_are_refused(write_rows, name, cell):
    row = dict.fromkeys(["prompt", "chosen", "rejected"], json.dumps(CHAT))
    path = write_rows("a.csv", [row, {**row, name: cell}])
    with pytest.raises(DataError, match=r"not valid JSON .*Write it with json\.dumps") as caught:
        load_examples(path)
    assert (caught.value.line, caught.value.field) == (2, name)
    assert load_examples(path, on_malformed="skip").report.malformed == [str(caught.value)]


@pytest.mark.parametrize(
    "cell",
    [
        "[1, 2]",
        '["a", "b"]',
        "[]",
        '[{"name": "a"}]',
        '[{"role": "engineer", "name": "Ann"}]',
        "[{'from': 'Ann', 'to': 'Bob'}]",
        '{"model": "m", "messages": [{"role": "user", "content": "a"}]}',
        '[{"messages": [{"role": "user", "content": "a"}]}]',
        "The list is [{'role': 'user', 'content': 'a'}].",
    ],
)
def test_other_cells_stay_text(write_rows, cell):
    row = {"text": cell, "id": str(CHAT)}
    assert read(write_rows("a.csv", [row])) == [row]


def test_ragged_rows_name_their_line_and_can_be_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('chosen,rejected\n"a\n\nb",c\nd,e,f\n\ng\nh,i\n')
    words = r"a\.csv, line 2: .* begins on its line 5 has 3 cells, the header 2"
    with pytest.raises(DataError, match=words):
        load_examples(path)
    data = load_examples(path, on_malformed="skip")
    assert [example.text(0) for example in data] == ["a\n\nb", "h"]
    places = [text.split(":")[0] for text in data.report.malformed]
    assert places == [f"{path}, line 2", f"{path}, line 3"]


ROWS = b"chosen,rejected\n" + b"a,b\n" * 9000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (ROWS + b'"a,b\nc,d\n', "unexpected end of data"),
        (ROWS + b'"He said "hi"",b\n', "expected after"),
        (ROWS + b"caf\xe9,b\n", "utf-8"),
        (gzip.compress(ROWS, mtime=0)[:-9], "ended before"),
    ],
)
def test_broken_quotes_and_bytes_name_the_line(tmp_path, content, text):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"CSV file cannot be read from line .*{text}") as caught:
        read(path)
    line = int(caught.value.problem.split(" from line ")[1].split()[0])
    assert line == 9002 if content.isascii() else 6000 < line <= 9002


def test_a_file_is_read_piece_by_piece(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("chosen,rejected\n" + "a,b\n" * 50_000 + '"')
    rows = iter_rows(path)
    assert next(rows) == (1, {"chosen": "a", "rejected": "b"})  # before the end is looked at
    for text in ("chosen,rejected\n", ""):
        path.write_text(text)
        assert list(iter_rows(path)) == []
