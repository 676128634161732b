import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import hidden_context

MODULES = ("distributions", "heads", "likelihood", "risk", "statistics")


@pytest.mark.parametrize("name", MODULES)
def test_the_floors_of_mathematics_are_public(name):
    assert getattr(hidden_context, name) is importlib.import_module(f"hidden_context.{name}")


def test_public_names():
    from hidden_context import RewardModel
    from hidden_context.models.reward_model import RewardModel as Defined

    assert RewardModel is Defined
    assert dir(hidden_context) == sorted(hidden_context.__all__)
    assert hidden_context.__version__ == version("hidden-context")
    assert sorted(hidden_context.__all__) == sorted([*MODULES, "RewardModel", "plot"])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hidden_context' has no attribute 'Reward'"):
        _ = hidden_context.Reward
    with pytest.raises(ImportError, match="cannot import name 'Reward'"):
        from hidden_context import Reward  # noqa: F401


@pytest.mark.parametrize(
    "name", ["benchmark", "check", "export", "models", "relabel", "scoring", "training"]
)
def test_every_name_of_a_package_is_where_it_says_and_others_are_refused(name):
    package = importlib.import_module(f"hidden_context.{name}")
    assert [getattr(package, each).__name__ for each in package.__all__] == package.__all__
    with pytest.raises(AttributeError, match=f"'hidden_context.{name}' has no attribute 'other'"):
        _ = package.other


def test_names_load_on_first_use_and_mathematics_needs_no_models():
    code = (
        "import sys\n"
        "import hidden_context\n"
        "assert 'torch' not in sys.modules\n"
        "from hidden_context import distributions, heads, likelihood, risk, statistics\n"
        "assert 'torch' in sys.modules\n"
        "assert 'transformers' not in sys.modules, 'transformers'\n"
        "assert 'datasets' not in sys.modules, 'datasets'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
