from __future__ import annotations

import json
import math
import time

import pytest
import torch

from hidden_context import heads
from hidden_context.data.labels import labels_of
from hidden_context.data.preferences import parse_preference
from hidden_context.errors import ConfigError, DataError, DivergedError
from hidden_context.models import RewardModel
from hidden_context.models.featurizer import Featurizer
from hidden_context.objectives import Labels, Objective, negative_log_likelihood
from hidden_context.training import run
from hidden_context.training.frozen import member_folds
from hidden_context.training.probe import PairFeatures, pair_features, train_probe
from support.builders import preference_rows, train_config

ROWS = preference_rows(200, seed=1)
TEST = preference_rows(60, seed=2)


def frozen_config(folder, output, **options):
    defaults = {
        "freeze_backbone": True,
        "probe_learning_rate": 3e-3,
        "probe_weight_decay": 0.01,
        "probe_batch_size": 32,
        "probe_members": 2,
    }
    return train_config(folder, output, **(defaults | options))


@pytest.mark.parametrize("head", ["base", "mean_and_variance", "categorical"])
@pytest.mark.parametrize("embed", ["apart", "response", "together"])
def test_learnable_pairs_are_learnt_in_seconds(backbones, tmp_path, head, embed):
    config = frozen_config(backbones("gpt2"), tmp_path, reward_model_type=head, embed=embed)
    start = time.monotonic()
    rows, test = (preference_rows(n, seed=n, words=2) for n in (200, 60))
    result = run(config, rows, test)
    assert time.monotonic() - start < 60
    assert result.metrics["accuracy"] > 0.9
    assert result.metrics["loss"] < 0.45


def test_metrics_files_and_reloading(backbones, tmp_path):
    config = frozen_config(
        backbones("gpt2"), tmp_path, reward_model_type="mean_and_variance", cache_dir=str(tmp_path)
    )
    result = run(config, ROWS, TEST)
    assert (tmp_path / "features.sqlite").is_file()
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"] == pytest.approx(result.metrics)
    model = RewardModel.from_pretrained(result.path, dtype="float32", device="cpu")
    raw_chosen = model.raw_outputs([row["chosen"] for row in TEST])
    raw_rejected = model.raw_outputs([row["rejected"] for row in TEST])
    helpful = torch.tensor([row["data_subset"] == "helpful" for row in TEST])
    for name, mask in (("", torch.ones_like(helpful)), ("data_subset_helpful_", helpful)):
        loss = negative_log_likelihood(model.head, raw_chosen[mask], raw_rejected[mask])
        assert written["metrics"][f"{name}loss"] == pytest.approx(float(loss.mean()), abs=1e-5)
        accuracy = float((loss < math.log(2)).float().mean())
        assert written["metrics"][f"{name}accuracy"] == pytest.approx(accuracy, abs=1e-6)
    means = model.head.distribution(torch.cat([raw_chosen, raw_rejected])).mean
    assert model.reward_scale.mean == pytest.approx(float(means.mean()), abs=1e-5)
    assert model.reward_scale.texts == 120
    assert "- train pairs: 200" in (result.path / "README.md").read_text()


def test_a_second_run_computes_no_features(backbones, tmp_path, monkeypatch):
    first = run(frozen_config(backbones("gpt2"), tmp_path / "a"), ROWS, TEST)

    def never(*args):
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(Featurizer, "_forward", never)
    second = run(frozen_config(backbones("gpt2"), tmp_path / "b"), ROWS, TEST)
    assert second.metrics == first.metrics
    assert second.history == first.history


@pytest.mark.parametrize("over_length", ["drop", "truncate"])
def test_long_pairs_are_counted(backbones, tmp_path, over_length):
    long = [row | {"rejected": row["rejected"] + " It is so." * 30} for row in ROWS[:3]]
    config = frozen_config(
        backbones("gpt2"), tmp_path, max_length=40, over_length=over_length, probe_epochs=2
    )
    result = run(config, [*ROWS[3:43], *long], [*TEST[:5], *long[:1]])
    read = json.loads((tmp_path / "metrics.json").read_text())["read"]
    if over_length == "drop":
        assert (read["train"]["kept"], read["train"]["too_long"]) == (40, 3)
        assert (read["test"]["kept"], read["test"]["too_long"]) == (5, 1)
        assert result.model.reward_scale.texts == 10
    else:
        assert (read["train"]["kept"], read["train"]["truncated"]) == (43, 3)
        assert (read["test"]["kept"], read["test"]["truncated"]) == (6, 1)


def test_nothing_left_is_an_error(backbones, tmp_path):
    with pytest.raises(DataError, match="no training pairs are left"):
        run(frozen_config(backbones("gpt2"), tmp_path, max_length=1), ROWS[:4])


def test_chat_messages_need_no_template_where_turns_are_embedded(backbones, tmp_path):
    rows = preference_rows(40, seed=5, chat=True)
    texts = preference_rows(40, seed=5)
    config = frozen_config(backbones("gpt2"), tmp_path / "chat", probe_epochs=3)
    chat = run(config, rows, rows)
    text = run(frozen_config(backbones("gpt2"), tmp_path / "text", probe_epochs=3), texts, texts)
    assert chat.metrics == pytest.approx(text.metrics)


# ---- the probe on features of its own


def features_with_signal(count: int, seed: int, noise: float = 0.0) -> PairFeatures:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randn(count, 6, generator=generator)
    rejected = torch.randn(count, 6, generator=generator)
    swap = chosen[:, 0] < rejected[:, 0]
    chosen[swap], rejected[swap] = rejected[swap], chosen[swap].clone()
    flip = torch.rand(count, generator=generator) < noise
    chosen[flip], rejected[flip] = rejected[flip], chosen[flip].clone()
    return PairFeatures(chosen, rejected, Labels.of_preferences(torch.ones(count)))


def loss_of(probe, head, pairs) -> float:
    with torch.no_grad():
        chosen, rejected = probe(pairs.chosen), probe(pairs.rejected)
    return float(negative_log_likelihood(head, chosen, rejected).mean())


def test_the_best_epoch_by_validation_is_restored():
    """Noisy labels and no regularisation: the probe overfits long before the last epoch."""
    config = train_config(
        "x", "y", probe_hidden=64, probe_dropout=0.0, probe_members=1, probe_learning_rate=0.03,
        probe_weight_decay=0.0, probe_batch_size=16, probe_epochs=40, probe_patience=40,
    )  # fmt: skip
    head = heads.make("base")
    train, validation = features_with_signal(60, 1, 0.3), features_with_signal(200, 2, 0.3)
    probe, history = train_probe(config, Objective(head), train, validation)
    curve = [entry["validation_loss"] for entry in history]
    assert len(curve) == 40
    assert curve.index(min(curve)) < 20
    assert curve[-1] > min(curve) + 0.2
    assert loss_of(probe, head, validation) == pytest.approx(min(curve), abs=1e-5)
    assert not probe.training


def test_patience_ends_training():
    config = train_config(
        "x", "y", probe_members=2, probe_learning_rate=0.05, probe_patience=3, probe_epochs=100,
        probe_batch_size=16, probe_dropout=0.0, probe_weight_decay=0.0,
    )  # fmt: skip
    train, validation = features_with_signal(60, 1, 0.3), features_with_signal(200, 2, 0.3)
    _, history = train_probe(config, Objective(heads.make("base")), train, validation)
    for member in (0, 1):
        curve = [entry["validation_loss"] for entry in history if entry["member"] == member]
        assert len(curve) == curve.index(min(curve)) + 1 + 3


def test_members_do_not_learn_from_what_they_stop_by():
    """Pairs held out by a member whose labels are reversed leave no trace in it."""
    train = features_with_signal(300, 1)
    mask = torch.arange(300) < 100
    spoiled = PairFeatures(
        torch.where(mask[:, None], train.rejected, train.chosen),
        torch.where(mask[:, None], train.chosen, train.rejected),
        train.labels,
    )
    config = train_config(
        "x", "y", probe_members=1, probe_epochs=1, probe_learning_rate=0.02, probe_batch_size=8
    )
    head = heads.make("base")
    test = features_with_signal(200, 3)
    clean, _ = train_probe(config, Objective(head), train, held_out=[mask])
    dirty, history = train_probe(config, Objective(head), spoiled, held_out=[mask])
    assert loss_of(clean, head, test) < 0.4
    # validation is worse than at the start, yet the first epoch is the best there is
    assert history[0]["validation_loss"] > math.log(2)
    assert loss_of(dirty, head, test) == pytest.approx(loss_of(clean, head, test), abs=1e-6)


def test_members_hold_out_different_prompts():
    pairs = [parse_preference(dict(row)) for row in ROWS]
    masks = member_folds(pairs, 5)
    assert torch.equal(torch.stack(masks).sum(0), torch.ones(200, dtype=torch.long))
    assert all(20 < int(mask.sum()) < 60 for mask in masks)
    assert len(member_folds(pairs, 2)) == 2
    assert torch.equal(member_folds(pairs, 2)[1], masks[1])


def test_without_anything_held_out_every_epoch_is_trained():
    config = train_config("x", "y", probe_members=1, probe_epochs=7)
    _, history = train_probe(config, Objective(heads.make("base")), features_with_signal(50, 1))
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6, 7]
    assert "validation_loss" not in history[0]
    nothing = torch.zeros(50, dtype=torch.bool)
    for mask in (nothing, ~nothing):  # a mask that leaves one side empty cannot be used
        _, again = train_probe(
            config, Objective(heads.make("base")), features_with_signal(50, 1), held_out=[mask]
        )
        assert again == history


def test_penalties_act_in_training_only():
    """A variance penalty keeps σ small; the losses told are without it."""
    options = {"probe_members": 1, "probe_epochs": 8, "probe_learning_rate": 0.01}
    train = features_with_signal(100, 1, noise=0.3)
    sigma, first = [], []
    for penalty in (0.0, 5.0):
        head = heads.make("mean_and_variance", variance_penalty=penalty)
        probe, history = train_probe(train_config("x", "y", **options), Objective(head), train)
        with torch.no_grad():
            sigma.append(float(head.distribution(probe(train.chosen)).stddev.mean()))
        first.append(history[0]["loss"])
    assert sigma[1] < 0.6 * sigma[0]
    assert first[1] == pytest.approx(first[0], abs=0.05)


def test_a_loss_that_is_not_finite_names_its_pairs():
    train = features_with_signal(40, 1)
    train.labels.preference[17] = math.inf
    config = train_config("x", "y", probe_members=1, probe_batch_size=4)
    held_out = torch.arange(40) < 5
    with pytest.raises(DivergedError, match="in epoch 1: the loss is not finite") as caught:
        train_probe(config, Objective(heads.make("base")), train, held_out=[held_out])
    named = str(caught.value).split("(from 1): ")[1].split(". ")[0]
    assert 18 in map(int, named.split(", "))
    assert len(named.split(", ")) <= 4


def test_features_know_the_lines_of_their_pairs():
    class Lengths:
        def features(self, texts, progress=None):
            return torch.tensor([[float(len(text))] for text in texts])

    row = {"chosen": "ab", "rejected": "c"}
    pairs = [parse_preference(row, line=7), parse_preference(row), parse_preference(row, line=3)]
    features = pair_features(Lengths(), pairs, labels_of(pairs))
    assert features.chosen.tolist() == [[2.0]] * 3
    assert features.lines.tolist() == [7, 2, 3]
    assert features[torch.tensor([2, 0])].lines.tolist() == [3, 7]


def test_there_is_nothing_to_resume(backbones, tmp_path):
    config = frozen_config(backbones("gpt2"), tmp_path, resume_from_checkpoint="true")
    with pytest.raises(ConfigError, match="nothing to go on from"):
        run(config, ROWS, TEST)


def test_without_early_stopping_all_pairs_and_epochs_are_used(backbones, tmp_path):
    config = frozen_config(
        backbones("gpt2"), tmp_path, probe_early_stopping=False, probe_epochs=7, probe_members=2
    )
    history = run(config, ROWS, TEST).history
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6, 7] * 2
    assert not any("validation_loss" in entry for entry in history)
