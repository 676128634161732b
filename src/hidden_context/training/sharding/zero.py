"""Gradients, optimiser state and weights divided by DeepSpeed's ZeRO."""

from __future__ import annotations

import copy
import importlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional
from transformers import TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hidden_context.errors import ConfigError
from hidden_context.training.module import PreferenceModule
from hidden_context.training.sharding.base import DividedSharding


class ZeroNetwork(DividedSharding):
    """A network that DeepSpeed trains.

    DeepSpeed's engine steps the optimiser within the last backward pass. From stage 3 on, the
    weights are divided too, including the likelihood's weights.

    Args:
        accelerator: Accelerator of the processes.
        module: Network and likelihood.

    Raises:
        ConfigError: If a parameter is a single number, which DeepSpeed cannot broadcast.
    """

    def __init__(self, accelerator: Accelerator, module: PreferenceModule) -> None:
        super().__init__(accelerator, module)
        scalars = [name for name, value in module.named_parameters() if not value.ndim]
        if scalars:
            raise ConfigError(
                f"DeepSpeed cannot divide a parameter that is a single number, as {scalars[0]} is: "
                "leave out position of --annotator_effects and --ratings ordinal, or take FSDP2 "
                "(configs/accelerate/fsdp2.yaml)."
            )
        config = accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        self.divides = config["stage"] == 3
        self._plain: Any = None
        self._stepped: Any = None

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Give module and optimiser to DeepSpeed (see the base class)."""
        # DeepSpeed rearranges an optimiser's groups and drops empty ones, so it gets a copy; the
        # schedule and checkpoints go on with the groups as they are
        self._plain, self._stepped = optimizer, copy.copy(optimizer)
        self._stepped.state = defaultdict(dict)
        self._stepped.param_groups = [dict(g) for g in optimizer.param_groups if g["params"]]
        super().prepare(self._stepped)
        if self.divides:  # the module reads them outside of the likelihood's own forward pass
            zero: Any = importlib.import_module("deepspeed.runtime.zero")
            for parameter in self.module.likelihood.parameters():
                zero.register_external_parameter(self.module, parameter)

    def no_sync(self) -> AbstractContextManager[None]:
        """Change nothing: the engine decides when gradients are exchanged."""
        return nullcontext()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run a pass backward; the last pass of a step also runs the optimiser."""
        named = [group for group in self._plain.param_groups if group["params"]]
        for group, own in zip(named, self._stepped.param_groups, strict=True):
            own["lr"] = group["lr"]
        self.accelerator.deepspeed_engine_wrapped.backward(loss, sync_gradients=last)

    def _gathered(self, parameters: Sequence[Tensor], **options: Any) -> Any:
        if not self.divides:
            return nullcontext()
        zero = importlib.import_module("deepspeed.runtime.zero")
        return zero.GatheredParameters(list(parameters), **options)

    def likelihood(self) -> AbstractContextManager[None]:
        """Gather the likelihood's values inside the block (see the base class)."""
        gathered: AbstractContextManager[None] = self._gathered(
            [*self.module.likelihood.parameters()]
        )
        return gathered

    def weights(self, *, trained: bool) -> dict[str, Tensor] | None:
        """Gather the network's weights in the first process (see the base class)."""
        return super().weights(trained=trained) if self.divides else None

    def _whole(self, value: Tensor) -> Tensor:
        with self._gathered([value]):
            return value.detach().clone()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Allow weights to be changed, and copy them into the optimiser's own weights."""
        with self._gathered([*self.module.parameters()], modifier_rank=0):
            yield
            for parameter in filter(lambda each: each.requires_grad, self._learned()):
                self._set(parameter, parameter.detach())

    def _set(self, parameter: Any, value: Tensor, name: str | None = None) -> None:
        """Give the optimiser this process's part of a whole weight, or of the state ``name``."""
        utils: Any = importlib.import_module("deepspeed.utils")
        full, part = utils.safe_set_full_fp32_param, utils.safe_set_local_fp32_param
        if name is not None:
            full = partial(utils.safe_set_full_optimizer_state, optim_state_key=name)
            part = partial(utils.safe_set_local_optimizer_state, optim_state_key=name)
        if not self.divides:
            full(parameter, value)
            return
        # all parts have one size, so the last is padded; DeepSpeed does not pad a whole value
        size, rank = parameter.ds_tensor.numel(), self.accelerator.process_index
        missing = size * self.accelerator.num_processes - value.numel()
        flat = functional.pad(value.flatten(), (0, missing))
        part(parameter, flat.narrow(0, size * rank, size))

    def _learned(self) -> list[Any]:
        return [parameter for group in self._plain.param_groups for parameter in group["params"]]

    def optimizer_state(self) -> dict[str, Any]:
        """Gather the optimiser's state (see the base class)."""
        utils: Any = importlib.import_module("deepspeed.utils")
        states = [self._stepped.state[flat] for flat in self._flat() if flat in self._stepped.state]
        own: dict[str, Any] = states[0] if states else {}
        self._link()
        kept = self.accelerator.is_main_process
        state: dict[int, dict[str, Any]] = {}
        for number, parameter in enumerate(self._learned()):
            if not parameter.requires_grad:
                continue
            values: dict[str, Any] = {}
            for name, value in own.items():
                if not isinstance(value, Tensor) or not value.ndim:
                    values[name] = copy.deepcopy(value)  # which a step changes in place
                    continue
                whole = utils.safe_get_full_optimizer_state(parameter, name)
                values[name] = whole.detach().cpu() if kept else None
            state[number] = values
        return {**self._plain.state_dict(), "state": state}

    def _flat(self) -> list[Any]:
        """List the parts that this process's optimiser steps, whatever the stage calls them."""
        name = "fp32_partitioned_groups_flat" if self.divides else "single_partition_of_fp32_groups"
        return list(getattr(self.optimizer.optimizer, name))

    def _link(self) -> None:
        """Let stages 1 and 2 find the state of each weight, not of the first group alone."""
        if not self.divides:
            zero = self.optimizer.optimizer
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Divide and restore an optimiser's whole state (see the base class)."""
        self._plain.load_state_dict({**state, "state": {}})
        if not state["state"]:
            return
        first = next(iter(state["state"].values()))
        names = [name for name, value in first.items() if isinstance(value, Tensor) and value.ndim]
        for flat in self._flat():  # which has none before the first step
            self._stepped.state[flat] = {
                name: torch.zeros_like(flat) if name in names else copy.deepcopy(value)
                for name, value in first.items()
            }
        self._link()
        for number, parameter in enumerate(self._learned()):
            for name in names if number in state["state"] else ():
                value = state["state"][number][name].to(self.accelerator.device)
                self._set(parameter, value, name)

    def whole(self) -> PreferenceModule:
        """Assemble the whole module in every process, on the CPU (see the base class)."""
        return super().whole() if self.divides else self.module


def set_config(accelerator: Accelerator, arguments: TrainingArguments) -> None:
    """Write the training's options into DeepSpeed's configuration, and check the rest.

    Raises:
        ConfigError: If DeepSpeed's configuration chooses an optimiser or a schedule.
    """
    unset_hf_deepspeed_config()  # or Transformers would divide each network that is loaded next
    config = accelerator.state.deepspeed_plugin.deepspeed_config
    for name in ("optimizer", "scheduler"):
        if name in config:
            raise ConfigError(
                f"DeepSpeed's configuration has a section {name!r}; leave it out, and choose with "
                "--optim and --lr_scheduler_type."
            )
    config |= {
        "train_micro_batch_size_per_gpu": arguments.per_device_train_batch_size,
        "train_batch_size": arguments.per_device_train_batch_size * accelerator.num_processes,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": float(arguments.max_grad_norm or 0.0),
        # the module computes in half precision itself, so that head and likelihood stay float32
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
    }
