import datetime
import json
import uuid
from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import json_line, write_jsonl
from hidden_context.data.storage.hub import iter_dataset_rows, iter_saved_rows
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
    with pytest.raises(DataError, match=r"field 'x'.*the key 'a' is twice"):
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
    with pytest.raises(DataError, match="field 'chosen': two columns have this name"):
        load_examples(tmp_path / "a.parquet")
    struct = pa.StructArray.from_arrays([one, two], names=["k", "k"])
    path = write_parquet(tmp_path / "b.parquet", x=struct, **{k: [v] for k, v in PAIR.items()})
    with pytest.raises(DataError, match=r"field 'x'.*duplicate field names"):
        load_examples(path)
    entries = pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(DataError, match=r"field 'x'.*the key 'k' is twice in one map"):
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


def test_parquet_holds_what_the_lines_would(write_rows, tmp_path):
    rows = [
        {"id": n, "text": f"t{n}", "raw": None if n % 3 else [0.1 * n, -1.5], "extra": {"x": n}}
        for n in range(2500)
    ]
    rows[2400]["late"] = {"day": WHEN.date(), "price": Decimal("1.10"), "x": float("nan")}
    path = write_rows("rows.parquet", rows)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rows.parquet"]
    found = [row for _, row in iter_rows(path)]
    rows[2400]["late"] = {"day": "2024-05-06", "price": "1.10", "x": None}
    assert found == [{"late": None, **row} for row in rows]
    assert pq.read_schema(path).names == ["id", "text", "raw", "extra", "late"]
    assert pq.read_schema(path).field("raw").type == pa.list_(pa.float64())


def test_parquet_types_are_those_of_all_rows(write_rows):
    rows = [{"a": None, "b": 1, "c": {"x": 1}}] * 1024 + [{"a": "s", "b": 0.5, "c": {"y": "z"}}]
    path = write_rows("rows.parquet", rows)
    schema = pq.read_schema(path)
    assert (schema.field("a").type, schema.field("b").type) == (pa.string(), pa.float64())
    last = pq.read_table(path).slice(1024).to_pylist()
    assert last == [{"a": "s", "b": 0.5, "c": {"x": None, "y": "z"}}]


@pytest.mark.parametrize("place", [slice(1, 2), slice(1024, None)])  # in one batch, or the next
def test_values_without_a_common_type_name_the_column(write_rows, tmp_path, place):
    rows = [{"id": 0, "label": "A"} for _ in range(2048)]
    for row in rows[place]:
        row["label"] = 3
    (tmp_path / "rows.parquet").write_bytes(b"earlier")
    words = r"rows\.parquet, field 'label': its values have no one type"
    with pytest.raises(DataError, match=words):
        write_rows("rows.parquet", rows)
    with pytest.raises(KeyError):
        write_rows("rows.parquet", ({}[row["label"]] for row in rows))
    left = [(each.name, each.read_bytes()) for each in tmp_path.iterdir()]
    assert left == [("rows.parquet", b"earlier")]
