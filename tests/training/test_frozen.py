from __future__ import annotations

import dataclasses
import math
from itertools import compress

import pytest
import torch

from hidden_context import heads
from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.data.splits.division import SplitOptions
from hidden_context.errors import ConfigError, DataError, DivergedError
from hidden_context.likelihood import HeadLikelihood, Labels, RatingLabels
from hidden_context.models.featurizer import Featurizer
from hidden_context.training.frozen.features import FeatureSet, feature_set
from hidden_context.training.frozen.fit import group_codes, member_folds, response_groups
from hidden_context.training.frozen.probe import _batches as batches
from hidden_context.training.frozen.probe import train_probe
from hidden_context.training.links import Linker
from support.builders import preference_rows, train_config
from support.paper_layout import write_rows
from support.rows import assistant, user
from support.runs import logged, pair_features, spied
from support.scoring import evaluate, score

ROWS = preference_rows(200, seed=1)
TEST = preference_rows(60, seed=2)


PROBE = {"freeze_backbone": True, "probe_learning_rate": 3e-3, "probe_weight_decay": 0.01}
PROBE |= {"probe_batch_size": 32, "probe_members": 2}


def test_a_second_run_computes_no_features(fit, tmp_path, monkeypatch):
    options = PROBE | {"cache_dir": str(tmp_path)}
    first = fit(ROWS, TEST, into="a", **options)
    assert (tmp_path / "features.sqlite").is_file()
    ran = spied(monkeypatch, Featurizer, "_forward", lambda *_: True)
    second = fit(ROWS, TEST, into="b", **options)
    assert (ran, second.metrics, second.history) == ([], first.metrics, first.history)


def messages(text):
    """A chat, which needs no chat template where turns are embedded."""
    prompt, response = text.removeprefix("\n\nHuman: ").split("\n\nAssistant: ")
    return [user(prompt), assistant(response)]


SPELLINGS = (
    messages,
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("\n", "\r"),
    lambda text: text.strip().replace("\n\n", "\n"),
    lambda text: text + "\n\nHuman: Thanks.",
    lambda text: text + "\n\nHuman: Thanks.\n\nAssistant:",
)


@pytest.mark.parametrize("embed", ["apart", "response"])
def test_the_spelling_of_turns_does_not_matter(fit, embed):
    def spelt(rows):
        return [
            row | {side: SPELLINGS[n % 6](row[side]) for side in ("chosen", "rejected")}
            for n, row in enumerate(rows)
        ]

    one, other = (
        fit(change(ROWS[:60]), change(TEST[:30]), into=name, embed=embed, probe_epochs=3, **PROBE)
        for name, change in (("a", list), ("b", spelt))
    )
    assert one.metrics == pytest.approx(other.metrics, abs=1e-6)


def test_a_prompt_column_is_no_part_of_the_response(fit, monkeypatch):
    rows = [
        {"prompt": f"Q{n}", "chosen": f" kind {n}", "rejected": f" rude {n}"} for n in range(24)
    ]
    seen = spied(monkeypatch, Featurizer, "_forward", lambda _, texts, __: texts)
    fit(rows, rows[:4], embed="response", probe_epochs=1, **PROBE)
    expected = {row[side].strip() for row in rows for side in ("chosen", "rejected")}
    assert {text for texts in seen for text in texts} == expected


def test_responses_that_are_all_empty_stop_training_and_scoring(fit, tmp_path):
    model = str(fit(ROWS[:40], into="a", probe_epochs=1, **PROBE).path)
    start = "\n\nHuman: Tea?\n\nAssistant:"
    rows = [{"chosen": f"{n}{start}", "rejected": f"{n}!{start}"} for n in range(24)]
    with pytest.raises(DataError, match=r"in 24 of 24 rows \(24 with an empty"):
        fit(rows, into="b", **PROBE)
    path, output = write_rows(tmp_path / "rows.jsonl", rows), str(tmp_path / "o.jsonl")
    said = r"rows\.jsonl: a frozen backbone cannot tell"
    with pytest.raises(DataError, match=said):
        score(path, model, output)
    with pytest.raises(DataError, match=said):
        evaluate(model, path, output=output)


# ---- the probe on features of its own


BASE = heads.make("base")


def features_with_signal(count: int, seed: int, noise: float = 0.0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, 6, generator=generator) for _ in range(2))
    swap = (first[:, 0] < second[:, 0]) ^ (torch.rand(count, generator=generator) < noise)
    return pair_features(*swapped(swap, first, second), torch.ones(count))


def swapped(swap, first, second):
    """Both sides, exchanged where it is said."""
    return torch.where(swap[:, None], second, first), torch.where(swap[:, None], first, second)


def fit_probe(train, validation=None, head=BASE, held_out=None, **options):
    """Train a probe of one member on features; unless told otherwise, without a linear start."""
    config = train_config("x", "y", **{"probe_members": 1, "probe_linear": False} | options)
    return train_probe(config, HeadLikelihood(head), train, validation, held_out=held_out)


def loss_of(probe, pairs) -> float:
    with torch.no_grad():
        raw = probe(pairs.features)
    return float(-BASE.log_prob_preferred(raw[::2], raw[1::2]).mean())


OVERFIT = {"probe_dropout": 0.0, "probe_weight_decay": 0.0, "probe_batch_size": 16}


def test_patience_ends_training():
    train, validation = features_with_signal(60, 1, 0.3), features_with_signal(200, 2, 0.3)
    options = {"probe_learning_rate": 0.05, "probe_epochs": 100, "probe_patience": 3}
    probe, history = fit_probe(train, validation, probe_members=2, **OVERFIT, **options)
    assert not probe.slope.any()  # nothing linear where it is not wanted, nor its epoch 0
    assert history[0]["epoch"] == 1
    for member in (0, 1):
        curve = [entry["validation_loss"] for entry in history if entry["member"] == member]
        assert len(curve) == curve.index(min(curve)) + 1 + 3


def test_members_do_not_learn_from_what_they_stop_by():
    """Pairs held out by a member whose labels are reversed leave no trace in it."""
    train, test = features_with_signal(300, 1), features_with_signal(200, 3)
    mask = torch.arange(300) < 100
    spoiled = swapped(mask, train.features[::2], train.features[1::2])
    spoiled = pair_features(*spoiled, torch.ones(300))
    options = {"probe_epochs": 1, "probe_learning_rate": 0.02, "probe_batch_size": 8}
    clean, _ = fit_probe(train, held_out=[mask], **options)
    dirty, history = fit_probe(spoiled, held_out=[mask], **options)
    assert loss_of(clean, test) < 0.4
    # validation is worse than at the start, yet the first epoch is the best there is
    assert history[0]["validation_loss"] > math.log(2)
    assert loss_of(dirty, test) == pytest.approx(loss_of(clean, test), abs=1e-6)


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
    options = {"probe_learning_rate": 0.02, "probe_batch_size": 8, "probe_dropout": 0.0}
    options |= {"held_out": [mask], "probe_linear": True}
    spoiled = rated_features(120, 1, mask)
    clean, good = fit_probe(rated_features(120, 1), probe_epochs=4, **options)
    _, bad = fit_probe(spoiled, probe_epochs=1, **options)
    assert good[0]["loss"] == pytest.approx(bad[0]["loss"], abs=1e-6)
    assert good[-1]["validation_loss"] < 0.4 < math.log(2) < bad[-1]["validation_loss"]
    raw = clean(spoiled.features).detach().squeeze(-1)
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
    for masks in zip(*member_folds(groups, [2] * len(every), 5), strict=True):
        inside, learned = (
            {text for e in compress(every, mask.tolist()) for text in e.responses} for mask in masks
        )
        assert not inside & learned
    held_out, _ = member_folds(groups, [2] * len(every), 5)
    # neither has all others: pairs of one text on each side are in no part
    assert 0 < int(sum(held_out).sum()) < len(every)
    assert response_groups([pair("a", "b"), pair("c", "d")]) == ["a\0b", "a\0b", "c\0d", "c\0d"]
    assert response_groups([pair("a", "b")] * 2) == ["a\0b"] * 4  # one vote a row
    prompted = [pair("a", "b", "one?"), pair("a", "b", "two?")]
    assert response_groups(prompted) == ["one?", "one?", "two?", "two?"]
    by_column = [dataclasses.replace(e, columns={"topic": "t"}) for e in every[:2]]
    assert response_groups(by_column, SplitOptions("topic")) == ["t"] * 4


def test_without_anything_held_out_every_epoch_is_trained():
    train, options = features_with_signal(50, 1), {"probe_linear": True, "probe_epochs": 7}
    _, history = fit_probe(train, **options)
    assert logged(history, "epoch") == [1, 2, 3, 4, 5, 6, 7]
    assert "validation_loss" not in history[0]
    nothing = torch.zeros(50, dtype=torch.bool)
    for mask in (nothing, ~nothing):  # a mask that leaves one side empty cannot be used
        assert fit_probe(train, held_out=[mask], **options)[1] == history


def test_penalties_act_in_training_only():
    """A variance penalty keeps σ small; the losses told are without it."""
    options = {"probe_linear": True, "probe_epochs": 8, "probe_learning_rate": 0.01}
    train = features_with_signal(100, 1, noise=0.3)
    sigma, first = [], []
    for penalty in (0.0, 5.0):
        head = heads.make("mean_and_variance", variance_penalty=penalty)
        probe, history = fit_probe(train, head=head, **options)
        with torch.no_grad():
            sigma.append(float(head.distribution(probe(train.features[::2])).stddev.mean()))
        first.append(history[0]["loss"])
    assert sigma[1] < 0.6 * sigma[0]
    assert first[1] == pytest.approx(first[0], abs=0.05)


def test_a_loss_that_is_not_finite_names_its_pairs():
    train = features_with_signal(40, 1)
    train.labels.comparisons.preference[17] = math.inf
    with pytest.raises(DivergedError, match="in epoch 1: the loss is not finite") as caught:
        fit_probe(train, held_out=[torch.arange(40) < 5], probe_batch_size=4, probe_linear=True)
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


def test_there_is_nothing_to_resume(fit):
    with pytest.raises(ConfigError, match="nothing to resume"):
        fit(ROWS, TEST, resume_from_checkpoint="true", **PROBE)
