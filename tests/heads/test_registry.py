import pytest
import torch

from hidden_context import heads
from hidden_context.distributions import PointMassReward
from hidden_context.errors import ConfigError


def test_types_lists_every_head():
    assert heads.types() == (
        "base",
        "mean_and_variance",
        "categorical",
        "factor",
        "mixture",
        "quantile",
        "ensemble",
    )
    assert heads.PAPER_TYPES == ("base", "mean_and_variance", "categorical")
    for name in heads.types():
        assert heads.make(name).type == name


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gaussian", {}, "'gaussian' is not known; choose one of base, mean"),
        ("base", {"num_atoms": 3}, "base head has no option num_atoms; it has none"),
        ("categorical", {"atoms": 3}, "no option atoms; it has entropy_coeff, num_"),
        ("categorical", {"num_atoms": 1}, "num_atoms is 1"),
        ("categorical", {"entropy_coeff": -1.0}, "entropy_coeff is -1"),
        ("mean_and_variance", {"likelihood": "x"}, "probit, logistic"),
        ("mean_and_variance", {"variance_penalty": -1.0}, "variance_penalty"),
        ("factor", {"num_factors": -1}, "num_factors is -1"),
        ("factor", {"variance_penalty": float("nan")}, "variance_penalty is nan"),
        ("mixture", {"num_components": 0}, "num_components is 0"),
        ("quantile", {"num_atoms": 0}, "num_atoms is 0"),
        ("quantile", {"smoothing": 0.0}, "smoothing is 0"),
        ("quantile", {"smoothing": float("inf")}, "smoothing is inf"),
        ("ensemble", {"num_members": 0}, "num_members is 0"),
        ("ensemble", {"member": {"type": "ensemble"}}, "members cannot be ensembles"),
        ("ensemble", {"prior_scale": -1.0}, "prior_scale cannot be negative"),
        ("ensemble", {"num_members": 2, "scale": (1.0, 0.0)}, "scales must be positive"),
        ("ensemble", {"num_members": 2, "scale": (1.0,)}, "scale must be empty or have one number"),
        ("ensemble", {"num_members": 2, "location": (1.0,) * 3}, "location must be empty"),
    ],
)
def test_heads_that_cannot_be_made_say_why(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        heads.make(kind, **options)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"num_outputs": 2}, "'type'"),
        ({"type": "base", "version": 99}, "format 99.*upgrade"),
        ({"type": "base", "num_outputs": 2}, "says num_outputs 2"),
        ({"type": "factor", "num_factors": 2, "num_outputs": 3}, "has num_outputs 4"),
    ],
)
def test_forms_that_cannot_be_read_say_why(form, message):
    with pytest.raises(ConfigError, match=message):
        heads.from_dict(form)


def test_number_of_outputs_names_a_head_as_the_papers_commands_do():
    assert heads.for_num_outputs(1, likelihood="logistic") == heads.make("base")
    expected = heads.make("mean_and_variance", likelihood="logistic")
    assert heads.for_num_outputs(2, likelihood="logistic") == expected
    assert heads.for_num_outputs(7) == heads.make("categorical", num_atoms=7)
    with pytest.raises(ConfigError, match="num_outputs is 0"):
        heads.for_num_outputs(0)


@pytest.mark.parametrize(
    ("name", "width", "options"),
    [
        ("base", 1, {}),
        ("scalar", 1, {}),
        ("mean_and_variance", 2, {}),
        ("categorical", 6, {"num_atoms": 6}),
        ("factor", 2, {"num_factors": 0}),
        ("factor", 5, {"num_factors": 3}),
        ("mixture", 9, {"num_components": 3}),
        ("quantile", 4, {"num_atoms": 4}),
        ("quantile", 1, {"num_atoms": 1}),
        ("ensemble", 5, {}),
    ],
)
def test_a_width_names_a_head_of_its_type(name, width, options):
    head = heads.for_width(name, width)
    assert head == heads.make(name, **options)
    assert head.num_outputs == width


@pytest.mark.parametrize(
    ("name", "width", "other"),
    [("base", 3, 1), ("categorical", 1, 2), ("factor", 1, 2), ("mixture", 4, 3), ("mixture", 1, 3)],
)
def test_a_width_that_a_type_cannot_have_is_left_to_the_caller(name, width, other):
    assert heads.for_width(name, width).num_outputs == other


def test_other_options_are_taken_where_the_head_has_them():
    head = heads.for_width("quantile", 3, smoothing=0.7, likelihood="logistic", num_atoms=9)
    assert head == heads.make("quantile", num_atoms=3, smoothing=0.7)


def test_a_new_head_needs_outputs_and_a_distribution_only():
    class Twice(heads.Head):
        type = "twice"
        num_outputs = 2

        def distribution(self, raw):
            return PointMassReward(2 * self._check(raw).sum(-1))

    head = Twice()
    assert head.meaning == "2 raw outputs of a twice head"
    assert head.output_scales == (0.01, 0.01)
    assert (head.member, head.num_members, head.can_average) == (head, 0, True)
    assert (head.has_context, head.num_factors) == (False, 0)
    assert head.in_one_unit(torch.ones(1, 2), torch.ones(1, 2)) is head
    assert head.penalty(torch.ones(1, 2), torch.ones(1, 2)).item() == 0
    result = head.log_prob_preferred(torch.tensor([[0.25, 0.5]]), torch.zeros(1, 2)).exp().item()
    assert result == pytest.approx(torch.sigmoid(torch.tensor(1.5)).item())


def test_options_for_selects_a_heads_own():
    given = {"num_atoms": 5, "likelihood": "probit", "entropy_coeff": 0.0}
    assert heads.options_for("base", given) == {}
    assert heads.options_for("categorical", given) == {"num_atoms": 5, "entropy_coeff": 0.0}
    with pytest.raises(ConfigError, match="not known"):
        heads.options_for("gaussian", given)
