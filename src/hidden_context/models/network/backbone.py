"""Building a reward model from a pretrained backbone: head, its small start, LoRA."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hidden_context.distributions.log_space import at_least_float32
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    MissingDependencyError,
    first_line,
)
from hidden_context.heads import Head
from hidden_context.models.network import weights
from hidden_context.models.network.modules import final_linear, keep_float32, specialise_for_rewards

Tuning = Literal["lora", "full", "qlora"]


@dataclasses.dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters with the paper's defaults, except dropout (0.1 in the paper).

    Args:
        r: Rank.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout before the adapter.
        target_modules: Names of layers, or ``all-linear``; None takes PEFT's defaults for the
            architecture.
    """

    r: int = 8
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] | str | None = None


def load_classifier(
    name: str,
    num_outputs: int,
    *,
    scored: bool = False,
    revision: str | None = None,
    **options: Any,
) -> weights.Loaded:
    """Load a backbone with a classification head of ``num_outputs``, specialised for rewards.

    A bias of the head is loaded too, and so are heads with other trainers' names
    (``v_head.summary``, ``v_head``, ``value_head``).

    Args:
        name: Hub id or folder of any model that has a sequence-classification class.
        num_outputs: Number K of raw outputs.
        scored: Whether it is a reward model by itself, so that all that it holds matters.
        revision: Branch, tag or commit of a hub repository.
        **options: Passed on to ``from_pretrained``: ``dtype`` of the backbone (the head is
            float32), ``trust_remote_code`` …

    Returns:
        The model, and the names of the weights that its checkpoint lacks.

    Raises:
        CheckpointError: If the model cannot be loaded, has a head of another size, or holds
            weights that have no place in it and matter.
    """
    loaded = weights.load_network(
        AutoModelForSequenceClassification,
        name,
        "a sequence classifier",
        num_labels=num_outputs,
        problem_type="regression",
        revision=revision,
        **options,
    )
    model = loaded.model
    specialise_for_rewards(model)
    _take_over_head(loaded)
    stored, _ = loaded.mismatched.get(f"{final_linear(model)[0]}.weight", ((num_outputs,), ()))
    if stored[0] != num_outputs:
        raise CheckpointError(
            f"the classification head of {name!r} has num_outputs {stored[0]}, not {num_outputs}. "
            "Give the head type (and num_outputs) that it was trained with."
        )
    loaded.check_shapes()
    loaded.check_surplus(scored=scored)
    for module in {key.rpartition(".")[0] for key in loaded.missing}:
        if isinstance(model.get_submodule(module), nn.Linear):
            keep_float32(model.get_submodule(module))
    return loaded


def _take_over_head(loaded: weights.Loaded) -> None:
    """Load a bias that the head's class lacks, and a head with another trainer's name."""
    module, layer = final_linear(loaded.model)
    stored = {weights.unwrapped(key): key for key in loaded.stored}
    own = f"{module}.weight" not in loaded.missing
    others = [part for part in weights.VALUE_HEADS if f"{part}.weight" in stored]
    sources = [module] if own else others
    if len(sources) != 1:
        return
    for part in ("weight", "bias"):
        source, key = f"{sources[0]}.{part}", f"{module}.{part}"
        if source in stored and (not own or source in loaded.surplus):
            value = loaded.read(stored[source])
            wanted = tuple(layer.weight.shape[: value.dim()])
            if value.shape != wanted:
                loaded.mismatched[key] = (tuple(value.shape), wanted)
            setattr(layer, part, nn.Parameter(at_least_float32(value)))
            loaded.surplus.discard(source)
            loaded.missing.discard(key)


def new_modules(loaded: weights.Loaded) -> list[str]:
    """Return the modules that training may start at random: the head, and a backbone's pooler.

    Args:
        loaded: The classifier.

    Raises:
        CheckpointError: If it lacks any other weight, or some weights of a module only.
    """
    model = loaded.model
    head, base = final_linear(model)[0], model.base_model_prefix
    modules = {key.rpartition(".")[0] for key in loaded.missing}

    def may_be_new(module: str) -> bool:
        own = model.get_submodule(module).named_parameters(module, recurse=False)
        if any(key not in loaded.missing for key, _ in own):
            return False
        if not hasattr(model, base):
            return module == head
        return f"{module}.".startswith(f"{base}.pooler.") or not module.startswith(f"{base}.")

    known = {module for module in modules if may_be_new(module)}
    loaded.check_missing({key for key in loaded.missing if key.rpartition(".")[0] not in known})
    return sorted(modules)


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
    targets, spared = options.target_modules, None
    if targets and "all-linear" in targets:
        if targets not in ("all-linear", ["all-linear"]):
            raise ConfigError("all-linear already covers every layer; leave out the other names.")
        targets = "all-linear"
        # PEFT leaves out heads of some names only
        spared = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
            and any(f"{name}.".startswith(f"{other}.") for other in (head, *others))
        ]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=targets,
        exclude_modules=spared,
        modules_to_save=[head, *others],
        # GPT-2's layers store their weights transposed
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"LoRA does not fit {type(model).__name__}: {first_line(error)} Name the layers to "
            "adapt with --lora_target_modules."
        ) from error


def quantization_options() -> dict[str, Any]:
    """Return options that load a backbone in 4 bits for QLoRA.

    Raises:
        MissingDependencyError: If bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            "QLoRA needs bitsandbytes: pip install 'hidden-context[qlora]', or train with "
            "--tuning lora."
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
    """Build a model for training: backbone, head with its small start, and adapters.

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
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    extra: dict[str, Any] = quantization_options() if tuning == "qlora" else {}
    if disable_dropout:  # some attention layers read the configuration, so modules are not enough
        extra |= {
            field: 0.0
            for field, value in weights.load_config(name, **source).to_dict().items()
            if ("dropout" in field or "pdrop" in field or field == "layerdrop")
            and isinstance(value, float)
        }
    precision = torch.float32 if tuning == "full" else dtype
    loaded = load_classifier(name, head.num_outputs, dtype=precision, **source, **extra)
    model, new = loaded.model, new_modules(loaded)
    if pad_token_id is not None:
        model.config.pad_token_id = pad_token_id
    place, layer = final_linear(model)
    if place in new:
        with torch.no_grad():
            factors = layer.weight.new_tensor(head.output_scales)
            layer.weight.mul_(factors.unsqueeze(1))
            if layer.bias is not None:
                layer.bias.mul_(factors)
    if tuning == "qlora":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
        specialise_for_rewards(model)
    return model if tuning == "full" else add_lora(model, lora or LoraOptions(), new)
