"""Two small modules that every fine-tuned reward model gets: a float32 head, and sound pooling.

Both are put in place by giving an existing module a subclass of its own class, of the same name,
so that parameters, saving, PEFT and distributed wrappers see the model they know.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from hidden_context.data.trees import TreeLayout
from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import CheckpointError
from hidden_context.models.activations import fuse_gelu
from hidden_context.models.last_layer import only_where_read
from hidden_context.models.tree_attention import laid_out


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 (float64 stays), under autocast too.

    In bfloat16 rewards have three significant digits: close ones tie, and differences are noise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer; the result is float32 or float64, whatever the input's precision."""
        with torch.autocast(device_type=input.device.type, enabled=False):
            input = at_least_float32(input)
            bias = None if self.bias is None else self.bias.to(input.dtype)
            return functional.linear(input, self.weight.to(input.dtype), bias)


def last_attended(attention_mask: Tensor) -> Tensor:
    """Index of the last attended position of each row.

    Args:
        attention_mask: Ones and zeros of shape ``(B, T)``, padded on either side.

    Returns:
        Indices of shape ``(B,)``.
    """
    positions = torch.arange(attention_mask.shape[-1], device=attention_mask.device)
    return (attention_mask.long() * positions).argmax(dim=-1)


class LastAttendedPooling:
    """Mixin for decoders: the reward is read at the last attended position.

    Transformers' own pooling looks for the last token that is not the padding token. Where padding
    and EOS are the same token, as in the paper's models, it skips a text's final EOS. The attention
    mask leaves no doubt. The head is applied to that one position only.
    """

    base_model: nn.Module
    score: nn.Module

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


def _specialise(module: nn.Module, mixin: type) -> None:
    cls = type(module)
    if not issubclass(cls, mixin):
        module.__class__ = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def final_linear(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Find the last linear layer of a classification model's head, whatever its name.

    Args:
        model: A model for sequence classification.

    Returns:
        Its dotted name within the model, and the layer.

    Raises:
        CheckpointError: If no linear layer outside the backbone has ``config.num_labels`` outputs.
    """
    inside = f"{model.base_model_prefix}."
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not name.startswith(inside)
        and module.out_features == model.config.num_labels
    ]
    if not layers:
        raise CheckpointError(
            f"{type(model).__name__} has no linear layer with {model.config.num_labels} outputs "
            "outside its backbone; hidden-context needs one as the reward head."
        )
    return layers[-1]


def keep_float32(module: nn.Module) -> None:
    """Hold a module's weights in float32 (float64 stays), and let its linear layers compute in it.

    Weights that are trained outright need it too: small updates would be lost in bfloat16.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            parameter.data = at_least_float32(parameter.data)
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = Float32Linear


def specialise_for_rewards(model: PreTrainedModel) -> None:
    """Give a classification model a float32 head and, for decoders, pooling by attention mask.

    The head is all that stands beside the backbone, for RoBERTa a dense layer too. Encoders keep
    the pooling they were made with. Activations that PyTorch has a kernel for get it. Idempotent.
    """
    keep_float32(final_linear(model)[1])
    fuse_gelu(model)
    if hasattr(model, model.base_model_prefix):
        for name, child in model.named_children():
            if name != model.base_model_prefix:
                keep_float32(child)
    if isinstance(getattr(model, "score", None), nn.Linear):
        _specialise(model, LastAttendedPooling)
