"""Rows of data, and the errors that they are refused with."""

import pytest

from hidden_context.data.importers import read_row
from hidden_context.errors import DataError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def pair(**columns):
    return read_row({"chosen": "a", "rejected": "b", **columns}, file="f.jsonl", line=3)


def ranking(number=0, **columns):
    return {"prompt": f"p{number}", "responses": [" a", " b", " c"], "ranks": [2, 1, 2], **columns}


def judged(*entries, **columns):
    row = {"prompt": "p", "responses": [" a", " b", " c"], "judgements": list(entries)}
    return read_row(row | columns, file="f.jsonl", line=3)


def refused(row, field, text):
    """Check that a row is refused with an error that names its place, and says what to do."""
    with pytest.raises(DataError, match=text) as caught:
        read_row(row, file="f.jsonl", line=3)
    error = caught.value
    assert (error.file, error.line, error.field) == ("f.jsonl", 3, field)
    assert error.remedy
    assert str(error).startswith(f"f.jsonl, line 3, field {field!r}: ")
