"""State of a run over several processes; here, every process holds the whole state."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hidden_context.training.module import PreferenceModule

_NETWORK: Final = "network."


class Sharding:
    """Weights and optimiser of a run, held whole by every process.

    Subclasses divide them over the processes. Checkpoints always hold the whole state, in the
    format of a single process, so a run can be resumed with another number of processes or another
    way of dividing.

    Args:
        accelerator: Accelerator of the processes.
        module: Network and likelihood, before the accelerator prepares them.

    Attributes:
        divides: Whether a process cannot run the network without the others.
        begins_anew: Whether a step can be run again where memory ran out in it.
    """

    divides = False
    begins_anew = True

    def __init__(self, accelerator: Accelerator, module: PreferenceModule) -> None:
        self.accelerator, self.module = accelerator, module
        self.model: Any = module
        self.optimizer: Any = None

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the accelerator prepare module and optimiser as ``model`` and ``optimizer``."""
        self.model, self.optimizer = self.accelerator.prepare(self.module, optimizer)

    def no_sync(self) -> AbstractContextManager[None]:
        """Skip the exchange of gradients, for all but the last pass of a step."""
        return self.accelerator.no_sync(self.model)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run a pass backward.

        Args:
            loss: Loss, which is averaged over processes.
            last: Whether it is the last pass of the step.
        """
        self.accelerator.backward(loss)

    def clip(self, most: float) -> float:
        """Scale gradients down to a maximum norm.

        Args:
            most: The largest norm.

        Returns:
            The norm they had, over all that is trained; 0 where it is not known.
        """
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), most)
        return 0.0 if norm is None else float(norm)

    def likelihood(self) -> AbstractContextManager[None]:
        """Make the likelihood's values whole in every process, inside the block."""
        return nullcontext()

    def weights(self, *, trained: bool) -> dict[str, Tensor] | None:
        """Gather the network's weights in the first process; every process has to call it.

        Args:
            trained: Whether frozen weights may be left out.

        Returns:
            Weights by the network's names, empty in other processes; None where each process has
            them whole.
        """
        return None

    def fitting(self, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Any]:
        """Convert whole weights to the form that ``load_state_dict`` takes.

        Args:
            weights: Whole weights by name.
            own: The network's, by the same names.
        """
        return dict(weights)

    def loading(self) -> AbstractContextManager[None]:
        """Allow weights to be changed inside the block, in the same way in every process."""
        return nullcontext()

    def optimizer_state(self) -> dict[str, Any]:
        """Gather the optimiser's state as that of one process; every process has to call it.

        Returns:
            What ``load_optimizer_state`` takes, whole in the first process at least.
        """
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Restore the state from ``optimizer_state``, in a run of any number of processes."""
        self.optimizer.load_state_dict(state)

    def whole(self) -> PreferenceModule:
        """Assemble the whole module in every process; nothing is trained afterwards."""
        return self.module


class DividedSharding(Sharding, abc.ABC):
    """A network divided over the processes, whose weights are put together one by one.

    Args:
        accelerator: Accelerator of the processes.
        module: Network and likelihood, before the accelerator prepares them.
    """

    begins_anew = False

    def __init__(self, accelerator: Accelerator, module: PreferenceModule) -> None:
        super().__init__(accelerator, module)
        self._copy = without_weights(module)

    @abc.abstractmethod
    def _whole(self, value: Tensor) -> Tensor:
        """Put a value together; all processes call it for the same values in the same order."""

    def _kept(self, value: Tensor, *, kept: bool) -> Tensor:
        """Put a value together, and move it to the CPU if this process keeps it."""
        full = self._whole(value)
        return full.detach().cpu() if kept else full.new_empty(0)

    def _gather(self, *, trained: bool, kept: bool) -> dict[str, Tensor]:
        """Gather weights one by one, so that no device has to hold all of them.

        Args:
            trained: Whether frozen weights and buffers are left out.
            kept: Whether this process keeps what was gathered.

        Returns:
            Weights by name; a weight of several names is one tensor. Empty if not kept.
        """
        found: dict[str, Tensor] = {}
        seen: dict[int, Tensor] = {}
        for name, value in self.module.state_dict(keep_vars=True).items():
            if trained and not value.requires_grad:
                continue
            if id(value) not in seen:
                seen[id(value)] = self._kept(value, kept=kept)
            found[name] = seen[id(value)]
        return found if kept else {}

    def weights(self, *, trained: bool) -> dict[str, Tensor] | None:
        """Gather the network's weights in the first process (see the base class)."""
        found = self._gather(trained=trained, kept=self.accelerator.is_main_process)
        return {n.removeprefix(_NETWORK): v for n, v in found.items() if n.startswith(_NETWORK)}

    def whole(self) -> PreferenceModule:
        """Assemble the whole module in every process, on the CPU (see the base class)."""
        give_weights(self._copy, self._gather(trained=False, kept=True))
        self._copy.likelihood.head = self.module.likelihood.head  # may be in other units
        return self._copy


def without_weights(module: PreferenceModule) -> PreferenceModule:
    """Copy a module with weights that take no memory; ``give_weights`` fills them later."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(
            torch.empty_like(parameter, device="meta"), parameter.requires_grad
        )
        for parameter in module.parameters()
    }
    return copy.deepcopy(module, memo)


def give_weights(module: PreferenceModule, weights: Mapping[str, Tensor]) -> None:
    """Fill a copy from ``without_weights``; a weight with several names stays one weight."""
    named = dict(module.named_parameters(remove_duplicate=False))
    given: dict[int, nn.Parameter] = {}
    for name, parameter in named.items():
        known = given.setdefault(
            id(parameter), nn.Parameter(weights[name].detach(), parameter.requires_grad)
        )
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, known)
    for name, values in module.named_buffers():
        if name in weights:
            values.copy_(weights[name])
