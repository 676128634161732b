"""The processes of a training, and how they divide a network."""

from __future__ import annotations

import os

from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs
from transformers import TrainingArguments

from hidden_context.errors import ConfigError
from hidden_context.training.module import PreferenceModule
from hidden_context.training.sharding.base import Sharding
from hidden_context.training.sharding.fsdp import FullyShardedNetwork, take_plugin
from hidden_context.training.sharding.zero import ZeroNetwork, set_config


def make_accelerator(arguments: TrainingArguments, recomputes: bool) -> Accelerator:
    """Make the accelerator of all processes that a launcher started, or of this process alone.

    Args:
        arguments: Transformers' arguments.
        recomputes: Whether layers run again in the backward pass to save memory.

    Raises:
        ConfigError: If the launcher asks for FSDP or DeepSpeed options that are not supported.
    """
    unused = arguments.ddp_find_unused_parameters
    if unused is None:
        unused = not recomputes
    half = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "no"
    plugin = getattr(arguments, "deepspeed_plugin", None)
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"  # by its launcher
    wanted = "DeepSpeed" if plugin else "FSDP" if fsdp else None
    if wanted and half == "fp16":
        raise ConfigError(f"{wanted} supports float32 and bfloat16 here, but not fp16.")
    accelerator = Accelerator(
        # FSDP and DeepSpeed would round head and likelihood too, so the module rounds by itself
        mixed_precision="no" if wanted else half,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        deepspeed_plugin=plugin,
    )
    if wanted == "FSDP":
        take_plugin(accelerator)
    elif wanted:
        set_config(accelerator, arguments)
    return accelerator


def is_sharded(accelerator: Accelerator) -> bool:
    """Tell whether the model or the optimiser is divided over the processes."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def make_sharding(accelerator: Accelerator, module: PreferenceModule) -> Sharding:
    """Choose how the module is divided, by the kind of accelerator.

    Raises:
        ConfigError: If the network's weights cannot be divided.
    """
    if is_sharded(accelerator) and any(not p.is_floating_point() for p in module.parameters()):
        raise ConfigError(
            "--tuning qlora keeps weights in 4 bits, which cannot be divided over processes; take "
            "--tuning lora, or torchrun or accelerate launch --multi_gpu, where each process has "
            "all of them."
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        return FullyShardedNetwork(accelerator, module)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return ZeroNetwork(accelerator, module)
    return Sharding(accelerator, module)
