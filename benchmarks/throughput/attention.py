"""Which attention is faster: Transformers' implementations in padded batches, ours in trees.

A padded batch is run with each implementation that can be had here: written out, PyTorch's fused
one, FlexAttention, flash attention where its package is installed. The tree replaces whatever a
model has by its own attention: the variable-length flash kernel of PyTorch on a GPU in half
precision, one call per block elsewhere; both are run where the kernel is there. All see the same
pairs in one pass, and are compared with padded batches in float32: none may be off by more than
twice what the fused one is.
"""

from __future__ import annotations

import contextlib
import inspect
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final
from unittest import mock

import torch
from throughput.data import PAD, Group
from throughput.measure import device_peak, free_memory, seconds_of
from throughput.models import ModelSet, reward_model
from throughput.parity import MakeModels, tolerance_of
from throughput.scoring import distance, gradient, rewards_of
from torch import Tensor

from hidden_context.errors import first_line
from hidden_context.models.engine.budget import is_out_of_memory
from hidden_context.models.engine.choose import Way
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.engine.runner import Runner

PLAIN: Final = "sdpa"
QUICK: Final = (PLAIN, "eager")  # what needs neither a compiler nor a package of its own
IMPLEMENTATIONS: Final = (*QUICK, "flex_attention", "flash_attention_2", "flash_attention_3")
BY_BLOCK, VARIABLE_LENGTH = "by block", "variable length"
_KERNEL: Final = "hidden_context.models.engine.attention._has_variable_length"
WHAT: Final = ("rewards", "gradients")
NUMBERS: Final = ("scoring_seconds", "training_seconds", "peak_bytes", *WHAT, "reached")


def variable_length_lacks() -> str | None:
    """Say why the tree cannot use PyTorch's variable-length kernel here; None where it can."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return f"PyTorch {torch.__version__} has no torch.nn.attention.varlen"
    known = inspect.signature(varlen_attn).parameters
    lacking = [name for name in ("scale", "window_size", "enable_gqa") if name not in known]
    if lacking:
        return f"varlen_attn of PyTorch {torch.__version__} does not take {', '.join(lacking)}"
    if not torch.cuda.is_available():
        return "it needs a GPU"
    major, minor = torch.cuda.get_device_capability()
    return None if major >= 8 else f"it needs compute capability 8.0, not {major}.{minor}"


def attention(
    make: MakeModels, precision: str, groups: Sequence[Group], tokenizer: Any, *, quick: bool
) -> list[dict[str, Any]]:
    """Time and compare every kind of attention.

    Args:
        make: Makes the models in a precision.
        precision: What is computed in.
        groups: Pairs of one pass.
        tokenizer: Any tokenizer with a padding token.
        quick: Whether FlexAttention and flash attention are left out, and each runs once; the
            median of three runs counts otherwise.

    Returns:
        A row per kind: seconds of scoring and of forward and backward, device memory at the peak
        of the latter, distances to what is right and whether they are within the tolerance; or
        why it was skipped.
    """
    exact = make("float32")
    expected = [run() for run in _runs(exact, groups, tokenizer, "padded")]
    del exact
    free_memory()
    models = make(precision)
    fused: list[float | None] = [None, None]  # how far the fused one is off, once it has run

    def measured(way: Way) -> dict[str, Any]:
        runs, device = _runs(models, groups, tokenizer, way), models.device
        off = [distance(run(), right) for run, right in zip(runs, expected, strict=True)]
        limits = [tolerance_of(*each) for each in zip(WHAT, [precision] * 2, fused, strict=True)]
        if None in fused:
            fused[:] = off
        with device_peak(device) as peak:
            scoring, training = (
                statistics.median(seconds_of(run, device) for _ in range(1 if quick else 3))
                for run in runs
            )
        return {
            "scoring_seconds": scoring,
            "training_seconds": training,
            "peak_bytes": peak[0] if peak else None,
            **dict(zip(WHAT, off, strict=True)),
            "reached": all(value <= limit for value, limit in zip(off, limits, strict=True)),
        }

    def row(way: Way, name: str, reason: str | None) -> dict[str, Any]:
        """Measure one kind, unless there is a reason not to."""
        about = {"model": models.shape, "precision": precision, "way": way, "attention": name}
        found = {**about, **dict.fromkeys(NUMBERS), "skipped": reason}
        if reason is not None:
            return found
        try:
            return found | measured(way)
        except Exception as error:
            # whatever a kernel raises that does not know this device, precision or width
            memory = is_out_of_memory(error)
            if name in (PLAIN, BY_BLOCK) and not memory:
                raise
            found["skipped"] = "out of memory" if memory else first_line(error)
        free_memory()  # outside the handler, whose frames hold tensors
        # the variable-length kernel is what the package takes by itself: it has to work
        return found | {"reached": False if name == VARIABLE_LENGTH else None}

    rows: list[dict[str, Any]] = []
    for name in QUICK if quick else IMPLEMENTATIONS:
        with _implementation(models, name) as reason:
            rows.append(row("padded", name, reason))
    lacking = variable_length_lacks()
    if lacking is None and precision == "float32":
        lacking = "it computes in half precision only"
    rows.append(row("tree", VARIABLE_LENGTH, lacking))
    with mock.patch(_KERNEL, return_value=False):
        rows.append(row("tree", BY_BLOCK, None))
    return rows


@contextlib.contextmanager
def _implementation(models: ModelSet, name: str) -> Iterator[str | None]:
    """Let our models attend in a way inside the block; yields why they cannot."""
    classifiers = [classifier_of(models.ours(lora=lora)) for lora in (False, True)]
    before = [classifier.config._attn_implementation for classifier in classifiers]
    reason = None
    try:
        for classifier in classifiers:
            classifier.set_attn_implementation(name)
    except (ImportError, ValueError, KeyError, OSError) as error:
        reason = first_line(error)
    try:
        yield reason
    finally:
        for classifier, old in zip(classifiers, before, strict=True):
            classifier.set_attn_implementation(old)


def _runs(
    models: ModelSet, groups: Sequence[Group], tokenizer: Any, way: Way
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """What is timed: rewards in one pass, and the gradient."""
    sequences = [sequence for group in groups for sequence in group]
    tokens = len(sequences) * max(map(len, sequences))  # one pass, however they are run
    trained = reward_model(models.ours(lora=True), tokenizer)
    score = partial(rewards_of, Runner(models.ours(), PAD), sequences, way, tokens)
    return score, partial(gradient, trained, groups, way)
