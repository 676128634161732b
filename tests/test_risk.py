import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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
    for text in (
        "quantile:0.0123456789",
        "entropic:2",
        "mean_minus_std:0",
        "cvar:1e-07",
        "relative_quantile:0.0123456789",
        "relative_cvar:1",
    ):
        assert risk.parse(str(risk.parse(text))) == risk.parse(text)
        assert str(risk.parse(text)) == text
    assert str(risk.parse("entropic:2.0")) == "entropic:2"


def test_unknown_name_in_the_constructor():
    with pytest.raises(ConfigError, match="not known"):
        risk.RiskMeasure("median")


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


def test_relative_measures_are_those_over_annotators():
    torch.manual_seed(0)
    z = torch.randn(200_000, 1, 1, dtype=torch.float64)
    utilities = FACTOR.mean + FACTOR.loadings[..., 0] * z  # without the noise of judgements
    relative = (utilities - utilities.mean(-1, keepdim=True)).sort(0).values
    quantile, cvar = risk.parse("relative_quantile:0.1"), risk.parse("relative_cvar:0.1")
    np.testing.assert_allclose(quantile(FACTOR), relative[20_000 - 1], atol=0.03)
    np.testing.assert_allclose(cvar(FACTOR), relative[:20_000].mean(0), atol=0.03)
    # the bland answer serves worst those whom it serves worst, but better than the others do
    assert quantile(FACTOR)[0].argmax().item() == 1
    assert FACTOR.mean[0].argmax().item() == 2
    # where people agree there is only the mean, less that of the candidates
    np.testing.assert_allclose(cvar(FACTOR)[1], [-0.5, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(risk.parse("relative_cvar:1")(FACTOR), relative.mean(0), atol=0.02)


def test_relative_measures_of_an_ensemble_take_in_its_members():
    member = heads.make("factor")
    head = heads.make("ensemble", member=member, num_members=2, scale=(1.0, 2.0))
    raw = torch.tensor([[1.0, 2.0, 0.0, 0.0, 4.0, 0.0], [0.0, -1.0, 0.0, 3.0, 1.0, 0.0]]).double()
    ensemble = head.distribution(raw)
    value = risk.parse("relative_quantile:0.2")(ensemble)
    each = [
        member.distribution(raw[:, place : place + 3] / unit).relative()
        for place, unit in ((0, 1.0), (3, 2.0))
    ]
    # an equal mixture of both members' rewards lies below the value with probability 0.2
    for i in range(2):
        below = [stats.norm.cdf(value[i], r.mean[i], r.stddev[i]) for r in each]
        assert np.mean(below) == pytest.approx(0.2, abs=1e-9)


def test_relative_measures_say_what_they_need():
    measure = risk.parse("relative_quantile:0.1")
    assert measure.is_relative
    assert not risk.parse("quantile:0.1").is_relative
    for rewards in (NORMAL, CATEGORICAL):
        with pytest.raises(ConfigError, match="need a factor head"):
            measure(rewards)
    ensemble = heads.make("ensemble", num_members=2).distribution(torch.zeros(3, 2))
    with pytest.raises(ConfigError, match="use factor heads"):
        measure(ensemble)
    with pytest.raises(ConfigError, match="score several responses together"):
        measure(FACTOR[0, 0])


@given(
    st.sampled_from(["quantile", "cvar", "entropic", "relative_quantile", "relative_cvar"]),
    st.floats(1e-9, 1, exclude_max=True),
)
def test_names_round_trip(name, parameter):
    measure = risk.RiskMeasure(name, parameter)
    assert risk.parse(str(measure)) == measure
