"""Network weights and optimiser state divided by PyTorch's ``fully_shard`` (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from accelerate import Accelerator, DistributedType
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from hidden_context.errors import ConfigError
from hidden_context.training.module import PreferenceModule
from hidden_context.training.sharding.base import DividedSharding


class FullyShardedNetwork(DividedSharding):
    """A network whose layers are divided over the processes and gathered one at a time.

    The likelihood is small and is read outside of the network's forward pass, so it stays whole in
    every process. Its gradients are averaged here.

    Args:
        accelerator: Accelerator of the processes.
        module: Network and likelihood.
    """

    divides = True

    def __init__(self, accelerator: Accelerator, module: PreferenceModule) -> None:
        super().__init__(accelerator, module)
        accelerator.state.fsdp_plugin.ignored_modules = [module.likelihood]

    def no_sync(self) -> AbstractContextManager[None]:
        """Exchange gradients in every pass, because gradients that wait would be held whole."""
        return nullcontext()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run a pass backward (see the base class)."""
        self.accelerator.backward(loss)
        if last:
            learned = [p for p in self.module.likelihood.parameters() if p.requires_grad]
            for parameter in learned:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def clip(self, most: float) -> float:
        """Scale gradients down to a maximum norm (see the base class)."""
        norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), most)
        return float(self._whole(norm))

    def _whole(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Allow weights to be changed; first divide again what an evaluation left whole."""
        for part in self.model.modules():
            if isinstance(part, FSDPModule):
                part.reshard()
        yield

    def fitting(self, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Any]:
        """Divide whole weights like the network's weights (see the base class)."""
        return {name: _divided(value, own.get(name)) for name, value in weights.items()}

    def optimizer_state(self) -> dict[str, Any]:
        """Gather the optimiser's state (see the base class)."""
        state, kept = self.optimizer.state_dict(), self.accelerator.is_main_process
        whole = {
            number: {
                name: self._kept(value, kept=kept) if isinstance(value, Tensor) else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": whole}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Divide and restore an optimiser's whole state (see the base class)."""
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        divided = {
            number: {
                name: _divided(value, parameters[number])
                if isinstance(value, Tensor) and value.shape == parameters[number].shape
                else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        super().load_optimizer_state({**state, "state": divided})


def _divided(value: Tensor, own: Tensor | None) -> Tensor:
    """Take this process's part of a whole value, divided like ``own``."""
    if not isinstance(own, DTensor):
        return value
    return distribute_tensor(
        value.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )


def take_plugin(accelerator: Accelerator) -> None:
    """Check the launcher's FSDP options, and enable FSDP on CPUs too.

    Raises:
        ConfigError: If the options are not supported here.
    """
    state = accelerator.state
    if accelerator.distributed_type == DistributedType.MULTI_CPU:
        # Accelerate leaves modules whole on CPUs, where PyTorch can divide them
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = DistributedType.FSDP
    plugin = state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise ConfigError(
            "this training needs FSDP2: set fsdp_version: 2 in the file that accelerate launch "
            "reads (--fsdp_version 2 on its command line)."
        )
    if plugin.cpu_ram_efficient_loading:
        raise ConfigError(
            "fsdp_cpu_ram_efficient_loading would leave all processes but the first with random "
            "weights, so the engine could not be tested on them; set it to false."
        )
    if plugin.activation_checkpointing:
        raise ConfigError(
            "fsdp_activation_checkpointing renames the network's weights; set it to false and take "
            "--gradient_checkpointing, which saves the same memory."
        )
    # the module computes in half precision itself, so that head and likelihood stay float32
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
