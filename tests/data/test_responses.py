from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
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


BEST_OF = {
    "id": "1",
    "prompt": "p",
    "chosen": [" a", " b"],
    "rejected": [" c", " d", "  "],
    "subset": "Ties",
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_of_chosen_and_rejected_responses(write_rows: WriteRows, suffix: str) -> None:
    (row,) = read_scoring_rows(write_rows(f"a{suffix}", [BEST_OF]))
    assert (row.kind, row.texts) == ("responses", ("p a", "p b", "p c", "p d", "p  "))
    assert (row.columns, row.blank) == (BEST_OF, {4})
    chat = {**BEST_OF, "prompt": CHAT, "rejected": [" c"]}
    (row,) = read_scoring_rows(write_rows(f"b{suffix}", [chat]))
    assert row.texts[2] == [*CHAT, {"role": "assistant", "content": " c"}]


def test_lists_of_whole_conversations(write_rows: WriteRows) -> None:
    chat = [*CHAT, {"role": "assistant", "content": "b"}]
    rows = [{"chosen": [chat], "rejected": [chat, CHAT]}]
    (row,) = read_scoring_rows(write_rows("a.jsonl", rows))
    assert row.texts == (chat, chat, CHAT)
    (row,) = read_scoring_rows(write_rows("b.jsonl", [{"chosen": ["x"], "rejected": ["y", "z"]}]))
    assert row.texts == ("x", "y", "z")


@pytest.mark.parametrize(("label", "texts"), [("A>B", ("Q?a", "Q?b")), ("B>A", ("Q?b", "Q?a"))])
def test_the_label_says_which_response_is_chosen(
    write_rows: WriteRows, label: str, texts: tuple[str, str]
) -> None:
    judged = {"source": "s", "question": "Q?", "response_A": "a", "response_B": "b", "label": label}
    (row,) = read_scoring_rows(write_rows("a.jsonl", [judged]))
    assert (row.kind, row.texts, row.columns) == ("pair", texts, judged)
    path = write_rows("b.jsonl", [{**judged, "label": "A=B"}])
    with pytest.raises(DataError, match=r"b\.jsonl, line 1, field 'label': one of A>B, B>A is"):
        list(read_scoring_rows(path))
    path = write_rows("b.jsonl", [judged, {**judged, "label": "A=B"}])
    with pytest.raises(DataError, match="line 2, field 'label': one of A>B, B>A is needed"):
        list(read_scoring_rows(path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rejected": []}, "field 'rejected': a list of at least one rejected response"),
        ({"rejected": "c"}, "field 'rejected': a list of rejected responses is needed"),
        ({"chosen": ["a", None]}, r"field 'chosen\[1\]'.*not null"),
        ({"chosen": None}, "field 'chosen': the column is missing or null"),
    ],
)
def test_malformed_lists(write_rows: WriteRows, change: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        list(read_scoring_rows(write_rows("a.jsonl", [{**BEST_OF, **change}])))


@pytest.mark.parametrize("packed", [False, True])
def test_one_json_array_is_read_like_lines(tmp_path: Path, packed: bool) -> None:
    text = json.dumps([BEST_OF, {**BEST_OF, "prompt": "q"}], indent=1).encode()
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(text) if packed else text)
    first, second = read_scoring_rows(path)
    assert (first.columns, second.texts[0], second.line) == (BEST_OF, "q a", 2)
    broken = tmp_path / "b.json"
    broken.write_text(json.dumps([BEST_OF, 5]))
    with pytest.raises(DataError, match="line 2: item 2 of the array is 5, not an object"):
        list(read_scoring_rows(broken))
    broken.write_text("[{]")
    with pytest.raises(DataError, match="line 1: not valid JSON"):
        list(read_scoring_rows(broken))


@pytest.mark.parametrize("prompt", ["a", CHAT, [{**CHAT[0], "name": None}]])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "s"}]])
def test_chats_with_the_prompt_inside_have_it_once(
    write_rows: WriteRows, prompt: Any, system: list[Any]
) -> None:
    if system and isinstance(prompt, list):
        prompt = [*system, *prompt]
    told = [[*system, *CHAT, {"role": "assistant", "content": text}] for text in "bcd"]
    listed = {"prompt": prompt, "chosen": told[:1], "rejected": told[1:]}
    ranked = {"prompt": prompt, "responses": told, "ranks": [1, 2, 3]}
    for row in (listed, ranked):
        path = write_rows("a.jsonl", [row])
        (scored,) = read_scoring_rows(path)
        (example,) = load_examples(path)
        assert scored.texts == example.texts == tuple(told)
    (scored,) = read_scoring_rows(write_rows("b.jsonl", [{**ranked, "responses": [told[0], []]}]))
    assert (scored.texts[0], scored.blank) == (told[0], frozenset([1]))
    # where not all have it, it is put before each, as everywhere
    path = write_rows("c.jsonl", [{**ranked, "responses": [told[0], told[1][-1:], told[2]]}])
    (scored,) = read_scoring_rows(path)
    (example,) = load_examples(path)
    assert scored.texts == example.texts
    assert scored.texts[1] == [*scored.texts[0][: -len(told[0])], told[1][-1]]
