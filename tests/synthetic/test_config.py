from __future__ import annotations

from pathlib import Path

import pytest

from hidden_context.cli.arguments import parse
from hidden_context.errors import ConfigError
from hidden_context.synthetic.config import PaperConfig, SyntheticConfig


def test_defaults_are_the_paper_s() -> None:
    config = SyntheticConfig()
    assert (config.env, config.batch_size, config.lr) == ("1d", 128, 1e-4)
    assert (config.num_iterations, config.out_dir) == (1000, "results")


def test_only_the_paper_s_command_defaults_to_its_likelihood() -> None:
    assert SyntheticConfig().likelihood == "probit"
    assert PaperConfig().likelihood == "logistic"


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({"batch_size": 2048, "lr": 0.001}, "results/1d/2048_0.001_1000"),
        ({"env": "2d"}, "results/2d/128_0.0001_1000"),
        ({"lr": 2e-5, "num_iterations": 5, "out_dir": "x"}, "x/1d/128_2e-05_5"),
    ],
)
def test_folder_is_named_as_the_paper_names_it(options: dict[str, object], folder: str) -> None:
    assert SyntheticConfig(**options).folder == Path(folder)  # type: ignore[arg-type]


def test_flags_have_the_paper_s_names() -> None:
    line = "--env 1d --batch_size 2048 --lr 1e-3 --num_iterations 1000"
    config = parse(PaperConfig, line.split(), prog="x", description="")
    assert config.folder == Path("results/1d/2048_0.001_1000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("num_iterations", 0),
        ("width", -1),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("env", "3d"),
        ("likelihood", "normal"),
        ("precision", "float16"),
        ("num_threads", -1),
        ("seed", -1),
        ("figure_formats", ["png", "gif"]),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        SyntheticConfig(**{name: value})  # type: ignore[arg-type]
