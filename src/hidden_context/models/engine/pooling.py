"""Pooling: the reward is read at the last attended position, in single texts and in trees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import modeling_outputs

from hidden_context.data.tokens.trees import TreeLayout
from hidden_context.errors import DataError
from hidden_context.models.engine import attention


def last_attended(attention_mask: Tensor) -> Tensor:
    """Return the index of the last attended position of each row.

    Args:
        attention_mask: Ones and zeros of shape ``(B, T)``, padded on either side.

    Returns:
        Indices of shape ``(B,)``.
    """
    positions = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
    return (attention_mask.long() * positions).argmax(dim=-1)


def equal_counts(counts: Tensor) -> list[Tensor]:
    """Group rows by their counts, in the order in which ``LastEosPooling`` runs them.

    Args:
        counts: Number of EOS tokens of each row, shape ``(B,)``.

    Returns:
        The rows of each number, in ascending order of the numbers.
    """
    return [torch.nonzero(counts == count)[:, 0] for count in counts.unique()]


def _passed_on(options: dict[str, Any]) -> dict[str, Any]:
    """Drop options that are None or that the pooling handles itself."""
    own = ("labels", "return_dict")
    return {key: value for key, value in options.items() if value is not None and key not in own}


class LastEosPooling:
    """Mixin for encoder-decoders: the reward is read at the last EOS token of each text.

    Transformers' own pooling reads there too, but it needs equally many EOS tokens in all texts,
    and it mistakes padding with EOS for text.
    """

    config: Any

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> modeling_outputs.SequenceClassifierOutput:
        """Compute raw outputs ``(B, K)`` as ``logits``; ``labels`` are ignored."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        options = _passed_on(options)
        eos = int(self.config.eos_token_id)
        input_ids = input_ids.masked_fill(attention_mask == 0, int(eos == 0))
        counts = (input_ids == eos).sum(dim=1)
        if not counts.all():
            raise DataError(
                "a text has no end-of-sequence token, at which this model reads the reward",
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
        return modeling_outputs.SequenceClassifierOutput(logits=logits[torch.cat(parts).argsort()])


def last_feed_forward(base_model: Any) -> nn.Module | None:
    """Return the last layer's feed-forward block, or None where it has another name."""
    count = getattr(base_model.config.get_text_config(), "num_hidden_layers", 0)
    for module in base_model.modules():
        if isinstance(module, nn.ModuleList) and count and len(module) == count:
            block = getattr(module[-1], "mlp", None)
            return block if isinstance(block, nn.Module) else None
    return None


@contextmanager
def only_where_read(base_model: Any, layout: TreeLayout) -> Iterator[None]:
    """Run the last feed-forward block only at the last tokens of the sequences in a row.

    Inside the block, its output is zero at all other tokens. Layers that run again in the backward
    pass, and compiled models, do not change.

    Args:
        base_model: A decoder, called once in the block with a row of shape ``(1, T)``.
        layout: How trees lie in that row.
    """
    checkpointed = base_model.training and getattr(base_model, "gradient_checkpointing", False)
    compiled = getattr(base_model, "_compiled_call_impl", None) is not None
    block = last_feed_forward(base_model)
    if block is None or checkpointed or compiled:
        yield
        return

    def select(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        read = torch.tensor(layout.last, device=hidden.device)
        return (hidden.index_select(1, read), *inputs[1:])

    def spread(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
        few = output[0] if isinstance(output, tuple) else output  # experts also return a routing
        read = torch.tensor(layout.last, device=few.device)
        whole = few.new_zeros(1, layout.num_tokens, few.shape[-1]).index_copy(1, read, few)
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    handles = [block.register_forward_pre_hook(select), block.register_forward_hook(spread)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class LastAttendedPooling:
    """Mixin for decoders: the reward is read at the last attended position.

    Transformers' own pooling looks for the last token that is not the padding token. Where padding
    and EOS are the same token, as in the paper's models, it skips a text's final EOS. The attention
    mask is unambiguous. The head is applied to that one position only.
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
    ) -> modeling_outputs.SequenceClassifierOutputWithPast:
        """Compute raw outputs ``(B, K)`` as ``logits``; ``labels`` are ignored.

        With ``tree`` the input is one row of trees, and B is the number of sequences in the row.
        Trees are handled inside the module, so that the hooks of distributed wrappers run.
        """
        options = _passed_on(options)
        options.setdefault("use_cache", False)  # keys and values that nothing would ever read
        if tree is not None and input_ids is not None:
            if self.config._attn_implementation != attention.ATTENTION_NAME:
                raise attention.TreeUnsupportedError("trees run only inside tree_attention_in")
            options["tree"], attention_mask = tree, torch.ones_like(input_ids)
        with ExitStack() as stack:
            if tree is not None:
                stack.enter_context(attention.laid_out(tree))
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
        return modeling_outputs.SequenceClassifierOutputWithPast(
            logits=self.score(pooled),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
        )
