from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends import backend_pgf
from matplotlib.figure import Figure

from hidden_context import worlds
from hidden_context.errors import HiddenContextWarning
from hidden_context.synthetic import figures, latex
from hidden_context.synthetic.curves import Curves
from hidden_context.synthetic.panels import (
    _limits_aligned,
    figure_1d,
    figure_2d,
    format_number,
)


def made_up_curves(env: str) -> Curves:
    environment = worlds.make(env)
    grid = environment.grid(200 if env == "1d" else 12)
    borda = environment.borda_count(grid.double()).float().numpy()
    atoms = np.linspace(0, 1, environment.num_atoms)
    weights = np.exp(-((atoms - borda[:, None]) ** 2) / 0.02).astype(np.float32)
    return Curves(
        env,
        grid.numpy(),
        environment.expected_utility(grid).numpy(),
        borda,
        4 * borda - 1,
        borda,
        0.1 + 0.2 * grid[:, 0].numpy(),
        weights / weights.sum(axis=1, keepdims=True),
        borda,
    )


@pytest.fixture(params=["1d", "2d"])
def curves(request: pytest.FixtureRequest) -> Curves:
    return made_up_curves(request.param)


@pytest.fixture
def without_latex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "has_latex", lambda: False)
    monkeypatch.setattr(figures, "pgf_engine", lambda: None)


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


@pytest.mark.usefixtures("without_latex")
@pytest.mark.filterwarnings("error")
def test_figures_have_the_paper_s_size_at_300_dpi(curves: Curves, tmp_path: Path) -> None:
    (path,) = figures.draw(curves, tmp_path, ["png"])
    width, height = png_size(path)
    assert width == 1650
    assert height == (360 if curves.env == "1d" else 930)


@pytest.mark.usefixtures("without_latex")
def test_the_same_curves_give_the_same_files(tmp_path: Path) -> None:
    curves = made_up_curves("1d")
    first = figures.draw(curves, tmp_path / "first", ["png", "pgf", "svg"])
    again = figures.draw(curves, tmp_path / "again", ["png", "pgf", "svg"])
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


@pytest.mark.usefixtures("without_latex")
def test_redrawing_needs_the_curves_only(curves: Curves, tmp_path: Path) -> None:
    curves.save(tmp_path / "curves.npz")
    (path,) = figures.redraw(tmp_path, ["svg"])
    assert path.name == f"{curves.env}.svg"
    assert "<svg" in path.read_text()


@pytest.mark.usefixtures("without_latex")
@pytest.mark.filterwarnings("error")
def test_pgf_without_latex_is_a_balanced_picture_with_its_texts(
    curves: Curves, tmp_path: Path
) -> None:
    (path,) = figures.draw(curves, tmp_path, ["pgf"])
    text = path.read_text()
    opened, closed = text.count(r"\begin{pgfscope}"), text.count(r"\end{pgfscope}")
    assert opened == closed > 20
    assert text.count(r"\begin{pgfpicture}") == text.count(r"\end{pgfpicture}") == 1
    bare = re.sub(r"\\[{}]", "", re.sub(r"(?m)^%%.*$", "", text))
    assert bare.count("{") == bare.count("}")
    height = "1.200000" if curves.env == "1d" else "3.100000"
    assert rf"\pgfqpoint{{5.500000in}}{{{height}in}}" in text
    assert "DPL, categorical" in text
    assert r"$\hat" in text
    assert "includegraphics" not in text
    assert text.isascii()


class MeasuringManager:
    """Stands in for the LaTeX process of Matplotlib's own backend."""

    def get_width_height_descent(self, text: str, prop: object) -> tuple[float, ...]:
        return latex.text_size(text, prop, "$" in text)  # type: ignore[arg-type]


def test_pgf_without_latex_is_what_matplotlib_s_own_backend_writes(
    curves: Curves, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = figure_1d if curves.env == "1d" else figure_2d
    manager = type("Manager", (), {"_get_cached_or_new": staticmethod(MeasuringManager)})
    monkeypatch.setattr(backend_pgf, "LatexManager", manager)
    with matplotlib.rc_context(latex.COMPUTER_MODERN, figures.STYLE):
        ours, theirs = io.StringIO(), io.StringIO()
        latex.write_pgf_without_latex(make(curves), ours)
        backend_pgf.FigureCanvasPgf(make(curves)).print_pgf(theirs)

    def picture(text: str) -> list[str]:
        lines = text.splitlines()
        return lines[lines.index(r"\begin{pgfpicture}%") : lines.index(r"\end{pgfpicture}%")]

    assert picture(ours.getvalue()) == picture(theirs.getvalue())


def test_a_latex_that_fails_is_replaced_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "has_latex", lambda: True)
    monkeypatch.setattr(figures, "pgf_engine", lambda: "pdflatex")
    monkeypatch.setenv("PATH", str(tmp_path))  # neither program is really there
    curves = made_up_curves("1d")
    with pytest.warns(HiddenContextWarning, match="LaTeX is installed but") as caught:
        png, pgf = figures.draw(curves, tmp_path, ["png", "pgf"])
    assert len([w for w in caught if w.category is HiddenContextWarning]) == 2
    assert png_size(png) == (1650, 360)
    assert r"\end{pgfpicture}" in pgf.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1d.pgf", "1d.png"]


def test_latex_is_found_by_its_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not latex.has_latex()
    assert latex.pgf_engine() is None
    for name in ("latex", "dvipng", "kpsewhich", "xelatex"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert latex.has_latex()
    assert latex.pgf_engine() == "xelatex"


def test_the_learned_axis_is_aligned_with_the_exact_one() -> None:
    exact = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    low, high = _limits_aligned(5 * exact - 2, exact, (0.0, 1.0))
    assert (low, high) == pytest.approx((-2.0, 3.0), abs=1e-4)


@pytest.mark.parametrize("slope", [-1.0, 0.0])
def test_a_curve_that_has_learned_nothing_still_has_its_axis(slope: float) -> None:
    exact = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    low, high = _limits_aligned(slope * exact, exact, (0.0, 1.0))
    assert low < (slope * exact).min() <= (slope * exact).max() < high


def bar_labels(figure: Figure, title: str) -> list[str]:
    figure.draw_without_rendering()
    titles = [axes.get_title() for axes in figure.axes]
    panel = figure.axes[next(i for i, t in enumerate(titles) if t.startswith(title))]
    bars = [c.colorbar for c in panel.collections if c.colorbar is not None]
    return [label.get_text() for label in bars[0].ax.get_yticklabels()]


def test_a_constant_surface_can_be_drawn() -> None:
    curves = made_up_curves("2d")
    flat = dataclasses.replace(curves, base=np.zeros_like(curves.base))
    assert "$0$" in bar_labels(figure_2d(flat), "Normal preference learning")


def test_standard_deviations_over_many_magnitudes_have_geometric_levels() -> None:
    curves = made_up_curves("2d")
    stddev = np.geomspace(1e-6, 1e5, len(curves.stddev)).astype(np.float32)
    labels = bar_labels(figure_2d(dataclasses.replace(curves, stddev=stddev)), "DPL, standard")
    assert labels == [r"$1{\times}10^{-5}$", r"$0.01$", r"$10$", r"$1{\times}10^{4}$"]


def test_a_standard_deviation_without_bound_leaves_the_panel_of_means_readable() -> None:
    curves = made_up_curves("1d")
    stddev = np.geomspace(1e-7, 1e30, len(curves.stddev)).astype(np.float32)
    panel = figure_1d(dataclasses.replace(curves, stddev=stddev)).axes[1]
    low, high = panel.get_ylim()
    spread = float(np.ptp(curves.mean))
    assert high - low == pytest.approx(1.7 * spread, rel=1e-4)
    vertices = panel.collections[0].get_paths()[0].vertices
    assert np.abs(vertices).max() < 3 * spread + 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0$"), (-0.25, "$-0.25$"), (1.5, "$1.5$"), (2.3e-7, r"$2{\times}10^{-7}$")],
)
def test_numbers_are_written_for_latex_and_matplotlib_alike(value: float, text: str) -> None:
    assert format_number(value) == text
