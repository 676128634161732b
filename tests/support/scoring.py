"""Scoring and evaluating in tests, and runs that are interrupted."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import torch

from hidden_context import heads, scoring
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.models.checkpoint.likelihood_file import save_likelihood
from hidden_context.models.checkpoint.reference import Reference
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import EvaluateConfig, ScoreConfig
from hidden_context.scoring.record import PartialScores
from hidden_context.scoring.reference import fit_place
from hidden_context.scoring.requests import Scorer
from support.builders import sample_texts
from support.paper_layout import reward_checkpoint


def score(source: Any, models: Any, output: Any, **options: Any) -> scoring.ScoreResult:
    """Score a file with one or several models."""
    models = [str(models)] if isinstance(models, (str, Path)) else models
    options = {"disable_tqdm": True, **options}
    return scoring.score_file(
        ScoreConfig(input=str(source), models=models, output=str(output), **options)
    )


def evaluate(checkpoint: Any, data: Any, **options: Any) -> scoring.EvaluationResult:
    """Evaluate a checkpoint on a file."""
    config = {"checkpoint": str(checkpoint), "data_path": str(data), "disable_tqdm": True}
    return scoring.evaluate(EvaluateConfig(**config, **options))


def factor_checkpoint(folder: str | Path, **options: Any) -> str:
    """Save a factor model of 2 factors that knows the annotators 7, ann and bob."""
    reward_checkpoint(folder, "factor", num_factors=2, **options)
    options = LikelihoodOptions(inference="variational", names=("7", "ann", "bob"))
    save_likelihood(folder, make_likelihood(heads.make("factor", num_factors=2), options))
    return str(folder)


FAR = {"distance": torch.zeros(100), "sigma": torch.full((100,), 1e9)}
FAR["disagreement"] = torch.full((100,), 0.5)


def with_reference(model: Any, **usual: torch.Tensor) -> Any:
    """Copy a model and give it a reference of some texts, whose own distances are usual if unset.

    With the values of ``FAR`` all texts are far, and usual otherwise.
    """
    scorer, found = Scorer(model), copy.copy(model)
    features = scorer.run(scorer.prepare(sample_texts(60, 4)), with_features=True).features
    assert features is not None
    ranks = torch.linspace(0, 0.5, 101)
    usual = {"sigma": 4 * ranks, "disagreement": ranks} | usual
    own = {"head": model.head.to_dict(), "facts": {}, "distance": torch.empty(0)} | usual
    place = Reference(*fit_place(features)[:3], model.readout(), **own)
    usual = {"distance": place.distances(features).sort().values} | usual
    found.reference = dataclasses.replace(place, **usual)
    return found


class Call(NamedTuple):
    """One call of a model."""

    texts: list[Any]
    threads: int


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call of a model, in order."""
    found: list[Call] = []
    original = SequenceRewardModel.try_raw_outputs

    def recorded(self, texts, *args, **options):
        found.append(Call(list(texts), torch.get_num_threads()))
        return original(self, texts, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", recorded)
    return found


@pytest.fixture
def after_window(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Do something when so many windows more have been written to a record."""

    def install(count: int, action: Callable[[], Any]) -> None:
        original, written = PartialScores.append, []

        def append(self, *args):
            original(self, *args)
            written.append(1)
            if len(written) == count:
                action()

        monkeypatch.setattr(PartialScores, "append", append)

    return install


@pytest.fixture
def interrupt(after_window: Callable[..., None]) -> Callable[..., None]:
    """Run something until so many windows more stand in a record."""

    def run(windows: int, work: Callable[..., Any], *args: Any, **options: Any) -> None:
        after_window(windows, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            work(*args, **options)

    return run
