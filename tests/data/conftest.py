import csv

import pytest

from hidden_context.data.storage.rows import row_writer
from hidden_context.data.tokens import tokenize
from support.builders import tiny_tokenizer


@pytest.fixture
def make_tokenizer():
    """Builds a byte-level BPE tokenizer that adds the ids asked for around every text."""
    return lambda frame="", chat_template=None: tiny_tokenizer(
        bos="<s>", frame=frame, chat_template=chat_template, max_length=10**9
    )


@pytest.fixture
def encoded(monkeypatch):
    """Lists of texts that were given to the tokenizer, call by call."""
    calls, encode_batch = [], tokenize.encode_batch

    def recording(texts, *rest):
        calls.append(texts)
        return encode_batch(texts, *rest)

    monkeypatch.setattr(tokenize, "encode_batch", recording)
    return calls


@pytest.fixture
def write_rows(tmp_path):
    """Writes rows to a file of the temporary folder in the format its name says."""

    def write(name, rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".csv"):
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
        else:
            with row_writer(path) as put:
                for row in rows:
                    put(row)
        return path

    return write
