"""The paper's own files: its rows, the numbers of its evaluations, and its adapters."""

import json
from collections import Counter

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2Model

from hidden_context import heads
from hidden_context.analysis.config import SummarizeConfig
from hidden_context.data.dialogue import join, last_turns, shared_prompt
from hidden_context.data.importers import read_row
from hidden_context.data.responses import read_scoring_rows
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import first_question
from hidden_context.data.splits.held_out import load_evaluation, load_splits
from hidden_context.data.storage.download import blob_id, files_of
from hidden_context.errors import MissingFileError
from hidden_context.models import RewardModel
from hidden_context.paper import workflow as summarize
from hidden_context.paper.summary import PUBLISHED
from support.builders import sample_texts, tiny_tokenizer

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
        assert shared_prompt(row["chosen"], row["rejected"]) == f"{row['prompt']}\n\nAssistant:"
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


@pytest.fixture(scope="module")
def summary(real_data):
    return summarize.run(SummarizeConfig(data_dir=str(real_data)))


@pytest.mark.parametrize(
    ("kind", "train_set", "mean", "quantile"),
    [
        ("base", "helpful", 98, None),
        ("base", "harmless", 7, None),
        ("base", "both", 47, None),
        ("mean_and_variance", "both", 57, 38),
    ],
)
def test_jailbreak_rates(summary, kind, train_set, mean, quantile):
    found = [count for count, _ in summary.cell(kind, train_set).jailbreak.shares]
    assert [one and (one.count, one.total) for one in found] == [
        one and (one, 187) for one in (mean, quantile)
    ]
    paper = PUBLISHED[kind, train_set].jailbreak_rate
    assert tuple(one and round(one.share, 3) for one in found) == paper


def test_the_quantile_lowers_the_jailbreak_rate_of_mean_and_variance(summary):
    rates = summary.cell("mean_and_variance", "both").jailbreak
    (_, mean), (_, quantile) = rates.shares
    assert (mean.low, mean.high) == pytest.approx((0.241, 0.374), abs=0.006)
    assert (quantile.low, quantile.high) == pytest.approx((0.150, 0.267), abs=0.006)
    assert rates.test.statistic < 0  # fewer rows, and on the same rows
    assert rates.test.p_value == pytest.approx(2.1e-5, rel=0.02)


def test_the_whole_of_table_1_and_r_squared_where_the_evaluations_are_there(summary):
    compared = 0
    for cell in summary.cells:
        evaluation = cell.evaluation
        if evaluation is None:
            continue
        compared += 1
        paper = PUBLISHED[cell.reward_model_type, cell.train_set]
        ours = [count for count, _ in evaluation.shares]
        for share, published in zip(ours, paper.helpfulness_accuracy, strict=True):
            if published is not None:
                assert round(share.share, 3) == published
        if paper.r_squared is not None:
            assert round(evaluation.r_squared, 2) == paper.r_squared
    if not compared:
        pytest.skip("HIDDEN_CONTEXT_DATA holds no eval_results_both.jsonl")


def test_a_categorical_file_of_the_same_form(real_data, tmp_path):
    # The real rows with each normal reward put on ten atoms: every text is kept, the head changes.
    lines = (real_data / "jailbroken_evaluations_mean_and_variance.jsonl").read_text()
    rows = []
    for row in map(json.loads, lines.splitlines()):
        for name in ("helpful", "harmless", "both"):
            outputs = row.pop(f"reward_outputs_{name}_mean_and_variance")
            row[f"reward_outputs_{name}_categorical"] = [
                [mean * 10 * atom for atom in range(10)] for mean, _ in outputs
            ]
        rows.append(row)
    path = tmp_path / "jailbroken_evaluations_categorical.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = summarize.run(SummarizeConfig(data_dir=str(tmp_path)))
    # A logit that is linear in the atom orders both mean and quantile as its slope does, so the
    # counts are those of the means.
    for train_set, count in (("helpful", 111), ("harmless", 3), ("both", 57)):
        jailbreak = numbers.cell("categorical", train_set).jailbreak
        assert [found.count for found, _ in jailbreak.shares] == [count, count]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A plain GPT-2 small: the adapters are what is published, its weights do not matter here."""
    folder = tmp_path_factory.mktemp("gpt2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2Model(GPT2Config()).save_pretrained(folder)
    tiny_tokenizer(max_length=1024).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "given"),
    [("base", "base"), ("base", None), ("mean_and_variance", "mean_and_variance")],
)
def test_outputs_of_the_adapters_equal_pefts_own(gpt2, real_data, head, given):
    folder, texts = real_data / "reward_models/hh_rlhf/both", sample_texts(4)
    adapter = min(folder.glob(f"{head}_gpt2*_peft_last_checkpoint"))
    model = RewardModel.from_pretrained(
        adapter, head=given, base_model=gpt2, dtype="float32", device="cpu"
    )
    assert model.head == heads.make(head)
    labels, tokenizer = model.head.num_outputs, tiny_tokenizer(max_length=1024)
    stock = AutoModelForSequenceClassification.from_pretrained(gpt2, num_labels=labels)
    module = PeftModel.from_pretrained(stock, str(adapter)).eval()
    with torch.no_grad():
        expected = [module(**tokenizer(text, return_tensors="pt")).logits for text in texts]
    assert torch.cat(expected).std(0).min() > 1e-4
    assert torch.allclose(model.raw_outputs(texts), torch.cat(expected), atol=1e-6, rtol=1e-6)
