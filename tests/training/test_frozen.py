from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from hidden_context import heads
from hidden_context.data.groups import SplitOptions
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.errors import ConfigError, DataError, DivergedError
from hidden_context.likelihood import (
    HeadLikelihood,
    Labels,
    RatingLabels,
)
from hidden_context.models import RewardModel
from hidden_context.models.featurizer import Featurizer
from hidden_context.scoring import EvaluateConfig, ScoreConfig, evaluate, score_file
from hidden_context.training import run
from hidden_context.training.features import FeatureSet, feature_set
from hidden_context.training.frozen import group_codes, member_folds, response_groups
from hidden_context.training.links import Linker
from hidden_context.training.probe import _batches as batches
from hidden_context.training.probe import train_probe
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
def test_learnable_pairs_are_learnt(backbones, tmp_path, head, embed):
    config = frozen_config(backbones("gpt2"), tmp_path, reward_model_type=head, embed=embed)
    rows, test = (preference_rows(n, seed=n, words=2) for n in (200, 60))
    result = run(config, rows, test)
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
        loss = -model.head.log_prob_preferred(raw_chosen[mask], raw_rejected[mask])
        assert written["metrics"][f"{name}loss"] == pytest.approx(float(loss.mean()), abs=1e-5)
        accuracy = float((loss < math.log(2)).float().mean())
        assert written["metrics"][f"{name}accuracy"] == pytest.approx(accuracy, abs=1e-6)
    means = model.head.distribution(torch.cat([raw_chosen, raw_rejected])).mean
    assert model.reward_scale.mean == pytest.approx(float(means.mean()), abs=1e-5)
    assert model.reward_scale.texts == 120
    assert "- train examples: 200" in (result.path / "README.md").read_text()


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
    with pytest.raises(DataError, match="no training examples are left"):
        run(frozen_config(backbones("gpt2"), tmp_path, max_length=1), ROWS[:4])


def test_chat_messages_need_no_template_where_turns_are_embedded(backbones, tmp_path):
    rows = preference_rows(40, seed=5, chat=True)
    texts = preference_rows(40, seed=5)
    config = frozen_config(backbones("gpt2"), tmp_path / "chat", probe_epochs=3)
    chat = run(config, rows, rows)
    text = run(frozen_config(backbones("gpt2"), tmp_path / "text", probe_epochs=3), texts, texts)
    assert chat.metrics == pytest.approx(text.metrics)


SPELLINGS = {
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "old Macs": lambda text: text.replace("\n", "\r"),
    "single lines": lambda text: text.strip().replace("\n\n", "\n"),
    "trailing human turn": lambda text: text + "\n\nHuman: Thanks.",
    "trailing turns": lambda text: text + "\n\nHuman: Thanks.\n\nAssistant:",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("embed", ["apart", "response"])
def test_the_spelling_of_turns_does_not_matter(backbones, tmp_path, spelling, embed):
    def spelt(rows):
        change = SPELLINGS[spelling]
        return [row | {side: change(row[side]) for side in ("chosen", "rejected")} for row in rows]

    metrics = []
    for name, change in (("a", list), ("b", spelt)):
        config = frozen_config(backbones("gpt2"), tmp_path / name, embed=embed, probe_epochs=3)
        metrics.append(run(config, change(ROWS[:60]), change(TEST[:30])).metrics)
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)


def test_a_prompt_column_is_no_part_of_the_response(backbones, tmp_path):
    rows = [
        {"prompt": f"Q{n}", "chosen": f" kind {n}", "rejected": f" rude {n}"} for n in range(24)
    ]
    seen = []
    config = frozen_config(backbones("gpt2"), tmp_path, embed="response", probe_epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        forward = Featurizer._forward
        patch.setattr(Featurizer, "_forward", lambda s, t, b: seen.extend(t) or forward(s, t, b))
        run(config, rows, rows[:4])
    assert set(seen) == {row[side].strip() for row in rows for side in ("chosen", "rejected")}


def test_responses_that_are_all_empty_stop_training_and_scoring(backbones, tmp_path):
    model = run(frozen_config(backbones("gpt2"), tmp_path / "a", probe_epochs=1), ROWS[:40]).path
    start = "\n\nHuman: Tea?\n\nAssistant:"
    rows = [{"chosen": f"{n}{start}", "rejected": f"{n}!{start}"} for n in range(24)]
    with pytest.raises(DataError, match="in 24 of 24 rows: in 24 one is empty"):
        run(frozen_config(backbones("gpt2"), tmp_path / "b"), rows)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"output": str(tmp_path / "o.jsonl"), "disable_tqdm": True}
    with pytest.raises(DataError, match=r"rows\.jsonl: a frozen backbone cannot tell"):
        score_file(ScoreConfig(input=str(path), models=[str(model)], **options))
    with pytest.raises(DataError, match=r"rows\.jsonl: a frozen backbone cannot tell"):
        evaluate(EvaluateConfig(checkpoint=str(model), data_path=str(path), **options))


# ---- the probe on features of its own


def pair_features(chosen: torch.Tensor, rejected: torch.Tensor, labels: Labels) -> FeatureSet:
    """Features of pairs, whose sides stand one after the other."""
    return FeatureSet(torch.stack([chosen, rejected], 1).flatten(0, 1), labels)


def features_with_signal(count: int, seed: int, noise: float = 0.0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randn(count, 6, generator=generator)
    rejected = torch.randn(count, 6, generator=generator)
    swap = chosen[:, 0] < rejected[:, 0]
    chosen[swap], rejected[swap] = rejected[swap], chosen[swap].clone()
    flip = torch.rand(count, generator=generator) < noise
    chosen[flip], rejected[flip] = rejected[flip], chosen[flip].clone()
    return pair_features(chosen, rejected, Labels.of_pairs(torch.ones(count)))


def loss_of(probe, head, pairs) -> float:
    with torch.no_grad():
        raw = probe(pairs.features)
        chosen, rejected = raw[::2], raw[1::2]
    return float(-head.log_prob_preferred(chosen, rejected).mean())


def test_the_best_epoch_by_validation_is_restored():
    """Noisy labels and no regularisation: the probe overfits long before the last epoch."""
    config = train_config(
        "x", "y", probe_hidden=64, probe_dropout=0.0, probe_members=1, probe_learning_rate=0.03,
        probe_weight_decay=0.0, probe_batch_size=16, probe_epochs=40, probe_patience=40,
        probe_linear=False,
    )  # fmt: skip
    head = heads.make("base")
    train, validation = features_with_signal(60, 1, 0.3), features_with_signal(200, 2, 0.3)
    probe, history = train_probe(config, HeadLikelihood(head), train, validation)
    curve = [entry["validation_loss"] for entry in history]
    assert len(curve) == 40
    assert curve.index(min(curve)) < 20
    assert curve[-1] > min(curve) + 0.2
    assert loss_of(probe, head, validation) == pytest.approx(min(curve), abs=1e-5)
    assert not probe.training


def test_patience_ends_training():
    config = train_config(
        "x", "y", probe_members=2, probe_learning_rate=0.05, probe_patience=3, probe_epochs=100,
        probe_batch_size=16, probe_dropout=0.0, probe_weight_decay=0.0, probe_linear=False,
    )  # fmt: skip
    train, validation = features_with_signal(60, 1, 0.3), features_with_signal(200, 2, 0.3)
    _, history = train_probe(config, HeadLikelihood(heads.make("base")), train, validation)
    for member in (0, 1):
        curve = [entry["validation_loss"] for entry in history if entry["member"] == member]
        assert len(curve) == curve.index(min(curve)) + 1 + 3


def test_members_do_not_learn_from_what_they_stop_by():
    """Pairs held out by a member whose labels are reversed leave no trace in it."""
    train = features_with_signal(300, 1)
    mask = torch.arange(300) < 100
    chosen, rejected = train.features[::2], train.features[1::2]
    spoiled = pair_features(
        torch.where(mask[:, None], rejected, chosen),
        torch.where(mask[:, None], chosen, rejected),
        train.labels,
    )
    config = train_config(
        "x", "y", probe_members=1, probe_epochs=1, probe_learning_rate=0.02, probe_batch_size=8,
        probe_linear=False,
    )  # fmt: skip
    head = heads.make("base")
    test = features_with_signal(200, 3)
    clean, _ = train_probe(config, HeadLikelihood(head), train, held_out=[mask])
    dirty, history = train_probe(config, HeadLikelihood(head), spoiled, held_out=[mask])
    assert loss_of(clean, head, test) < 0.4
    # validation is worse than at the start, yet the first epoch is the best there is
    assert history[0]["validation_loss"] > math.log(2)
    assert loss_of(dirty, head, test) == pytest.approx(loss_of(clean, head, test), abs=1e-6)


def rated_features(count: int, seed: int, spoiled: torch.Tensor | None = None) -> FeatureSet:
    """Responses that three annotators rate by one feature; the spoiled ones by its opposite."""
    features = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    value = features[:, 0] if spoiled is None else features[:, 0] * (1 - 2 * spoiled.float())
    response = torch.arange(count)
    ones = torch.ones(count)
    ratings = RatingLabels(response, value, response % 3, ones, ones, response)
    labels = Labels(Labels.of_pairs(torch.ones(0)).comparisons, ratings, torch.arange(count + 1))
    return FeatureSet(features, labels.without_ratings(), linker=Linker(labels, 32, seed=1))


def test_comparisons_of_ratings_leave_out_what_a_member_holds_out():
    mask = torch.arange(120) < 40
    config = train_config(
        "x", "y", probe_members=1, probe_epochs=4, probe_learning_rate=0.02, probe_batch_size=8,
        probe_dropout=0.0,
    )  # fmt: skip
    likelihood = HeadLikelihood(heads.make("base"))
    clean, good = train_probe(config, likelihood, rated_features(120, 1), held_out=[mask])
    spoiled = rated_features(120, 1, mask)
    config = dataclasses.replace(config, probe_epochs=1)
    _, bad = train_probe(config, likelihood, spoiled, held_out=[mask])
    assert good[0]["loss"] == pytest.approx(bad[0]["loss"], abs=1e-6)
    assert good[-1]["validation_loss"] < 0.4 < math.log(2) < bad[-1]["validation_loss"]
    raw = clean(rated_features(120, 1).features).detach().squeeze(-1)
    assert float(torch.corrcoef(torch.stack([raw, spoiled.features[:, 0]]))[0, 1]) > 0.9


@pytest.mark.parametrize(
    ("votes", "linked", "sizes"),
    [
        ([1.0] * 7, 0.0, [3, 3, 1]),
        ([0.5] * 12, 0.0, [6, 6]),
        ([2 / 3] * 9, 0.0, [4, 5]),
        ([1.0] * 6, 6.0, [1, 2, 1, 2]),
        ([], 7.0, [0, 0, 0]),
        ([1.0], 8.0, [0, 0, 1]),
    ],
)
def test_a_step_is_a_number_of_votes(votes, linked, sizes):
    """Votes of comparisons that are drawn for a step are counted with the others."""
    found = batches(torch.tensor(votes), linked, 3)
    assert [len(batch) for batch in found] == sizes
    assert sorted(torch.cat(list(found)).tolist()) == list(range(len(votes)))


def test_members_hold_out_different_prompts():
    groups = response_groups([read_row(dict(row)) for row in ROWS])
    held_out, learned = member_folds(groups, [2] * 200, 5)
    assert torch.equal(torch.stack(held_out).sum(0), torch.ones(200, dtype=torch.long))
    assert all(20 < int(mask.sum()) < 60 for mask in held_out)
    assert all(torch.equal(a, ~b) for a, b in zip(held_out, learned, strict=True))
    fewer, _ = member_folds(groups, [2] * 200, 2)
    assert len(fewer) == 2
    assert torch.equal(fewer[1], held_out[1])


def test_numbers_of_groups_do_not_depend_on_the_order_of_rows():
    assert group_codes(["b", "b", "a", "c"]).tolist() == [1, 1, 0, 2]
    assert group_codes(["a", "c", "b", "b"]).tolist() == [0, 2, 1, 1]


def test_texts_that_meet_in_many_pairs_are_groups_of_their_own():
    def pair(a, b, prompt=""):
        said = [{"comparison": [0, 1]}]
        return read_row({"prompt": prompt, "responses": [a, b], "judgements": said})

    texts = [f"text {n}" for n in range(12)]
    every = [pair(a, b) for a in texts for b in texts if a < b]
    groups = response_groups(every)
    assert groups == [text for a in texts for b in texts if a < b for text in (a, b)]
    held_out, learned = member_folds(groups, [2] * len(every), 5)
    for out, learn in zip(held_out, learned, strict=True):
        texts_of = [
            {
                t
                for e, inside in zip(every, mask.tolist(), strict=True)
                if inside
                for t in e.responses
            }
            for mask in (out, learn)
        ]
        assert not texts_of[0] & texts_of[1]
    # neither has all others: pairs of one text on each side are in no part
    assert 0 < int(sum(held_out).sum()) < len(every)
    apart = [pair("a", "b"), pair("c", "d")]
    assert response_groups(apart) == ["a\0b", "a\0b", "c\0d", "c\0d"]
    assert response_groups([pair("a", "b")] * 2) == ["a\0b"] * 4  # one vote a row
    prompted = [pair("a", "b", "one?"), pair("a", "b", "two?")]
    assert response_groups(prompted) == ["one?", "one?", "two?", "two?"]
    by_column = [dataclasses.replace(e, columns={"topic": "t"}) for e in every[:2]]
    assert response_groups(by_column, SplitOptions("topic")) == ["t"] * 4


def test_without_anything_held_out_every_epoch_is_trained():
    config = train_config("x", "y", probe_members=1, probe_epochs=7)
    _, history = train_probe(
        config, HeadLikelihood(heads.make("base")), features_with_signal(50, 1)
    )
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6, 7]
    assert "validation_loss" not in history[0]
    nothing = torch.zeros(50, dtype=torch.bool)
    for mask in (nothing, ~nothing):  # a mask that leaves one side empty cannot be used
        _, again = train_probe(
            config, HeadLikelihood(heads.make("base")), features_with_signal(50, 1), held_out=[mask]
        )
        assert again == history


def test_penalties_act_in_training_only():
    """A variance penalty keeps σ small; the losses told are without it."""
    options = {"probe_members": 1, "probe_epochs": 8, "probe_learning_rate": 0.01}
    train = features_with_signal(100, 1, noise=0.3)
    sigma, first = [], []
    for penalty in (0.0, 5.0):
        head = heads.make("mean_and_variance", variance_penalty=penalty)
        probe, history = train_probe(train_config("x", "y", **options), HeadLikelihood(head), train)
        with torch.no_grad():
            sigma.append(float(head.distribution(probe(train.features[::2])).stddev.mean()))
        first.append(history[0]["loss"])
    assert sigma[1] < 0.6 * sigma[0]
    assert first[1] == pytest.approx(first[0], abs=0.05)


def test_a_loss_that_is_not_finite_names_its_pairs():
    train = features_with_signal(40, 1)
    train.labels.comparisons.preference[17] = math.inf
    config = train_config("x", "y", probe_members=1, probe_batch_size=4)
    held_out = torch.arange(40) < 5
    with pytest.raises(DivergedError, match="in epoch 1: the loss is not finite") as caught:
        train_probe(config, HeadLikelihood(heads.make("base")), train, held_out=[held_out])
    named = str(caught.value).split("(from 1): ")[1].split(". ")[0]
    assert 18 in map(int, named.split(", "))
    assert len(named.split(", ")) <= 4


def test_features_know_the_lines_of_their_examples():
    class Lengths:
        def features(self, texts, progress=None):
            return torch.tensor([[float(len(text))] for text in texts])

    row = {"chosen": "ab", "rejected": "c"}
    examples = [read_row(row, line=7), read_row(row), read_row(row, line=3)]
    examples[2] = dataclasses.replace(examples[2], source_lines=(3, 9))
    features = feature_set(Lengths(), examples, labels_of(examples))
    assert features.features.tolist() == [[2.0], [1.0]] * 3
    assert features.lines == ["7", "2", "3, 9"]
    assert len(features) == 3


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
