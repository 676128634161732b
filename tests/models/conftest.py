import shutil
from pathlib import Path

import pytest

from hidden_context import heads
from support.fixtures import backbones, feature_cache_in_tmp, fixed_random_state
from support.models import frozen_model, load, sequence_model, write_ensemble

__all__ = ["backbones", "feature_cache_in_tmp", "fixed_random_state"]


@pytest.fixture(scope="session")
def saved(backbones, tmp_path_factory):
    """``saved(kind)``: the folder of a reward model, written by ``save_pretrained``."""
    root, made = tmp_path_factory.mktemp("saved"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = root / kind
            if kind == "ensemble":
                write_ensemble(root / "by hand", backbones("llama"))
                model = load(root / "by hand")
                spread = heads.EnsembleHead(model.member, 3, location=(1, 0, -1), scale=(0.5, 2, 1))
                model.likelihood.head = spread
                model.card = {"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}}
            elif kind == "frozen":
                model = frozen_model(backbones("gpt2"))
            elif kind == "scalar":
                model = sequence_model(backbones("gpt2"), heads.make("base"))
            else:
                model = sequence_model(backbones("gpt2"), tuning=kind)
            model.save_pretrained(made[kind])
        return made[kind]

    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """``copied(kind)``: a copy of such a folder, to be changed."""
    return lambda kind: Path(shutil.copytree(saved(kind), tmp_path / f"copied {kind}"))
