"""References: where texts lie, what is usual there, and whose reference it is."""

import copy
import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf

from hidden_context import heads
from hidden_context.cli.main import main
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.splits.division import first_question
from hidden_context.errors import CheckpointError, ConfigError, DataError
from hidden_context.models.checkpoint.contents import REFERENCE_FILE
from hidden_context.models.checkpoint.identity import weight_digests
from hidden_context.models.checkpoint.reference import Reference
from hidden_context.models.reward_model import RewardModel
from hidden_context.scoring.config import ReferenceConfig
from hidden_context.scoring.reference import draw, fit_place, make_reference, reference_of
from hidden_context.scoring.requests import Scorer, disagreement
from support.builders import preference_rows, tiny_tokenizer
from support.models import refusal
from support.paper_layout import reward_checkpoint, write_rows


def examples(count, seed=0):
    rows = preference_rows(count, seed)
    return [read_row(row, file="rows", line=n) for n, row in enumerate(rows, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose reference was made of 150 pairs."""
    root = tmp_path_factory.mktemp("with")
    model = reward_checkpoint(root / "model", tokenizer=tiny_tokenizer())
    data = write_rows(root / "pairs.jsonl", preference_rows(150, 0))
    make_reference(ReferenceConfig(checkpoint=model, data_path=data))
    return model


@pytest.fixture(scope="module")
def model(folder):
    return RewardModel.from_pretrained(folder)


def gaussian(count, width, seed=0, networks=1):
    """Correlated normal features of very different scales."""
    generator = torch.Generator().manual_seed(7)
    factor = torch.randn(networks, width, width, generator=generator, dtype=torch.float64)
    factor = factor / 2 + width**0.5 * torch.eye(width)
    factor = factor * torch.logspace(-2, 2, width, dtype=torch.float64)[:, None]
    drawn = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, networks, width, generator=drawn, dtype=torch.float64)
    return torch.einsum("nmd,med->nme", noise, factor) + 5.0


def reference(fit, usual=()):
    found = Reference(
        *fit_place(fit)[:3], torch.ones(3), torch.empty(0),
        torch.arange(5.0), torch.empty(0), {"type": "base"}, {},
    )  # fmt: skip
    return replace(found, distance=found.distances(usual).sort().values) if len(usual) else found


def test_distances_are_mahalanobis_of_the_shrunk_correlations():
    features = gaussian(60, 8, networks=2)
    found = reference(features).distances(features[:10].float())
    total = np.zeros(10)
    for m in range(2):
        own = features[:, m].numpy()
        z = (own - own.mean(0)) / own.std(0)
        shrunk, weight = ledoit_wolf(z, assume_centered=True)
        assert 0.01 < weight < 1
        inverse = np.linalg.inv(shrunk)
        total += [mahalanobis(one, np.zeros(8), inverse) ** 2 for one in z[:10]]
    assert found.tolist() == pytest.approx(np.sqrt(total).tolist(), rel=1e-4)


def test_features_that_never_vary_do_no_harm_and_show_where_they_begin_to():
    features = gaussian(100, 4)
    features[:, 0, 1], features[:, 0, 2] = 0.0, 1e6
    found = reference(features)
    assert found.distances(features.float()).isfinite().all()
    features[0, 0, 1] = 1.0
    distances = found.distances(features.float())
    assert distances[0] > 2 * distances[1:].max()


@pytest.mark.parametrize("shape", [(800, 10), (150, 200)])
def test_new_texts_of_the_same_distribution_have_uniform_percentiles(shape):
    """Also where features are more than texts: those that were fitted would look near."""
    count, width = shape
    fit = gaussian(count, width, 11)
    usual, new = (gaussian(2000, width, seed) for seed in (12, 13))
    found = reference(fit, usual)
    percentiles = found.percentiles("distance", found.distances(new)).sort().values
    gap = (percentiles - torch.linspace(0, 1, 2000, dtype=torch.float64)).abs().max()
    assert gap < 1.63 * (2 / 2000) ** 0.5  # Kolmogorov and Smirnov's two-sample bound at 1 %
    assert float((percentiles > 0.95).double().mean()) == pytest.approx(0.05, abs=0.02)
    own = found.percentiles("distance", found.distances(fit))
    assert float((own > 0.95).double().mean()) < 0.05


def test_percentiles_count_what_is_below():
    found = reference(gaussian(20, 2))
    asked = torch.tensor([-1.0, 0.0, 0.5, 4.0, 9.0, torch.nan], dtype=torch.float64)
    shares = found.percentiles("sigma", asked)
    assert shares[:5].tolist() == [0, 0, 0.2, 0.8, 1]
    assert shares[5].isnan()
    assert found.percentiles("disagreement", asked).isnan().all()
    still = replace(found, sigma=torch.zeros(9))
    assert still.percentiles("sigma", torch.zeros(2)).tolist() == [0, 0]


def test_every_prompt_is_drawn_before_any_a_second_time():
    given = [
        Example(f"Human: p{n}\n\nAssistant: ", (f"a{n}{m}", f"b{n}{m}"), ())
        for n in range(6)
        for m in range(3)
    ]
    prompts = [one.prompt for one in draw(given, 24, 0)]
    assert sorted(prompts[:6]) == sorted(prompts[6:]) == sorted({one.prompt for one in given})
    assert draw(given, 24, 1) != draw(given, 24, 0) == draw(given, 24, 0)
    # an example is taken whole or not at all, and the same texts count once
    sizes = [len(draw(*each, 0)) for each in ((given, 11), (given[:1] * 9, 2), ([], 10))]
    assert sizes == [5, 9, 0]


def test_a_model_brings_its_reference_along(folder, model):
    found = model.reference
    assert (found.facts["prompts"], found.facts["texts"]) == (150, 300)
    rewards = model.score([text for one in examples(150) for text in one.inputs])
    assert found.sigma.tolist() == pytest.approx(sorted(rewards.stddev.tolist()), rel=1e-5)
    p = [rewards[2 * n].log_prob_greater(rewards[2 * n + 1]).exp().item() for n in range(150)]
    want = sorted(2 * one * (1 - one) for one in p)
    assert found.disagreement.tolist() == pytest.approx(want, abs=1e-6)
    assert "reference.safetensors" not in str(weight_digests(folder))  # no part of the weights


def test_usual_distances_are_those_of_prompts_that_the_fit_did_not_see(model):
    given = examples(150)
    order = sorted({first_question(one) for one in given})
    random.Random(0).shuffle(order)
    scorer, features = Scorer(replace_reference(model)), []
    for half in (order[:75], order[75:]):
        texts = [text for one in given if first_question(one) in half for text in one.inputs]
        features.append(scorer.run(scorer.prepare(texts), with_features=True).features)
    fitted, found = features[0].mean(0).flatten().tolist(), model.reference
    assert found.location.flatten().tolist() == pytest.approx(fitted, abs=1e-5)
    want = found.distances(features[1]).sort().values.tolist()
    assert found.distance.tolist() == pytest.approx(want, rel=1e-3)


def test_answers_say_where_texts_stand(folder, model):
    scorer = Scorer(model)
    texts = [*examples(4, 5)[0].inputs, " ", *examples(4, 5)[1].inputs]
    answers, scored = scorer.raw(texts), [0, 1, 3, 4]
    assert answers.features is None
    assert answers.distance.isnan().tolist() == [False, False, True, False, False]
    kept = scorer.run(scorer.prepare(texts), with_features=True).features[scored]
    where = model.reference.percentiles("distance", model.reference.distances(kept))
    assert answers.distance[scored].tolist() == pytest.approx(where.tolist())
    found = scorer.describe(answers.raw[:2], distance=answers.distance[:2])
    divided = torch.tensor(disagreement(found.preferred.tolist()))
    assert found.percentiles.distance == answers.distance[:2].tolist()
    for name, values in (("sigma", found.stddev), ("disagreement", divided)):
        where = model.reference.percentiles(name, values)
        assert getattr(found.percentiles, name) == where.tolist()
    assert scorer.raw([" "]).distance.isnan().all()


def test_without_a_reference_nothing_else_is_computed(folder):
    plain = RewardModel.from_pretrained(folder, reference=False)
    scorer, texts = Scorer(plain), list(examples(2)[0].inputs)
    hooks = []
    layer = plain.module.score
    scorer.raw(texts)  # the engine is chosen by what goes into this layer
    layer.register_forward_hook(lambda *given: hooks.append(len(layer._forward_pre_hooks)))
    answers = scorer.raw(texts)
    assert (answers.distance, answers.features) == (None, None)
    assert set(hooks) == {0}
    assert scorer.percentiles(answers.raw, torch.zeros(2)) is None
    assert scorer.describe(answers.raw).percentiles is None
    assert Scorer(RewardModel.from_pretrained(folder)).raw(texts).raw.equal(answers.raw)


def test_texts_that_cannot_be_scored_are_left_out_and_too_few_are_refused(model):
    own = replace_reference(model)
    empty = Example("\n\nHuman: Anything?\n\nAssistant: ", ("Yes.", " "), ())
    found = reference_of(own, [*examples(120), empty])
    assert (found.facts["without_reward"], found.facts["texts"]) == (1, 241)
    assert (len(found.disagreement), len(found.sigma)) == (120, 241)
    with pytest.raises(
        DataError, match="at least 20 prompts and 100 texts; prompts in the data: 40"
    ):
        reference_of(own, examples(40), source="rows")
    one_prompt = [
        Example("\n\nHuman: Tea?\n\nAssistant: ", (f"Yes, {n}.", f"No, {n}."), ())
        for n in range(99)
    ]
    assert "prompts in the data: 1," in refusal(reference_of, own, one_prompt, error=DataError)


def replace_reference(model):
    without = copy.copy(model)
    without.reference = None
    return without


def test_it_is_known_whose_it_is(folder, model, tmp_path):
    other = reward_checkpoint(tmp_path / "other", tokenizer=tiny_tokenizer(), seed=3)
    shutil.copytree(f"{folder}/reference", f"{other}/reference")
    with pytest.raises(CheckpointError, match=r"reference of another model.*hidden-context refer"):
        RewardModel.from_pretrained(other)
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(60, 0))
    make_reference(ReferenceConfig(checkpoint=other, data_path=data))  # which is the remedy
    assert RewardModel.from_pretrained(other).reference.facts["prompts"] == 60
    found = model.reference
    found.check(model.head, model.readout().bfloat16().float(), "rounded weights are the same")
    with pytest.raises(CheckpointError, match="weights of the output layer differ"):
        found.check(model.head, model.readout() * 1.01, "f")
    with pytest.raises(CheckpointError, match=r"is the reference of the head .*mean_and_variance"):
        found.check(heads.make("mean_and_variance", likelihood="logistic"), model.readout(), "f")


def test_damaged_files_are_refused(folder, model, tmp_path):
    path = model.reference.save(tmp_path)
    assert path == tmp_path / REFERENCE_FILE
    again = Reference.load(path)
    assert again.whitening.equal(model.reference.whitening)
    assert (again.head, again.facts) == (model.reference.head, model.reference.facts)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refusal(Reference.load, path)
    path.write_bytes(whole.replace(b'format\\": 1', b'format\\": 9'))
    assert "has format 9, but this version reads 1" in refusal(Reference.load, path)
    replace(model.reference, scale=torch.ones(1, 5)).save(tmp_path)
    assert "is damaged" in refusal(Reference.load, path)


def test_saving_a_model_keeps_its_reference(model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    again = RewardModel.from_pretrained(tmp_path / "copy").reference
    assert again.distance.equal(model.reference.distance)
    replace_reference(model).save_pretrained(tmp_path / "copy")
    assert RewardModel.from_pretrained(tmp_path / "copy").reference is None
    assert "has no features" in refusal(RewardModel.readout, model, error=ConfigError)


def test_the_command_makes_it_and_says_what_is_missing(folder, tmp_path, capsys):
    data = write_rows(tmp_path / "pairs.jsonl", preference_rows(80, 0))
    own = shutil.copytree(folder, tmp_path / "model")
    assert main(["reference", str(own), data, "--texts", "200", "--seed", "4"]) == 0
    assert f"{own / REFERENCE_FILE}: 160 texts of 80 prompts (seed 4)" in capsys.readouterr().out
    facts = Reference.load(own / REFERENCE_FILE).facts
    assert (facts["data"], facts["seed"]) == (data, 4)
    for arguments, words in [
        ([str(own)], "needs its data, as in: reference CHECKPOINT DATA."),
        ([str(tmp_path / "none"), data], "does not exist"),
        (["some/model", data], "is not a local folder"),
        ([str(own), str(tmp_path / "none.jsonl")], "does not exist"),
        ([str(own), data, "--texts", "50"], "must be at least 200"),
        (
            [str(own), write_rows(tmp_path / "few.jsonl", preference_rows(9, 0))],
            "at least 20 prompts",
        ),
    ]:
        assert main(["reference", *arguments]) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "broken.jsonl").write_text(json.dumps(preference_rows(1, 0)[0]) + "\n{\n")
    assert main(["reference", str(own), str(tmp_path / "broken.jsonl")]) == 2
    assert "line 2" in capsys.readouterr().err
