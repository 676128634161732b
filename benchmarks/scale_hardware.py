"""From tokens to seconds, bytes and memory: a cluster that trains or scores, on paper.

Numbers of devices are those of the makers' data sheets. Each way of moving data is given the time
that it would take alone; whichever takes longest is the bottleneck, as if all others were hidden
behind it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

from scale_tokens import Amount
from throughput_measure import PEAKS
from throughput_models import GPT2_SHAPES, LLAMA_SHAPES, Cost

Tuning = Literal["lora", "full"]
LLAMA_70B = {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
}
HALF, SINGLE = 2, 4  # bytes of a number
ADAM = 2 * SINGLE
LORA_RANK = 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a backbone.

    Attributes:
        name: Its name.
        hidden: Width of the hidden states.
        layers: Number of layers.
        keys: Width of all keys, and of all values.
        inner: Width inside of the feed-forward networks.
        vocabulary: Entries of the embedding.
        gated: Whether feed-forward networks have a third matrix, the gate.
    """

    name: str
    hidden: int
    layers: int
    keys: int
    inner: int
    vocabulary: int
    gated: bool

    @property
    def layer_weights(self) -> int:
        """Weights of a layer's linear maps."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.keys
        return attention + (3 if self.gated else 2) * self.hidden * self.inner

    @property
    def cost(self) -> Cost:
        """What a token costs."""
        return Cost(self.layers * self.layer_weights, self.layers * self.hidden)

    def cost_where(self, shares: bool) -> Cost:
        """What a token costs where prompts are shared: the last feed-forward block hardly runs.

        The package runs it only at the tokens that a reward is read from, which are left out here;
        not with gradient checkpointing.
        """
        block = (3 if self.gated else 2) * self.hidden * self.inner
        return self.cost._replace(weights=self.cost.weights - shares * block)

    @property
    def parameters(self) -> int:
        """Linear maps and embedding; norms and head are below a thousandth."""
        return self.layers * self.layer_weights + self.vocabulary * self.hidden

    @property
    def lora(self) -> int:
        """Weights of adapters at the queries and values, PEFT's default for Llama."""
        queries, values = 2 * self.hidden, self.hidden + self.keys
        return self.layers * LORA_RANK * (queries + values)

    @property
    def activations(self) -> int:
        """Numbers that a layer writes for each token, forward: 6 of hidden width, keys and values.

        The feed-forward network writes its inner width four times with a gate, else twice.
        """
        return 6 * self.hidden + 2 * self.keys + (4 if self.gated else 2) * self.inner


def shape_of(name: str) -> Shape:
    """Look up a shape.

    Raises:
        KeyError: If the name is not known.
    """
    if name in GPT2_SHAPES:
        small = GPT2_SHAPES[name]
        width = small["n_embd"]
        return Shape(name, width, small["n_layer"], width, 4 * width, small["vocab_size"], False)
    size = {**LLAMA_SHAPES, "llama-70b": LLAMA_70B}[name]
    width = size["hidden_size"]
    keys = width * size["num_key_value_heads"] // size["num_attention_heads"]
    layers, inner = size["num_hidden_layers"], size["intermediate_size"]
    return Shape(name, width, layers, keys, inner, size["vocab_size"], True)


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU by its data sheet, in bytes, seconds and FLOPs.

    Attributes:
        name: Its name.
        rate: Dense products in bfloat16, FLOPs per second.
        memory: Bytes of memory.
        bandwidth: Bytes per second of its memory.
        link: Bytes per second to GPUs of the same machine, in one direction.
        network: Bytes per second to other machines, in one direction.
        in_machine: GPUs of a machine.
    """

    name: str
    rate: float
    memory: float
    bandwidth: float
    link: float = 450e9
    network: float = 50e9
    in_machine: int = 8


DEVICES = {
    "h100": Device("h100", PEAKS["H100 80GB HBM3"], 80e9, 3.35e12),
    "h200": Device("h200", PEAKS["H200"], 141e9, 4.8e12),
}


@dataclasses.dataclass(frozen=True)
class Cluster:
    """GPUs and what is assumed of them.

    Attributes:
        device: The GPU.
        gpus: How many.
        scoring_mfu: Share of the stated rate that scoring reaches on the tokens it runs.
        training_mfu: The same of training.
        price: Price of a GPU-hour.
        shard: GPUs over which one copy of the weights is divided in training; 1 where each GPU has
            its own.
    """

    device: Device
    gpus: int = 64
    scoring_mfu: float = 0.4
    training_mfu: float = 0.4
    price: float = 2.5
    shard: int = 64

    def between(self, gpus: int) -> float:
        """Bytes per second on the slowest link of a ring of so many GPUs."""
        within = gpus <= self.device.in_machine
        return self.device.link if within else min(self.device.link, self.device.network)


def ring_bytes(whole: float, gpus: int) -> float:
    """Bytes that each GPU receives to gather, or reduce and scatter, a whole: (n − 1)/n of it."""
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
    def seconds(self) -> float:
        """How long it takes where all else is hidden behind the slowest."""
        return max(self.compute + self.waiting, self.memory, self.interconnect)

    @property
    def bottleneck(self) -> str:
        """What takes longest."""
        alone = {
            "compute": self.compute + self.waiting,
            "memory": self.memory,
            "interconnect": self.interconnect,
        }
        return max(alone, key=lambda name: alone[name])


def weight_bytes(shape: Shape, tuning: Tuning | None) -> float:
    """Bytes of the weights that passes read: bfloat16, and float32 where all are trained."""
    return shape.parameters * (SINGLE if tuning == "full" else HALF)


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
    rate = cluster.gpus * cluster.training_mfu * device.rate
    cost = shape.cost_where(shares and not checkpointing)
    compute = training_flops(cost, amount, tuning, checkpointing) / rate
    weights = weight_bytes(shape, tuning)
    trained = SINGLE * (shape.parameters if tuning == "full" else shape.lora)
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
    rate = copies * each * cluster.scoring_mfu * device.rate
    compute = shape.cost_where(shares).scoring(int(amount.tokens), int(amount.context)) / rate
    passes = amount.passes / copies
    activations = 2 * HALF * shape.layers * shape.activations * amount.tokens / (copies * each)
    memory = (passes * weight_bytes(shape, None) / each + activations) / device.bandwidth
    handed = HALF * shape.hidden * amount.tokens / copies * (each > 1)
    interconnect = handed / cluster.between(each)
    return Times(compute, 0.0, memory, interconnect)


def gpus_of_a_copy(shape: Shape, device: Device, spare: float = 0.1) -> int:
    """Fewest GPUs that hold the weights in bfloat16, with a share of memory to spare."""
    return math.ceil(weight_bytes(shape, None) / (device.memory * (1 - spare)))


def break_even(shape: Shape, cluster: Cluster, tuning: Tuning, checkpointing: bool) -> float:
    """Tokens of a pass on each GPU at which computing takes as long as gathering weights.

    Attention is left out, which makes the number a little too high.
    """
    one = Amount(1e6, 0.0, cluster.gpus, 1e6, 1e6, 0)
    times = training_times(shape, one, cluster, tuning, checkpointing)
    return times.interconnect / times.compute * one.tokens / cluster.gpus
