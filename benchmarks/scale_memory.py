"""Memory of a GPU in training, what fits on how many of them, and what is written to disk."""

from __future__ import annotations

from typing import NamedTuple

from scale_hardware import ADAM, HALF, SINGLE, Device, Shape, Tuning, weight_bytes


class Memory(NamedTuple):
    """Bytes on each GPU.

    Attributes:
        weights: Its part of the weights.
        gathered: Two layers that are whole at the time, where weights are divided.
        optimiser: Trained weights in float32, their gradients and Adam's two moments, its part.
        activations: What is kept for the backward pass.
    """

    weights: float
    gathered: float
    optimiser: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def training_memory(
    shape: Shape, budget: int, shard: int, tuning: Tuning, checkpointing: bool
) -> Memory:
    """Memory of a pass of so many tokens, weights divided over so many GPUs.

    Without checkpointing every number that a layer writes is kept in bfloat16. With it the hidden
    states before each layer are, and all numbers of the one layer that runs backward.
    """
    weights = weight_bytes(shape, tuning)
    layer = shape.layer_weights * weights / shape.parameters
    trained = shape.parameters if tuning == "full" else shape.lora
    optimiser = trained * (SINGLE + ADAM) + (SINGLE * trained if tuning == "lora" else 0)
    kept = shape.activations * shape.layers
    if checkpointing:
        kept = shape.hidden * shape.layers + shape.activations
    gathered = 2 * layer if shard > 1 else 0.0
    return Memory(weights / shard, gathered, optimiser / shard, HALF * kept * budget)


def fits(
    shape: Shape,
    device: Device,
    budget: int,
    shard: int,
    tuning: Tuning,
    checkpointing: bool,
    spare: float = 0.1,
) -> bool:
    """Whether training fits into a GPU's memory, with a share of it to spare."""
    needed = training_memory(shape, budget, shard, tuning, checkpointing).total
    return needed <= device.memory * (1 - spare)


def fewest_gpus(
    shape: Shape,
    device: Device,
    budget: int,
    tuning: Tuning,
    checkpointing: bool,
) -> int | None:
    """Fewest GPUs that training fits on, a power of two; None where none do."""
    numbers = (2**power for power in range(13))
    return next((n for n in numbers if fits(shape, device, budget, n, tuning, checkpointing)), None)


def checkpoint_bytes(shape: Shape, tuning: Tuning) -> dict[str, float]:
    """Bytes of a final folder's weights and of a state to resume from, in float32."""
    trained = shape.parameters if tuning == "full" else shape.lora
    return {"weights": SINGLE * trained, "state": (SINGLE + ADAM) * trained}
