"""Drawing the figures: sizes, formats, with and without LaTeX, and panels that stay readable."""

import dataclasses
import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.backends import backend_pgf
from matplotlib.image import imread

from hidden_context import worlds
from hidden_context.errors import HiddenContextWarning
from hidden_context.synthetic import figures, panels
from hidden_context.synthetic.curves import Curves

KINDS = ("png", "pgf", "svg")


def made_up_curves(env):
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
def curves(request):
    return made_up_curves(request.param)


@pytest.fixture
def without_latex(monkeypatch):
    monkeypatch.setattr(figures, "has_latex", lambda: False)
    monkeypatch.setattr(figures, "pgf_engine", lambda: None)


@pytest.mark.usefixtures("without_latex")
@pytest.mark.filterwarnings("error")
def test_figures_have_the_paper_s_size_at_300_dpi(curves, tmp_path):
    (path,) = figures.draw(curves, tmp_path, ["png"])
    assert imread(path).shape[:2] == (360 if curves.env == "1d" else 930, 1650)


@pytest.mark.usefixtures("without_latex")
def test_the_same_curves_give_the_same_files_and_redrawing_needs_nothing_else(curves, tmp_path):
    first = figures.draw(curves, tmp_path / "first", KINDS)
    curves.save(tmp_path / "curves.npz")
    again = figures.redraw(tmp_path)
    assert [path.name for path in again] == [f"{curves.env}.{kind}" for kind in KINDS]
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert "<svg" in again[2].read_text()


@pytest.mark.usefixtures("without_latex")
@pytest.mark.filterwarnings("error")
def test_pgf_without_latex_is_a_balanced_picture_with_its_texts(curves, tmp_path):
    (path,) = figures.draw(curves, tmp_path, ["pgf"])
    text = path.read_text()
    assert text.count(r"\begin{pgfscope}") == text.count(r"\end{pgfscope}") > 20
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

    def get_width_height_descent(self, text, prop):
        return figures.text_size(text, prop, "$" in text)


def test_pgf_without_latex_is_what_matplotlib_s_own_backend_writes(curves, monkeypatch):
    make = panels.figure_1d if curves.env == "1d" else panels.figure_2d
    manager = type("Manager", (), {"_get_cached_or_new": staticmethod(MeasuringManager)})
    monkeypatch.setattr(backend_pgf, "LatexManager", manager)
    with matplotlib.rc_context(figures.COMPUTER_MODERN, figures.STYLE):
        ours, theirs = io.StringIO(), io.StringIO()
        figures.write_pgf_without_latex(make(curves), ours)
        backend_pgf.FigureCanvasPgf(make(curves)).print_pgf(theirs)

    def picture(text):
        lines = text.splitlines()
        return lines[lines.index(r"\begin{pgfpicture}%") : lines.index(r"\end{pgfpicture}%")]

    assert picture(ours.getvalue()) == picture(theirs.getvalue())


def test_a_latex_that_fails_is_replaced_with_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "has_latex", lambda: True)
    monkeypatch.setattr(figures, "pgf_engine", lambda: "pdflatex")
    monkeypatch.setenv("PATH", str(tmp_path))  # neither program is really there
    with pytest.warns(HiddenContextWarning, match="LaTeX is installed but") as caught:
        png, pgf = figures.draw(made_up_curves("1d"), tmp_path, ["png", "pgf"])
    assert len([w for w in caught if w.category is HiddenContextWarning]) == 2
    assert imread(png).shape[:2] == (360, 1650)
    assert r"\end{pgfpicture}" in pgf.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1d.pgf", "1d.png"]


def test_latex_is_found_by_its_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not figures.has_latex()
    assert figures.pgf_engine() is None
    for name in ("latex", "dvipng", "kpsewhich", "xelatex"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert figures.has_latex()
    assert figures.pgf_engine() == "xelatex"


def test_the_learned_axis_is_aligned_with_the_exact_one_if_anything_was_learned():
    exact = np.linspace(0.1, 0.9, 50, dtype=np.float32)
    limits = panels._limits_aligned(5 * exact - 2, exact, (0.0, 1.0))
    assert limits == pytest.approx((-2.0, 3.0), abs=1e-4)
    for learned in (-exact, 0 * exact):
        low, high = panels._limits_aligned(learned, exact, (0.0, 1.0))
        assert low < learned.min() <= learned.max() < high


def bar_labels(figure, title):
    figure.draw_without_rendering()
    titles = [axes.get_title() for axes in figure.axes]
    panel = figure.axes[next(i for i, t in enumerate(titles) if t.startswith(title))]
    bar = next(c.colorbar for c in panel.collections if c.colorbar is not None)
    return [label.get_text() for label in bar.ax.get_yticklabels()]


def test_constant_surfaces_can_be_drawn_and_wide_standard_deviations_have_geometric_levels():
    curves = made_up_curves("2d")
    flat = dataclasses.replace(curves, base=np.zeros_like(curves.base))
    assert "$0$" in bar_labels(panels.figure_2d(flat), "Normal preference learning")
    stddev = np.geomspace(1e-6, 1e5, len(curves.stddev)).astype(np.float32)
    wide = dataclasses.replace(curves, stddev=stddev)
    labels = bar_labels(panels.figure_2d(wide), "DPL, standard")
    assert labels == [r"$1{\times}10^{-5}$", r"$0.01$", r"$10$", r"$1{\times}10^{4}$"]


def test_a_standard_deviation_without_bound_leaves_the_panel_of_means_readable():
    curves = made_up_curves("1d")
    stddev = np.geomspace(1e-7, 1e30, len(curves.stddev)).astype(np.float32)
    panel = panels.figure_1d(dataclasses.replace(curves, stddev=stddev)).axes[1]
    low, high = panel.get_ylim()
    spread = float(np.ptp(curves.mean))
    assert high - low == pytest.approx(1.7 * spread, rel=1e-4)
    assert np.abs(panel.collections[0].get_paths()[0].vertices).max() < 3 * spread + 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0$"), (-0.25, "$-0.25$"), (1.5, "$1.5$"), (2.3e-7, r"$2{\times}10^{-7}$")],
)
def test_numbers_are_written_for_latex_and_matplotlib_alike(value, text):
    assert panels.format_number(value) == text
