"""Building a reward model from a pretrained backbone: head, its small start, LoRA."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    first_line,
)
from hidden_context.heads import Head
from hidden_context.models.modules import final_linear, keep_float32, specialise_for_rewards
from hidden_context.models.quiet import quiet_loading

Tuning = Literal["lora", "full", "qlora"]
# What missing, damaged or unfit files make Transformers, PEFT and safetensors raise.
LOADING_ERRORS: Final = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    SafetensorError,
    pickle.UnpicklingError,
)


@dataclasses.dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters, by the paper's defaults but for dropout (the paper's is 0.1).

    Args:
        r: Rank.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout before the adapter.
        target_modules: Names of layers; None takes PEFT's defaults for the architecture.
    """

    r: int = 8
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] | None = None


def load_classifier(
    name: str,
    num_outputs: int,
    *,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> tuple[PreTrainedModel, list[str]]:
    """Load a backbone with a classification head of ``num_outputs``, specialised for rewards.

    Args:
        name: Hub id or folder of any model that has a sequence-classification class.
        num_outputs: Number K of raw outputs.
        dtype: Precision of the backbone; the head is float32.
        revision: Branch, tag or commit of a hub repository.
        trust_remote_code: Whether code from the repository may run.
        **options: Passed on to ``from_pretrained``.

    Returns:
        The model, and the names of its modules whose weights are new (not in the checkpoint):
        the head of a plain backbone, for BERT its pooler too.

    Raises:
        CheckpointError: If the model cannot be loaded, or has a head of another size.
    """
    try:
        with quiet_loading():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                name,
                num_labels=num_outputs,
                problem_type="regression",
                dtype=dtype,
                revision=revision,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=False,
                **options,
            )
    except LOADING_ERRORS as error:
        if "size mismatch" in str(error) or "mismatched" in str(error):
            raise CheckpointError(
                f"the classification head of {name!r} does not have {num_outputs} outputs. Give "
                "the head type (and num_outputs) that it was trained with."
            ) from error
        raise CheckpointError(
            f"the model {name!r} could not be loaded as a sequence classifier "
            f"({first_line(error)}). Check the id or path; offline, only local folders and "
            "cached models load."
        ) from error
    specialise_for_rewards(model)
    parameters = dict(model.named_parameters())
    new = sorted({key.rpartition(".")[0] for key in info["missing_keys"] if key in parameters})
    for module in new:
        if isinstance(model.get_submodule(module), nn.Linear):
            keep_float32(model.get_submodule(module))
    return model, new


def shrink_head(model: PreTrainedModel, scales: Sequence[float]) -> None:
    """Scale the initial weights of each raw output, as its head wants it (``output_scales``)."""
    _, layer = final_linear(model)
    with torch.no_grad():
        factors = layer.weight.new_tensor(scales)
        layer.weight.mul_(factors.unsqueeze(1))
        if layer.bias is not None:
            layer.bias.mul_(factors)


def add_lora(
    model: PreTrainedModel, options: LoraOptions, new_modules: Sequence[str] = ()
) -> nn.Module:
    """Wrap a model in LoRA adapters; its head is always trained and saved.

    Args:
        model: A sequence-classification model.
        options: Rank, scale, dropout and target layers.
        new_modules: Names of further modules with new weights: what is not saved with the adapter
            would be drawn anew at every loading.

    Returns:
        The PEFT model; only adapters, head and new modules require gradients.

    Raises:
        ConfigError: If PEFT knows no target layers for this architecture and none are given.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    head = final_linear(model)[0].split(".")[0]
    others = [name for name in new_modules if name.split(".")[0] != head]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.target_modules,
        modules_to_save=[head, *others],
        # GPT-2's layers store their weights transposed
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"LoRA does not fit {type(model).__name__}: {first_line(error)} Name the layers to "
            "adapt with --lora_target_modules."
        ) from error
    return wrapped


def quantization_options() -> dict[str, Any]:
    """Options that load a backbone in 4 bits for QLoRA.

    Raises:
        MissingDependencyError: If bitsandbytes is not installed.
    """
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            "QLoRA needs bitsandbytes: pip install 'hidden-context[qlora]' (an NVIDIA GPU is "
            "needed), or train with --tuning lora."
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=["score", "classifier"],
        )
    }


def dropout_fields(name: str, revision: str | None, trust_remote_code: bool) -> dict[str, float]:
    """Return the fields of a backbone's configuration that make it drop something, each as 0.

    Attention layers read some of them directly, so that switching modules off is not enough.

    Raises:
        CheckpointError: If there is no configuration.
    """
    try:
        config = AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"no model could be read from {name!r} ({first_line(error)})."
        ) from error
    return {
        field: 0.0
        for field, value in config.to_dict().items()
        if ("dropout" in field or "pdrop" in field or field == "layerdrop")
        and isinstance(value, float)
    }


def build_model(
    name: str,
    head: Head,
    *,
    tuning: Tuning = "lora",
    lora: LoraOptions | None = None,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
    pad_token_id: int | None = None,
    disable_dropout: bool = False,
) -> Any:
    """Build a model to be trained: backbone, head with its small start, and adapters.

    Args:
        name: Hub id or folder of the backbone.
        head: Reward head; sets the number of outputs.
        tuning: ``lora``, ``full``, or ``qlora`` (4-bit backbone).
        lora: Adapter options.
        dtype: Precision of frozen backbone weights; ``full`` keeps float32 weights, because small
            updates would be lost in bfloat16 (autocast still computes in bfloat16).
        revision: Branch, tag or commit.
        trust_remote_code: Whether code from the repository may run.
        pad_token_id: Written into the configuration, for servers that load the checkpoint.
        disable_dropout: Whether the backbone's own dropout is switched off.

    Returns:
        A model whose forward gives ``logits`` of shape ``(B, K)``.

    Raises:
        ConfigError: If the tuning is unknown.
        CheckpointError: If the backbone cannot be loaded.
    """
    if tuning not in ("lora", "full", "qlora"):
        raise ConfigError(f"tuning {tuning!r} is not known; choose lora, full or qlora.")
    model, new_modules = load_classifier(
        name,
        head.num_outputs,
        dtype=torch.float32 if tuning == "full" else dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        **(dropout_fields(name, revision, trust_remote_code) if disable_dropout else {}),
        **(quantization_options() if tuning == "qlora" else {}),
    )
    if pad_token_id is not None:
        model.config.pad_token_id = pad_token_id
    if final_linear(model)[0] in new_modules:
        shrink_head(model, head.output_scales)
    if tuning == "qlora":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
        specialise_for_rewards(model)
    return model if tuning == "full" else add_lora(model, lora or LoraOptions(), new_modules)
