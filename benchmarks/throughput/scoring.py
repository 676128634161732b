"""Rows of scoring: the same texts, run in the ways that are compared.

- ``paper``: one text at a time, padded to a multiple of 64, with an attention mask, through
  Transformers' own class: written-out GELU, and the key-value cache on as in the paper's script.
  Without gradients.
- ``sorted N``: padded batches of at most N tokens, sorted by length, without attention mask and
  cache, with our fused GELU: the best that can be had without sharing.
- ``padded``: the package with ``engine="padded"``.
- ``padding-free``: the texts one after another in rows, each by itself: the tree's attention and
  layout, nothing shared. (TRL's RewardTrainer has no such mode.)
- ``tree``: the package with ``engine="tree"``: every shared prompt once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from throughput.data import PAD, Group
from throughput.measure import Key, Row, SkippedError, seconds_of
from throughput.models import PRECISIONS, ModelSet, reward_model
from torch import Tensor

from hidden_context.data.tokens.tokenize import pad_batch
from hidden_context.data.tokens.trees import fill_batches, tree_of
from hidden_context.errors import ConfigError, HiddenContextError
from hidden_context.likelihood import Labels
from hidden_context.models.engine.budget import default_tokens
from hidden_context.models.engine.choose import EngineName, Way, evaluating
from hidden_context.models.engine.forward import tree_attention_in, tree_outputs
from hidden_context.models.engine.runner import Runner
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.training.module import PreferenceModule

Scorer = Callable[[Sequence[list[int]]], Tensor]  # sequences -> rewards (B,), float32, on the CPU
MANY = 512  # texts of a padded batch: let the token budget alone decide
PAPER_MULTIPLE = 64


def sorted_budgets(device: torch.device) -> dict[str, int | None]:
    """Token budgets of the sorted batches; the targets take the fastest. A GPU's is tuned."""
    return {"sorted 1024": 1024, "sorted 4096": 4096} if device.type == "cpu" else {"sorted": None}


def rewards_of(
    runner: Runner, sequences: Sequence[list[int]], engine: EngineName, budget: int | None = None
) -> Tensor:
    """Score texts by the package, ``(B,)`` on the CPU; the budget of tokens alone limits a pass."""
    return runner.raw_outputs(
        sequences, 1, engine=engine, batch_size=MANY, tokens_per_batch=budget
    )[:, 0]


def one_by_one(
    models: ModelSet, sequences: Sequence[list[int]], multiple: int = 1, use_cache: bool = False
) -> Tensor:
    """Score one text at a time, padded to a multiple, by Transformers' own class."""
    rewards = []
    with torch.inference_mode():
        for sequence in sequences:
            ids, mask = (each.to(models.device) for each in pad_batch([sequence], PAD, multiple))
            outputs = models.stock()(input_ids=ids, attention_mask=mask, use_cache=use_cache)
            rewards.append(outputs.logits[0, 0].float().cpu())
    return torch.stack(rewards)


def scorers(models: ModelSet) -> dict[str, Scorer]:
    """Make the ways of scoring with one set of weights."""

    def through(module: Any, engine: EngineName, budget: int | None = None) -> Scorer:
        runner = Runner(module, PAD)

        def run(sequences: Sequence[list[int]]) -> Tensor:
            try:
                return rewards_of(runner, sequences, engine, budget)
            except ConfigError as error:  # a model that the way is not right for
                raise SkippedError(str(error)) from error

        return run

    def padding_free(sequences: Sequence[list[int]]) -> Tensor:
        module = models.ours()
        alone = [tree_of(sequences, [number]) for number in range(len(sequences))]
        budget = default_tokens(models.device, PRECISIONS[models.precision])
        with evaluating(module), torch.inference_mode(), tree_attention_in(module):
            rows = [
                tree_outputs(module, sequences, [alone[number] for number in batch])
                for batch in fill_batches([tree.num_tokens for tree in alone], budget)
            ]
        return torch.cat(rows)[:, 0].float().cpu()

    unmasked = models.ours(masked=False)
    return {
        "paper": partial(one_by_one, models, multiple=PAPER_MULTIPLE, use_cache=True),
        **{
            name: through(unmasked, "padded", budget)
            for name, budget in sorted_budgets(models.device).items()
        },
        "padded": through(models.ours(), "padded"),
        "padding-free": padding_free,
        "tree": through(models.ours(), "tree"),
    }


def scoring_rows(sets: Mapping[str, ModelSet], rewards: dict[Key, Tensor]) -> dict[Key, Row]:
    """Make the rows.

    Args:
        sets: Models by precision.
        rewards: Filled with the rewards each row gave last.
    """

    def row(key: Key, scorer: Scorer, device: torch.device) -> Row:
        def run(groups: Sequence[Group]) -> float:
            sequences = [sequence for group in groups for sequence in group]
            return seconds_of(lambda: rewards.update({key: scorer(sequences)}), device)

        return run

    return {
        key: row(key, scorer, models.device)
        for precision, models in sets.items()
        for name, scorer in scorers(models).items()
        for key in [Key(name, precision)]
    }


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference of rewards, relative to the largest reward."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def equality(
    models: ModelSet, groups: Sequence[Group], tokenizer: Any, quantised: bool = False
) -> dict[str, Any]:
    """Compare tree and padded: rewards, and the gradients of LoRA adapters.

    Args:
        models: Models in the precision to check.
        groups: Some pairs.
        tokenizer: Any tokenizer with a padding token.
        quantised: Whether the weights in 4 bits are checked.

    Returns:
        Largest relative difference of rewards, and relative difference of the whole gradient.
    """
    sequences = [sequence for group in groups for sequence in group]
    scored, trained = (
        models.quantised() if quantised else models.ours(lora=lora) for lora in (False, True)
    )
    runner, model = Runner(scored, PAD), reward_model(trained, tokenizer)
    ways: tuple[Way, ...] = ("padded", "tree")
    padded, tree = (rewards_of(runner, sequences, way) for way in ways)
    expected, found = (gradient(model, groups, way) for way in ways)
    if not expected.any():
        raise HiddenContextError("the whole gradient is 0; there is nothing to compare")
    return {
        "model": f"{models.shape} in 4 bits" if quantised else models.shape,
        "precision": models.precision,
        "rewards": difference(tree, padded),
        "gradients": distance(found, expected),
    }


def distance(found: Tensor, expected: Tensor) -> float:
    """Norm of a difference, relative to the expected norm, in float64."""
    gap = found.double() - expected.double()
    return float(gap.norm() / expected.double().norm().clamp(min=1e-12))


def gradient(model: SequenceRewardModel, pairs: Sequence[Group], way: Way) -> Tensor:
    """Gradient of the mean loss of pairs: all that is trained, in float64, on the CPU."""
    module = PreferenceModule(model.module, model.likelihood, way, PAD)
    module.zero_grad()
    with tree_attention_in(model.module) if way == "tree" else torch.enable_grad():
        output: Any = module(
            [list(pair) for pair in pairs], Labels.of_pairs(torch.ones(len(pairs)))
        )
        output.loss.backward()
    gradients = [p.grad.flatten().double().cpu() for p in module.parameters() if p.grad is not None]
    module.zero_grad()
    return torch.cat(gradients)
