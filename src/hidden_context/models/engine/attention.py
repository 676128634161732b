"""Attention over a row of trees, registered with Transformers as a separate implementation.

Linear layers see every unique token once. For each block of a ``TreeLayout``, attention sees the
shared beginning and the block itself, exactly as each sequence would see them alone. No model class
is changed: Transformers looks up attention and mask functions by name.

The mask function applies the model's own rule (causal, sliding window, chunks) to positions within
one sequence, so each layer can have its own rule. A layer that does not look up its attention by
name never calls this one; ``TreeLayout.seen`` records the layers that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as apply_dropout
from torch.nn.functional import scaled_dot_product_attention

from hidden_context.data.tokens.trees import TreeLayout
from hidden_context.errors import CheckpointError

ATTENTION_NAME: Final = "hidden_context_tree"

_active: ContextVar[TreeLayout | None] = ContextVar("hidden_context_tree_layout", default=None)


class TreeUnsupportedError(CheckpointError):
    """The model's attention cannot run on a row of trees."""


def register() -> None:
    """Register the attention with Transformers; repeated calls are safe."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, tree_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, tree_mask)


@contextmanager
def laid_out(layout: TreeLayout) -> Iterator[None]:
    """Set the layout that the mask function uses inside the block."""
    token = _active.set(layout)
    try:
        yield
    finally:
        _active.reset(token)


@torch.compiler.disable
def tree_mask(
    *args: Any,
    mask_function: Callable[..., Any],
    attention_mask: Tensor | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Tensor | None:
    """Compute the attention mask of one sequence by the model's own rule.

    Args:
        *args: Sizes of the row; they do not matter.
        mask_function: The model's rule, of index tensors (batch, head, query, key).
        attention_mask: Must be there and all ones: without one, positions that jump back would be
            taken for packed documents.
        use_vmap: Whether the rule only works on single indices.
        device: Where the mask is needed.
        **options: What else Transformers passes to mask functions.

    Returns:
        A boolean mask of shape ``(1, 1, L, L)``, L the longest sequence, or None where the rule is
        plainly causal.

    Raises:
        TreeUnsupportedError: If the rule lets a position see a later one, or is not known here.
    """
    layout = _active.get()
    if layout is None or attention_mask is None or use_vmap:
        raise TreeUnsupportedError("it builds its attention mask in an unsupported way")
    positions = torch.arange(layout.longest)
    zero = torch.zeros((), dtype=torch.long)
    visible = mask_function(zero, zero, positions[:, None], positions[None, :])
    visible = visible.broadcast_to(layout.longest, layout.longest).to("cpu", torch.bool)
    causal = torch.ones_like(visible).tril()
    if bool((visible & ~causal).any()):
        raise TreeUnsupportedError("its tokens attend to later tokens")
    return None if bool((visible == causal).all()) else visible[None, None].to(device)


@torch.compiler.disable
def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    tree: TreeLayout | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention within the trees of a row.

    Args:
        module: The attention layer.
        query: Shape ``(1, H, T, D)``.
        key: Shape ``(1, H', T, D)``, H' dividing H (grouped queries).
        value: Shape ``(1, H', T, D)``.
        attention_mask: What ``tree_mask`` returned.
        tree: How trees lie in the row.
        dropout: Dropout of attention weights; drawn once for a shared beginning.
        scaling: Factor on scores; 1/√D if None.
        softcap: Scores are c·tanh(score/c).
        s_aux: Attention sinks, one score per head, shape ``(H,)``.
        is_causal: False where the layer attends both ways, which is refused.
        position_bias: Refused.
        **options: Sliding windows and the like, which are in the mask already.

    Returns:
        Outputs of shape ``(1, T, H, D)``, and no weights.

    Raises:
        TreeUnsupportedError: If the layer attends in a way that is not known here.
    """
    if tree is None or position_bias is not None or is_causal is False or len(query) != 1:
        raise TreeUnsupportedError(
            f"{type(module).__name__} computes attention in an unsupported way"
        )
    tree.seen.add(id(module))
    plain = softcap is None and s_aux is None
    if plain and attention_mask is None and not dropout and _has_variable_length(query):
        return _variable_length(query, key, value, tree, scaling), None

    attend: Callable[..., Tensor] = scaled_dot_product_attention
    if not plain:
        attend = partial(_explicit, softcap=softcap, sinks=s_aux)
    attend = partial(attend, dropout_p=dropout, scale=scaling)
    half = query.dtype in (torch.float16, torch.bfloat16)
    backward = torch.is_grad_enabled() and query.requires_grad
    if not (half and backward and query.device.type == "cpu"):
        return _by_block(query, key, value, tree, attention_mask, attend), None
    # float32 is faster for the backward pass of attention on a CPU
    with torch.autocast(query.device.type, enabled=False):
        exact = (query.float(), key.float(), value.float())
        return _by_block(*exact, tree, attention_mask, attend).to(query.dtype), None


def _by_block(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: TreeLayout,
    mask: Tensor | None,
    attend: Callable[..., Tensor],
) -> Tensor:
    """Attend block by block on views of the row: nothing is padded, only shared keys are copied."""
    if key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    lengths = [block.length for block in tree.blocks]
    queries, keys, values = (x.split(lengths, dim=2) for x in (query, key, value))
    outputs = []
    parent = 0
    for number, block in enumerate(tree.blocks):
        k, v = keys[number], values[number]
        if block.shared:
            k = torch.cat((keys[parent][:, :, : block.shared], k), dim=2)
            v = torch.cat((values[parent][:, :, : block.shared], v), dim=2)
        else:
            parent = number
        own, end = mask, block.shared + block.length
        if mask is None and block.shared:
            if "causal" not in tree.memo:
                whole = torch.ones(tree.longest, tree.longest, dtype=torch.bool)
                tree.memo["causal"] = whole.tril()[None, None].to(query.device)
            own = cast(Tensor, tree.memo["causal"])
        own = None if own is None else own[:, :, block.shared : end, :end]
        found = attend(queries[number], k, v, attn_mask=own, is_causal=own is None)
        outputs.append(found.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    dropout_p: float,
    scale: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Compute attention by its formula, for soft caps and sinks, which PyTorch's kernel lacks."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if attn_mask is None:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    scores = scores.float().masked_fill(~attn_mask, -torch.inf)
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(-1, -1, scores.shape[-2], -1)
        weights = torch.cat((scores, column), dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return apply_dropout(weights.to(value.dtype), dropout_p) @ value


def _has_variable_length(query: Tensor) -> bool:
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return False
    fits = query.shape[-1] <= 256 and query.shape[-1] % 8 == 0
    return fits and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _variable_length(
    query: Tensor, key: Tensor, value: Tensor, tree: TreeLayout, scaling: float | None
) -> Tensor:
    """Attend to all blocks at once with variable-length flash attention (GPU, half precision).

    Its causal mask is aligned with the last key, as a block after a shared beginning needs. Queries
    are already in place; keys are gathered.
    """
    from torch.nn.attention.varlen import varlen_attn

    of_queries, of_keys, gather, longest_query = _offsets(tree, query.device)
    output = varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        key[0].transpose(0, 1).index_select(0, gather),
        value[0].transpose(0, 1).index_select(0, gather),
        of_queries,
        of_keys,
        longest_query,
        tree.longest,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(output, Tensor)
    return output[None]


def _offsets(tree: TreeLayout, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return cumulative lengths of queries and keys, each block's keys, and the longest block."""
    stored = tree.memo.get("offsets")
    if not isinstance(stored, tuple):
        keys = [
            [*range(b.parent, b.parent + b.shared), *range(b.start, b.start + b.length)]
            for b in tree.blocks
        ]
        query_lengths = torch.tensor([0] + [block.length for block in tree.blocks])
        key_lengths = torch.tensor([0] + [len(index) for index in keys])
        stored = tree.memo["offsets"] = (
            query_lengths.cumsum(0).to(device, torch.int32),
            key_lengths.cumsum(0).to(device, torch.int32),
            torch.tensor([place for places in keys for place in places], device=device),
            max(block.length for block in tree.blocks),
        )
    return stored
