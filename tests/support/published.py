"""Public data sets in their published formats: written by a test, imported, and read back."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hidden_context.data.annotators import Covariates, read_annotators
from hidden_context.data.collections import find_source
from hidden_context.data.collections.save import ImportReport, save_source
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.rows import iter_rows, require_row


def jsonl_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as CSV with the columns of the first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def import_files(name: str, files: Sequence[Path]) -> tuple[list[Example], ImportReport]:
    """Import files of a source, and check that what was written reads back as it was read.

    Returns:
        The examples, and the report of the import.
    """
    source = find_source(name)
    output = files[0].parent / "imported" / "out.jsonl.gz"
    report = save_source(source, files, output)
    direct = list(source.read(files, Counter()))
    back = [read_row(require_row(row), file=output, line=n) for n, row in iter_rows(output)]
    assert back == direct
    assert len(back) == report.examples
    return back, report


def people_of(report: ImportReport) -> Covariates:
    """Read the table of annotators that an import wrote."""
    assert report.table is not None
    return read_annotators(report.table)
