"""Training by either engine: the same losses and weights, whatever the passes are."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from transformers.modeling_utils import PreTrainedModel

from hidden_context import heads
from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.likelihood import make_likelihood
from hidden_context.training import TrainConfig, run
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import make_head
from hidden_context.training.module import PreferenceModule
from support.builders import preference_rows, train_config
from support.runs import largest_difference, losses, trained_parameters

ROWS = preference_rows(40, seed=3)


@pytest.fixture
def passes(monkeypatch):
    """Examples of every forward pass of training, and the way it went."""
    seen = []
    original = PreferenceModule.raw_outputs

    def recorded(module, tokens):
        seen.append((module.way, len(tokens)))
        return original(module, tokens)

    monkeypatch.setattr(PreferenceModule, "raw_outputs", recorded)
    return seen


@pytest.mark.parametrize(
    ("kind", "tuning", "rate"),
    [("gpt2", "lora", 3e-3), ("gpt2", "full", 1e-3), ("llama", "lora", 3e-3)],
)
def test_both_engines_give_the_same_curve(backbones, tmp_path, passes, kind, tuning, rate):
    """50 steps of Adam, two windows of lengths an epoch, evaluated along the way."""
    results, ways = {}, {}
    for engine in ("tree", "padded"):
        config = train_config(
            backbones(kind),
            tmp_path / engine,
            engine=engine,
            tuning=tuning,
            learning_rate=rate,
            max_steps=50,
            length_window=3,
            eval_steps=25,
            pad_to_multiple_of=8,
            reward_model_type="mean_and_variance",
        )
        passes.clear()
        results[engine] = run(config, ROWS, preference_rows(9, seed=5))
        ways[engine] = {way for way, _ in passes}
    assert ways == {"tree": {"tree"}, "padded": {"padded"}}
    tree, padded = results["tree"], results["padded"]
    assert len(losses(tree)) == 50
    assert losses(tree) == pytest.approx(losses(padded), abs=1e-3)
    assert sum(losses(tree)[-5:]) < 0.8 * sum(losses(tree)[:5])
    assert largest_difference(trained_parameters(tree), trained_parameters(padded)) < 1e-2
    assert tree.metrics == pytest.approx(padded.metrics, abs=2e-3)
    evaluations = [
        [line for line in result.history if "eval_loss" in line] for result in (tree, padded)
    ]
    assert len(evaluations[0]) == 2
    for first, second in zip(*evaluations, strict=True):
        assert first["eval_loss"] == pytest.approx(second["eval_loss"], abs=1e-3)


@pytest.mark.parametrize("engine", ["tree", "padded"])
@pytest.mark.parametrize(
    ("head", "options"),
    [("base", {}), ("mean_and_variance", {"variance_penalty": 0.3})],
)
def test_the_budget_changes_neither_losses_nor_weights(
    backbones, tmp_path, passes, head, options, engine
):
    found, counts = [], []
    for budget in (1, 200, 10**6):
        passes.clear()
        config = train_config(
            backbones("gpt2"),
            tmp_path / str(budget),
            engine=engine,
            tokens_per_batch=budget,
            reward_model_type=head,
            optim="sgd",
            learning_rate=1e-2,
            evaluate_at_end=False,
            **options,
        )
        result = run(config, ROWS[:22])
        found.append((trained_parameters(result), losses(result)))
        counts.append(len(passes))
    assert counts[0] == 22  # every example alone
    assert counts[2] == 3  # every step in one pass
    assert 22 > counts[1] > 3
    for parameters, curve in found[:2]:
        assert curve == pytest.approx(found[2][1], abs=1e-6)
        assert largest_difference(parameters, found[2][0]) < 1e-6


def test_an_entropy_bonus_is_that_of_each_pass_by_its_comparisons(backbones, tmp_path, passes):
    """The bonus is of a mean over comparisons, so other passes change it: it counts by pass."""
    rows = ROWS[:8]
    config = train_config(
        backbones("gpt2"),
        tmp_path,
        engine="tree",
        tokens_per_batch=100,
        reward_model_type="categorical",
        entropy_coeff=0.5,
        max_steps=1,
    )
    model = build_reward_model(config, make_likelihood(make_head(config)))
    outputs = []
    original = PreferenceModule.loss

    def kept(module, raw, *rest):
        outputs.append(raw.detach())
        return original(module, raw, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreferenceModule, "loss", kept)
        result = run(config, rows)
    head = heads.make("categorical", entropy_coeff=0.5)
    assert model.head == head
    assert len(outputs) == len(passes) > 2
    expected = 0.0
    for raw in outputs:
        chosen, rejected = raw[0::2], raw[1::2]
        expected += float(-head.log_prob_preferred(chosen, rejected).sum()) / 8
        expected += float(head.penalty(chosen, rejected)) * len(chosen) / 8
    assert losses(result) == pytest.approx([expected], abs=1e-6)
    assert abs(float(head.penalty(torch.cat(outputs)[0::2], torch.cat(outputs)[1::2]))) > 0.1


def test_the_number_of_passes_falls_as_the_budget_grows(backbones, tmp_path, passes):
    counts = []
    for budget in (1, 60, 120, 240, 480, 10**6):
        passes.clear()
        config = train_config(
            backbones("gpt2"), tmp_path, tokens_per_batch=budget, max_steps=2, seed=1
        )
        run(config, ROWS)
        counts.append(len(passes))
        assert sum(examples for _, examples in passes) == 16
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) >= 5
    assert (counts[0], counts[-1]) == (16, 2)


def test_gradient_checkpointing_runs_trees_again(backbones, tmp_path, passes):
    results = [
        run(
            train_config(
                backbones("llama"),
                tmp_path / str(checkpointing),
                tuning="lora",
                engine="tree",
                tokens_per_batch=200,
                gradient_checkpointing=checkpointing,
            ),
            ROWS[:16],
        )
        for checkpointing in (False, True)
    ]
    assert {way for way, _ in passes} == {"tree"}
    assert losses(results[0]) == pytest.approx(losses(results[1]), abs=1e-6)
    assert largest_difference(*map(trained_parameters, results)) < 1e-5


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_engines_agree_in_bfloat16(backbones, tmp_path, tuning):
    curves = [
        losses(
            run(
                train_config(
                    backbones("llama"), tmp_path / engine, engine=engine, tuning=tuning,
                    precision="bfloat16", learning_rate=1e-3,
                ),
                ROWS,
            )
        )
        for engine in ("tree", "padded")
    ]  # fmt: skip
    assert curves[0] == pytest.approx(curves[1], abs=0.02)


def test_a_model_without_trees_trains_padded_and_says_so_once(backbones, tmp_path, passes):
    """BLOOM looks its attention up nowhere."""
    folder = backbones("bloom")
    options = {"tuning": "full", "max_steps": 4, "eval_steps": 2}
    rows, held_out = ROWS[5:], ROWS[:5]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HiddenContextWarning)
        result = run(train_config(folder, tmp_path / "auto", **options), rows, held_out)
    said = [str(w.message) for w in caught if issubclass(w.category, HiddenContextWarning)]
    assert len(said) == 1
    assert "not tree, because" in said[0]
    assert {way for way, _ in passes} == {"padded"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", HiddenContextWarning)  # nothing to say: it was asked for
        padded = run(
            train_config(folder, tmp_path / "padded", engine="padded", **options), rows, held_out
        )
    assert losses(result) == losses(padded)
    with pytest.raises(ConfigError, match="--engine tree does not fit this model"):
        run(train_config(folder, tmp_path / "tree", engine="tree", **options), ROWS)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_encoders_train_padded(backbones, tmp_path, passes, kind):
    with pytest.warns(HiddenContextWarning, match="not tree, because .* reads texts as a whole"):
        result = run(train_config(backbones(kind), tmp_path), ROWS[:16])
    assert {way for way, _ in passes} == {"padded"}
    assert all(math.isfinite(loss) for loss in losses(result))
    with pytest.raises(ConfigError, match="reads texts as a whole"):
        run(train_config(backbones(kind), tmp_path / "tree", engine="tree"), ROWS[:16])


DROPOUTS = {
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "llama": ("attention_dropout",),
    "opt": ("dropout", "attention_dropout"),
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("kind", DROPOUTS)
def test_dropout_is_off_unless_it_is_asked_for(backbones, tmp_path, kind, tuning):
    folder = backbones(kind, **dict.fromkeys(DROPOUTS[kind], 0.25))

    def drops(disable: bool) -> set[float]:
        """All dropout of the model: of its modules, and what attention reads as an attribute."""
        config = train_config(folder, tmp_path, tuning=tuning, disable_dropout=disable)
        module = build_reward_model(config, make_likelihood(make_head(config))).module
        found = {part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)}
        for part in module.modules():
            for name, value in vars(part).items():
                if "dropout" in name and isinstance(value, float):
                    found.add(value)
        base = next(part for part in module.modules() if isinstance(part, PreTrainedModel))
        return found | {getattr(base.config, name) for name in DROPOUTS[kind]}

    assert drops(disable=True) <= {0.0}
    assert 0.25 in drops(disable=False)


def test_dropout_changes_training_only_where_it_is_on(backbones, tmp_path):
    folder = backbones("gpt2", resid_pdrop=0.3)
    assert (TrainConfig().disable_dropout, TrainConfig().lora_dropout) == (True, 0.0)
    curves = {}
    for name, options in {
        "off": {},
        "plain": {"model_name": backbones("gpt2")},
        "on": {"disable_dropout": False},
        "lora": {"lora_dropout": 0.3},
    }.items():
        config = train_config(
            options.pop("model_name", folder),
            tmp_path / name,
            tuning="lora",
            learning_rate=3e-2,
            **options,
        )
        curves[name] = losses(run(config, ROWS[:24]))
    assert curves["off"] == curves["plain"]
    for name in ("on", "lora"):
        differences = [abs(a - b) for a, b in zip(curves[name], curves["off"], strict=True)]
        assert max(differences) > 1e-4
