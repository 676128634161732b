"""Every way of the engine, in every precision, against Transformers' own class in float32.

The weights are drawn once in bfloat16, so that all precisions have the same ones. Expected are the
rewards that Transformers' class gives in float32, one text at a time, and the gradient of LoRA
adapters and head by padded batches in float32. In half precision a way may be off by twice what
the plain one is (Transformers' class; padded batches for gradients): rounding of its own, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from throughput.data import PAD, Group
from throughput.measure import free_memory
from throughput.models import PRECISIONS, SCORED, ModelSet, reward_model
from throughput.scoring import distance, gradient, one_by_one, rewards_of
from torch import Tensor

from hidden_context.errors import HiddenContextError
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.runner import Runner

STOCK: Final = "transformers"
WAYS: Final[tuple[Way, ...]] = ("padded", "cache", "tree")
TRAINING_WAYS: Final[tuple[Way, ...]] = ("padded", "tree")
EXACT: Final = 1e-4  # float32, and the least that half precision may be off
# the plain way in half precision: 32 layers in bfloat16 are off by 2e-2 and 1e-1
ROUNDED: Final = {"rewards": 5e-2, "gradients": 2e-1}
TIMES: Final = 2.0  # what another way may be off, in errors of the plain one

Outcome = dict[str, Tensor | str]  # by way: numbers, or why there are none


MakeModels = Callable[[str], ModelSet]
"""Makes the models in a precision, from weights that are the same in every one."""


def rewards_by_way(models: ModelSet, groups: Sequence[Group]) -> Outcome:
    """Score texts in every way, Transformers' own class first."""
    sequences = [sequence for group in groups for sequence in group]
    score = partial(rewards_of, Runner(models.ours(), PAD), sequences)
    own = {way: _or_reason(partial(score, way)) for way in WAYS}
    return {STOCK: one_by_one(models, sequences), **own}


def _or_reason(run: Callable[[], Tensor]) -> Tensor | str:
    try:
        return run()
    except (HiddenContextError, TypeError) as error:  # TypeError: a kernel's other version
        return str(error)


def compare(
    what: str, model: str, precision: str, found: Outcome, expected: Tensor
) -> list[dict[str, Any]]:
    """Make a row per way: how far it is off, and how far it may be.

    Args:
        what: ``rewards`` or ``gradients``.
        model: Name of the model's shape.
        precision: What it computed in.
        found: What each way gave, the plain way first.
        expected: What is right, of the same shape.

    Returns:
        Rows with the distance of each way (norm of the difference over norm of what is expected),
        its tolerance, and whether it is within; a way that was refused is not.
    """
    rows: list[dict[str, Any]] = []
    own: float | None = None  # what the plain way is off
    for number, (way, values) in enumerate(found.items()):
        off = None if isinstance(values, str) else distance(values, expected)
        tolerance = tolerance_of(what, precision, own if number else None)
        own = own if number else off
        rows.append(
            {
                "model": model,
                "precision": precision,
                "what": what,
                "way": way,
                "difference": off,
                "tolerance": tolerance,
                "reached": off is not None and off <= tolerance,
                "note": values if isinstance(values, str) else None,
            }
        )
    return rows


def tolerance_of(what: str, precision: str, own: float | None) -> float:
    """How far rewards or gradients may be from float32.

    Args:
        what: ``rewards`` or ``gradients``.
        precision: What was computed in.
        own: How far the plain way is off; None for the plain way itself.

    Returns:
        The largest relative distance.
    """
    if precision == "float32":
        return EXACT
    return ROUNDED[what] if own is None else max(EXACT, TIMES * own)


def parity(make: MakeModels, groups: Sequence[Group], tokenizer: Any) -> list[dict[str, Any]]:
    """Compare all ways in all precisions, gradients in those that models are trained in.

    Args:
        make: Makes the models in a precision.
        groups: Some pairs.
        tokenizer: Any tokenizer with a padding token.

    Returns:
        Rows of ``compare``.
    """
    expected: dict[str, Tensor] = {}
    rows: list[dict[str, Any]] = []
    for precision in SCORED:  # float32 first
        models = make(precision)
        outcomes = {"rewards": rewards_by_way(models, groups)}
        if precision in PRECISIONS:
            model = reward_model(models.ours(lora=True), tokenizer)
            outcomes["gradients"] = {
                way: _or_reason(partial(gradient, model, groups, way)) for way in TRAINING_WAYS
            }
            del model
        shape = models.shape
        del models
        free_memory()  # the next ones need the room
        for what, found in outcomes.items():
            plain = next(iter(found.values()))
            if precision == "float32" and isinstance(plain, str):
                raise HiddenContextError(f"the plain way gives no {what}: {plain}")
            rows += compare(what, shape, precision, found, expected.setdefault(what, plain))
    return rows
