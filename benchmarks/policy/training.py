"""Training a policy by TRL's GRPO: its sizes, the trainer, and going on after a stop."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from policy.models import same_as_kept

from hidden_context.data.storage.files import write_json


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of one training.

    Attributes:
        steps: Updates of the policy.
        every: Steps between two saves.
        batch: Completions of a step.
        generations: Completions of one prompt.
        rate: Learning rate.
        beta: Weight of the KL to the starting policy, in nats per reward standard deviation.
        samples: Responses to each prompt that the policy is measured by.
    """

    steps: int = 240
    every: int = 20
    batch: int = 64
    generations: int = 8
    rate: float = 1e-4
    beta: float = 0.3
    samples: int = 32


SomeSettings = TypeVar("SomeSettings", bound=Settings)


def add_settings(parser: argparse.ArgumentParser, kind: type[Settings]) -> None:
    """Add a flag for each of the settings."""
    for field in dataclasses.fields(kind):
        parser.add_argument(f"--{field.name}", type=type(field.default))


def settings_of(options: argparse.Namespace, default: SomeSettings) -> SomeSettings:
    """Replace the settings whose flags are given."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(default)}
    return dataclasses.replace(default, **{k: v for k, v in given.items() if v is not None})


def file_name(reward: str, seed: int) -> str:
    """Return the name of a reward's and seed's result."""
    return f"{reward.replace(':', '_')}_{seed}.json"


def make_trainer(
    model: str | Path,
    own: Path,
    reward: Callable[..., Any],
    prompts: Sequence[Any],
    settings: Settings,
    *,
    tokens: int,
    passes: int = 1,
    seed: int = 0,
    on_gpu: bool = False,
) -> tuple[Any, str | None]:
    """Make TRL's trainer, and find the save that it goes on from.

    Args:
        model: Folder of the starting policy.
        own: Folder of the training.
        reward: TRL's reward function.
        prompts: Training prompts.
        settings: Sizes.
        tokens: Longest completion, in tokens.
        passes: Passes that a step's completions are divided into.
        seed: Seed of the training.
        on_gpu: Whether it runs on a GPU, in bfloat16.

    Returns:
        The trainer and the last save; with a save of the last step the trainer has its policy.

    Raises:
        ConfigError: If what is there was trained by other settings.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_utils import get_last_checkpoint

    if not same_as_kept(own / "settings.json", dataclasses.asdict(settings)):
        write_json(own / "settings.json", dataclasses.asdict(settings))
    config = trl.GRPOConfig(
        output_dir=str(own),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch // passes,
        gradient_accumulation_steps=passes,
        num_generations=settings.generations,
        max_completion_length=tokens,
        learning_rate=settings.rate,
        beta=settings.beta,
        gradient_checkpointing=False,
        save_steps=settings.every,
        save_total_limit=1,
        logging_steps=settings.every,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    last = get_last_checkpoint(str(own))
    start = last if is_complete(last, settings.steps) else model
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32),
        args=config,
        reward_funcs=[reward],
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
    )
    return trainer, last


def is_complete(last: str | None, steps: int) -> bool:
    """Tell whether a save is one of the last step."""
    return last is not None and last.endswith(f"-{steps}")


def go_on(trainer: Any, last: str | None, steps: int) -> None:
    """Train to the last step; after its save there is nothing left to do but to read the log."""
    from transformers import TrainerState

    if is_complete(last, steps):  # Transformers would take one more step
        trainer.state = TrainerState.load_from_json(f"{last}/trainer_state.json")
    else:
        trainer.train(resume_from_checkpoint=last)
