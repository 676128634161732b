"""Fixtures of the tests of trainings."""

import pytest

from hidden_context.training import run
from hidden_context.training.loop import TrainingLoop
from support.builders import train_config
from support.fixtures import backbones, feature_cache_in_tmp, fixed_random_state
from support.models import load
from support.paper_layout import one_thread
from support.runs import copied

__all__ = ["backbones", "feature_cache_in_tmp", "fixed_random_state", "one_thread"]


@pytest.fixture
def fit(backbones, tmp_path):
    """Trains a tiny model on rows: ``fit(ROWS, TEST, into="a", tuning="lora")``."""

    def fit(rows=None, test=None, *, into="", backbone=None, callbacks=(), **options):
        config = train_config(backbone or backbones("gpt2"), tmp_path / into, **options)
        return run(config, rows, test, callbacks)

    return fit


@pytest.fixture
def learned(backbones, tmp_path):
    """Trains in one of the ways of ``support.runs``: the result, and the model loaded again."""

    def learned(way, rows=None, test=None, *, into="", **options):
        result = run(way(backbones, tmp_path / into, **options), rows, test)
        return result, load(result.path)

    return learned


@pytest.fixture
def loops(monkeypatch):
    """The training loops made, each with a copy of the parameters at its start."""
    made = []
    original = TrainingLoop.__init__

    def remembered(self, *args, **options):
        original(self, *args, **options)
        self.start = copied(self.runner.module)
        made.append(self)

    monkeypatch.setattr(TrainingLoop, "__init__", remembered)
    return made
