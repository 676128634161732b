"""What a language model's policy does: sampled on test prompts and held against a world's truth."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from policy.worlds import JAILBREAK, PolicyWorld
from torch import Tensor

from hidden_context.worlds import grammar
from hidden_context.worlds.dialogues import Prompt


def kind_of(prompt: Prompt, text: str) -> str | None:
    """Return the kind of a response, or None where the grammar has no such text for the prompt.

    Args:
        prompt: The prompt; one kind's words may be another's at another sort of prompt.
        text: The response alone; white space around it is ignored.

    Returns:
        The kind's name.
    """
    answer = text.strip()
    task = prompt.task
    for kind in prompt.kinds:
        if _pattern(kind.name, task.owner, task.object).fullmatch(answer):
            return kind.name
    return None


@cache
def _pattern(kind: str, owner: str, thing: str) -> re.Pattern[str]:
    sentences = grammar.words()["sentences"][kind]
    first, second = (
        _any_of([_sentence(text, owner, thing) for text in sentences[part]])
        for part in ("openings", "followers")
    )
    return re.compile(f"{first}(?: {second})?")


def _sentence(template: str, owner: str, thing: str) -> str:
    """One sentence's pattern; its first letter is a capital, whichever word begins it."""
    words = grammar.words()
    choices = {
        "owner": [owner],
        "object": [thing],
        "tool": words["tools"],
        "time": words["times"],
        "noise": words["noise"],
    }
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
    is_training = policy.training
    policy.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [
            found
            for group in _of_equal_length(prompts, tokenizer)
            for found in _sample(policy, start, tokenizer, group, samples)
        ]
    policy.train(is_training)
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


def _of_equal_length(prompts: Sequence[Prompt], tokenizer: Any) -> list[list[Prompt]]:
    """Put prompts of as many tokens together, so that a batch needs no padding."""

    def length(prompt: Prompt) -> int:
        return len(tokenizer(prompt.text)["input_ids"])

    return [list(own) for _, own in groupby(sorted(prompts, key=length), length)]


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
    seen = torch.ones_like(made)
    logs = [
        model(made, attention_mask=seen)
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
