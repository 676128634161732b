"""What the guide shows as the smallest head, importer and risk measure works as it stands."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from hidden_context import heads, risk
from hidden_context.data import importers
from hidden_context.data.example import Comparison
from hidden_context.distributions import NormalReward
from hidden_context.errors import ConfigError
from hidden_context.models import RewardModel
from hidden_context.training import run
from support.builders import preference_rows, train_config
from support.fixtures import backbones, feature_cache_in_tmp  # noqa: F401

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "extending.md"


@pytest.fixture
def shown(monkeypatch) -> dict[str, Any]:
    """Names that the guide's code blocks define; its head is known for one test."""
    monkeypatch.setattr(heads, "_CLASSES", dict(heads._CLASSES))
    names: dict[str, Any] = {"__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, GUIDE.name, "exec", dont_inherit=True), names)
    return names


def test_the_smallest_head_trains_and_loads(shown, backbones, tmp_path):  # noqa: F811
    head = heads.make("fixed_spread", spread=2.0)
    found = head.log_prob_preferred(torch.tensor([1.5]), torch.tensor([0.5]))
    assert found.exp().item() == pytest.approx(0.5 * math.erfc(-1 / math.sqrt(8) / math.sqrt(2)))
    config = train_config(
        backbones("gpt2"),
        tmp_path,
        reward_model_type="fixed_spread",
        head_options={"spread": 2.0},
        max_steps=2,
    )
    result = run(config, preference_rows(8))
    loaded = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    assert loaded.head == head
    assert loaded.score(["a text"]).stddev.tolist() == [2.0]


def test_a_head_registered_again_replaces_itself_alone(shown):
    assert heads.register(shown["FixedSpreadHead"]) is shown["FixedSpreadHead"]
    again = type("FixedSpreadHead", (shown["FixedSpreadHead"],), {"__module__": __name__})
    assert type(heads.register(again)()) is type(heads.make("fixed_spread")) is again
    other = type("Other", (shown["FixedSpreadHead"],), {})
    with pytest.raises(ConfigError, match="'fixed_spread' is taken by FixedSpreadHead; rename"):
        heads.register(other)
    with pytest.raises(ConfigError, match="head Head needs distribution, num_outputs, type"):
        heads.register(heads.Head)


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
