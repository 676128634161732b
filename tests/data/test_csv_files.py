import gzip
import json

import pytest

from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.rows import iter_rows
from hidden_context.errors import DataError

CHAT = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": 'Yes, "now".'}]
OTHER = [CHAT[0], {"role": "assistant", "content": "No."}]


def read(path):
    return [row for _, row in iter_rows(path)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("edge", [1 << 13, 1 << 16, 1 << 20])
@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r", "\n\r"])
def test_line_breaks_in_cells_are_kept_at_any_offset(tmp_path, name, edge, ending):
    head = 'prompt,chosen,rejected\r\n"Tea?","'
    for offset in (edge - 2, edge - 1, edge):
        cell = "a" * (offset - len(head)) + ending + "b"
        content = f'{head}{cell}","no{ending}"\r\n"x","y","z"\r\n'.encode()
        assert content[offset : offset + len(ending)] == ending.encode()
        packed = gzip.compress(content, 1) if name.endswith("gz") else content
        (tmp_path / name).write_bytes(packed)
        assert read(tmp_path / name) == [
            {"prompt": "Tea?", "chosen": cell, "rejected": f"no{ending}"},
            {"prompt": "x", "chosen": "y", "rejected": "z"},
        ]


def test_gzip_by_content_byte_order_mark_blank_lines_and_long_cells(tmp_path):
    cell = "word; \n" * 500_000
    content = f'\ufeffchosen,rejected,id\n\na,b,1\n\n\nc,"{cell}",\n'.encode()
    (tmp_path / "a.csv").write_bytes(gzip.compress(content))
    assert list(iter_rows(tmp_path / "a.csv")) == [
        (1, {"chosen": "a", "rejected": "b", "id": "1"}),
        (2, {"chosen": "c", "rejected": cell, "id": None}),
    ]


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("chosen,rejected,x,x\n")  # of no rows too
    with pytest.raises(DataError, match=r"a\.csv, field 'x': two columns have this name\. Rename"):
        read(path)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_need_commas_between(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text(f'chosen{mark}rejected\n"a"{mark}"b, c"\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: commas are needed .* Write it again with commas"):
        read(path)
    (tmp_path / "b.csv").write_text(f'text,"a{mark}b"\nc,d\n', encoding="utf-8")
    assert read(tmp_path / "b.csv") == [{"text": "c", f"a{mark}b": "d"}]


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (["chosen", "rejected"], (CHAT, OTHER)),
        (["prompt", "chosen", "rejected"], (CHAT, [*CHAT[:1], *CHAT])),
        (["messages"], (CHAT,)),
        (["text"], (CHAT,)),
    ],
)
def test_messages_in_cells_to_score(write_rows, names, texts):
    cells = {"prompt": CHAT[:1], "chosen": CHAT, "rejected": OTHER, "messages": CHAT, "text": CHAT}
    if "prompt" in names:
        cells |= {"chosen": CHAT[1:], "rejected": CHAT}
    given = {name: json.dumps(cells[name], indent=1) for name in names}
    (row,) = read_scoring_rows(write_rows("a.csv", [given]))
    assert row.texts == texts


@pytest.mark.parametrize(
    "cell",
    [
        str(CHAT),
        str([{**CHAT[0], "name": None}, CHAT[1]]),
        str(tuple(CHAT)),
        str(CHAT[0]),
        str([CHAT]),
        str([{"from": "human", "value": "Tea?"}]),
        f"array([{CHAT[0]},\n       {CHAT[1]}], dtype=object)",
        f"[{CHAT[0]}\n {CHAT[1]}]",  # as NumPy shows arrays
        json.dumps(CHAT)[:-9],  # cut off, as by Excel
        json.dumps(CHAT)[:-2] + ', "role": "user"}]',
    ],
)
@pytest.mark.parametrize("name", ["prompt", "rejected"])
def test_messages_as_python_shows_them_are_refused(write_rows, name, cell):
    row = dict.fromkeys(["prompt", "chosen", "rejected"], json.dumps(CHAT))
    path = write_rows("a.csv", [row, {**row, name: cell}])
    with pytest.raises(DataError, match=r"not their JSON .*Write it with json\.dumps") as caught:
        load_examples(path)
    assert (caught.value.line, caught.value.field) == (2, name)
    assert load_examples(path, on_malformed="skip").report.malformed == [str(caught.value)]


@pytest.mark.parametrize(
    "cell",
    [
        "[1, 2]",
        '["a", "b"]',
        "[]",
        '[{"name": "a"}]',
        '[{"role": "engineer", "name": "Ann"}]',
        "[{'from': 'Ann', 'to': 'Bob'}]",
        '{"model": "m", "messages": [{"role": "user", "content": "a"}]}',
        '[{"messages": [{"role": "user", "content": "a"}]}]',
        "The list is [{'role': 'user', 'content': 'a'}].",
    ],
)
def test_other_cells_stay_text(write_rows, cell):
    row = {"text": cell, "id": str(CHAT)}
    assert read(write_rows("a.csv", [row])) == [row]


def test_ragged_rows_name_their_line_and_can_be_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('chosen,rejected\n"a\n\nb",c\nd,e,f\n\ng\nh,i\n')
    words = r"a\.csv, line 2: .* begins on its line 5 has 3 cells, the header 2"
    with pytest.raises(DataError, match=words):
        load_examples(path)
    data = load_examples(path, on_malformed="skip")
    assert [example.text(0) for example in data] == ["a\n\nb", "h"]
    places = [text.split(":")[0] for text in data.report.malformed]
    assert places == [f"{path}, line 2", f"{path}, line 3"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([{"from": "human", "value": "a"}], r"field 'text\[0\]'.*'role' has to be text"),
        ([CHAT], r"field 'text\[0\]': a chat message is needed, not a list"),
        (CHAT[0], "field 'text': text or a list of chat messages"),
    ],
)
def test_messages_of_another_form_are_an_error_as_in_json_lines(write_rows, value, text):
    with pytest.raises(DataError, match=text):
        list(read_scoring_rows(write_rows("a.csv", [{"text": json.dumps(value)}])))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (b'"a,b\nc,d\n', "unexpected end of data"),
        (b'"He said "hi"",b\n', "expected after"),
        (b"caf\xe9,b\n", "utf-8"),
    ],
)
def test_broken_quotes_and_bytes_name_the_line(tmp_path, row, text):
    path = tmp_path / "a.csv"
    path.write_bytes(b"chosen,rejected\n" + b"a,b\n" * 9000 + row)
    with pytest.raises(DataError, match=f"CSV file cannot be read from line .*{text}") as caught:
        read(path)
    line = int(caught.value.problem.split(" from line ")[1].split()[0])
    assert line == 9002 if row.isascii() else 6000 < line <= 9002


def test_damaged_gzip(tmp_path):
    rows = b"".join(b"%d,%d\n" % (i, i * 7919 % 1013) for i in range(9999))
    packed = gzip.compress(b"chosen,rejected\n" + rows)
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="CSV file cannot be read from line"):
        read(tmp_path / "a.csv.gz")


def test_a_file_is_read_piece_by_piece(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("chosen,rejected\n" + "a,b\n" * 50_000 + '"')
    rows = iter_rows(path)
    assert next(rows) == (1, {"chosen": "a", "rejected": "b"})  # before the end is looked at
    for text in ("chosen,rejected\n", ""):
        path.write_text(text)
        assert list(iter_rows(path)) == []
