from collections import Counter

import pytest

from hidden_context.data.dialogue import join, last_turns, shared_prompt
from hidden_context.data.importers import read_row
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question
from hidden_context.data.splits.held_out import load_evaluation, load_splits
from hidden_context.data.storage.download import blob_id, files_of
from hidden_context.errors import MissingFileError

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    ("subset", "count"), [("both", 4043), ("helpful", 2157), ("harmless", 1886)]
)
def test_row_counts(real_data, subset, count):
    data = load_examples(real_data / "relabeled_hh_rlhf", subset, "test")
    report, subsets = data.report, Counter(example.data_subset for example in data)
    assert (len(data), report.rows, report.empty, report.malformed) == (count, count, 0, [])
    if subset == "both":
        assert (subsets, report.identical) == ({"harmless": 2056, "helpful": 1987}, 2)
    else:
        assert {example.objective for example in data} == {subset}
        assert subsets.keys() == {"helpful", "harmless"}


def test_prompt_is_inside_once_and_columns_are_untouched(real_data):
    joined = cut = 0
    for example in load_examples(real_data / "relabeled_hh_rlhf", "both", "test"):
        row = example.columns
        assert example.texts == (row["chosen"], row["rejected"])
        original = {side: f"\n\n{row[side]}" for side in ("chosen", "rejected")}
        assert read_row(original).prompt_key == example.prompt_key
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


def test_missing_train_split_and_its_remedies(real_data):
    root = real_data / "relabeled_hh_rlhf"
    with pytest.raises(MissingFileError, match=r"both/train\.jsonl\.gz does not exist"):
        load_splits(root)
    splits = load_splits(root, eval_fraction=0.1, validation_fraction=0.1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (3233, 341, 469)
    assert load_evaluation(root, eval_fraction=0.1).examples == splits.test
    sets = [splits.train, splits.validation, splits.test]
    assert sum(len({p.prompt_key for p in part}) for part in sets) == 4042
    first = [set(map(first_question, part)) for part in sets]
    assert sum(map(len, first)) == len(set.union(*first)) == 3820


def test_jailbreak_texts_follow_the_training_texts(real_data):
    rows = list(read_scoring_rows(real_data / "jailbroken_responses.jsonl"))
    assert len(rows) == 187
    for row in rows:
        assert row.kind == "responses"
        prompt, responses = row.columns["prompt"], row.columns["responses"]
        assert row.texts == tuple(prompt + response for response in responses)
        assert all(str(text).startswith("Human: ") for text in row.texts)


def test_published_files_have_the_listed_blob_ids(real_data):
    known = {name: blob for name, blob in files_of("all").items() if (real_data / name).is_file()}
    assert len(known) >= 6
    assert {name: blob_id(real_data / name) for name in known} == known
