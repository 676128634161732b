"""The last layer, its outputs' names, and the padding token of an exported classifier."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn

from hidden_context.errors import ConfigError
from hidden_context.heads import LinearMean
from hidden_context.models.engine.pooling import LastAttendedPooling
from hidden_context.models.network.modules import final_linear

PADDING_TOKEN: Final = "<|reward_padding|>"


def make_scalar(model: Any, mean: LinearMean) -> None:
    r"""Make a classifier compute only the mean reward.

    .. math:: w\cdot(W h + c) + b = (w W)\,h + (w\cdot c + b)

    Args:
        model: The classifier with K outputs; changed in place.
        mean: The mean reward as a linear function of the K outputs.
    """
    _, layer = final_linear(model)
    weights = layer.weight.new_tensor(mean.weights, dtype=torch.float64)
    constant = weights.new_tensor([mean.constant])
    if layer.bias is not None:
        constant = constant + weights @ layer.bias.detach().double()
    weight = (weights @ layer.weight.detach().double()).unsqueeze(0)
    layer.weight = nn.Parameter(weight.to(layer.weight))
    layer.bias = nn.Parameter(constant.to(layer.weight))
    layer.out_features = model.config.num_labels = model.num_labels = 1


def settle_bias(model: Any, *, drop_constant: bool = False) -> tuple[float, str | None]:
    """Give the last layer a bias exactly if the model's class in Transformers has one.

    A bias without a place in the class is moved into the layer normalisation before the last
    layer, if that has a bias and can take it: this is exact. Otherwise the bias is refused, or left
    out if asked.

    Args:
        model: The classifier; changed in place.
        drop_constant: Whether the constant of a single output may be left out.

    Returns:
        The constant that was left out, and what was done, for people, or None.

    Raises:
        ConfigError: If the bias has no place and may not be left out.
    """
    name, layer = final_linear(model)
    bias = None if layer.bias is None else layer.bias.detach()
    with torch.device("meta"):
        fresh = type(model)(copy.deepcopy(model.config))
    if final_linear(fresh)[1].bias is not None:
        if bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
        return 0.0, None
    no_bias: Any = None
    if model.config.model_type in ("qwen2", "qwen3"):
        # SGLang's classes for these models add a bias, which stays random if the folder has none.
        # Transformers' classes have no place for it, and lose nothing by ignoring a bias of 0.
        no_bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
    layer.bias = no_bias
    if bias is None or not bias.any():
        return 0.0, None
    shown = ", ".join(f"{value:.6g}" for value in bias.tolist())
    norm = _norm_before_head(model)
    if norm is not None and _moved(bias, layer.weight.detach(), norm):
        return 0.0, f"the bias {shown} of {name} went into the layer normalisation before it"
    if drop_constant:
        note = f"the constant {shown} was left out: a reward is the checkpoint's minus it"
        return float(bias), note
    remedy = (
        "Leave it out with --drop_constant (no comparison changes), or serve the checkpoint itself"
        if layer.out_features == 1
        else "Serve the checkpoint itself"
    )
    raise ConfigError(
        f"{type(model).__name__} has no bias in {name}, and no layer normalisation before it can "
        f"absorb the bias {shown}, so the exported model would lose it. {remedy} with "
        "`hidden-context serve`."
    )


def _norm_before_head(model: Any) -> nn.LayerNorm | None:
    """Find the layer normalisation whose output the last layer of a decoder reads."""
    outputs: dict[nn.LayerNorm, Tensor] = {}

    def keep(norm: Any, _: Any, output: Tensor) -> None:
        outputs[norm] = output

    norms = (part for part in model.base_model.modules() if isinstance(part, nn.LayerNorm))
    hooks = [norm.register_forward_hook(keep) for norm in norms if norm.bias is not None]
    ids = torch.arange(4, device=next(model.parameters()).device).unsqueeze(0)
    try:
        with torch.inference_mode():
            hidden = model.base_model(input_ids=ids, return_dict=True)[0]
    finally:
        for hook in hooks:
            hook.remove()
    return next((norm for norm, found in outputs.items() if torch.equal(found, hidden)), None)


def _moved(bias: Tensor, weight: Tensor, norm: nn.LayerNorm) -> bool:
    """Move ``bias`` into the normalisation before the layer, if a shift there gives it."""
    target, matrix = bias.double().cpu(), weight.double().cpu()
    shift = torch.linalg.pinv(matrix) @ target
    if not torch.allclose(matrix @ shift, target, rtol=1e-9, atol=0):
        return False
    with torch.no_grad():
        norm.bias.add_(shift.to(norm.bias))
    return True


def settle_padding(model: Any, tokenizer: Any) -> str | None:
    """Give decoders a separate padding token, in tokenizer and configuration.

    Transformers' decoders read the reward at the last token that is not the padding token. If
    the padding token also ends texts, the reward would be read before the end. Encoders use the
    attention mask, and stay as they are.

    Args:
        model: The classifier; changed in place, a row more in its vocabulary where there is no
            room.
        tokenizer: Its tokenizer; changed in place.

    Returns:
        What was done, for people, or None.
    """
    is_decoder = isinstance(model, LastAttendedPooling)  # a name, so that types stay open
    if not is_decoder:
        return None
    in_texts = {
        getattr(tokenizer, f"{name}_token_id", None)
        for name in ("eos", "bos", "unk", "sep", "cls", "mask")
    }
    before, done = tokenizer.pad_token, None
    if tokenizer.pad_token_id in in_texts | {None}:
        tokenizer.add_special_tokens({"pad_token": PADDING_TOKEN})
        shared = f"shares {before} with texts" if before else "is missing"
        done = f"the padding token is {PADDING_TOKEN} now: the tokenizer's own {shared}"
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id >= rows:
        model.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[rows:] = 0  # never attended to
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return done


def name_outputs(module: Any) -> None:
    """Mark the outputs as numbers, not classes, and name them, for servers.

    vLLM applies softmax or sigmoid to whatever is not called a regression; other servers refuse
    folders without names of outputs.
    """
    count = int(module.config.num_labels)
    names = ["reward"] if count == 1 else [f"raw_{number}" for number in range(count)]
    module.config.id2label = dict(enumerate(names))
    module.config.label2id = {name: number for number, name in enumerate(names)}
    module.config.problem_type = "regression"
