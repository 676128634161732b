"""Training by either engine: the same losses and weights, whatever the passes are."""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise

import pytest
import torch
from transformers.modeling_utils import PreTrainedModel

from hidden_context.errors import ConfigError, HiddenContextError, HiddenContextWarning
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import make_head
from hidden_context.training.module import PreferenceModule
from hidden_context.training.runner import Pass, tokens_too_many
from support.builders import preference_rows, train_config
from support.processes import labelled_rows
from support.runs import (
    EVERYTHING,
    SmallMemory,
    copied,
    evaluations,
    largest_difference,
    logged,
    losses,
    spied,
    trained_parameters,
)

ROWS = preference_rows(40, seed=3)


@pytest.fixture
def passes(monkeypatch):
    """Examples of every forward pass of training, and the way it went."""
    return spied(
        monkeypatch, PreferenceModule, "raw_outputs", lambda own, tokens: (own.way, len(tokens))
    )


@pytest.mark.parametrize(
    ("kind", "tuning", "rate"),
    [("gpt2", "lora", 3e-3), ("gpt2", "full", 1e-3), ("llama", "lora", 3e-3)],
)
def test_both_engines_give_the_same_curve(backbones, fit, passes, kind, tuning, rate):
    """50 steps of Adam, two windows of lengths an epoch, evaluated along the way."""
    results = {}
    for engine in ("tree", "padded"):
        passes.clear()
        results[engine] = fit(
            ROWS, preference_rows(9, seed=5), into=engine, backbone=backbones(kind), engine=engine,
            tuning=tuning, learning_rate=rate, max_steps=50, length_window=3, eval_steps=25,
            pad_to_multiple_of=8, reward_model_type="mean_and_variance",
        )  # fmt: skip
        assert {way for way, _ in passes} == {engine}
    tree, padded = results["tree"], results["padded"]
    assert len(losses(tree)) == 50
    assert losses(tree) == pytest.approx(losses(padded), abs=1e-3)
    assert sum(losses(tree)[-5:]) < 0.8 * sum(losses(tree)[:5])
    assert largest_difference(trained_parameters(tree), trained_parameters(padded)) < 1e-2
    assert tree.metrics == pytest.approx(padded.metrics, abs=2e-3)
    assert list(evaluations(tree)) == [25, 50]
    assert evaluations(tree) == pytest.approx(evaluations(padded), abs=1e-3)


@pytest.mark.parametrize(("tuning", "engine"), [("lora", "tree"), ("full", "padded")])
def test_gradient_checkpointing_changes_nothing(backbones, fit, passes, tuning, engine):
    plain, again = (
        fit(
            ROWS[:16], into=str(checkpointing), backbone=backbones("llama"), tuning=tuning,
            engine=engine, tokens_per_batch=200, gradient_checkpointing=checkpointing,
        )
        for checkpointing in (False, True)
    )  # fmt: skip
    assert {way for way, _ in passes} == {engine}
    assert losses(plain) == pytest.approx(losses(again), abs=1e-6)
    assert largest_difference(trained_parameters(plain), trained_parameters(again)) < 1e-5
    assert min(logged(again, "grad_norm")) > 0
    # the trained model still scores after checkpointing
    assert RewardModel.from_pretrained(again.path).raw_outputs(["x"]).shape == (1, 1)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_engines_agree_in_bfloat16(backbones, fit, tuning):
    options = {"tuning": tuning, "precision": "bfloat16", "learning_rate": 1e-3}
    tree, padded = (
        losses(fit(ROWS, into=engine, backbone=backbones("llama"), engine=engine, **options))
        for engine in ("tree", "padded")
    )
    assert tree == pytest.approx(padded, abs=0.02)


@pytest.mark.parametrize("kind", ["bloom", "bert", "roberta", "distilbert"])
def test_a_model_without_trees_trains_padded_and_says_so_once(backbones, fit, passes, kind):
    # bloom looks its attention up nowhere
    reason = "not tree, because" + (" .* reads texts as a whole" if kind != "bloom" else "")
    options = {"backbone": backbones(kind), "max_steps": 4, "eval_steps": 2}
    with pytest.warns(HiddenContextWarning, match=reason) as caught:
        result = fit(ROWS[5:], ROWS[:5], into="auto", **options)
    assert len([w for w in caught if issubclass(w.category, HiddenContextWarning)]) == 1
    assert {way for way, _ in passes} == {"padded"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", HiddenContextWarning)  # nothing to say: it was asked for
        padded = fit(ROWS[5:], ROWS[:5], into="padded", engine="padded", **options)
    assert losses(result) == losses(padded)
    with pytest.raises(ConfigError, match="--engine tree does not work with this model"):
        fit(ROWS, into="tree", engine="tree", **options)


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

    def drops(**options) -> set[float]:
        """All dropout of the model: of its modules, and what attention reads as an attribute."""
        config = train_config(folder, tmp_path, tuning=tuning, **options)
        module = build_reward_model(config, make_likelihood(make_head(config))).module
        found = {part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)}
        named = [item for part in module.modules() for item in vars(part).items()]
        found |= {value for name, value in named if "dropout" in name and isinstance(value, float)}
        base = next(part for part in module.modules() if isinstance(part, PreTrainedModel))
        return found | {getattr(base.config, name) for name in DROPOUTS[kind]}

    assert (TrainConfig().disable_dropout, TrainConfig().lora_dropout) == (True, 0.0)
    assert drops() <= {0.0}
    assert 0.25 in drops(disable_dropout=False)
    assert (0.3 in drops(lora_dropout=0.3)) == (tuning == "lora")


# ---- Training where memory runs out: smaller passes, the same losses and weights


FEW = labelled_rows(22, seed=3)
DESCENT = {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3}
DESCENT |= {"optim": "sgd", "learning_rate": 1e-2, "num_train_epochs": 2}
EVALUATED = DESCENT | {"engine": "tree", "eval_first_step": True, "eval_steps": 3}
LARGE = EVERYTHING | {"optim": "sgd", "learning_rate": 1e-2, "objective_learning_rate": 0.3}
LARGE |= {"num_train_epochs": 2, "tokens_per_batch": 200, "per_device_train_batch_size": 20}


@pytest.mark.parametrize(
    ("options", "memory"),
    [
        # steps of 8 pairs of which 3 fit: the budget is halved twice, in the first step
        *(
            (DESCENT | {"engine": engine}, {"most": 3, "backward": backward})
            for engine in ("tree", "padded")
            for backward in (False, True)
        ),
        # before the first step nothing is known of the memory yet
        (EVALUATED, {"most": 4}),
        # the second and a later pass of a step fail, after others had left their gradients
        (LARGE, {"failing_calls": (2, 9), "backward": True}),
    ],
)
def test_nothing_changes_but_the_passes(fit, monkeypatch, caplog, loops, options, memory):
    expected = fit(FEW, FEW[:9], into="large", **options)
    memory = SmallMemory(monkeypatch, **memory)
    with caplog.at_level(logging.WARNING, logger="hidden_context"):
        result = fit(FEW, FEW[:9], into="small", **options)
    assert losses(result) == pytest.approx(losses(expected), abs=1e-5)
    assert largest_difference(trained_parameters(result), trained_parameters(expected)) < 1e-5
    assert evaluations(result) == pytest.approx(evaluations(expected), abs=1e-6)
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-5)
    # tokens are counted for steps that were finished; fewer in a pass are padded less
    flos = loops[-1].state.total_flos
    assert options.get("engine") == "padded" or flos == loops[0].state.total_flos > 0
    said = [r.getMessage() for r in caplog.records if r.name.startswith("hidden_context")]
    assert memory.failed == len(said) >= (1 if "eval_steps" in options else 2)
    assert all(line.startswith("out of memory with ") for line in said)
    budgets = [loops[0].runner.budget.tokens, *(int(line.split()[-1]) for line in said)]
    assert budgets[0] == options.get("tokens_per_batch", 1024)
    assert f"tokens_per_batch goes from {budgets[0]} to" in said[0]
    for before, after in pairwise(budgets):
        assert after <= before // 2
    assert loops[-1].runner.budget.tokens == budgets[-1]
    for name, values in copied(expected.model.likelihood).items():
        least = 1e-5 if "log_prior_scale" in name else 1e-3
        assert float((values - loops[0].start[f"likelihood.{name}"]).abs().max()) > least, name


def test_an_example_too_large_by_itself_is_an_error(fit, monkeypatch):
    memory = SmallMemory(monkeypatch, most=0)
    said = r"no memory for one example of \d+ tokens.*smaller --max_length"
    with pytest.raises(HiddenContextError, match=said):
        fit(FEW, engine="tree", **DESCENT)
    assert memory.finished == 0
    assert memory.failed == 4  # 8 pairs, 4, 2, at last one


@pytest.mark.parametrize(
    ("alone", "together", "message"),
    [
        (True, None, None),
        (True, [[0], [1], [2]], None),
        (False, None, r"pass of 60 tokens \(examples: 2\).*smaller --tokens_per_batch"),
        (True, [[0, 1], [2]], r"2 examples of 60 tokens.*--max_comparisons"),
    ],
)
def test_where_passes_cannot_be_divided_the_error_says_what_to_change(alone, together, message):
    """One of several processes cannot divide its passes alone, nor examples that are compared."""
    error, passes = torch.OutOfMemoryError("CUDA out of memory"), [Pass([0, 1], 60), Pass([2], 50)]
    if message is None:
        assert tokens_too_many(error, passes, alone, together) == 60
    else:
        with pytest.raises(HiddenContextError, match=message):
            tokens_too_many(error, passes, alone, together)
    with pytest.raises(RuntimeError, match="shapes do not match"):  # any other error is left alone
        tokens_too_many(RuntimeError("shapes do not match"), passes, alone, together)
