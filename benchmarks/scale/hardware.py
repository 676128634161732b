"""From tokens to seconds, bytes and memory: a cluster that trains or scores, on paper.

Numbers of devices are from the makers' data sheets. Each way of moving data is given the time that
it would take alone; whichever takes longest is the bottleneck, as if all others were hidden
behind it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

from scale.tokens import Amount
from throughput.measure import PEAKS
from throughput.models import LLAMA_SHAPES, Cost, llama_shape

Tuning = Literal["lora", "full"]
SIZES = {
    **LLAMA_SHAPES,
    "llama-70b": llama_shape(8192, 80, 64, 8, 28672, 128256),
}
HALF, SINGLE = 2, 4  # bytes of a number
ADAM = 2 * SINGLE
LORA_RANK = 8
SPARE = 0.9  # share of a GPU's memory that may be filled


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a Llama's backbone.

    Attributes:
        name: Its name.
        hidden: Width of the hidden states.
        layers: Number of layers.
        keys: Width of all keys, and of all values.
        inner: Width inside of the feed-forward networks.
        vocabulary: Entries of the embedding.
    """

    name: str
    hidden: int
    layers: int
    keys: int
    inner: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        """Weights of a layer's linear maps."""
        return 2 * self.hidden * (self.hidden + self.keys) + 3 * self.hidden * self.inner

    def cost(self, shares: bool = False) -> Cost:
        """What a token costs.

        Where prompts are shared, the package runs the last feed-forward block only at the tokens
        that a reward is read from; it is left out here. Gradient checkpointing runs all of it.
        """
        weights = self.layers * self.layer_weights - shares * 3 * self.hidden * self.inner
        return Cost(weights, self.layers * self.hidden)

    @property
    def parameters(self) -> int:
        """Linear maps and embedding; norms and head are below a thousandth."""
        return self.layers * self.layer_weights + self.vocabulary * self.hidden

    def trained(self, tuning: Tuning) -> int:
        """Weights that learn: all, or adapters at queries and values, PEFT's default for Llama."""
        adapters = self.layers * LORA_RANK * (3 * self.hidden + self.keys)
        return self.parameters if tuning == "full" else adapters

    def bytes(self, tuning: Tuning | None) -> int:
        """Bytes of the weights that passes read: bfloat16, and float32 where all are trained."""
        return self.parameters * (SINGLE if tuning == "full" else HALF)

    @property
    def activations(self) -> int:
        """Numbers that a layer writes for each token, forward: 6 of hidden width, keys and values.

        The feed-forward network writes its inner width four times.
        """
        return 6 * self.hidden + 2 * self.keys + 4 * self.inner


def shape_of(name: str) -> Shape:
    """Look up a shape.

    Raises:
        KeyError: If the name is not known.
    """
    size = SIZES[name]
    width = size["hidden_size"]
    keys = width * size["num_key_value_heads"] // size["num_attention_heads"]
    layers, inner = size["num_hidden_layers"], size["intermediate_size"]
    return Shape(name, width, layers, keys, inner, size["vocab_size"])


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU by its data sheet, in bytes, seconds and FLOPs.

    Attributes:
        rate: Dense products in bfloat16, FLOPs per second.
        memory: Bytes of memory.
        bandwidth: Bytes per second of its memory.
        link: Bytes per second to GPUs of the same machine, in one direction.
        network: Bytes per second to other machines, in one direction.
        in_machine: GPUs of a machine.
    """

    rate: float
    memory: float
    bandwidth: float
    link: float = 450e9
    network: float = 50e9
    in_machine: int = 8


H100 = Device(PEAKS["H100 80GB HBM3"], 80e9, 3.35e12)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """GPUs, and the assumptions about them.

    Attributes:
        device: The GPU.
        gpus: How many.
        mfu: Share of the stated rate that is reached on the tokens that run.
        shard: GPUs over which one copy of the weights is divided in training; 1 where each GPU has
            its own.
    """

    device: Device
    gpus: int = 64
    mfu: float = 0.4
    shard: int = 64

    def between(self, gpus: int) -> float:
        """Bytes per second on the slowest link of a ring of so many GPUs."""
        within = gpus <= self.device.in_machine
        return self.device.link if within else min(self.device.link, self.device.network)


def ring_bytes(whole: float, gpus: int) -> float:
    """Bytes that each GPU receives in gathering, or in reducing and scattering: (n − 1)/n."""
    return whole * (gpus - 1) / gpus


class Times(NamedTuple):
    """Seconds that each thing would take alone, over the whole run.

    Attributes:
        compute: Matrix products and attention, at the assumed utilisation.
        waiting: What processes wait for the one with most tokens, on top of it.
        memory: Weights and activations to and from the GPUs' memory.
        interconnect: Weights and gradients between GPUs.
    """

    compute: float
    waiting: float
    memory: float
    interconnect: float

    @property
    def slowest(self) -> tuple[float, str]:
        """How long it takes where all else is hidden behind the slowest, and which that is."""
        computing = (self.compute + self.waiting, "compute")
        return max(computing, (self.memory, "memory"), (self.interconnect, "interconnect"))


def training_flops(cost: Cost, amount: Amount, tuning: Tuning, checkpointing: bool) -> float:
    """FLOPs of training on tokens and positions.

    With LoRA those of ``Cost.training``; where all weights learn, 2 more for each weight and token.
    Gradient checkpointing runs the forward pass once more.
    """
    tokens, context = int(amount.tokens), int(amount.context)
    flops = cost.training(tokens, context)
    flops += 2.0 * cost.weights * tokens if tuning == "full" else 0.0
    return flops + (cost.scoring(tokens, context) if checkpointing else 0.0)


def training_times(
    shape: Shape,
    amount: Amount,
    cluster: Cluster,
    tuning: Tuning,
    checkpointing: bool,
    shares: bool = False,
) -> Times:
    """Times of an amount that all GPUs share.

    Where weights are divided they are gathered twice in each pass, forward and backward, and the
    gradients of what is trained are reduced, in float32, because the package exchanges them in
    every pass; copies of the weights add up their gradients once a step.
    """
    device, passes, n = cluster.device, amount.passes / cluster.gpus, cluster.shard
    flops = training_flops(shape.cost(shares and not checkpointing), amount, tuning, checkpointing)
    compute = flops / (cluster.gpus * cluster.mfu * device.rate)
    weights, trained = shape.bytes(tuning), SINGLE * shape.trained(tuning)
    moved = passes * (2 * ring_bytes(weights, n) + ring_bytes(trained, n))
    summed = amount.steps * 2 * ring_bytes(trained / n, cluster.gpus // n)
    interconnect = moved / cluster.between(n) + summed / cluster.between(cluster.gpus)
    forward = 3 if checkpointing else 2  # backward reads weights and activations about as often
    activations = 2 * HALF * shape.layers * shape.activations * amount.tokens / cluster.gpus
    memory = forward * (passes * weights + activations) / device.bandwidth
    slowest = amount.slowest_step if n == 1 else amount.slowest
    return Times(compute, compute * (slowest / amount.tokens - 1), memory, interconnect)


def scoring_times(shape: Shape, amount: Amount, cluster: Cluster, shares: bool = False) -> Times:
    """Times of scoring by copies of the model, each on as few GPUs as hold it, layers divided.

    Only hidden states go from GPU to GPU, and a copy's GPUs work on passes one behind the other.
    """
    device, each = cluster.device, gpus_of_a_copy(shape, cluster.device)
    copies = cluster.gpus // each
    flops = shape.cost(shares).scoring(int(amount.tokens), int(amount.context))
    compute = flops / (copies * each * cluster.mfu * device.rate)
    activations = 2 * HALF * shape.layers * shape.activations * amount.tokens / (copies * each)
    weights = amount.passes / copies * shape.bytes(None) / each
    handed = HALF * shape.hidden * amount.tokens / copies * (each > 1)
    memory = (weights + activations) / device.bandwidth
    return Times(compute, 0.0, memory, handed / cluster.between(each))


def gpus_of_a_copy(shape: Shape, device: Device) -> int:
    """Fewest GPUs that hold the weights in bfloat16, with some memory to spare."""
    return math.ceil(shape.bytes(None) / (device.memory * SPARE))


def break_even(shape: Shape, cluster: Cluster, tuning: Tuning, checkpointing: bool) -> float:
    """Tokens of a pass on each GPU at which computing takes as long as gathering weights.

    Attention is left out, which makes the number a little too high.
    """
    one = Amount(1e6, 0.0, cluster.gpus, 1e6, 1e6, 0)
    times = training_times(shape, one, cluster, tuning, checkpointing)
    return times.interconnect / times.compute * one.tokens / cluster.gpus


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


def training_memory(
    shape: Shape, budget: int, shard: int, tuning: Tuning, checkpointing: bool
) -> Memory:
    """Memory of a pass of so many tokens, weights divided over so many GPUs.

    Without checkpointing every number that a layer writes is kept in bfloat16. With it the hidden
    states before each layer are, and all numbers of the one layer that runs backward.
    """
    weights, trained = shape.bytes(tuning), shape.trained(tuning)
    optimiser = trained * (SINGLE + ADAM) + (SINGLE * trained if tuning == "lora" else 0)
    kept = shape.activations * shape.layers
    if checkpointing:
        kept = shape.hidden * shape.layers + shape.activations
    gathered = 2 * shape.layer_weights * weights / shape.parameters if shard > 1 else 0.0
    return Memory(weights / shard, gathered, optimiser / shard, HALF * kept * budget)


def fits(
    shape: Shape, device: Device, budget: int, shard: int, tuning: Tuning, checkpointing: bool
) -> bool:
    """Whether training fits into a GPU's memory, with a tenth to spare."""
    needed = training_memory(shape, budget, shard, tuning, checkpointing)
    return sum(needed) <= device.memory * SPARE


def fewest_gpus(shape: Shape, device: Device, budget: int, tuning: Tuning) -> int | None:
    """Fewest GPUs that checkpointed training fits on, a power of two; None where none do."""
    numbers = (2**power for power in range(13))
    return next((n for n in numbers if fits(shape, device, budget, n, tuning, True)), None)
