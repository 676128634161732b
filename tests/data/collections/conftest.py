import json
from collections import Counter

import pytest

from hidden_context.data.collections import find_source, save_source
from hidden_context.data.importers import read_row
from hidden_context.data.storage.rows import iter_rows, require_row
from hidden_context.errors import DataError


@pytest.fixture
def written(write_rows, tmp_path):
    """Writes files by their names: rows, an object as one document, or text or bytes as it is."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, (list, tuple)):
                write_rows(name, content)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                text = content if isinstance(content, str) else json.dumps(content, indent=4)
                path.write_text(text, encoding="utf-8")
        return [tmp_path / name for name in files]

    return write


@pytest.fixture
def imported(written, tmp_path):
    """Imports rows or files of a source, and checks that what is written reads back the same."""

    def run(name, *rows, file="rows.jsonl", files=None):
        paths = written(files or {file: rows})
        source, left_out = find_source(name), Counter()
        output = tmp_path / "imported" / "out.jsonl.gz"
        report = save_source(source, paths, output)
        direct = list(source.read(paths, left_out))
        back = [read_row(require_row(row), file=output, line=n) for n, row in iter_rows(output)]
        assert back == direct
        said = [one for example in back for one in example.judgements]
        votes = sum(not one.abstains for one in said)
        names = {str(one.annotator) for one in said if one.annotator is not None}
        counts = (report.judgements, report.abstentions, report.annotators, report.left_out)
        assert counts == (votes, len(said) - votes, names, left_out)
        assert source.people or report.table is None
        return back, report

    return run


@pytest.fixture
def refused(imported):
    """Checks that an import of rows or files fails with a message."""

    def run(message, name, *rows, **given):
        with pytest.raises(DataError, match=message):
            imported(name, *rows, **given)

    return run
