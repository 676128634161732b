"""A null key is an absent key, as tables fill the objects of a column with null."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.chat import encode_batch, render
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.rows import drop_nulls, iter_rows
from hidden_context.data.sources import load_examples

WriteRows = Callable[..., Path]

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}{% if 'name' in m %} {{ m['name'] }}{% endif %}>"
    "{{ m['content'] }}{% for call in m['tool_calls'] %}[{{ call['function'] | tojson }}]"
    "{% endfor %}{% endfor %}"
)
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"city": "Rome"}}}
PROMPT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "name": "Ann", "content": "Rain today?"},
]
ASKS = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
TOOL = {"role": "tool", "name": "look_up", "content": "Sun."}
YES, NO = {"role": "assistant", "content": "None."}, {"role": "assistant", "content": "Why?"}

CHOSEN, REJECTED = [ASKS, TOOL, YES], [NO]
# With a prompt column that both sides repeat, or do not; and without.
ROWS = [
    {"prompt": PROMPT, "chosen": CHOSEN, "rejected": REJECTED},
    {"prompt": PROMPT, "chosen": [*PROMPT, *CHOSEN], "rejected": [*PROMPT, *REJECTED]},
    {"chosen": [*PROMPT, *CHOSEN], "rejected": [*PROMPT, *REJECTED]},
]


def with_nulls(value: Any) -> Any:
    """Fill objects with keys that are null, as a table does."""
    if isinstance(value, dict):
        blank = dict.fromkeys(("name", "tool_calls", "function", "x"))
        return {**blank, **{key: with_nulls(item) for key, item in value.items()}}
    return [with_nulls(item) for item in value] if isinstance(value, list) else value


def filled(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": None, "ranks": None, **{key: with_nulls(item) for key, item in row.items()}}


def content(example: Example) -> tuple[Any, ...]:
    return example.prompt, example.responses, example.judgements, example.prompt_key


def test_keys_are_left_out_at_every_depth_and_list_entries_stay() -> None:
    value = {"a": None, "b": [None, {"c": None, "d": {"e": None}}], "f": (1, {"g": None}), "h": ""}
    before = copy.deepcopy(value)
    assert drop_nulls(value) == {"b": [None, {"d": {}}], "f": [1, {}], "h": ""}
    assert value == before
    assert [drop_nulls(plain) for plain in (None, "a", 0)] == [None, "a", 0]


@pytest.mark.parametrize("row", ROWS)
def test_rows_in_memory(row: dict[str, Any]) -> None:
    given = filled(row)
    before = copy.deepcopy(given)
    example = read_row(given)
    assert content(example) == content(read_row(row))
    assert (example.prompt, example.responses) == (PROMPT, (CHOSEN, REJECTED))
    assert example.columns == given == before  # written as they were read


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_of_training_data(write_rows: WriteRows, name: str) -> None:
    rows = [filled(row) for row in ROWS]
    if name.endswith(".parquet"):
        rows = [{"prompt": None, **row} for row in ROWS]
    found = load_examples(write_rows(name, rows)).examples
    assert [content(example) for example in found] == [content(read_row(row)) for row in ROWS]


def test_tables_of_the_datasets_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    from hidden_context.training.workflow import as_examples

    expected = [content(read_row(row)) for row in ROWS]
    table = datasets.Dataset.from_list([{"prompt": None, **row} for row in ROWS])
    assert "tool_calls" in table[0]["chosen"][1]  # null in it
    assert [content(example) for example in as_examples(table)] == expected
    table.save_to_disk(tmp_path / "t")
    assert [content(example) for example in load_examples(tmp_path / "t")] == expected
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: table)
    assert [content(example) for example in load_examples("org/pairs")] == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    "row",
    [
        *ROWS,
        {"prompt": PROMPT, "responses": [CHOSEN, REJECTED]},
        {"messages": [*PROMPT, *CHOSEN]},
    ],
)
def test_rows_to_score_have_the_same_tokens(
    write_rows: WriteRows, make_tokenizer: Callable[..., Any], name: str, row: dict[str, Any]
) -> None:
    tokenizer = make_tokenizer("<s> $A", TEMPLATE)
    (plain,) = read_scoring_rows(write_rows("plain.jsonl", [row]))
    nulls = {"chosen": None, "rejected": None, "text": None, **filled(row)}
    (other,) = read_scoring_rows(write_rows(name, [row if name == "a.parquet" else nulls]))
    assert (other.kind, other.texts, other.blank) == (plain.kind, plain.texts, plain.blank)
    expected = render([*PROMPT, *CHOSEN], tokenizer)
    assert expected.startswith("<system>Be kind.<user Ann>Rain today?<assistant>Let me see.[{")
    assert '"arguments": {"city": "Rome"}' in expected
    ids = encode_batch(other.texts, tokenizer)
    assert ids == encode_batch(plain.texts, tokenizer)
    assert tokenizer.decode(ids[0][1:]) == expected


def test_columns_that_are_null_do_not_say_how_rows_are_scored(write_rows: WriteRows) -> None:
    rows = [{"prompt": "a", "responses": ["b", "c"], "chosen": None, "rejected": None, "text": ""}]
    (row,) = read_scoring_rows(write_rows("a.jsonl", rows))
    assert (row.kind, row.texts) == ("responses", ("ab", "ac"))
    rows = [{"text": "a", "prompt": None, "responses": None, "chosen": None, "rejected": None}]
    assert next(read_scoring_rows(write_rows("a.jsonl", rows))).kind == "text"


def test_equal_prompts_merge_whatever_the_order_of_their_keys() -> None:
    turned = [dict(reversed(message.items())) for message in PROMPT]
    first, second = read_row(ROWS[0]), read_row({**ROWS[0], "prompt": turned, "chosen": [TOOL]})
    (merged,) = merge_prompts([first, second])
    assert merged.responses == (CHOSEN, REJECTED, [TOOL])


def test_messages_from_python(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("", TEMPLATE)
    assert render(with_nulls([*PROMPT, *CHOSEN]), tokenizer) == render(
        [*PROMPT, *CHOSEN], tokenizer
    )


def test_columns_are_written_as_they_were_read(write_rows: WriteRows) -> None:
    rows = [filled(row) for row in ROWS]
    path = write_rows("a.jsonl", rows)
    assert [row for _, row in iter_rows(path)] == rows
    assert [row.columns for row in read_scoring_rows(path)] == rows
