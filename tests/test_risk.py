import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context import heads, risk
from hidden_context.errors import ConfigError

NORMAL = heads.make("mean_and_variance").distribution(torch.tensor([[0.5, 0.3], [1.0, 2.0]]))
CATEGORICAL = heads.make("categorical", num_atoms=4).distribution(
    torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
)
# two prompts of three answers: two objectives' people, and a bland answer between
FACTOR = heads.make("factor").distribution(
    torch.tensor(
        [
            [[1.0, 2.0, 0.5], [0.9, 0.0, 0.5], [1.1, -4.0, 0.5]],
            [[0.0, 1.0, 0.1], [0.5, 1.0, 0.1], [1.0, 1.0, 0.1]],
        ],
        dtype=torch.float64,
    )
)


@pytest.mark.parametrize(
    ("name", "rewards", "expected"),
    [
        ("mean", NORMAL, NORMAL.mean),
        ("quantile:0.01", NORMAL, NORMAL.quantile(0.01)),
        ("cvar:0.05", NORMAL, NORMAL.cvar(0.05)),
        ("mean_minus_std:1.5", NORMAL, NORMAL.mean - 1.5 * NORMAL.stddev),
        ("entropic:2", NORMAL, NORMAL.mean - NORMAL.variance),
        ("relative_quantile:0.1", FACTOR, FACTOR.relative().quantile(0.1)),
        ("relative_cvar:0.1", FACTOR, FACTOR.relative().cvar(0.1)),
        # where people agree there is only the mean, less that of the candidates
        ("relative_cvar:0.1", FACTOR[1:], [[-0.5, 0, 0.5]]),
    ],
)
def test_each_measure_is_the_distributions_own(name, rewards, expected):
    measure = risk.parse(name)
    np.testing.assert_allclose(measure(rewards), expected, rtol=1e-6, atol=1e-12)
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
        ("entropic:inf", "aversion"),
        ("relative_quantile", "needs a level"),
        ("relative_quantile:0", r"level in \(0, 1\), as in relative_quantile:0.1; got 0"),
        ("relative_quantile:0.1:bins", "needs a level"),
        ("relative_cvar:1.5", r"share in \(0, 1\], as in relative_cvar"),
        ("relative:0.1", "'relative:0.1' is not known; choose one of mean"),
    ],
)
def test_bad_names_say_what_is_needed(text, message):
    with pytest.raises(ConfigError, match=message):
        risk.parse(text)


def test_names_keep_every_digit():
    for text in ("quantile:0.0123456789", "entropic:2", "mean_minus_std:0", "relative_cvar:1"):
        assert str(risk.parse(text)) == text
    assert str(risk.parse("entropic:2.0")) == "entropic:2"


def test_unknown_name_in_the_constructor():
    with pytest.raises(ConfigError, match="not known"):
        risk.RiskMeasure("median")


def test_relative_measures_say_what_they_need():
    measure = risk.parse("relative_quantile:0.1")
    # the bland answer serves worst those whom it serves worst, but better than the others do
    assert (measure(FACTOR)[0].argmax().item(), FACTOR.mean[0].argmax().item()) == (1, 2)
    assert measure.is_relative
    assert not risk.parse("quantile:0.1").is_relative
    ensemble = heads.make("ensemble", num_members=2).distribution(torch.zeros(3, 2))
    for rewards in (NORMAL, CATEGORICAL, ensemble):
        with pytest.raises(ConfigError, match="need a factor head"):
            measure(rewards)
    with pytest.raises(ConfigError, match="score several responses together"):
        measure(FACTOR[0, 0])


@given(
    st.sampled_from(["quantile", "cvar", "entropic", "relative_quantile", "relative_cvar"]),
    st.floats(1e-9, 1, exclude_max=True),
)
def test_names_round_trip(name, parameter):
    measure = risk.RiskMeasure(name, parameter)
    assert risk.parse(str(measure)) == measure
