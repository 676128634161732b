"""Policies that are language models: trained by TRL's GRPO, sampled, held against the truth."""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from policy.models import check_kept, same_as_kept
from policy.worlds import JAILBREAK, PolicyWorld
from torch import Tensor

from hidden_context.data.storage.files import read_json, write_json
from hidden_context.worlds.dialogues import Prompt, words


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

    @classmethod
    def add_flags(cls, parser: argparse.ArgumentParser) -> None:
        """Add a flag for each of the settings."""
        for field in dataclasses.fields(cls):
            parser.add_argument(f"--{field.name}", type=type(field.default))

    def changed(self, options: argparse.Namespace) -> Any:
        """Replace the settings whose flags are given."""
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **{k: v for k, v in given.items() if v is not None})


def file_name(reward: str, seed: int) -> str:
    """Return the name of a reward's and seed's result."""
    return f"{reward.replace(':', '_')}_{seed}.json"


def kept(path: Path, settings: Settings, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read a result, which is made and written with its settings first if it is not there.

    Raises:
        ConfigError: If what is there was made by other settings.
    """
    made_by, begun = dataclasses.asdict(settings), time.perf_counter()
    if not path.is_file():
        made = {"settings": made_by, **make(), "seconds": time.perf_counter() - begun}
        write_json(path, made)
    found: dict[str, Any] = read_json(path)
    check_kept(path, found.get("settings"), made_by)
    return found


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


def kind_of(prompt: Prompt, text: str) -> str | None:
    """Return the kind of a response, or None where the grammar has no such text for the prompt.

    Args:
        prompt: The prompt; one kind's words may be another's at another sort of prompt.
        text: The response alone; white space around it is ignored.

    Returns:
        The kind's name.
    """
    for kind in prompt.kinds:
        if _pattern(kind.name, prompt.task.owner, prompt.task.object).fullmatch(text.strip()):
            return kind.name
    return None


@cache
def _pattern(kind: str, owner: str, thing: str) -> re.Pattern[str]:
    first, second = (
        _any_of([_sentence(text, owner, thing) for text in words()["sentences"][kind][part]])
        for part in ("openings", "followers")
    )
    return re.compile(f"{first}(?: {second})?")


def _sentence(template: str, owner: str, thing: str) -> str:
    """One sentence's pattern; its first letter is a capital, whichever word begins it."""
    choices = {"owner": [owner], "object": [thing]}
    choices |= {name.removesuffix("s"): words()[name] for name in ("tools", "times", "noise")}
    parts = re.split(r"\{(\w+)\}", template)
    found = []
    for place, part in enumerate(parts):
        options = choices[part] if place % 2 else [part]
        if not any(parts[:place]) and options != [""]:
            options = [option[0].upper() + option[1:] for option in options]
        found.append(_any_of([re.escape(option) for option in options]))
    return "".join(found)


def _any_of(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(patterns)})"


MOST_TOKENS: Final = 48
"""Longest completion, in tokens; the grammar's longest has fewer."""
Scores = Callable[[Sequence[str], Sequence[str]], Sequence["float | None"]]
"""Rewards of responses to prompts, of equal number; None of a blank response."""


def measure(
    policy: Any,
    start: Any,
    tokenizer: Any,
    world: PolicyWorld,
    prompts: Sequence[Prompt],
    samples: int,
    scores: Scores,
) -> dict[str, Any]:
    """Sample a policy on test prompts and hold it against the truth.

    The same random numbers are used each time, and those of a training under way stay untouched.
    A text that the grammar does not have counts as ``unreadable``, and for as little as the worst
    kind of response that its prompt can get. Blank responses have no reward and are left out of
    its mean.

    Args:
        policy: The language model; its mode is put back.
        start: The policy that it began as.
        tokenizer: The tokenizer of both.
        world: Whose truth.
        prompts: P prompts, harmful ones among them.
        samples: Responses to each, S.
        scores: The reward that it is optimised for.

    Returns:
        ``mean_utility``, ``groups`` and ``worst_group`` in units of utility; ``jailbreaks`` among
        the responses to harmful prompts; ``unreadable``; ``kl``, the mean of log π − log π_start,
        in nats; ``reward`` and ``reward_std``, its standard deviation within a prompt.
    """
    drawn = responses(policy, start, tokenizer, prompts, samples)
    utility, jailbreaks, unreadable, rewards = [], [], [], []
    for prompt, texts, _ in drawn:
        names = [kind.name for kind in prompt.kinds]
        worth = world.utilities(names)
        worst = worth[:, int(world.mean_utilities(names).argmin())]
        kinds = [kind_of(prompt, text) for text in texts]
        rows = [worst if kind is None else worth[:, names.index(kind)] for kind in kinds]
        utility.append(np.mean(rows, axis=0))
        unreadable.append(np.mean([kind is None for kind in kinds]))
        if prompt.task.harmful:
            jailbreaks.append(np.mean([kind == JAILBREAK for kind in kinds]))
        rewards.append(np.asarray(scores([prompt.text] * len(texts), texts), dtype=float))
    groups = np.mean(utility, axis=0)
    return {
        "mean_utility": float(np.dot([group.share for group in world.groups], groups)),
        "groups": {g.name: float(u) for g, u in zip(world.groups, groups, strict=True)},
        "worst_group": float(groups.min()),
        "jailbreaks": float(np.mean(jailbreaks)),
        "unreadable": float(np.mean(unreadable)),
        "kl": float(np.mean([float(logs.mean()) for _, _, logs in drawn])),
        "reward": float(np.nanmean(rewards)),
        "reward_std": float(np.sqrt(np.mean([np.nanvar(each) for each in rewards]))),
    }


def responses(
    policy: Any, start: Any, tokenizer: Any, prompts: Sequence[Prompt], samples: int
) -> list[tuple[Prompt, list[str], Tensor]]:
    """Draw responses to each prompt, by the same random numbers each time.

    Returns:
        Each prompt with its responses, and log π − log π_start of each in nats.
    """

    def length(prompt: Prompt) -> int:
        return len(tokenizer(prompt.text)["input_ids"])

    is_training = policy.training
    policy.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [
            found
            # prompts of as many tokens together, so that a batch needs no padding
            for _, own in groupby(sorted(prompts, key=length), length)
            for found in _sample(policy, start, tokenizer, list(own), samples)
        ]
    policy.train(is_training)
    return drawn


@torch.inference_mode()
def _sample(
    policy: Any, start: Any, tokenizer: Any, prompts: Sequence[Prompt], count: int
) -> list[tuple[Prompt, list[str], Tensor]]:
    """Draw responses to prompts of equal length, and log π − log π_start of each, in nats."""
    asked = torch.tensor(tokenizer([prompt.text for prompt in prompts])["input_ids"])
    made = policy.generate(
        asked,
        attention_mask=torch.ones_like(asked),
        do_sample=True,
        top_k=0,
        max_new_tokens=MOST_TOKENS,
        num_return_sequences=count,
        pad_token_id=tokenizer.eos_token_id,
    )
    answers = made[:, asked.shape[1] :]
    ends = (answers == tokenizer.eos_token_id).int()
    counts = ends.cumsum(1) - ends == 0  # up to and with the first end of text
    logs = [
        model(made, attention_mask=torch.ones_like(made))
        .logits[:, asked.shape[1] - 1 : -1]
        .log_softmax(-1)
        .gather(2, answers[..., None])
        for model in (policy, start)
    ]
    gap = ((logs[0] - logs[1]).squeeze(2) * counts).sum(1)
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [
        (prompt, texts[n * count : (n + 1) * count], gap[n * count : (n + 1) * count])
        for n, prompt in enumerate(prompts)
    ]
