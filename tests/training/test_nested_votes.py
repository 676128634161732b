"""Several votes on one pair: in one row or in as many, they are the same votes."""

from __future__ import annotations

import random

import pytest
import torch

from hidden_context.models.likelihood_file import members_of
from hidden_context.training import probe as probe_module
from hidden_context.training import run
from support.builders import TOPICS, preference_rows, train_config

PEOPLE = [f"p{number:02}" for number in range(20)]
KIND, RUDE = " An answer that is kind.", " An answer that is rude."


def nested_rows(count: int, seed: int):
    """Pairs judged by twenty people, of whom ten like kind answers and ten rude ones."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        prompt = f"\n\nHuman: What about {draw.choice(TOPICS)} {seed}{number}?\n\nAssistant:"
        votes = [
            {"annotator": name, "preference": float((place < 10) == (draw.random() < 0.9))}
            for place, name in enumerate(PEOPLE)
        ]
        rows.append({"prompt": prompt, "chosen": KIND, "rejected": RUDE, "annotations": votes})
    return rows


def one_row_per_vote(rows):
    return [
        {**{name: row[name] for name in ("prompt", "chosen", "rejected")}, **vote}
        for row in rows
        for vote in row["annotations"]
    ]


def frozen(backbones, folder, **options):
    defaults = {"freeze_backbone": True, "probe_learning_rate": 5e-3, "probe_members": 2}
    defaults |= {"probe_weight_decay": 0.01, "probe_batch_size": 32, "probe_dropout": 0.0}
    defaults |= {"probe_epochs": 15, "objective_learning_rate": 0.05, "quiet": True}
    defaults |= {"reward_model_type": "factor", "annotators": "variational"}
    return train_config(backbones("gpt2"), folder, **(defaults | options))


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of every epoch of probes."""
    counts = []
    original = probe_module._batches

    def counted(*args):
        found = original(*args)
        counts.append(len(found))
        return found

    monkeypatch.setattr(probe_module, "_batches", counted)
    return counts


def told(result) -> dict[str, float]:
    """Metrics but for the level of rewards, which comparisons leave open."""
    return {n: value for n, value in result.metrics.items() if not n.endswith("reward_mean")}


def contexts(result) -> torch.Tensor:
    """Posterior means of the annotators, of shape ``(M, U)``, each member's sign the same."""
    found = torch.stack(
        [part.annotators.location.detach()[:, 0] for part in members_of(result.model.likelihood)]
    )
    return found * found[:, :1].sign()


def test_votes_in_one_row_are_learned_like_rows_of_their_own(backbones, tmp_path, steps):
    rows, test = nested_rows(16, seed=1), nested_rows(6, seed=2)
    single = one_row_per_vote(rows)
    shuffled = random.Random(3).sample(single, len(single))
    results, counts = {}, {}
    for name, train, merge in (
        ("nested", rows, True),
        ("merged", single, True),
        ("apart", single, False),
        ("shuffled", shuffled, False),
        ("shuffled and merged", shuffled, True),
    ):
        config = frozen(
            backbones, tmp_path / name, merge_prompts=merge, probe_epochs=40, probe_members=1,
            probe_early_stopping=False, probe_linear=False,
        )  # fmt: skip
        results[name] = run(config, train, test)
        counts[name] = list(steps)
        steps.clear()
    nested = results["nested"]
    assert all(found == [10] * 40 for found in counts.values())  # 320 votes by 32
    kept = {name: result.reports["train"].kept for name, result in results.items()}
    assert kept == {
        "nested": 16, "merged": 16, "apart": 320, "shuffled": 320, "shuffled and merged": 16
    }  # fmt: skip
    for name in ("merged", "apart"):  # the same votes in the same order
        curves = [[line["loss"] for line in r.history] for r in (nested, results[name])]
        # rounding, which depends on how rows are laid out, grows from step to step
        assert curves[0][:5] == pytest.approx(curves[1][:5], abs=1e-4)
        assert curves[0] == pytest.approx(curves[1], abs=1e-2)
        assert results[name].metrics["loss"] == pytest.approx(nested.metrics["loss"], abs=5e-3)
        assert told(results[name]) == pytest.approx(told(nested), rel=0.05, abs=5e-3)
    for name, result in results.items():
        for own, other in zip(contexts(nested), contexts(result), strict=True):
            both = torch.corrcoef(torch.stack([own, other]))
            assert float(both[0, 1]) > 0.99, name
        assert float(contexts(result).std(1).min()) > 0.5
        assert bool((contexts(result)[:, :10] > 0).all())
        assert bool((contexts(result)[:, 10:] < 0).all())
        assert result.metrics["accuracy"] > 0.8
        assert result.metrics["loss"] == pytest.approx(nested.metrics["loss"], abs=0.06)


def test_a_linear_probe_learns_votes_in_one_row_like_rows_of_their_own(backbones, tmp_path):
    rows, test = nested_rows(16, seed=1), nested_rows(6, seed=2)
    nested, apart = (
        run(frozen(backbones, tmp_path / name, merge_prompts=name == "nested"), train, test)
        for name, train in (("nested", rows), ("apart", one_row_per_vote(rows)))
    )
    assert told(nested) == pytest.approx(told(apart), rel=0.05, abs=5e-3)
    assert nested.metrics["accuracy"] > 0.8
    for own, other in zip(contexts(nested), contexts(apart), strict=True):
        assert float(torch.corrcoef(torch.stack([own, other]))[0, 1]) > 0.99


def test_votes_in_one_row_are_fine_tuned_like_rows_of_their_own(backbones, tmp_path):
    """Merged, the rows of a pair are one example, whose votes are in one step."""
    rows, test = nested_rows(12, seed=1), nested_rows(6, seed=2)
    options = {"reward_model_type": "factor", "annotators": "variational", "quiet": True}
    options |= {"num_train_epochs": 4, "learning_rate": 5e-3, "objective_learning_rate": 0.1}
    options |= {"per_device_train_batch_size": 40}
    one, other = (
        run(train_config(backbones("gpt2", spread=1.0), tmp_path / name, **options), train, test)
        for name, train in (("nested", rows), ("single", one_row_per_vote(rows)))
    )
    curves = [[line["loss"] for line in r.history if "loss" in line] for r in (one, other)]
    assert len(curves[0]) == len(curves[1]) == 4 * 6
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    both = torch.corrcoef(torch.cat([contexts(one), contexts(other)]))
    assert float(both[0, 1]) > 0.99
    assert float(contexts(one).std()) > 0.3


@pytest.mark.parametrize("head", ["mean_and_variance", "factor"])
@pytest.mark.parametrize("adjacent", [True, False])
def test_merging_in_a_frozen_run_changes_the_number_of_examples_alone(
    backbones, tmp_path, head, adjacent
):
    """Every prompt has three rows that share responses, one after the other or far apart."""
    parts: list[list] = [[], [], []]
    for row in preference_rows(40, seed=1, words=2):
        odd = row["chosen"].rsplit(" ", 1)[0] + " odd."
        parts[0].append(row)
        parts[1].append(row | {"rejected": odd})
        parts[2].append(row | {"chosen": odd, "preference": 0.7})
    train = [row for rows in (zip(*parts, strict=True) if adjacent else parts) for row in rows]
    test = preference_rows(20, seed=2, words=2)
    options = {"reward_model_type": head, "annotators": "ignore", "probe_learning_rate": 1e-2}
    together, apart = (
        run(frozen(backbones, tmp_path / str(merge), merge_prompts=merge, **options), train, test)
        for merge in (True, False)
    )
    reports = together.reports["train"], apart.reports["train"]
    assert [(r.rows, r.kept, r.merged) for r in reports] == [(120, 40, 80), (120, 120, 0)]
    assert apart.metrics["accuracy"] >= 0.8
    state, other = (result.model.probe.state_dict() for result in (together, apart))
    for name in ("location", "scale"):  # of the responses as often as votes name them
        assert torch.allclose(state[name], other[name], rtol=1e-5, atol=1e-5), name
    if adjacent:  # the votes are in the same order too
        assert set(together.metrics) == set(apart.metrics)
        assert told(together) == pytest.approx(told(apart), abs=5e-3)
        curves = [[line["loss"] for line in result.history] for result in (together, apart)]
        assert curves[0][:5] == pytest.approx(curves[1][:5], abs=1e-4)
        assert curves[0] == pytest.approx(curves[1], abs=1e-2)
    else:
        assert together.metrics["loss"] == pytest.approx(apart.metrics["loss"], abs=0.1)
