from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hidden_context.data.example import Judgement, Ranking
from hidden_context.errors import DataError
from support.published import import_files, jsonl_file

TEXTS = ["She waits.", "She waits, and waits.", "Waiting."]


def writer_files(
    folder: Path, writer: str, order: list[int], ranked: list[int], **columns: Any
) -> list[Path]:
    """Write what a writer was shown, and which response has rank 1, 2 and 3, as published."""
    folder.mkdir(exist_ok=True)
    shown = {
        "instruction": "What does she do?",
        "responses": [TEXTS[number] for number in order],
        "mapping": {"Response 1": "AI-edited"},
        "id": "gene_1",
        "instruction_id": 1,
        **columns,
    }
    ranks: dict[str, Any] = {
        f"rank_{n}": f"Response {response}" for n, response in enumerate(ranked, 1)
    }
    paths = [folder / f"{writer}.json", folder / f"{writer}_rankings.json"]
    paths[0].write_text(json.dumps([shown]), encoding="utf-8")
    paths[1].write_text(json.dumps([{"instruction_id": 1, **ranks}]), encoding="utf-8")
    return paths


def item(**columns: Any) -> dict[str, Any]:
    return {
        "batch": "batch1",
        "instruction": "What does she do?",
        "responses": TEXTS,
        "rankings": [
            {"annotator": "writer03", "ranks": [2, 1, 3]},
            {"annotator": "writer01", "ranks": [1, 2, 3]},
        ],
        **columns,
    }


def test_ranks_by_response(tmp_path: Path) -> None:
    rows = [item(), item(rankings=[]), item(rankings=None)]
    examples, report = import_files("lamp", [jsonl_file(tmp_path / "rankings.jsonl", rows)])
    (example,) = examples
    assert example.judgements == (
        Judgement(Ranking((2, 1, 3)), "writer03"),
        Judgement(Ranking((1, 2, 3)), "writer01"),
    )
    assert example.columns["instruction"] == "What does she do?"
    assert example.prompt == [{"role": "user", "content": "What does she do?"}]
    assert report.left_out == {"items that nobody ranked": 2}


def test_every_writer_saw_the_paragraphs_in_another_order(tmp_path: Path) -> None:
    # Both like TEXTS[1] best and TEXTS[0] least.
    files = [
        *writer_files(tmp_path / "batch1", "ann", [0, 1, 2], [2, 3, 1]),
        *writer_files(tmp_path / "batch1", "bob", [2, 0, 1], [3, 1, 2]),
    ]
    examples, report = import_files("lamp", files[::-1])
    (example,) = examples
    assert [text[0]["content"] for text in example.responses] == [TEXTS[n] for n in (2, 0, 1)]
    assert example.judgements == (
        Judgement(Ranking((2, 3, 1)), "bob"),
        Judgement(Ranking((2, 3, 1)), "ann"),
    )
    assert (example.columns["batch"], example.columns["id"]) == ("batch1", "gene_1")
    assert report.left_out == {}


def test_what_was_not_ranked_or_is_the_same(tmp_path: Path) -> None:
    files = [
        *writer_files(tmp_path / "batch1", "ann", [0, 1, 2], [2, 3, 1]),
        *writer_files(tmp_path / "batch1", "bob", [0, 1, 2], [2, 3, 1], instruction_id=2),
        *writer_files(tmp_path / "batch2", "ann", [0, 0, 2], [2, 3, 1]),
    ]
    examples, report = import_files("lamp", files)
    assert len(examples) == report.judgements == 1
    assert report.left_out == {
        "paragraphs that a writer saw and did not rank": 1,
        "rankings of paragraphs of which two are the same": 1,
    }


def test_odd_files_of_writers(tmp_path: Path) -> None:
    shown, ranked = writer_files(tmp_path / "batch1", "ann", [0, 1, 2], [2, 3, 1])
    with pytest.raises(DataError, match=r"ann.json: its rankings are missing: ann_rankings.json"):
        import_files("lamp", [shown])
    with pytest.raises(DataError, match=r"ranked are missing: ann\.json"):
        import_files("lamp", [ranked])
    for ranking, message in (
        ([2, 2, 1], "field 'rank_1, rank_2, rank_3': a response has two ranks"),
        ([2, 4, 1], "field 'rank_2': one of Response 1, Response 2, Response 3 is needed"),
        ([2, 1], "3 responses were shown, but Response 1, Response 2 are ranked"),
    ):
        files = writer_files(tmp_path / "batch1", "ann", [0, 1, 2], ranking)
        with pytest.raises(DataError, match=message):
            import_files("lamp", files)
    files = writer_files(tmp_path / "batch1", "ann", [0, 1, 2], [2, 3, 1])
    files[1].write_text(json.dumps(json.loads(files[1].read_text()) * 2), encoding="utf-8")
    with pytest.raises(DataError, match="line 2, field 'instruction_id': 1 is ranked twice"):
        import_files("lamp", files)
    files = writer_files(tmp_path / "batch1", "ann", [0, 1, 2], [2, 3, 1], responses=["a", 1])
    with pytest.raises(DataError, match=r"field 'responses\[1\]': text is needed"):
        import_files("lamp", files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"instruction": None}, "line 1, field 'instruction': text is needed"),
        ({"responses": None}, "field 'responses'"),
        (
            {"rankings": ["writer03"]},
            r"field 'rankings\[0\]': an object is needed",
        ),
        ({"rankings": [{"annotator": "a", "ranks": [0, 1, 2]}]}, "an integer of at least 1"),
        ({"rankings": [{"annotator": "a", "ranks": [1, 2]}]}, "2 ranks are given for 3 responses"),
        ({"rankings": [{"ranks": [1, 2, 3]}]}, r"'rankings\[0\].annotator': an annotator's name"),
        ({"rankings": [{"annotator": "a"}]}, r"field 'rankings\[0\].ranks': the column is missing"),
        ({"rankings": "1 2 3"}, "field 'rankings': a list of .* is needed, not text"),
    ],
)
def test_odd_items(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_files("lamp", [jsonl_file(tmp_path / "a.jsonl", [item(**changed)])])


@pytest.mark.real_data
def test_the_published_rankings(real_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lamp_rankings.jsonl.gz"
    copy.write_bytes((real_data / "people" / copy.name).read_bytes())
    examples, report = import_files("lamp", [copy])
    assert (len(examples), report.judgements, len(report.annotators)) == (205, 603, 13)
    assert Counter(len(example.judgements) for example in examples) == {3: 197, 2: 4, 1: 4}
    assert len({example.columns["instruction"] for example in examples}) == 200
    assert all(
        isinstance(said.answer, Ranking) and sorted(map(str, said.answer.ranks)) == ["1", "2", "3"]
        for example in examples
        for said in example.judgements
    )
