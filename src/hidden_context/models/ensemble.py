"""Where the members of an ensemble come together: their raw outputs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hidden_context.heads import Head


def combine(members: Iterable[Tensor], head: Head) -> Tensor:
    """Combine members' raw outputs as a head reads them.

    Args:
        members: Raw outputs of each member, M tensors of shape ``(…, K)``.
        head: An ensemble's head reads the members apart, any other head their mean.

    Returns:
        Raw outputs of shape ``(…, M K)``, member after member, or ``(…, K)``.
    """
    each = list(members)
    return torch.cat(each, dim=-1) if head.num_members else torch.stack(each).mean(0)
