"""Fixtures shared by the tests of models and of training."""

from __future__ import annotations

import pytest
import torch

from support.builders import BackboneShelf


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> BackboneShelf:
    """Tiny backbones, each built once for the session: ``backbones("llama")`` names a folder."""
    return BackboneShelf(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(autouse=True)
def feature_cache_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def fixed_random_state():
    torch.manual_seed(0)
