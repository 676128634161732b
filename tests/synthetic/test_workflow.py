"""The synthetic experiments: options, networks, training, files of a run, and agreements."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from scipy.stats import spearmanr

from hidden_context import errors
from hidden_context.cli.arguments import parse
from hidden_context.synthetic import curves
from hidden_context.synthetic.config import PaperConfig, SyntheticConfig
from hidden_context.synthetic.networks import LEARNERS, ClassifierLearner, make_learner, perceptron
from hidden_context.synthetic.workflow import decay_per_step, print_summary, run, train
from hidden_context.worlds.grids import OneDimensional, TwoDimensional


def tiny(out_dir, **options):
    values = {"batch_size": 8, "lr": 1e-3, "num_iterations": 3, "width": 8, **options}
    return SyntheticConfig(out_dir=str(out_dir), **values)


CONFIGS = [
    ({}, "results/1d/128_0.0001_1000"),
    ({"batch_size": 2048, "lr": 0.001}, "results/1d/2048_0.001_1000"),
    ({"env": "2d"}, "results/2d/128_0.0001_1000"),
    ({"lr": 2e-5, "num_iterations": 5, "out_dir": "x"}, "x/1d/128_2e-05_5"),
]


@pytest.mark.parametrize(("options", "folder"), CONFIGS)
def test_defaults_flags_and_the_folder_s_name_are_the_paper_s(options, folder):
    flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    paper = parse(PaperConfig, flags, prog="x", description="")
    for config, likelihood in ((SyntheticConfig(**options), "probit"), (paper, "logistic")):
        assert config.folder == Path(folder)
        assert config.likelihood == likelihood


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("batch_size", "num_iterations")),
        *((name, -1) for name in ("width", "num_threads", "seed")),
        *(("lr", value) for value in (0.0, -1e-3, float("nan"), float("inf"))),
        ("env", "3d"),
        ("likelihood", "normal"),
        ("precision", "float16"),
        ("figure_formats", ["png", "gif"]),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(name, value):
    with pytest.raises(errors.ConfigError, match=name):
        SyntheticConfig(**{name: value})


@pytest.fixture(scope="module", params=["1d", "2d"])
def result(request, tmp_path_factory):
    return run(tiny(tmp_path_factory.mktemp("synthetic"), env=request.param))


def test_every_file_is_written_and_not_empty(result):
    env, folder = result.config.env, result.config.folder
    assert folder.name == "8_0.001_3"
    names = {f"{env}.png", f"{env}.pgf", f"{env}.svg"}
    names |= {"results.json", "curves.npz", "losses.npz", "config.yaml"}
    assert {path.name for path in folder.iterdir()} == names
    assert {path.name for path in result.files} == names
    assert all(path.stat().st_size > 100 for path in folder.iterdir())


def test_learned_curves_are_finite_and_well_formed(result):
    learned = curves.Curves.load(result.config.folder / "curves.npz")
    num, atoms = (1000, 20) if result.config.env == "1d" else (1600, 8)
    assert learned.probabilities.shape == (num, atoms)
    for field in dataclasses.fields(curves.Curves):
        if field.name != "env":
            value = getattr(learned, field.name)
            assert len(value) == num
            assert np.isfinite(value).all(), field.name
    np.testing.assert_allclose(learned.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (learned.stddev > 0).all()
    assert ((learned.classifier_borda > 0) & (learned.classifier_borda < 1)).all()


def test_results_and_config_are_those_of_the_run(result):
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


def test_the_table_names_every_network(result):
    console = Console(width=80)
    with console.capture() as capture:
        print_summary(result, console)
    text = capture.get()
    for label in ("exact Borda count", "base", "DPL, mean & σ", "DPL, categorical", "classifier"):
        assert label in text
    assert ("Borda*" in text) == (result.config.env == "1d")
    assert result.config.folder.name in text


def exact_curves(learned):
    a = ((np.arange(1000) + 0.5) / 1000).astype(np.float32)
    borda = np.where(a < 0.8, a + 0.1, 0.275 + 0.25 * a).astype(np.float32)
    curve = borda if learned == "borda" else a
    probabilities = np.stack([1 - curve, curve], axis=1)
    return curves.Curves("1d", a[:, None], a, borda, curve, curve, curve, probabilities, curve)


def test_exact_borda_count_of_the_line_agrees_with_expected_utility_by_0_714():
    # 1 − 6 ∫ (R(a) − a)² da over the three pieces of the rank R of the Borda count
    expected = 1 - 6 * (16 * 0.05**3 / 3 + 0.2**2 * 0.375 + (0.425**3 - 0.375**3) / 0.75)
    assert expected == pytest.approx(0.71375)
    agreements = curves.rank_agreements(exact_curves("borda"))
    exact = agreements.pop("exact_borda_count")
    assert exact.expected_utility == pytest.approx(expected, abs=1e-3)
    for each in agreements.values():
        assert (each.borda_count, each.borda_count_off_jump) == pytest.approx((1, 1), abs=1e-6)
    # a learner of expected utility would be told apart
    agreement = curves.rank_agreements(exact_curves("utility"))["base"]
    assert agreement.expected_utility == pytest.approx(1)
    assert agreement.borda_count == pytest.approx(0.714, abs=1e-3)


def test_spearman_is_scipy_s_and_undefined_for_a_constant():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50).round(1).astype(np.float32)
    y = (x + rng.normal(size=50)).astype(np.float32)
    assert curves.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(curves.spearman(np.ones(5, np.float32), x[:5]))


def test_an_output_folder_that_cannot_be_made_is_named_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageError, match=r"file/1d.*Not a directory"):
        run(tiny(tmp_path / "file", num_iterations=10**9))


def test_curves_that_are_not_there_or_broken_are_named(tmp_path):
    path = tmp_path / "curves.npz"
    with pytest.raises(errors.MissingFileError, match=r"curves\.npz"):
        curves.Curves.load(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(errors.DataError, match="not the curves"):
        curves.Curves.load(path)


def test_results_name_the_precision_that_ran(tmp_path):
    config = tiny(tmp_path, precision="bfloat16", figure_formats=[])
    assert set(run(config).precision.values()) == {"bfloat16"}
    written = json.loads((config.folder / "results.json").read_text())
    assert written["precision"]["categorical"] == written["config"]["precision"] == "bfloat16"


TINY = SyntheticConfig(batch_size=16, lr=1e-3, num_iterations=5, width=8)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("base", (1, 2), (1, 1)),
        ("mean_and_stddev", (1, 2), (2, 2)),
        ("categorical", (1, 2), (20, 8)),
        ("classifier", (2, 4), (1, 1)),
    ],
)
def test_networks_have_four_linear_layers_of_the_right_sizes(name, inputs, outputs):
    environments = (OneDimensional(), TwoDimensional())
    for environment, num_in, num_out in zip(environments, inputs, outputs, strict=True):
        learner = make_learner(name, environment, 512, "logistic")
        linear = [each for each in learner.network if isinstance(each, torch.nn.Linear)]
        sizes = [(each.in_features, each.out_features) for each in linear]
        assert sizes == [(num_in, 512), (512, 512), (512, 512), (512, num_out)]
        norms = sum(isinstance(layer, torch.nn.BatchNorm1d) for layer in learner.network)
        assert norms == (3 if name == "categorical" else 0)


def test_standard_deviation_is_exp_of_raw_minus_two():
    learner = make_learner("mean_and_stddev", OneDimensional(), 8, "probit")
    rewards = learner.distribution(torch.tensor([[0.3, 0.0], [0.3, 2.0]]))
    assert rewards.stddev.tolist() == pytest.approx([math.exp(-2), 1.0])
    assert rewards.mean.tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("likelihood", ["probit", "logistic"])
def test_likelihood_of_normal_rewards_is_the_one_named(likelihood):
    learner = make_learner("mean_and_stddev", OneDimensional(), 8, likelihood)
    raw_a, raw_b = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.2, 2.5]])
    z = 0.3 / math.hypot(math.exp(-1.0), math.exp(0.5))
    expected = {
        "probit": 0.5 * math.erfc(-z / math.sqrt(2)),
        "logistic": 1 / (1 + math.exp(-math.sqrt(2 * math.pi) * z)),
    }[likelihood]
    assert learner.compare(raw_a, raw_b).exp().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
def test_log_probabilities_of_the_two_answers_sum_to_one(name):
    learner = make_learner(name, TwoDimensional(), 8, "probit").eval()
    first, second = torch.rand(7, 2), torch.rand(7, 2)
    yes = torch.ones(7, dtype=torch.bool)
    total = sum(learner.log_prob_preferred(first, second, answer).exp() for answer in (yes, ~yes))
    torch.testing.assert_close(total, torch.ones(7))


@pytest.mark.parametrize("name", ["base", "mean_and_stddev"])
def test_one_forward_pass_gives_what_two_give(name):
    learner = make_learner(name, TwoDimensional(), 8, "probit")
    first, second = torch.rand(6, 2), torch.rand(6, 2)
    together = learner.log_prob_preferred(first, second, torch.zeros(6, dtype=torch.bool))
    apart = learner.compare(learner.network(first), learner.network(second))
    torch.testing.assert_close(together, apart)


def test_batch_norm_takes_its_statistics_over_both_sides_of_the_pairs():
    learner = make_learner("categorical", OneDimensional(), 8, "probit")
    first, second = torch.rand(64, 1), torch.rand(64, 1) + 3
    learner.log_prob_preferred(first, second, torch.zeros(64, dtype=torch.bool))
    linear, norm = learner.network[:2]
    with torch.no_grad():
        expected = 0.1 * linear(torch.cat((first, second))).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, expected)


def test_the_rate_decays_from_lr_to_its_floor():
    assert 1e-3 * decay_per_step(1e-3, 200) ** 200 == pytest.approx(1e-5)
    assert decay_per_step(1e-6, 10) == 1.0


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_seed_reproduces_to_the_bit_and_another_does_not(name, precision):
    environment, config = OneDimensional(), dataclasses.replace(TINY, precision=precision)
    first, again = (train(name, environment, config) for _ in range(2))
    other = train(name, environment, dataclasses.replace(config, seed=1))
    assert torch.equal(first.losses, again.losses)
    weights = (each.learner.state_dict() for each in (first, again))
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert not torch.equal(first.losses, other.losses)


def test_training_leaves_the_global_generator_alone_and_counts_every_step_once():
    state, steps = torch.random.get_rng_state(), []
    train("base", OneDimensional(), dataclasses.replace(TINY, num_iterations=107), steps.append)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert steps == [50, 50, 7]


@pytest.mark.parametrize("name", ["base", "categorical"])
@pytest.mark.parametrize("precision", ["float32", "folded", "mixed", "bfloat16"])
def test_a_loss_that_is_not_finite_stops_training_with_its_step(name, precision):
    class Poisoned(OneDimensional):
        calls = 0

        def sample_alternatives(self, num, generator):
            self.calls += 1
            scale = math.nan if self.calls == 3 else 1.0
            return super().sample_alternatives(num, generator) * scale

    with pytest.raises(errors.DivergedError, match=f"{name} network is nan at step 3"):
        train(name, Poisoned(), dataclasses.replace(TINY, precision=precision))


def test_classifier_borda_count_reads_pairs_both_ways_round():
    class Fixed(ClassifierLearner):
        def logit(self, first, second):
            return 2 * first[:, 0] + second[:, 0]  # not antisymmetric on purpose

    classifier = Fixed(perceptron(2, 1, 8))
    a, b = torch.tensor([[0.2], [0.9]]), torch.tensor([[0.1], [0.6]])
    expected = ((-2 * a - b.T).sigmoid() + (a + 2 * b.T).sigmoid()).mean(1) / 2
    torch.testing.assert_close(curves.classifier_borda_count(classifier, a, b), expected)


def test_preference_learning_follows_the_borda_count_and_not_expected_utility():
    environment = OneDimensional()
    config = SyntheticConfig(batch_size=512, lr=1e-2, num_iterations=300, width=64)
    learner = train("base", environment, config).learner
    grid = environment.grid(400)
    learned = learner.network(grid)[:, 0].detach().numpy()
    # The exact Borda count itself scores 1 and 0.714, expected utility 0.714 and 1.
    assert curves.spearman(learned, environment.borda_count(grid).numpy()) > 0.9
    assert curves.spearman(learned, environment.expected_utility(grid).numpy()) < 0.8
