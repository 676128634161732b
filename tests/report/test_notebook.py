"""Reward distributions as pictures: their numbers, and what IPython shows."""

import io
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import hidden_context
from hidden_context import heads
from hidden_context.distributions import MixtureReward, NormalReward
from hidden_context.errors import ConfigError
from hidden_context.heads import EnsembleHead
from hidden_context.report.figures import notebook

HEADS = {
    **{kind: heads.make(kind) for kind in heads.types()},
    "factor": heads.make("factor", num_factors=2),
    "ensemble": EnsembleHead(member=heads.make("mean_and_variance"), num_members=3),
    "ensemble of points": EnsembleHead(num_members=3),
}
DENSITIES = ("mean_and_variance", "mixture", "factor", "ensemble")


def _rewards(kind, *shape):
    head = HEADS[kind]
    draw = torch.Generator().manual_seed(3)
    return head.distribution(torch.randn(*shape, head.num_outputs, generator=draw))


def _line(axes, name):
    (line,) = [line for line in axes.lines if line.get_gid() == name]
    return line.get_xdata(), line.get_ydata()


@pytest.mark.parametrize("kind", HEADS)
def test_the_mean_and_the_low_quantile_are_marked(kind):
    rewards = _rewards(kind, 3)
    figure = hidden_context.plot(rewards, low=0.1)
    assert len(figure.axes) == 3
    for place, axes in enumerate(figure.axes):
        assert _line(axes, "mean")[0] == pytest.approx([rewards.mean[place].item()])
        assert _line(axes, "low")[0] == pytest.approx([rewards.quantile(0.1)[place].item()])
        assert axes.get_xlim() == figure.axes[0].get_xlim()
        assert axes.get_ylim() == figure.axes[0].get_ylim()
        assert axes.get_title(loc="left") == f"rewards[{place}]"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["mean", "10 % quantile"]


@pytest.mark.parametrize("kind", DENSITIES)
def test_densities_integrate_to_one_and_have_the_mean_of_the_reward(kind):
    rewards = _rewards(kind, 3)
    figure = hidden_context.plot(rewards)
    assert figure.get_supylabel() == "density"
    for place, axes in enumerate(figure.axes):
        x, y = _line(axes, "curve")
        assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)
        assert np.trapezoid(x * y, x) == pytest.approx(rewards.mean[place].item(), abs=2e-3)
        below = x <= rewards.quantile(0.05)[place].item()
        assert np.trapezoid(y[below], x[below]) == pytest.approx(0.05, abs=0.01)
        first, last = axes.get_xlim()
        assert first < x[0] < x[-1] < last


def test_bars_have_the_probabilities_of_the_atoms():
    rewards = _rewards("categorical", 2)
    figure = hidden_context.plot(rewards)
    assert figure.get_supylabel() == "probability"
    for axes, reward in zip(figure.axes, rewards.probs, strict=True):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(reward.tolist())
        centres = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
        assert centres == pytest.approx(rewards.atoms.tolist(), abs=1e-6)


def test_a_point_is_a_line_of_height_one():
    rewards = _rewards("base", 2)
    figure = hidden_context.plot(rewards)
    assert figure.get_supylabel() == "probability"
    for axes, value in zip(figure.axes, rewards.value, strict=True):
        (segment,) = axes.collections[0].get_segments()
        assert segment.tolist() == [[pytest.approx(value.item()), y] for y in (0, 1)]


@pytest.mark.parametrize("kind", ["quantile", "ensemble of points"])
def test_steps_rise_by_the_weights_of_the_atoms(kind):
    rewards = _rewards(kind, 2)
    figure = hidden_context.plot(rewards)
    assert figure.get_supylabel() == "share at or below"
    for axes, reward in zip(figure.axes, (rewards[0], rewards[1]), strict=True):
        x, y = _line(axes, "curve")
        count = reward.components().location.numel()
        assert len(x) == count + 2
        assert y == pytest.approx([*np.arange(count + 1) / count, 1])
        assert x[1:-1] == pytest.approx(np.sort(reward.components().location.numpy()))
        assert (x[0], x[-1]) == axes.get_xlim()


def test_a_mixture_of_normals_and_a_point_is_drawn_as_shares():
    mixed = MixtureReward(torch.zeros(2), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    figure = hidden_context.plot(mixed)
    assert figure.get_supylabel() == "share at or below"
    x, y = _line(figure.axes[0], "curve")
    jump = int(np.flatnonzero(x == 1.0)[0])
    expected = torch.special.ndtr(torch.tensor(1.0)).item() / 2
    assert y[jump] == pytest.approx(expected + 0.5, abs=1e-6)
    assert y[jump - 1] == pytest.approx(expected, abs=0.02)


def test_one_reward_has_no_title_and_names_are_shown_as_they_are():
    single = _rewards("factor")
    assert hidden_context.plot(single).axes[0].get_title(loc="left") == ""
    figure = hidden_context.plot(single, names=["$5 or more"])
    assert figure.axes[0].get_title(loc="left") == r"\$5 or more"
    figure = hidden_context.plot(_rewards("base", 1))  # nothing to take a scale from but its place
    first, last = figure.axes[0].get_xlim()
    assert last - first == pytest.approx(1.0)


def test_rewards_with_gradients_and_in_half_the_precision_are_drawn():
    raw = torch.randn(2, 2, requires_grad=True)
    rewards = HEADS["mean_and_variance"].distribution(raw)
    figure = hidden_context.plot(rewards)
    assert _line(figure.axes[1], "mean")[0] == pytest.approx([rewards.mean[1].item()])
    hidden_context.plot(HEADS["mean_and_variance"].distribution(raw.detach().bfloat16()))


@pytest.mark.parametrize(
    ("rewards", "options", "said"),
    [
        (_rewards("factor", 2, 3), {}, r"batch shape \(2, 3\).*rewards\[0\]"),
        (_rewards("factor", 0), {}, "0 rewards cannot be drawn"),
        (_rewards("factor", 21), {}, r"21 rewards cannot be drawn.*rewards\[:20\]"),
        (_rewards("factor", 2), {"names": ["a"]}, "2 rewards needs a name, but names has 1"),
        (_rewards("factor", 2), {"low": 1.0}, r"must lie in \(0, 1\)"),
        (NormalReward(torch.tensor([0.0, torch.nan]), torch.ones(2)), {}, "reward 1 is not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_remedy(rewards, options, said):
    with pytest.raises(ConfigError, match=said):
        hidden_context.plot(rewards, **options)


@pytest.fixture
def shell():
    """A shell of IPython as a notebook's kernel has one: it shows pictures."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.display_formatter.active_types = ["text/plain", "image/png"]
    yield shell
    InteractiveShell.clear_instance()


def _shown(shell, value):
    return shell.display_formatter.format(value)[0]


@pytest.mark.parametrize("kind", HEADS)
def test_a_loaded_extension_draws_every_kind(shell, kind):
    rewards = _rewards(kind, 2)
    assert set(_shown(shell, rewards)) == {"text/plain"}
    shell.run_line_magic("load_ext", "hidden_context")
    shown = _shown(shell, rewards)
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown["text/plain"] == repr(rewards)


def test_an_extension_that_is_taken_away_draws_no_more(shell):
    shell.run_line_magic("load_ext", "hidden_context")
    rewards = _rewards("factor", 2)
    figure = hidden_context.plot(rewards)
    assert "image/png" in _shown(shell, rewards)
    assert "image/png" in _shown(shell, figure)
    shell.run_line_magic("unload_ext", "hidden_context")
    assert "image/png" not in _shown(shell, rewards)
    assert "image/png" not in _shown(shell, figure)
    shell.run_line_magic("load_ext", "hidden_context")
    assert "image/png" in _shown(shell, rewards)


def test_the_first_plot_registers_rewards_and_its_own_figure(shell):
    rewards = _rewards("factor", 2)
    figure = hidden_context.plot(rewards)
    shown = _shown(shell, figure)
    assert _shown(shell, rewards)["image/png"] == shown["image/png"]
    height, width, _ = plt.imread(io.BytesIO(shown["image/png"])).shape
    assert (width, height) == tuple(round(160 * inch) for inch in figure.get_size_inches())


def test_a_drawing_of_figures_that_is_there_already_stays(shell):
    from matplotlib.figure import Figure

    shell.display_formatter.formatters["image/png"].for_type(Figure, lambda figure: b"own")
    figure = hidden_context.plot(_rewards("factor", 2))
    assert _shown(shell, figure)["image/png"] == b"own"
    shell.run_line_magic("load_ext", "hidden_context")
    shell.run_line_magic("unload_ext", "hidden_context")
    assert _shown(shell, figure)["image/png"] == b"own"


def test_a_long_batch_shows_its_first_rewards_and_says_so(shell, monkeypatch):
    shell.run_line_magic("load_ext", "hidden_context")
    drawn = []
    monkeypatch.setattr(notebook, "png_of_figure", lambda figure: drawn.append(figure) or b"png")
    assert _shown(shell, _rewards("factor", 300))["image/png"] == b"png"
    assert len(drawn[0].axes) == 8
    assert drawn[0].get_suptitle() == "the first 8 of 300 rewards"
    _shown(shell, _rewards("factor", 8))
    assert drawn[1].get_suptitle() == ""
    grid = _rewards("factor", 2, 3)  # cannot be drawn, and is shown as text
    assert _shown(shell, grid) == {"text/plain": repr(grid)}


def test_loading_the_extension_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'hidden_context')\n"
        "assert 'hidden_context.report.figures.notebook' in sys.modules\n"
        "found = [name for name in ('torch', 'matplotlib.figure') if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
