"""Every head in every option that changes its maths, for the tests of what all heads have."""

from __future__ import annotations

import pytest

from hidden_context import heads
from hidden_context.heads import Head

HEADS = {
    "base": heads.make("base"),
    "probit": heads.make("mean_and_variance", variance_penalty=0.2),
    "logistic": heads.make("mean_and_variance", likelihood="logistic", variance_penalty=0.3),
    "categorical": heads.make("categorical", num_atoms=6),
    "categorical4": heads.make("categorical", num_atoms=4, entropy_coeff=0.0),
    "factor0": heads.make("factor", num_factors=0),
    "factor1": heads.make("factor", variance_penalty=0.3),
    "factor2": heads.make("factor", num_factors=2),
    "factor3": heads.make("factor", num_factors=3),
    "mixture1": heads.make("mixture", num_components=1),
    "mixture3": heads.make("mixture", num_components=3),
    "quantile1": heads.make("quantile", num_atoms=1),
    "quantile5": heads.make("quantile", num_atoms=5),
    "ensemble of base": heads.make("ensemble", num_members=3),
    "ensemble of probit": heads.make(
        "ensemble", member={"type": "mean_and_variance", "variance_penalty": 0.1}, num_members=2
    ),
    "ensemble of categorical": heads.make(
        "ensemble", member=heads.make("categorical", num_atoms=3), num_members=2
    ),
    "ensemble of factor": heads.make(
        "ensemble",
        member=heads.make("factor", num_factors=2),
        num_members=2,
        location=(0.5, -1.0),
        scale=(2.0, 0.5),
    ),
    "ensemble of mixture": heads.make(
        "ensemble", member=heads.make("mixture", num_components=2), num_members=2
    ),
    "ensemble of quantile": heads.make(
        "ensemble", member=heads.make("quantile", num_atoms=3, smoothing=0.5), num_members=2
    ),
}


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def head(request: pytest.FixtureRequest) -> Head:
    return request.param
