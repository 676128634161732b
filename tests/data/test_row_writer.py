from __future__ import annotations

import datetime
import decimal
import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hidden_context.data.row_writer import row_writer
from hidden_context.data.rows import iter_rows
from hidden_context.errors import DataError


def write(path, rows):
    with row_writer(path) as put:
        for row in rows:
            put(row)
    return path


def test_json_lines_by_default_and_packed_by_name(tmp_path):
    rows = [{"a": 1, "b": "ü"}, {"a": None}]
    plain = write(tmp_path / "rows.jsonl", rows)
    assert plain.read_text(encoding="utf-8") == '{"a": 1, "b": "ü"}\n{"a": null}\n'
    packed = write(tmp_path / "rows.jsonl.gz", rows)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()


def test_parquet_holds_what_the_lines_would(tmp_path):
    rows = [
        {"id": n, "text": f"t{n}", "raw": None if n % 3 else [0.1 * n, -1.5], "extra": {"x": n}}
        for n in range(2500)
    ]
    rows[2400]["late"] = "a column that comes late"
    path = write(tmp_path / "rows.parquet", rows)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rows.parquet"]
    found = [row for _, row in iter_rows(path)]
    assert found == [{"late": None, **row} for row in rows]
    assert pq.read_schema(path).names == ["id", "text", "raw", "extra", "late"]
    assert pq.read_schema(path).field("raw").type == pa.list_(pa.float64())


def test_parquet_types_are_those_of_all_rows(tmp_path):
    rows = [{"a": None, "b": 1, "c": {"x": 1}}] * 1024 + [{"a": "s", "b": 0.5, "c": {"y": "z"}}]
    path = write(tmp_path / "rows.parquet", rows)
    schema = pq.read_schema(path)
    assert (schema.field("a").type, schema.field("b").type) == (pa.string(), pa.float64())
    last = pq.read_table(path).slice(1024).to_pylist()
    assert last == [{"a": "s", "b": 0.5, "c": {"x": None, "y": "z"}}]


def test_parquet_values_are_converted_as_in_lines(tmp_path):
    row = {"day": datetime.date(2020, 1, 2), "price": decimal.Decimal("1.10"), "x": float("nan")}
    path = write(tmp_path / "rows.parquet", [row])
    assert [row for _, row in iter_rows(path)] == [
        {"day": "2020-01-02", "price": "1.10", "x": None}
    ]


@pytest.mark.parametrize("place", [1, 2000])  # in the same batch of rows, and in a later one
def test_values_without_a_common_type_name_the_column(tmp_path, place):
    rows = [{"id": 0, "label": "A"} for _ in range(2048)]
    rows[place]["label"] = 3
    (tmp_path / "rows.parquet").write_bytes(b"earlier")
    with pytest.raises(
        DataError, match=r"rows\.parquet, field 'label': its values have no one type"
    ):
        write(tmp_path / "rows.parquet", rows)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [
        ("rows.parquet", b"earlier")
    ]


def test_what_stood_there_stays_where_the_rows_end_in_an_error(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"earlier")

    def rows():
        yield {"a": 1}
        raise KeyError("no more")

    with pytest.raises(KeyError):
        write(path, rows())
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]
    assert path.read_bytes() == b"earlier"
