from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hidden_context.data.files import json_line, write_jsonl
from hidden_context.data.hub import iter_dataset_rows, iter_saved_rows
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.rows import iter_rows
from hidden_context.data.sources import load_examples
from hidden_context.errors import DataError

WHEN = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
NAME = uuid.UUID(int=7)
PAIR = {"chosen": "a", "rejected": "b"}


def write_parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def written(path: Path) -> Any:
    """What is written of the first row's column ``x``."""
    (_, row), *_ = iter_rows(path)
    return json.loads(json_line(row))["x"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([b"\x89PNG"]), "iVBORw=="),
        (pa.array([b"abc"], pa.large_binary()), "YWJj"),
        (pa.array([b"abc"], pa.binary(3)), "YWJj"),
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
def test_every_type_has_a_written_form(tmp_path: Path, values: pa.Array, expected: Any) -> None:
    assert written(write_parquet(tmp_path / "a.parquet", x=values)) == expected


def test_old_timestamps_beyond_the_range_of_nanoseconds(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([datetime.datetime(3024, 1, 2)], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert written(tmp_path / "a.parquet") == "3024-01-02T00:00:00"


def test_a_value_that_python_lacks_is_found_when_rows_are_read(tmp_path: Path) -> None:
    days = pa.array([0] * 1500 + [10**7], pa.date32())
    texts = ["a"] * 1501
    path = write_parquet(tmp_path / "a.parquet", chosen=texts, rejected=texts, day=days)
    with pytest.raises(DataError, match=r"after row 1024 cannot be read as date32.*as text") as e:
        load_examples(path)
    assert (e.value.file, e.value.field) == (path, "day")


def test_values_of_arrows_json_type(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    chats = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}],
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": None}],
    ]
    messages = [[json.dumps(message) for message in chat] for chat in chats]
    whole = pa.array([json.dumps(chat) for chat in chats], pa.string()).cast(pa.json_())
    listed = pa.array(messages, pa.list_(pa.string())).cast(pa.list_(pa.json_()))
    path = write_parquet(tmp_path / "a.parquet", whole=whole, messages=listed)
    assert [row for _, row in iter_rows(path)] == [
        {"whole": chat, "messages": chat} for chat in chats
    ]
    assert [row.texts[0][1].get("content") for row in read_scoring_rows(path)][1] == "a"  # type: ignore[union-attr]
    broken = write_parquet(
        tmp_path / "b.parquet", x=pa.array(['{"a": 1, "a": 2}']).cast(pa.json_())
    )
    with pytest.raises(DataError, match=r"field 'x'.*the key 'a' stands twice"):
        list(iter_rows(broken))


def test_json_values_of_the_datasets_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "Json"):
        pytest.skip("the library has no JSON type")
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    features = datasets.Features(
        {"chosen": datasets.List(datasets.Json()), "rejected": datasets.Json()}
    )
    table = datasets.Dataset.from_list([{"chosen": chat, "rejected": chat[:1]}], features=features)
    table.save_to_disk(tmp_path / "t")
    expected = [(1, {"chosen": chat, "rejected": chat[:1]})]
    assert list(iter_dataset_rows(table, "t")) == expected
    assert list(iter_saved_rows(tmp_path / "t")) == expected


def test_two_columns_or_keys_of_one_name(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match=r"field 'x'.*the key 'k' stands twice in one map"):
        list(iter_rows(write_parquet(tmp_path / "c.parquet", x=entries)))


def test_texts_in_bytes_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", chosen=[b"a"], rejected=["b"])
    with pytest.raises(DataError, match=r"field 'chosen': text or a list .* not a bytes"):
        list(read_scoring_rows(path))


def test_saved_tables_have_the_same_values(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    row = {**PAIR, "x": {"bytes": b"abc", "when": WHEN.replace(tzinfo=None)}, "d": Decimal("1.5")}
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "t")
    (example,) = load_examples(tmp_path / "t").examples
    assert example.columns == row
    write_jsonl(tmp_path / "a.jsonl", [example.columns, {"y": np.int64(3)}])
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0]) == {
        **PAIR, "x": {"bytes": "YWJj", "when": "2024-05-06T07:08:09"}, "d": "1.5",
    }  # fmt: skip
