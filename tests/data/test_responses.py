from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.errors import ConfigError, DataError

WriteRows = Callable[..., Path]
DIALOGUE = "\n\nHuman: a\n\nAssistant:"
CHAT = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_prompts_with_responses(write_rows: WriteRows, suffix: str) -> None:
    rows = [
        {"prompt": "System.\n\nHuman: a\n\nAssistant: ", "responses": ["b", "c"], "id": 7},
        {"prompt": "Human: d", "responses": ["e"], "id": 8},
    ]
    path = write_rows(f"a{suffix}", rows)
    first, second = read_scoring_rows(path)
    whole = "System.\n\nHuman: a\n\nAssistant: "
    assert first.texts == (f"{whole}b", f"{whole}c")
    assert second.texts == ("Human: d\n\nAssistant: e",)
    assert first.columns == rows[0]
    first, second = read_scoring_rows(path, prompt_from_first_human=True)
    assert first.texts == ("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: c")
    assert second.texts == ("Human: d\n\nAssistant: e",)
    assert (first.kind, first.index, second.index, second.line) == ("responses", 0, 1, 2)
    assert first.columns == rows[0]


def test_pairs_and_texts(write_rows: WriteRows) -> None:
    (row,) = read_scoring_rows(
        write_rows("a.jsonl", [{"prompt": "p", "chosen": " a", "rejected": " b", "responses": [1]}])
    )
    assert (row.kind, row.texts) == ("pair", ("p a", "p b"))
    (row,) = read_scoring_rows(write_rows("b.csv", [{"text": "12", "n": 3}]))
    assert (row.kind, row.texts, row.columns) == ("text", ("12",), {"text": "12", "n": "3"})
    (row,) = read_scoring_rows(write_rows("c.jsonl", [{"messages": CHAT}]))
    assert (row.kind, row.texts) == ("text", (CHAT,))


def test_kind_can_be_asked_for(write_rows: WriteRows) -> None:
    path = write_rows(
        "a.jsonl", [{"prompt": CHAT, "chosen": "x", "rejected": "y", "responses": ["b"]}]
    )
    (row,) = read_scoring_rows(path, "responses")
    assert row.texts == ([*CHAT, {"role": "assistant", "content": "b"}],)
    with pytest.raises(ConfigError):
        list(read_scoring_rows(path, "other"))  # type: ignore[arg-type]


def test_reading_streams(write_rows: WriteRows) -> None:
    path = write_rows("a.jsonl", [{"text": "a"}, {"text": 1}])
    rows = read_scoring_rows(path)
    assert next(rows).texts == ("a",)
    with pytest.raises(DataError, match="line 2, field 'text'"):
        next(rows)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"x": 1}, "nothing to score is found in the columns 'x'"),
        ({"prompt": "a", "responses": "b"}, "field 'responses': a list of responses is needed"),
        ({"prompt": "a", "responses": []}, "a list of at least one"),
        ({"prompt": "a", "responses": [None]}, r"field 'responses\[0\]'.*not null"),
        ({"prompt": None, "responses": ["a"]}, "field 'prompt': the column is missing or null"),
        ({"text": None}, "field 'text': the column is missing or null"),
        ({"chosen": None, "rejected": "b"}, "field 'chosen': the value is null"),
        ({"chosen": "a", "rejected": "b", "weight": 0}, "field 'weight': a positive"),
    ],
)
def test_malformed_rows(write_rows: WriteRows, row: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        list(read_scoring_rows(write_rows("a.jsonl", [row])))
    assert caught.value.line == 1


def test_later_rows_have_to_be_of_the_same_kind(write_rows: WriteRows) -> None:
    path = write_rows("a.jsonl", [{"text": "a"}, {"prompt": "a", "responses": ["b"]}])
    with pytest.raises(DataError, match="needs a column 'text' or 'messages'"):
        list(read_scoring_rows(path))


def test_no_rows(write_rows: WriteRows) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        list(read_scoring_rows(write_rows("a.jsonl", [])))


@pytest.mark.parametrize(
    ("row", "blank"),
    [
        ({"prompt": "a", "responses": ["b", " \n", ""]}, {1, 2}),
        ({"prompt": CHAT, "responses": ["", [{"role": "assistant", "content": "b"}]]}, {0}),
        ({"prompt": "Human: a", "chosen": "b", "rejected": " "}, {1}),
        ({"prompt": "a", "chosen": "a", "rejected": "a b"}, {0}),
        ({"chosen": f"{DIALOGUE}", "rejected": f"{DIALOGUE} b"}, {0}),
        ({"chosen": f"{DIALOGUE} b", "rejected": f"{DIALOGUE} c"}, set()),
        ({"chosen": "a b", "rejected": "a b"}, set()),
        ({"chosen": "a ", "rejected": "a b"}, set()),
        ({"chosen": "a", "rejected": " "}, {1}),
        (
            {
                "chosen": [*CHAT, {"role": "assistant", "content": ""}],
                "rejected": [*CHAT, {"role": "assistant", "content": "b"}],
            },
            {0},
        ),
        ({"text": "\n"}, {0}),
        ({"messages": CHAT}, set()),
    ],
)  # fmt: skip
def test_texts_that_say_nothing_after_the_prompt(
    write_rows: WriteRows, row: dict[str, Any], blank: set[int]
) -> None:
    (read,) = read_scoring_rows(write_rows("a.jsonl", [row]))
    assert read.blank == blank


def test_a_ranking_is_scored_as_prompt_and_responses(write_rows: WriteRows) -> None:
    ranking = {"prompt": "p0", "responses": [" a", " b", " c"], "ranks": [2, 1, 2]}
    (row,) = read_scoring_rows(write_rows("a.jsonl", [ranking]))
    assert (row.kind, row.texts) == ("responses", ("p0 a", "p0 b", "p0 c"))
