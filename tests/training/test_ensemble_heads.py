"""Ensembles of heads on one network, or of probes: members that differ, and stay different."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import pytest
import torch

from hidden_context import heads
from hidden_context.data.importers import read_row
from hidden_context.errors import ConfigError
from hidden_context.heads import EnsembleHead
from hidden_context.likelihood import LikelihoodOptions, make_likelihood
from hidden_context.training import TrainConfig, run
from hidden_context.training.frozen import probe as probe_module
from hidden_context.training.frozen.features import FeatureSet
from hidden_context.training.frozen.probe import train_probe, validation_loss
from hidden_context.training.labels import make_head, member_draws
from support import runs
from support.builders import preference_rows, train_config
from support.runs import pair_features, spied

ROWS = preference_rows(32, seed=1, words=2)


frozen = partial(
    runs.frozen, ensemble="heads", probe_members=3, probe_epochs=6, probe_batch_size=16
)


def member_curves(history) -> list[list[float]]:
    """The losses of each member."""
    curves = defaultdict(list)
    for line in history:
        curves[line["member"]].append(line["loss"])
    return list(curves.values())


# ---- which head


def test_which_head_a_configuration_makes():
    """With its own options only."""

    def made(**options):
        return make_head(TrainConfig(**options))

    own = {"num_atoms": 7, "entropy_coeff": 0.5}
    categorical = made(reward_model_type="categorical", likelihood="logistic", **own)
    assert categorical == heads.make("categorical", **own)
    assert made(reward_model_type="scalar").type == "base"
    options = {"ensemble": "heads", "ensemble_members": 4, "ensemble_prior_scale": 0.5}
    ensemble = made(reward_model_type="factor", **options)
    assert ensemble == EnsembleHead(heads.make("factor"), 4, 0.5)
    assert ensemble.num_outputs == 4 * 3
    assert ensemble.output_scales == (0.5, 1.0, 0.5) * 4  # loadings start at full size anyway
    # a probe has as many members as networks, whether they can be averaged or not
    assert made(ensemble="heads", freeze_backbone=True, probe_members=2).num_members == 2
    apart = made(reward_model_type="mixture", freeze_backbone=True, probe_members=2)
    assert apart == EnsembleHead(heads.make("mixture"), 2, prior_scale=0.0)
    alone = made(reward_model_type="mixture", freeze_backbone=True, probe_members=1)
    assert alone.type == "mixture"
    assert made(freeze_backbone=True, probe_members=5) == heads.make("base")
    none = {"reward_model_type": "factor", "num_factors": 0, "freeze_backbone": True}
    assert made(**none) == heads.make("factor", num_factors=0)
    assert made(reward_model_type="factor") == heads.make("factor")
    with pytest.raises(ConfigError, match="members cannot be ensembles"):
        made(ensemble="heads", reward_model_type="ensemble")
    with pytest.raises(ConfigError, match="'median' is not known"):
        made(reward_model_type="median")


def test_a_probe_has_the_ensemble_s_members(backbones, tmp_path):
    options = {"ensemble": "none", "reward_model_type": "ensemble", "probe_members": 2}
    options["head_options"] = {"num_members": 3}
    with pytest.raises(ConfigError, match="the probe has 2 members, but the ensemble head has 3"):
        run(frozen(backbones, tmp_path, **options), ROWS)


# ---- bootstrap


def test_bootstrap_draws_go_by_prompt():
    """Poisson counts: mean and variance 1, apart for members, alike for a prompt's examples."""
    rows = [row for row in preference_rows(400, seed=3) for _ in range(2)]
    rows = [*rows[::2], *rows[1::2]]
    examples = [read_row(dict(row)) for row in rows]
    config = TrainConfig(ensemble="heads", seed=4)
    draws = member_draws(config, make_head(config), examples)
    assert draws.shape == (800, 5)
    assert torch.equal(draws[:400], draws[400:])
    assert float(draws.mean()) == pytest.approx(1, abs=0.1)
    assert float(draws.var()) == pytest.approx(1, abs=0.15)
    assert torch.equal(draws, draws.round())
    assert float((torch.corrcoef(draws[:400].T) - torch.eye(5)).abs().max()) < 0.2
    assert torch.equal(member_draws(config, make_head(config), examples), draws)
    other = TrainConfig(ensemble="heads", seed=5)
    assert not torch.equal(member_draws(other, make_head(other), examples), draws)
    without = TrainConfig(ensemble="heads", ensemble_bootstrap=False)
    assert member_draws(without, make_head(without), examples) is None
    assert member_draws(TrainConfig(), make_head(TrainConfig()), examples) is None


@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_every_member_sees_something_of_few_prompts(prompts):
    """Of one prompt a Poisson count is zero for a third of the members; it is drawn anew."""
    rows = [row for row in preference_rows(prompts, seed=3) for _ in range(2)]
    examples = [read_row(dict(row)) for row in rows]
    config = TrainConfig(ensemble="heads", ensemble_members=50)
    head = make_head(config)
    everywhere = member_draws(config, head, examples)
    assert everywhere.shape == (2 * prompts, 50)
    assert float(everywhere.amax(0).min()) >= 1
    # members that may learn from one prompt alone, or from none (which is then no limit)
    usable = [torch.arange(2 * prompts) // 2 == m % (prompts + 1) for m in range(50)]
    draws = member_draws(config, head, examples, usable)
    for mask, drawn in zip(usable, draws.T, strict=True):
        assert float(drawn[mask].max() if mask.any() else drawn.max()) >= 1


@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_members_of_a_probe_learn_from_few_prompts(backbones, tmp_path, prompts):
    """Also where the fold that a member would hold out is all there is, or all it drew."""
    rows = [row for row in preference_rows(prompts, seed=3) for _ in range(2)]
    config = frozen(backbones, tmp_path, probe_members=6, probe_epochs=4, probe_dropout=0.0)
    for curve in member_curves(run(config, rows).history):
        assert len(curve) == 4
        assert min(curve) > 0
        assert curve[-1] < curve[0]


# ---- the start is a prior


def test_output_layers_of_probes_are_not_decayed():
    sides = torch.randn(2, 64, 6, generator=torch.Generator().manual_seed(1))
    pairs = pair_features(*sides, torch.full((64,), 0.5))
    norms = {}
    for hidden in (8, 0):
        for head in (EnsembleHead(heads.make("base"), 2), heads.make("base")):
            config = train_config(
                "x", "y", probe_members=2, probe_hidden=hidden, probe_epochs=20,
                probe_weight_decay=100.0, probe_learning_rate=1e-3, probe_dropout=0.0,
                probe_batch_size=64, ensemble="heads" if head.num_members else "none",
            )  # fmt: skip
            probe, _ = train_probe(config, make_likelihood(head), pairs)
            output = [float(network[-1].weight.detach().norm()) for network in probe.members]
            norms[hidden, head.type] = min(output)
            if hidden:  # what is decayed loses a tenth a step
                assert max(float(each[0].weight.detach().norm()) for each in probe.members) < 0.5
    assert min(norms[8, "ensemble"], norms[0, "ensemble"]) > 0.15
    assert max(norms[8, "base"], norms[0, "base"]) < 0.05


# ---- what is learned beside probes


def noisy_ties(count: int, seed: int) -> FeatureSet:
    """Pairs of random features: a third are ties, one feature tells the rest apart at 70 %."""
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected = torch.randn(2, count, 6, generator=generator)
    share = torch.rand(count, generator=generator)
    right = (chosen[:, 0] > rejected[:, 0]) == (share < 0.7)
    preference = torch.where(torch.arange(count) % 3 == 0, 0.5, right.float())
    return pair_features(chosen, rejected, preference)


def probe_config(**options):
    defaults = {"probe_members": 2, "probe_hidden": 16, "probe_dropout": 0.0, "probe_epochs": 12}
    defaults |= {"probe_batch_size": 16, "probe_learning_rate": 0.01, "probe_weight_decay": 0.0}
    return train_config("x", "y", **(defaults | {"objective_learning_rate": 0.05} | options))


TIES = LikelihoodOptions(levels=3)


def gaps(likelihood) -> list[float]:
    """The raw threshold of each member, or of the one likelihood."""
    parts = getattr(likelihood, "members", [likelihood])
    return [float(part.outcomes.raw_gaps.detach()) for part in parts]


def test_members_keep_their_own_thresholds_and_averaged_ones_share_their_mean(monkeypatch):
    train = noisy_ties(96, 1)
    ensemble = make_likelihood(EnsembleHead(heads.make("base"), 2), TIES)
    train_probe(probe_config(), ensemble, train)
    own = gaps(ensemble)
    assert abs(own[0] - own[1]) > 1e-3
    averaged = make_likelihood(heads.make("base"), TIES)
    taken = spied(
        monkeypatch, probe_module, "_take_over", lambda _, parts: [gaps(part)[0] for part in parts]
    )
    train_probe(probe_config(), averaged, train)
    (seen,) = taken
    assert abs(seen[0] - seen[1]) > 1e-3
    assert gaps(averaged) == [pytest.approx(sum(seen) / 2, abs=1e-6)]


def test_the_best_epoch_s_thresholds_are_restored_too():
    """Few pairs and no regularisation: thresholds and network both overfit after a few epochs."""
    train, validation = noisy_ties(48, 1), noisy_ties(150, 2)
    likelihood = make_likelihood(heads.make("base"), TIES)
    options = {"probe_members": 1, "probe_epochs": 30, "probe_patience": 30}
    options |= {"probe_learning_rate": 0.03, "objective_learning_rate": 0.2}
    probe, history = train_probe(probe_config(**options), likelihood, train, validation)
    curve = [entry["validation_loss"] for entry in history]
    assert curve[-1] > min(curve) + 0.1
    assert curve.index(min(curve)) < 20
    assert validation_loss(likelihood, probe, validation) == pytest.approx(min(curve), abs=1e-5)


def test_members_of_a_probe_learn_from_what_they_drew():
    """A member that drew no example, of those it does not stop by, learns nothing."""
    train = noisy_ties(60, 1)
    counts = torch.ones(60, 2)
    counts[20:, 1] = 0
    held_out = [torch.arange(60) >= 40, torch.arange(60) < 20]
    head = EnsembleHead(heads.make("base"), 2)
    likelihood = make_likelihood(head, TIES)
    start = gaps(likelihood)
    config = probe_config(ensemble="heads")
    _, history = train_probe(config, likelihood, train, held_out=held_out, draws=counts)
    first, second = member_curves(history)
    assert min(first) > 0.1
    assert second == [0.0] * len(second)
    moved = [abs(after - before) for after, before in zip(gaps(likelihood), start, strict=True)]
    assert moved[0] > 1e-3
    assert moved[1] == 0.0
    twice = make_likelihood(head, TIES)
    _, doubled = train_probe(probe_config(), twice, train, draws=torch.full((60, 2), 2.0))
    _, once = train_probe(probe_config(), make_likelihood(head, TIES), train)
    assert doubled[0]["loss"] == pytest.approx(2 * once[0]["loss"], rel=0.1)
