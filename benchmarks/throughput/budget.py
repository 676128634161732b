"""How the token budget is tuned, and what happens when memory runs out all the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final
from unittest import mock

import torch
from throughput.data import PAD, Group
from throughput.measure import device_peak, free_memory, seconds_of
from throughput.models import ModelSet
from throughput.scoring import MANY, distance, rewards_of

from hidden_context.models.engine import budget as budgets
from hidden_context.models.engine.budget import TokenBudget, tune
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.forward import tree_attention_in
from hidden_context.models.engine.runner import Runner, batch_tokens, plan

WAYS: Final[tuple[Way, ...]] = ("padded", "tree")
LIMITS: Final = {"float32": 1e-4, "bfloat16": 5e-2}


def tuning(
    models: ModelSet, groups: Sequence[Group], start: int, most: int
) -> list[dict[str, Any]]:
    """Tune the budget of scoring in each way, as the package does on a GPU.

    Args:
        models: Models in one precision.
        groups: Texts, several times as many tokens as the largest budget worth trying.
        start: The first budget tried.
        most: The largest one.

    Returns:
        A row per way: tokens per second by budget, the budget chosen, and how far rewards with it
        are from those with the first one.
    """
    sequences = [sequence for group in groups for sequence in group]
    rows = []
    runner = Runner(models.ours(), PAD)
    for way in WAYS:
        speeds: dict[int, float] = {}

        def run(tokens: int, way: Way = way, speeds: dict[int, float] = speeds) -> int:
            batch = plan(sequences, range(len(sequences)), way, TokenBudget(tokens), MANY)[0]
            done, one_pass = batch_tokens(batch, way), partial(runner._run, sequences, batch, way)
            attention = tree_attention_in(runner.module) if way == "tree" else nullcontext()
            with torch.inference_mode(), attention:  # out of memory is an error here
                # of the second run, which is the one that counts
                speeds[tokens] = done / seconds_of(partial(one_pass, tokens), models.device)
            return done

        chosen = tune(run, start, most)
        score = partial(rewards_of, Runner(models.ours(), PAD), sequences[:64], way)
        measured = {
            "budget": chosen,
            "tokens_per_second": {str(tokens): speed for tokens, speed in speeds.items()},
        }
        rows.append(_row(models, way, measured, distance(score(chosen), score(start))))
    return rows


def _row(models: ModelSet, way: Way, measured: dict[str, Any], off: float) -> dict[str, Any]:
    """A row of the results: what was measured, and how far rewards are off."""
    limit = LIMITS[models.precision]
    return {
        "model": models.shape,
        "precision": models.precision,
        "way": way,
        **measured,
        "difference": off,
        "tolerance": limit,
        "reached": off <= limit and measured.get("halved") != [],
    }


def recovery(models: ModelSet, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Take half of the memory away that a pass needs: rewards have to stay what they were.

    On a GPU this process is allowed no more memory than that; on a CPU, where nothing can be
    taken away, passes of more tokens than half are refused.

    Args:
        models: Models in one precision.
        groups: Texts of one pass.

    Returns:
        A row per way: how the budget was halved, and how far rewards are from those with memory.
    """
    sequences = [sequence for group in groups for sequence in group]
    everything = len(sequences) * max(map(len, sequences))
    rows = []
    for way in WAYS:
        score = partial(rewards_of, Runner(models.ours(), PAD), sequences, way, everything)
        with device_peak(models.device) as peak:
            expected = score()
        batch = plan(sequences, range(len(sequences)), way, TokenBudget(everything), MANY)[0]
        tokens = batch_tokens(batch, way)
        logged = mock.patch.object(logging.getLogger(budgets.__name__), "warning")
        with logged as said, _scarce(models, peak, tokens // 2):
            found = score()
        measured = {
            "tokens": tokens,
            "peak_bytes": peak[0] if peak else None,
            # budgets are logged as they are halved: from what to what
            "halved": [list(each.args[2:]) for each in said.call_args_list],
        }
        rows.append(_row(models, way, measured, distance(found, expected)))
    return rows


@contextmanager
def _scarce(models: ModelSet, peak: Sequence[int], tokens: int) -> Iterator[None]:
    """Leave too little memory for the pass that was measured, inside the block."""
    device = models.device

    def refuse(module: Any, args: Any, options: dict[str, Any]) -> None:
        if options["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("out of memory")

    if not peak:
        with models.ours().base_model.register_forward_pre_hook(refuse, with_kwargs=True):
            yield
        return
    free_memory()
    total = torch.cuda.get_device_properties(device).total_memory
    allowed = torch.cuda.memory_reserved(device) + peak[0] // 2
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
