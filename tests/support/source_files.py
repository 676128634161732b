"""Files of public data sets that a test writes, imported through their source and read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hidden_context.data.collections.save import ImportReport, save_source
from hidden_context.data.collections.source import Source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.rows import iter_rows, require_row


def parquet_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as parquet, with the types that Arrow finds for their columns."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def import_source(source: Source, files: Sequence[Path]) -> tuple[list[Example], ImportReport]:
    """Import files of a source, and check that what was written reads back as it was read.

    Returns:
        The examples, and the report of the import.
    """
    output = files[0].parent / "imported" / "out.jsonl.gz"
    report = save_source(source, files, output)
    left_out: Counter[str] = Counter()
    direct = list(source.read(files, left_out))
    back = [read_row(require_row(row), file=output, line=n) for n, row in iter_rows(output)]
    assert back == direct
    assert left_out == report.left_out
    assert len(back) == report.examples
    return back, report
