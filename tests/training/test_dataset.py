from __future__ import annotations

import pytest
import torch

from hidden_context import heads
from hidden_context.data.preferences import parse_preference
from hidden_context.data.report import ReadReport
from hidden_context.training.dataset import PairTokens, PreferenceDataset, collate_pairs
from hidden_context.training.fitted import reward_scale
from hidden_context.training.schedules import cosine_factor, paper_schedule, step_factor
from support.builders import preference_rows, tiny_tokenizer

PAIRS = [parse_preference(dict(row)) for row in preference_rows(12, seed=1)]


def test_items_know_their_rows_and_come_longest_first():
    tokenizer = tiny_tokenizer()
    plain = PreferenceDataset(PAIRS, tokenizer, 128)
    by_length = PreferenceDataset(PAIRS, tokenizer, 128, sort_by_length=True)
    assert [plain[i]["row"] for i in range(12)] == list(range(12))
    items = [by_length[i] for i in range(12)]
    sizes = [len(item["chosen"]) + len(item["rejected"]) for item in items]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(by_length[i]["row"] for i in range(12)) == list(range(12))
    row = by_length[0]["row"]
    assert by_length[0]["chosen"] == tokenizer(PAIRS[row].chosen)["input_ids"]


def test_rows_are_those_of_the_data_after_dropping():
    tokenizer = tiny_tokenizer()
    lengths = [max(len(tokenizer(t)["input_ids"]) for t in (p.chosen, p.rejected)) for p in PAIRS]
    limit = sorted(lengths)[5]
    report = ReadReport("here", rows=12, kept=12)
    dataset = PreferenceDataset(PAIRS, tokenizer, limit, report=report)
    kept = [row for row, length in enumerate(lengths) if length <= limit]
    assert [dataset[i]["row"] for i in range(len(dataset))] == kept
    assert report.kept == len(kept)
    assert report.too_long == 12 - len(kept)
    groups = dataset.group_of_rows("data_subset")
    assert groups == {row: PAIRS[row].data_subset for row in kept}
    assert dataset.group_of_rows("annotator") == {}


def test_batches_keep_both_sides_as_they_are():
    items = [
        {"chosen": [5, 6, 7], "rejected": [8], "row": 4},
        {"chosen": [9], "rejected": [3, 4], "row": 2},
    ]
    batch = collate_pairs(items)
    assert batch["tokens"] == PairTokens([[5, 6, 7], [9]], [[8], [3, 4]])
    assert batch["row"].tolist() == [4, 2]


def test_reward_scale_is_that_of_mean_rewards():
    scale = reward_scale(heads.make("base"), torch.tensor([[1.0], [3.0], [5.0], [7.0]]))
    assert (scale.mean, scale.texts) == (4.0, 4)
    assert scale.stddev == pytest.approx(5**0.5)


def test_schedules_hold_their_last_value():
    assert cosine_factor(0, 0) == 1.0
    assert cosine_factor(99, 10) == pytest.approx(0.1)
    assert step_factor(99, 10) == 0.01
    assert [step_factor(t, 2) for t in range(3)] == [1.0, 0.1, 0.01]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = paper_schedule("cosine", optimizer, 2)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.2])
