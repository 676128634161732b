"""What CONTRIBUTING.md shows as the smallest head, importer and risk measure works as it stands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
import torch
from torch import Tensor

from hidden_context import heads, risk
from hidden_context.data import importers
from hidden_context.data.checks import Place, read_conversation
from hidden_context.data.example import Comparison, Example, Judgement
from hidden_context.distributions import NormalReward
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.heads import Head
from hidden_context.heads import registry as head_registry
from hidden_context.models import RewardModel
from hidden_context.risk.measure import Measure
from hidden_context.training import run
from support.builders import preference_rows, train_config
from support.fixtures import backbones, feature_cache_in_tmp  # noqa: F401


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """Names that the code blocks of CONTRIBUTING.md define."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    known = (Any, ClassVar, Comparison, Example, Final, Head, Judgement, Mapping, Measure)
    names = {getattr(each, "__name__", str(each).split(".")[-1]): each for each in known}
    names |= {"NormalReward": NormalReward, "Place": Place, "Tensor": Tensor, "torch": torch}
    names |= {"at_least_float32": at_least_float32, "dataclass": dataclass}
    names |= {"read_conversation": read_conversation, "__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    return names


def test_the_smallest_head_trains_and_loads(shown, backbones, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(head_registry._CLASSES, "fixed_spread", shown["FixedSpreadHead"])
    head = heads.make("fixed_spread")
    found = head.log_prob_preferred(torch.tensor([1.5]), torch.tensor([0.5]))
    assert found.exp().item() == pytest.approx(0.5 * math.erfc(-1 / math.sqrt(2) / math.sqrt(2)))
    config = train_config(
        backbones("gpt2"), tmp_path, reward_model_type="fixed_spread", max_steps=2
    )
    result = run(config, preference_rows(8))
    loaded = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    assert loaded.head == head
    assert loaded.score(["a text"]).stddev.tolist() == [1.0]


def test_the_smallest_importer_reads_its_rows(shown, monkeypatch):
    class Module:
        recognises = staticmethod(shown["recognises"])
        read = staticmethod(shown["read"])

    monkeypatch.setattr(importers, "IMPORTERS", (Module, *importers.IMPORTERS))
    example = importers.read_row({"question": "Tea?", "better": " Yes.", "worse": " No."}, line=3)
    assert example.texts == ("Tea? Yes.", "Tea? No.")
    assert [judgement.answer for judgement in example.judgements] == [Comparison(0, 1)]
    assert example.source_lines == (3,)


def test_the_smallest_risk_measure_is_known_by_name(shown, monkeypatch):
    monkeypatch.setitem(risk.MEASURES, "median", shown["MEDIAN"])
    rewards = NormalReward(torch.tensor([2.0]), torch.tensor([3.0]))
    measure = risk.parse("median")
    assert str(measure) == "median"
    assert measure(rewards).tolist() == pytest.approx([2.0])
