import numpy as np
import pytest
import torch

from hidden_context import heads, risk
from hidden_context.errors import ConfigError

NORMAL = heads.make("mean_and_variance").distribution(torch.tensor([[0.5, 0.3], [1.0, 2.0]]))
CATEGORICAL = heads.make("categorical", num_atoms=4).distribution(
    torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", NORMAL.mean),
        ("quantile:0.01", NORMAL.quantile(0.01)),
        ("cvar:0.05", NORMAL.cvar(0.05)),
        ("mean_minus_std:1.5", NORMAL.mean - 1.5 * NORMAL.stddev),
        ("entropic:2", NORMAL.mean - NORMAL.variance),
    ],
)
def test_each_measure_is_the_distributions_own(name, expected):
    measure = risk.parse(name)
    np.testing.assert_allclose(measure(NORMAL), expected, rtol=1e-6)
    assert risk.parse(str(measure)) == measure


def test_the_reading_of_a_quantile_may_be_chosen():
    assert risk.parse("quantile:0.25:bins")(CATEGORICAL).item() == pytest.approx(1.75 / 4)
    assert risk.parse("quantile:0.25")(CATEGORICAL).item() == pytest.approx(1 / 3)
    np.testing.assert_allclose(risk.parse("quantile:0.25:bins")(NORMAL), NORMAL.quantile(0.25))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("median", "'median' is not known; choose one of mean, quantile"),
        ("mean:1", "takes no parameter"),
        ("quantile", "needs a level in"),
        ("quantile:x", "needs a level in"),
        ("quantile:0", r"level in \(0, 1\).*got 0"),
        ("quantile:0.1:middle", "step or bins"),
        ("quantile:0.1:bins:x", "needs a level"),
        ("cvar:2", "share in"),
        ("cvar:0.1:bins", "share in"),
        ("mean_minus_std:-1", "standard deviations"),
        ("entropic:0", "aversion"),
        ("entropic:nan", "aversion"),
    ],
)
def test_bad_names_say_what_is_needed(text, message):
    with pytest.raises(ConfigError, match=message):
        risk.parse(text)


def test_names_keep_every_digit():
    for text in ("quantile:0.0123456789", "entropic:2", "mean_minus_std:0", "cvar:1e-07"):
        assert risk.parse(str(risk.parse(text))) == risk.parse(text)
    assert str(risk.parse("entropic:2.0")) == "entropic:2"


def test_unknown_name_in_the_constructor():
    with pytest.raises(ConfigError, match="not known"):
        risk.RiskMeasure("median")
