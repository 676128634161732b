from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from hidden_context.data.dialogue import join, last_turns, shared_prompt
from hidden_context.data.download import blob_id
from hidden_context.data.groups import first_question
from hidden_context.data.held_out import load_evaluation, load_splits
from hidden_context.data.importers import read_row
from hidden_context.data.paper_files import files_of
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.errors import MissingFileError

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def folder() -> Path:
    path = os.environ.get("HIDDEN_CONTEXT_DATA")
    if not path:
        pytest.skip("HIDDEN_CONTEXT_DATA does not name the folder of the paper's data")
    return Path(path)


@pytest.mark.parametrize(
    ("subset", "count"),
    [
        ("both", {"harmless": 2056, "helpful": 1987}),
        ("helpful", None),
        ("harmless", None),
    ],
)
def test_row_counts(folder: Path, subset: str, count: dict[str, int] | None) -> None:
    data = load_examples(folder / "relabeled_hh_rlhf", subset, "test")
    assert len(data) == {"both": 4043, "helpful": 2157, "harmless": 1886}[subset]
    assert (data.report.rows, data.report.empty, data.report.malformed) == (len(data), 0, [])
    if count is not None:
        assert Counter(p.data_subset for p in data) == count
        assert data.report.identical == 2
    else:
        assert {p.objective for p in data} == {subset}
        assert {p.data_subset for p in data} == {"helpful", "harmless"}


def test_prompt_is_inside_once_and_columns_are_untouched(folder: Path) -> None:
    joined = cut = 0
    for example in load_examples(folder / "relabeled_hh_rlhf", "both", "test"):
        row = example.columns
        assert example.texts == (row["chosen"], row["rejected"])
        assert example.prompt == row["prompt"]
        # The prompt found without the column is the same one, up to the announced answer.
        implicit = shared_prompt(row["chosen"], row["rejected"])
        assert implicit == row["prompt"] + "\n\nAssistant:"
        responses = row["responses"]
        joined += join(row["prompt"], responses[row["label"]]) == row["chosen"]
        response = responses[row["label"]].strip()
        told = last_turns(row["chosen"])[1]
        assert response.startswith(told)
        cut += told != response
    # In six prompts the last turn is not marked as the human's, so nothing is put between.
    assert joined == 4043 - 6
    assert cut == 1  # one goes on with a turn of the human, which is no part of the answer


def test_key_agrees_with_the_original_format(folder: Path) -> None:
    for example in load_examples(folder / "relabeled_hh_rlhf", "both", "test"):
        chosen, rejected = example.texts
        original = {"chosen": "\n\n" + str(chosen), "rejected": "\n\n" + str(rejected)}
        assert read_row(original).prompt_key == example.prompt_key


def test_missing_train_split_and_its_remedies(folder: Path) -> None:
    root = folder / "relabeled_hh_rlhf"
    with pytest.raises(MissingFileError, match=r"both/train\.jsonl\.gz does not exist"):
        load_splits(root)
    splits = load_splits(root, eval_fraction=0.1, validation_fraction=0.1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (3233, 341, 469)
    assert load_evaluation(root, eval_fraction=0.1).examples == splits.test
    sets = [splits.train, splits.validation, splits.test]
    assert sum(len({p.prompt_key for p in part}) for part in sets) == 4042
    first = [set(map(first_question, part)) for part in sets]
    assert sum(map(len, first)) == len(set.union(*first)) == 3820


def test_jailbreak_texts_follow_the_training_texts(folder: Path) -> None:
    rows = list(read_scoring_rows(folder / "jailbroken_responses.jsonl"))
    assert len(rows) == 187
    for row in rows:
        assert row.kind == "responses"
        prompt, responses = row.columns["prompt"], row.columns["responses"]
        assert row.texts == tuple(prompt + response for response in responses)
        assert all(str(text).startswith("Human: ") for text in row.texts)


def test_published_files_have_the_listed_blob_ids(folder: Path) -> None:
    known = {name: blob for name, blob in files_of("all").items() if (folder / name).is_file()}
    assert len(known) >= 6
    assert {name: blob_id(folder / name) for name in known} == known
