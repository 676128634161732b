"""Where a reward is read: at the last attended position, of texts alone or in trees."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import (
    SequenceClassifierOutput,
    SequenceClassifierOutputWithPast,
)

from hidden_context.data.trees import TreeLayout
from hidden_context.errors import DataError
from hidden_context.models.engine.attention import (
    ATTENTION_NAME,
    TreeUnsupportedError,
    laid_out,
)
from hidden_context.models.engine.last_layer import only_where_read


def last_attended(attention_mask: Tensor) -> Tensor:
    """Index of the last attended position of each row.

    Args:
        attention_mask: Ones and zeros of shape ``(B, T)``, padded on either side.

    Returns:
        Indices of shape ``(B,)``.
    """
    positions = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
    return (attention_mask.long() * positions).argmax(dim=-1)


def equal_counts(counts: Tensor) -> list[Tensor]:
    """Divide rows into those of equal counts, the order in which ``LastEosPooling`` runs them.

    Args:
        counts: Number of EOS tokens of each row, shape ``(B,)``.

    Returns:
        The rows of each number, in ascending order of the numbers.
    """
    return [torch.nonzero(counts == count)[:, 0] for count in counts.unique()]


class LastEosPooling:
    """Mixin for encoder-decoders: the reward is read at the last EOS, however many a text holds.

    Transformers' own pooling reads there too, but takes only texts with equally many of them, and
    padding with EOS for text.
    """

    config: Any

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> SequenceClassifierOutput:
        """Compute raw outputs ``(B, K)`` as ``logits``; ``labels`` are not taken here."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        options = {name: value for name, value in options.items() if value is not None}
        options.pop("labels", None)
        options.pop("return_dict", None)
        eos = int(self.config.eos_token_id)
        input_ids = input_ids.masked_fill(attention_mask == 0, int(eos == 0))
        counts = (input_ids == eos).sum(dim=1)
        if not counts.all():
            raise DataError(
                "a text lacks the end-of-sequence token that this model reads its reward at",
                remedy="Give the tokenizer that the model was trained with",
            )
        parts = equal_counts(counts)
        forward: Any = super().forward  # type: ignore[misc]
        logits = torch.cat(
            [
                forward(input_ids[rows], attention_mask=attention_mask[rows], **options).logits
                for rows in parts
            ]
        )
        return SequenceClassifierOutput(logits=logits[torch.cat(parts).argsort()])


class LastAttendedPooling:
    """Mixin for decoders: the reward is read at the last attended position.

    Transformers' own pooling looks for the last token that is not the padding token. Where padding
    and EOS are the same token, as in the paper's models, it skips a text's final EOS. The attention
    mask leaves no doubt. The head is applied to that one position only.
    """

    base_model: nn.Module
    score: nn.Module
    config: Any

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        tree: TreeLayout | None = None,
        **options: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Compute raw outputs ``(B, K)`` as ``logits``; ``labels`` are not taken here.

        With ``tree`` the input is one row of trees, and B the number of sequences in it. That
        belongs inside the module, where the hooks of distributed wrappers run.
        """
        options = {name: value for name, value in options.items() if value is not None}
        options.pop("labels", None)
        options.pop("return_dict", None)
        options.setdefault("use_cache", False)  # keys and values that nothing would ever read
        if tree is not None and input_ids is not None:
            if self.config._attn_implementation != ATTENTION_NAME:
                raise TreeUnsupportedError("trees are run inside tree_attention_in alone")
            options["tree"], attention_mask = tree, torch.ones_like(input_ids)
        with ExitStack() as stack:
            if tree is not None:
                stack.enter_context(laid_out(tree))
                stack.enter_context(only_where_read(self.base_model, tree))
            outputs = self.base_model(
                input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **options
            )
        hidden = outputs[0]
        if tree is not None:
            pooled = hidden[0, torch.tensor(tree.last, device=hidden.device)]
        elif attention_mask is None:
            pooled = hidden[:, -1]
        else:
            rows = torch.arange(hidden.shape[0], device=hidden.device)
            pooled = hidden[rows, last_attended(attention_mask).to(hidden.device)]
        return SequenceClassifierOutputWithPast(
            logits=self.score(pooled),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
