import gzip
import json

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.errors import ConfigError, DataError
from support.rows import assistant, ranking

DIALOGUE = "\n\nHuman: a\n\nAssistant:"
CHAT = [{"role": "user", "content": "a"}]


BEST_OF = {"prompt": "p", "chosen": [" a", " b"], "rejected": [" c", "  "], "subset": "Ties"}
WHOLE = [*CHAT, assistant("b")]
JUDGED = {"source": "s", "question": "Q?", "response_A": "a", "response_B": "b"}


@pytest.mark.parametrize(
    ("row", "kind", "texts"),
    [
        (
            {"prompt": "p", "chosen": " a", "rejected": " b", "responses": [1]},
            "pair",
            ("p a", "p b"),
        ),
        ({"text": "12", "n": 3}, "text", ("12",)),
        ({"messages": CHAT}, "text", (CHAT,)),
        (ranking(), "responses", ("p0 a", "p0 b", "p0 c")),
        # lists of chosen and rejected responses, or of whole conversations
        (BEST_OF, "responses", ("p a", "p b", "p c", "p  ")),
        (
            BEST_OF | {"prompt": CHAT, "rejected": [" c"]},
            "responses",
            tuple([*CHAT, assistant(text)] for text in (" a", " b", " c")),
        ),
        ({"chosen": [WHOLE], "rejected": [WHOLE, CHAT]}, "responses", (WHOLE, WHOLE, CHAT)),
        ({"chosen": ["x"], "rejected": ["y", "z"]}, "responses", ("x", "y", "z")),
        # the label says which response is chosen
        (JUDGED | {"label": "A>B"}, "pair", ("Q?a", "Q?b")),
        (JUDGED | {"label": "B>A"}, "pair", ("Q?b", "Q?a")),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_the_columns_say_how_a_row_is_scored(write_rows, name, row, kind, texts):
    (scored,) = read_scoring_rows(write_rows(name, [row]))
    assert (scored.kind, scored.texts, scored.columns) == (kind, texts, row)


def test_a_kind_can_be_asked_for(write_rows):
    row = {"prompt": CHAT, "chosen": "x", "rejected": "y", "responses": ["b"]}
    path = write_rows("e.jsonl", [row])
    (scored,) = read_scoring_rows(path, "responses")
    assert scored.texts == (WHOLE,)
    with pytest.raises(ConfigError):
        list(read_scoring_rows(path, "other"))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_prompts_with_responses(write_rows, suffix):
    rows = [
        {"prompt": "System.\n\nHuman: a\n\nAssistant: ", "responses": ["b", "c"], "id": 7},
        {"prompt": "no marks ", "responses": ["e"], "id": 8},
    ]
    path = write_rows(f"a{suffix}", rows)
    first, second = read_scoring_rows(path)
    whole = "System.\n\nHuman: a\n\nAssistant: "
    assert first.texts == (f"{whole}b", f"{whole}c")
    assert second.texts == ("no marks e",)
    first, second = read_scoring_rows(path, prompt_from_first_human=True)
    assert first.texts == ("Human: a\n\nAssistant: b", "Human: a\n\nAssistant: c")
    assert second.texts == ("no marks e",)
    assert (first.kind, first.index, second.index, second.line) == ("responses", 0, 1, 2)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"x": 1}, r"the row has nothing to score \(columns: 'x'\)"),
        ({"prompt": "a", "responses": "b"}, "field 'responses': a list of responses is needed"),
        ({"prompt": "a", "responses": [None]}, r"field 'responses\[0\]'.*not null"),
        ({"prompt": None, "responses": ["a"]}, "field 'prompt': the column is missing or null"),
        ({"text": None}, "field 'text': the column is missing or null"),
    ],
)
def test_malformed_rows(write_rows, row, text):
    with pytest.raises(DataError, match=f"line 1.*{text}"):
        list(read_scoring_rows(write_rows("a.jsonl", [row])))


def test_rows_stream_and_are_of_one_kind(write_rows):
    rows = read_scoring_rows(write_rows("a.jsonl", [{"text": "a"}, ranking()]))
    assert next(rows).texts == ("a",)
    with pytest.raises(DataError, match=r"line 2.*needs a column 'text' or 'messages'"):
        next(rows)
    with pytest.raises(DataError, match="holds no rows"):
        list(read_scoring_rows(write_rows("a.jsonl", [])))


@pytest.mark.parametrize(
    ("row", "blank"),
    [
        ({"prompt": "a", "responses": ["b", " \n", ""]}, {1, 2}),
        ({"prompt": CHAT, "responses": ["", [assistant("b")]]}, {0}),
        ({"prompt": "Human: a", "chosen": "b", "rejected": " "}, {1}),
        ({"prompt": "a", "chosen": "a", "rejected": "a b"}, {0}),
        ({"chosen": f"{DIALOGUE}", "rejected": f"{DIALOGUE} b"}, {0}),
        ({"chosen": f"{DIALOGUE} b", "rejected": f"{DIALOGUE} c"}, set()),
        ({"chosen": "a b", "rejected": "a b"}, set()),
        ({"chosen": "a ", "rejected": "a b"}, set()),
        ({"chosen": "a", "rejected": " "}, {1}),
        ({"chosen": [*CHAT, assistant("")], "rejected": [*CHAT, assistant("b")]}, {0}),
        ({"text": "\n"}, {0}),
        (BEST_OF, {3}),
        ({"messages": CHAT}, set()),
    ],
)  # fmt: skip
def test_texts_that_say_nothing_after_the_prompt(write_rows, row, blank):
    (read,) = read_scoring_rows(write_rows("a.jsonl", [row]))
    assert read.blank == blank


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_one_json_array_is_read_like_lines(tmp_path, pack):
    path = tmp_path / "a.json"
    path.write_bytes(pack(json.dumps([BEST_OF, {**BEST_OF, "prompt": "q"}], indent=1).encode()))
    first, second = read_scoring_rows(path)
    assert (first.columns, second.texts[0], second.line) == (BEST_OF, "q a", 2)
    broken = tmp_path / "b.json"
    broken.write_text(json.dumps([BEST_OF, 5]))
    with pytest.raises(DataError, match="line 2: item 2 of the array is 5, not an object"):
        list(read_scoring_rows(broken))


@pytest.mark.parametrize("prompt", ["a", CHAT, [{**CHAT[0], "name": None}]])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "s"}]])
def test_chats_with_the_prompt_inside_have_it_once(write_rows, prompt, system):
    if system and isinstance(prompt, list):
        prompt = [*system, *prompt]
    told = [[*system, *CHAT, assistant(text)] for text in "bcd"]
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
