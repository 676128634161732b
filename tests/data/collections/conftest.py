from collections import Counter
from pathlib import Path

import pytest

from hidden_context.data.collections import find_source
from hidden_context.data.collections.save import save_source
from hidden_context.data.importers import read_row
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.errors import DataError


@pytest.fixture
def imported(write_rows):
    """Imports rows or files of a source, and checks that what is written reads back the same."""

    def run(name, *given, file="rows.jsonl"):
        files = given if isinstance(given[0], Path) else [write_rows(file, list(given))]
        source, left_out = find_source(name), Counter()
        output = files[0].parent / "imported" / "out.jsonl.gz"
        report = save_source(source, files, output)
        direct = list(source.read(files, left_out))
        back = [read_row(require_row(row), file=output, line=n) for n, row in iter_rows(output)]
        assert back == direct
        assert (len(back), left_out) == (report.examples, report.left_out)
        return back, report

    return run


@pytest.fixture
def refused(imported):
    """Checks that an import of rows or files fails with a message."""

    def run(message, name, *given, file="rows.jsonl"):
        with pytest.raises(DataError, match=message):
            imported(name, *given, file=file)

    return run
