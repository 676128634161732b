"""Options of training, and what becomes of them."""

from __future__ import annotations

import math

import pytest

from hidden_context.errors import ConfigError, MissingFileError
from hidden_context.training import TrainConfig
from hidden_context.training.finetune import training_arguments
from hidden_context.training.labels import make_head
from hidden_context.training.resume import resume_point
from support.builders import train_config


def test_arguments_are_passed_through(tmp_path):
    config = train_config(
        "x",
        tmp_path,
        optim="adamw_hf",
        training_arguments={"warmup_steps": 7, "max_grad_norm": 0.5},
    )
    arguments = training_arguments(config, validated=False, has_eval=False)
    assert arguments.warmup_steps == 7
    assert arguments.max_grad_norm == 0.5
    assert arguments.optim == "adamw_torch"
    assert arguments.eval_strategy == "no"
    with pytest.raises(ConfigError, match="has no argument sorcery"):
        training_arguments(
            train_config("x", tmp_path, training_arguments={"sorcery": 1}),
            validated=False,
            has_eval=False,
        )
    with pytest.raises(ConfigError, match="cannot work together"):
        training_arguments(
            train_config("x", tmp_path, eval_steps=3, save_steps=4), validated=True, has_eval=True
        )


def test_where_to_resume(tmp_path):
    def config(value):
        return train_config("x", tmp_path / "out", resume_from_checkpoint=value)

    assert resume_point(config(None)) is None
    assert resume_point(config("false")) is None
    with pytest.raises(MissingFileError, match="Nothing to resume"):
        resume_point(config("true"))
    for step in (5, 40, 9):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)
    assert resume_point(config("True")) == str(tmp_path / "out" / "checkpoint-40")
    named = str(tmp_path / "out" / "checkpoint-9")
    assert resume_point(config(named)) == named
    with pytest.raises(MissingFileError):
        resume_point(config(str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_device_train_batch_size": 0}, "at least 1"),
        ({"max_length": 0}, "at least 1"),
        ({"tokens_per_batch": 0}, "--tokens_per_batch is 0; it must be at least 1"),
        ({"length_window": -1}, "--length_window is -1; it must be at least 0"),
        ({"validation_fraction": 1.0}, r"\[0, 1\)"),
        ({"eval_fraction": -0.1}, r"\[0, 1\)"),
        ({"learning_rate": 0.0}, "must be positive"),
        ({"early_stopping_patience": 2}, "needs --validation_fraction"),
        ({"early_stopping_patience": -1}, "--early_stopping_patience is -1; it must be at least 0"),
        ({"train_dataset_size": -1}, "--train_dataset_size is -1; it must be at least 0"),
        ({"eval_dataset_size": -5}, "--eval_dataset_size is -5; it must be at least 0"),
        ({"num_train_epochs": 0}, "--num_train_epochs is 0; it must be positive"),
        ({"num_train_epochs": math.nan}, "--num_train_epochs is nan; it must be positive"),
        ({"probe_learning_rate": 0.0}, "--probe_learning_rate is 0.0; it must be positive"),
        ({"probe_weight_decay": -0.1}, "--probe_weight_decay is -0.1; it must be at least 0"),
        ({"objective_learning_rate": 0.0}, "--objective_learning_rate is 0.0; it must be positive"),
        ({"ensemble_members": 0}, "--ensemble_members is 0; it must be at least 1"),
        ({"anchor_weight": -0.5}, r"--anchor_weight is -0\.5; it must be at least 0"),
        ({"anchor_weight": math.nan}, "--anchor_weight is nan; it must be at least 0"),
        ({"max_comparisons": -1}, "--max_comparisons is -1; it must be at least 0"),
        ({"annotator_warmup": 1.5}, r"--annotator_warmup is 1\.5; it must lie in \[0, 1\]"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


def test_sizes_that_can_work():
    assert TrainConfig(num_train_epochs=0, max_steps=3).max_steps == 3
    assert TrainConfig(probe_weight_decay=0.0).probe_weight_decay == 0


def test_heads_take_their_own_options_only():
    config = TrainConfig(
        reward_model_type="categorical", num_atoms=7, entropy_coeff=0.5, likelihood="logistic"
    )
    assert make_head(config).to_dict() == {
        "type": "categorical",
        "num_outputs": 7,
        "num_atoms": 7,
        "entropy_coeff": 0.5,
        "version": 1,
    }
    assert make_head(TrainConfig(reward_model_type="scalar")).type == "base"
    with pytest.raises(ConfigError, match="'median' is not known"):
        make_head(TrainConfig(reward_model_type="median"))


def test_public_names_are_loaded_lazily():
    import hidden_context.models
    import hidden_context.training

    assert hidden_context.training.TrainResult.__name__ == "TrainResult"
    for module in (hidden_context.training, hidden_context.models):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing
