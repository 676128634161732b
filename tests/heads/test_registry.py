import pytest
import torch

from hidden_context import heads
from hidden_context.distributions import PointMassReward
from hidden_context.errors import ConfigError
from hidden_context.heads.registry import options_for


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
    ("call", "message"),
    [
        (lambda: heads.make("gaussian"), r"'gaussian' is not known; choose one of base, mean"),
        (
            lambda: heads.make("base", num_atoms=3),
            r"base head has no option num_atoms; it has none",
        ),
        (
            lambda: heads.make("categorical", atoms=3),
            r"no option atoms; it has entropy_coeff, num_",
        ),
        (lambda: heads.make("categorical", num_atoms=1), "num_atoms is 1"),
        (lambda: heads.make("categorical", entropy_coeff=-1.0), "entropy_coeff is -1"),
        (lambda: heads.make("mean_and_variance", likelihood="x"), "probit, logistic"),
        (lambda: heads.make("mean_and_variance", variance_penalty=-1.0), "variance_penalty"),
        (lambda: heads.make("factor", num_factors=-1), "num_factors is -1"),
        (lambda: heads.make("factor", variance_penalty=float("nan")), "variance_penalty is nan"),
        (lambda: heads.make("mixture", num_components=0), "num_components is 0"),
        (lambda: heads.make("quantile", num_atoms=0), "num_atoms is 0"),
        (lambda: heads.make("quantile", smoothing=0.0), "smoothing is 0"),
        (lambda: heads.make("quantile", smoothing=float("inf")), "smoothing is inf"),
        (lambda: heads.for_width("gaussian", 3), "'gaussian' is not known"),
        (lambda: heads.make("ensemble", num_members=0), "num_members is 0"),
        (
            lambda: heads.make("ensemble", member={"type": "ensemble"}),
            "members cannot be ensembles",
        ),
        (lambda: heads.make("ensemble", prior_scale=-1.0), "prior_scale cannot be negative"),
        (
            lambda: heads.make("ensemble", num_members=2, scale=(1.0, 0.0)),
            "scales must be positive",
        ),
        (
            lambda: heads.make("ensemble", num_members=2, scale=(1.0,)),
            "scale must be empty or have one number",
        ),
        (
            lambda: heads.make("ensemble", num_members=2, location=(1.0,) * 3),
            "location must be empty",
        ),
        (lambda: heads.make("base").distribution(torch.zeros(3, 2)), r"reads 1 outputs.*\(3, 2\)"),
        (lambda: heads.from_dict({"num_outputs": 2}), "'type'"),
        (lambda: heads.from_dict({"type": "base", "version": 99}), r"version 99.*upgrade"),
        (lambda: heads.from_dict({"type": "base", "num_outputs": 2}), "says 2 outputs"),
        (lambda: heads.from_dict({"type": "factor", "num_factors": 2, "num_outputs": 3}), "has 4"),
    ],
)
def test_what_cannot_work_says_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


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
    assert options_for("base", given) == {}
    assert options_for("categorical", given) == {"num_atoms": 5, "entropy_coeff": 0.0}
    with pytest.raises(ConfigError, match="not known"):
        options_for("gaussian", given)
