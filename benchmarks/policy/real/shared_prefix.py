"""Attention of many responses to a few prompts, whose states are kept once, not once a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

ATTENTION: Final = "hidden_context_shared_prefix"
Prefix = list[tuple[Tensor, Tensor]]
"""States of a prompt: for each layer keys and values, each of shape ``(1, heads, length, D)``."""


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    prefixes: Sequence[Prefix],
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend to the prompt's states and to a response's own.

    Args:
        module: The layer, which knows its number.
        query: Of the newest token of R responses, shape ``(R, heads, 1, D)``; R / P responses to
            each of P prompts, one prompt after the other.
        key: Of the responses' own tokens, ``(R, key heads, S, D)``.
        value: Of that shape.
        attention_mask: Not read: all tokens are before the newest one.
        scaling: Factor of the products.
        prefixes: States of the P prompts.

    Returns:
        What is attended to, ``(R, 1, heads, D)``, and no weights.
    """
    rows, heads, _one, width = query.shape
    kinds = key.shape[1]
    each, groups = rows // len(prefixes), heads // kinds
    asked = query.reshape(rows, kinds, groups, width) * scaling
    own = asked @ key.transpose(2, 3)
    found = torch.empty_like(asked)
    for number, prefix in enumerate(prefixes):
        keys, values = (part[0] for part in prefix[module.layer_idx])
        some = slice(number * each, (number + 1) * each)
        flat = asked[some].transpose(0, 1).reshape(kinds, each * groups, width)
        before = (flat @ keys.transpose(1, 2)).view(kinds, each, groups, -1).transpose(0, 1)
        weights = torch.cat([before, own[some]], dim=-1).float().softmax(-1).to(value.dtype)
        on_prompt, on_own = weights.split([before.shape[-1], own.shape[-1]], dim=-1)
        flat = on_prompt.transpose(0, 1).reshape(kinds, each * groups, -1)
        seen = (flat @ values).view(kinds, each, groups, width).transpose(0, 1)
        found[some] = seen + on_own @ value[some]
    return found.reshape(rows, 1, heads, width), None


def register() -> None:
    """Make Transformers know this way to attend by its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
