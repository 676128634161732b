from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from hidden_context.errors import DataError, MissingFileError, StorageError
from hidden_context.synthetic.agreement import rank_agreements, spearman
from hidden_context.synthetic.config import SyntheticConfig
from hidden_context.synthetic.curves import Curves
from hidden_context.synthetic.tables import print_summary
from hidden_context.synthetic.workflow import SyntheticResult, run


def tiny(out_dir: Path, **options: object) -> SyntheticConfig:
    values = {"batch_size": 8, "lr": 1e-3, "num_iterations": 3, "width": 8, **options}
    return SyntheticConfig(out_dir=str(out_dir), **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["1d", "2d"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return run(tiny(tmp_path_factory.mktemp("synthetic"), env=request.param))


def test_every_file_is_written_and_not_empty(result: SyntheticResult) -> None:
    env, folder = result.config.env, result.config.folder
    assert folder.name == "8_0.001_3"
    names = {f"{env}.png", f"{env}.pgf", f"{env}.svg"}
    names |= {"results.json", "curves.npz", "losses.npz", "config.yaml"}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in result.files} == names
    assert all(path.stat().st_size > 100 for path in folder.iterdir())


def test_learned_curves_are_finite_and_well_formed(result: SyntheticResult) -> None:
    curves = Curves.load(result.config.folder / "curves.npz")
    num, atoms = (1000, 20) if result.config.env == "1d" else (1600, 8)
    assert curves.probabilities.shape == (num, atoms)
    for field in dataclasses.fields(Curves):
        value = getattr(curves, field.name)
        if field.name != "env":
            assert len(value) == num
            assert np.isfinite(value).all(), field.name
    np.testing.assert_allclose(curves.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (curves.stddev > 0).all()
    assert ((curves.classifier_borda > 0) & (curves.classifier_borda < 1)).all()


def test_results_and_config_are_those_of_the_run(result: SyntheticResult) -> None:
    folder = result.config.folder
    written = json.loads((folder / "results.json").read_text())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert SyntheticConfig(**config) == result.config
    assert written["config"] == config
    assert written["precision"] == result.precision
    assert set(result.precision.values()) == {"float32"}  # too narrow for bfloat16
    assert written["final_loss"] == pytest.approx(result.final_losses)
    assert set(written["rank_agreement"]) == set(result.agreements)
    with np.load(folder / "losses.npz") as losses:
        assert losses["base"].shape == (3,)
        assert losses["base"][-1] == pytest.approx(result.final_losses["base"], rel=1e-6)


def test_the_table_names_every_network(result: SyntheticResult) -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        print_summary(result, console)
    text = capture.get()
    for label in ("exact Borda count", "base", "DPL, mean & σ", "DPL, categorical", "classifier"):
        assert label in text
    assert ("Borda*" in text) == (result.config.env == "1d")
    assert result.config.folder.name in text


def exact_curves(learned: str) -> Curves:
    a = ((np.arange(1000) + 0.5) / 1000).astype(np.float32)
    borda = np.where(a < 0.8, a + 0.1, 0.275 + 0.25 * a).astype(np.float32)
    curve = borda if learned == "borda" else a
    probabilities = np.stack([1 - curve, curve], axis=1)
    return Curves("1d", a[:, None], a, borda, curve, curve, curve, probabilities, curve)


def test_exact_borda_count_of_the_line_agrees_with_expected_utility_by_0_714() -> None:
    # 1 − 6 ∫ (R(a) − a)² da over the three pieces of the rank R of the Borda count
    expected = 1 - 6 * (16 * 0.05**3 / 3 + 0.2**2 * 0.375 + (0.425**3 - 0.375**3) / 0.75)
    assert expected == pytest.approx(0.71375)
    agreements = rank_agreements(exact_curves("borda"))
    assert agreements["exact_borda_count"].expected_utility == pytest.approx(expected, abs=1e-3)
    for name in ("base", "mean_and_stddev", "categorical", "classifier"):
        assert agreements[name].borda_count == pytest.approx(1, abs=1e-6)
        assert agreements[name].borda_count_off_jump == pytest.approx(1, abs=1e-6)


def test_a_learner_of_expected_utility_would_be_told_apart() -> None:
    agreement = rank_agreements(exact_curves("utility"))["base"]
    assert agreement.expected_utility == pytest.approx(1)
    assert agreement.borda_count == pytest.approx(0.714, abs=1e-3)


def test_spearman_is_scipy_s_and_undefined_for_a_constant() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x = rng.normal(size=50).round(1).astype(np.float32)
    y = (x + rng.normal(size=50)).astype(np.float32)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(spearman(np.ones(5, np.float32), x[:5]))


def test_an_output_folder_that_cannot_be_made_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/1d.*Not a directory"):
        run(tiny(tmp_path / "file", num_iterations=10**9))


def test_curves_that_are_not_there_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"curves\.npz"):
        Curves.load(tmp_path / "curves.npz")
    (tmp_path / "curves.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="not the curves"):
        Curves.load(tmp_path / "curves.npz")


def test_results_name_the_precision_that_ran(tmp_path: Path) -> None:
    config = tiny(tmp_path, precision="bfloat16", figure_formats=[])
    assert set(run(config).precision.values()) == {"bfloat16"}
    written = json.loads((config.folder / "results.json").read_text())
    assert written["precision"]["categorical"] == written["config"]["precision"] == "bfloat16"
