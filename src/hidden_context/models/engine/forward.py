"""Three ways to compute the same raw outputs: trees in one row, cached prompts, padded texts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

from hidden_context.data.tokens.tokenize import pad_batch
from hidden_context.data.tokens.trees import TokenTree, TreeBatch, lay_out
from hidden_context.errors import DataError
from hidden_context.models.engine.attention import ATTENTION_NAME, TreeUnsupportedError, register


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence Transformers' report of missing weights: this package checks them itself."""
    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def classifier_of(module: Any) -> Any:
    """Return the classification model inside wrappers such as PEFT's."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def device_of(module: Any) -> torch.device:
    """Return the device of a module's weights."""
    device: torch.device = next(module.parameters()).device
    return device


@contextmanager
def listening(layers: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the inputs of layers inside the block, without changing what the network computes."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].detach())

    handles = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def last_id(module: Any, sequences: Sequence[Sequence[int]]) -> int:
    """Return the last token id of a model's vocabulary.

    Raises:
        DataError: If a sequence holds a later one.
    """
    size = int(classifier_of(module).config.get_text_config().vocab_size)
    found = max(max(ids) for ids in sequences)
    if found >= size:
        raise DataError(
            f"a text has the token id {found}, but the model's vocabulary has {size} tokens",
            remedy="Give the tokenizer of this base model",
        )
    return size - 1


@contextmanager
def tree_attention_in(module: Any) -> Iterator[None]:
    """Make a model attend within trees inside the block.

    In training, run the backward pass inside the block too: checkpointed layers run again there.

    Raises:
        TreeUnsupportedError: If the model does not look its attention up by name.
    """
    register()
    classifier = classifier_of(module)
    configs = {
        id(part.config): part.config
        for part in classifier.modules()
        if isinstance(part, PreTrainedModel)
    }.values()
    before = [config._attn_implementation for config in configs]
    try:
        if classifier in _replaced:  # asking Transformers again costs a millisecond
            for config in configs:
                config._attn_implementation = ATTENTION_NAME
        else:
            # the check below reports a failure as an error
            with quiet_loading(), suppress(ValueError, KeyError):
                classifier.set_attn_implementation(ATTENTION_NAME)
            if any(config._attn_implementation != ATTENTION_NAME for config in configs):
                raise TreeUnsupportedError("its attention cannot be replaced")
            _replaced.add(classifier)
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


_replaced: WeakSet[Any] = WeakSet()
"""Models whose attention could be replaced before."""


def tree_outputs(
    module: Any, sequences: Sequence[Sequence[int]], trees: Sequence[TokenTree]
) -> Tensor:
    """Run trees as one row of unique tokens, inside ``tree_attention_in``.

    Args:
        module: A sequence classifier with pooling by attention mask, wrapped or not.
        sequences: Sequences of token ids.
        trees: Trees over them, with B members in all.

    Returns:
        Raw outputs of shape ``(B, K)`` in the order of the trees' members.
    """
    last_id(module, sequences)
    return run_row(module, lay_out(sequences, trees))


def run_row(module: Any, batch: TreeBatch) -> Tensor:
    """Run one row of trees and return raw outputs in the order of the trees' members."""
    device = device_of(module)
    logits: Tensor = module(
        input_ids=batch.input_ids.to(device),
        position_ids=batch.position_ids.to(device),
        tree=batch.layout,
    ).logits
    return logits


def padded_outputs(
    module: Any,
    sequences: Sequence[Sequence[int]],
    pad_token_id: int,
    pad_to_multiple_of: int = 1,
) -> Tensor:
    """Run sequences as one batch, padded on the right.

    Args:
        module: A sequence classifier.
        sequences: B sequences of token ids.
        pad_token_id: Id to fill with.
        pad_to_multiple_of: The length is rounded up to a multiple of this.

    Returns:
        Raw outputs of shape ``(B, K)``.
    """
    device, pad = device_of(module), min(pad_token_id, last_id(module, sequences))
    input_ids, attention_mask = pad_batch(sequences, pad, pad_to_multiple_of)
    logits: Tensor = module(
        input_ids=input_ids.to(device), attention_mask=attention_mask.to(device)
    ).logits
    return logits


def cached_outputs(
    module: Any,
    sequences: Sequence[Sequence[int]],
    tree: TokenTree,
    pad_token_id: int,
    max_tokens: int,
) -> Tensor:
    """Run a shared beginning once, keep its keys and values, and run the rests on them.

    Args:
        module: A sequence classifier with pooling by attention mask, wrapped or not.
        sequences: Sequences of token ids.
        tree: A tree over them with B members that share something.
        pad_token_id: Id to fill with.
        max_tokens: Most tokens of a pass over rests, padding counted; a longer rest stands alone,
            and the beginning is run whole.

    Returns:
        Raw outputs of shape ``(B, K)`` in the order of the tree's members.

    Raises:
        TreeUnsupportedError: If the model keeps no keys and values.
    """
    classifier: Any = classifier_of(module)
    pad_token_id = min(pad_token_id, last_id(module, sequences))
    base, device = classifier.base_model, device_of(module)
    prefix = torch.tensor([sequences[tree.members[0]][: tree.shared]], device=device)
    kept = base(input_ids=prefix, use_cache=True, return_dict=True).get("past_key_values")
    if not hasattr(kept, "batch_repeat_interleave"):
        raise TreeUnsupportedError("it does not cache keys and values")
    takes_positions = "position_ids" in inspect.signature(base.forward).parameters
    rests = [sequences[member][tree.shared :] for member in tree.members]
    at_once = max(1, max_tokens // max(len(rest) for rest in rests))
    outputs = []
    for start in range(0, len(rests), at_once):
        part = rests[start : start + at_once]
        rows = torch.arange(len(part), device=device)
        cache = kept if at_once >= len(rests) else copy.deepcopy(kept)
        cache.batch_repeat_interleave(len(part))
        input_ids, own_mask = pad_batch(part, pad_token_id)
        mask = torch.cat((own_mask.new_ones(len(part), tree.shared), own_mask), dim=1)
        options: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "return_dict": True}
        if takes_positions:
            positions = tree.shared + torch.arange(input_ids.shape[1], device=device)
            options["position_ids"] = positions.expand(len(part), -1)
        hidden = base(input_ids=input_ids.to(device), attention_mask=mask.to(device), **options)[0]
        last = torch.tensor([len(rest) - 1 for rest in part], device=device)
        outputs.append(classifier.score(hidden[rows, last]))
    return torch.cat(outputs)
