"""Every head in every option that changes its maths, for the tests of what all heads have."""

from __future__ import annotations

from typing import Any

import pytest

from hidden_context import heads
from hidden_context.heads import Head


def ensemble(member: Any, num_members: int = 2, **options: Any) -> Head:
    return heads.make("ensemble", member=member, num_members=num_members, **options)


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
    "ensemble of base": ensemble(heads.make("base"), 3),
    "ensemble of probit": ensemble({"type": "mean_and_variance", "variance_penalty": 0.1}),
    "ensemble of categorical": ensemble(heads.make("categorical", num_atoms=3)),
    "ensemble of factor": ensemble(
        heads.make("factor", num_factors=2), location=(0.5, -1.0), scale=(2.0, 0.5)
    ),
    "ensemble of mixture": ensemble(heads.make("mixture", num_components=2)),
    "ensemble of quantile": ensemble(heads.make("quantile", num_atoms=3, smoothing=0.5)),
}


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def head(request: pytest.FixtureRequest) -> Head:
    return request.param
