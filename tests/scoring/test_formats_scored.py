"""The same chats get the same rewards in every format, and every column is written."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from hidden_context import scoring
from hidden_context.errors import DataError
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import ScoreConfig
from support.builders import preference_rows, tiny_tokenizer
from support.paper_layout import read_rows, reward_checkpoint, write_rows

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}{% if 'name' in m %} by {{ m['name'] }}{% endif %}>"
    " {{ m['content'] }}{{ eos_token }}{% endfor %}"
)


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "chat"
    return reward_checkpoint(folder, tokenizer=tiny_tokenizer(chat_template=TEMPLATE))


def score(source, model, output):
    config = ScoreConfig(input=str(source), models=[model], output=str(output), disable_tqdm=True)
    return read_rows(scoring.score_file(config).path)


def chats(count):
    """Pairs of chats that name who answers; both sides repeat the prompt, or do not."""
    rows = []
    for number in range(count):
        prompt = [{"role": "user", "content": f"What of tea {number}?"}]
        answers = [{"name": "Ann", "content": "Nice."}, {"name": "Bob", "content": "Bad."}]
        sides = [[{"role": "assistant", **answer}] for answer in answers]
        if number % 2:
            sides = [prompt + side for side in sides]
        rows.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
    return rows


def test_parquet_and_json_lines_get_the_same_rewards(chat_model, tmp_path):
    rows = chats(6)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    plain = score(write_rows(tmp_path / "a.jsonl", rows), chat_model, tmp_path / "1.jsonl")
    table = score(tmp_path / "a.parquet", chat_model, tmp_path / "2.jsonl")
    for side in ("chosen", "rejected"):
        name = f"reward_output_{side}"
        assert [row[name] for row in plain] == [row[name] for row in table]
    assert table[1]["chosen"][0]["name"] is None  # what was read is written: a null key too
    assert plain[0]["reward_output_chosen"] != plain[1]["reward_output_chosen"]


def test_columns_that_json_lacks_are_written(checkpoint, tmp_path):
    extra = {"image": {"bytes": b"\x89PNG"}, "price": Decimal("1.50")}
    rows = [{**row, **extra} for row in preference_rows(3, 1)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for row in score(tmp_path / "a.parquet", checkpoint, tmp_path / "o.jsonl"):
        assert (row["image"], row["price"]) == ({"bytes": "iVBORw=="}, "1.50")
        assert len(row["reward_output_chosen"]) == 2


def test_values_that_cannot_be_read_are_found_before_a_model_is_loaded(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(SequenceRewardModel, "from_pretrained", None)
    texts = pa.array(["a"] * 1025)
    days = pa.array([0] * 1024 + [10**7], pa.date32())
    table = pa.table({"chosen": texts, "rejected": texts, "day": days})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"field 'day': a value after row 1024 cannot be read"):
        score(tmp_path / "a.parquet", checkpoint, tmp_path / "o.jsonl")
    content = "chosen,rejected\na,b\n\"[{'role': 'user', 'content': 'a'}]\",b\n"
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=r"line 2, field 'chosen': .*json\.dumps"):
        score(tmp_path / "a.csv", checkpoint, tmp_path / "o.jsonl")
    assert not list(tmp_path.glob("o.jsonl*"))


def test_messages_in_csv_get_the_rewards_of_messages(chat_model, tmp_path):
    rows = chats(4)
    plain = score(write_rows(tmp_path / "a.jsonl", rows), chat_model, tmp_path / "1.jsonl")
    table = pa.table({name: [json.dumps(row[name]) for row in rows] for name in rows[0]})
    csv.write_csv(table, tmp_path / "a.csv")
    cells = score(tmp_path / "a.csv", chat_model, tmp_path / "2.jsonl")
    assert cells == plain
