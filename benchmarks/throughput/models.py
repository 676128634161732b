"""The models that are compared: random weights in known shapes, shared by all rows.

Stock models are Transformers' own classes as they come. Ours are copies of them, specialised for
rewards as the package does it (fused GELU, float32 head), that share the backbone's weights, so
that even an 8B model stands in memory once.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from throughput.data import END, PAD, VOCABULARY
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, GPT2Config, LlamaConfig
from transformers.pytorch_utils import Conv1D

from hidden_context import heads
from hidden_context.errors import HiddenContextError
from hidden_context.likelihood import make_likelihood
from hidden_context.models.engine.forward import classifier_of
from hidden_context.models.network.backbone import (
    LoraOptions,
    add_lora,
    build_model,
    quantization_options,
)
from hidden_context.models.network.modules import specialise_for_rewards
from hidden_context.models.sequence import SequenceRewardModel

_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2_SHAPES = {
    "tiny": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 512},
    "small": {"n_layer": 6, "n_embd": 384, "n_head": 6, "vocab_size": VOCABULARY},
    "gpt2": {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": VOCABULARY},
}


_HEADS = ("num_attention_heads", "num_key_value_heads")
_SIZES = ("hidden_size", "num_hidden_layers", *_HEADS, "intermediate_size", "vocab_size")


def llama_shape(*sizes: int) -> dict[str, int]:
    """Name the sizes of a Llama, in the order of ``_SIZES``, as its configuration does."""
    return dict(zip(_SIZES, sizes, strict=True))


LLAMA_SHAPES = {
    "tiny-llama": llama_shape(64, 2, 4, 2, 192, 512),  # 4 bits on a CPU take multiples of 64
    "llama-8b": llama_shape(4096, 32, 32, 8, 14336, 128256),
}
WEIGHTS = "weights"  # the shape of a checkpoint, whatever it is
SHAPES = (*GPT2_SHAPES, *LLAMA_SHAPES, WEIGHTS)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCORED = {**PRECISIONS, "float16": torch.float16}  # what texts are scored in, never trained


def configuration(shape: str, weights: Path | None = None) -> Any:
    """Make the configuration of a shape, or read a checkpoint's."""
    common = {"num_labels": 1, "pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None}
    if shape == WEIGHTS:
        return AutoConfig.from_pretrained(weights, **common)
    if shape in GPT2_SHAPES:
        return GPT2Config(n_positions=1024, **GPT2_SHAPES[shape], **_NO_DROPOUT, **common)
    rope = {"rope_type": "default", "rope_theta": 500_000.0}
    size = LLAMA_SHAPES[shape]
    return LlamaConfig(max_position_embeddings=8192, rope_parameters=rope, **size, **common)


class Cost(NamedTuple):
    """What a token costs.

    Attributes:
        weights: Weights of the backbone's linear layers.
        attention: Layers times the width of their queries.
    """

    weights: int
    attention: int

    def scoring(self, tokens: int, context: int) -> float:
        """FLOPs forward: 2 per weight and token, 4 per width and attended position."""
        return 2.0 * self.weights * tokens + 4.0 * self.attention * context

    def training(self, tokens: int, context: int) -> float:
        """FLOPs of a step with LoRA: frozen weights need no gradient of their own.

        Forward, and backward to the activations: twice the linear layers. Attention three times.
        The adapters (below 1 %) are left out.
        """
        return 4.0 * self.weights * tokens + 12.0 * self.attention * context


class ModelSet:
    """One set of weights in one precision, and the models that use it.

    Args:
        shape: One of ``SHAPES``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        device: Where the weights are drawn and stay.
        weights: A checkpoint's folder, whose weights are taken; they are drawn if None.
        drawn: Precision that weights have before they are brought to theirs, so that those of
            several precisions are as equal as can be; None for their own.
    """

    def __init__(
        self,
        shape: str,
        precision: str,
        device: torch.device,
        weights: Path | None = None,
        drawn: str | None = None,
    ) -> None:
        self.shape, self.precision, self.device = shape, precision, device
        torch.manual_seed(0)
        config, kind = configuration(shape, weights), AutoModelForSequenceClassification
        first = SCORED[drawn or precision]
        if weights is None:
            with torch.device(device):
                model = kind.from_config(config, dtype=first)
        else:
            model = kind.from_pretrained(weights, config=config, dtype=first).to(device)
        for parameter in model.parameters():  # not buffers: rotary frequencies stay exact
            parameter.data = parameter.data.to(SCORED[precision])
        self._original = model.eval()
        self._built: dict[str, Any] = {}

    def stock(self, lora: bool = False) -> Any:
        """Return Transformers' own class."""
        return self._once("stock", lora, self._copy)

    def ours(self, lora: bool = False, masked: bool = True) -> Any:
        """Return the same model as the package runs it, with or without an attention mask.

        Causal attention needs none in right-padded batches: no text sees the padding behind it,
        and PyTorch's causal kernel is faster than one with a mask.
        """

        def build() -> Any:
            model = self._copy()
            specialise_for_rewards(model)
            if not masked:
                model.base_model.register_forward_pre_hook(_drop_mask, with_kwargs=True)
            return model

        return self._once("ours" if masked else "unmasked", lora, build)

    def quantised(self) -> Any:
        """Return the same weights as ``--tuning qlora`` loads them: in 4 bits, with adapters.

        They go through a checkpoint, as a user's would, in the folder for temporary files.

        Raises:
            HiddenContextError: If bitsandbytes is not installed, or the folder has no room.
        """
        if "quantised" not in self._built:
            quantization_options()  # says what is missing before anything is written
            room, needed = shutil.disk_usage(tempfile.gettempdir()), bytes_of(self._original)
            if room.free < needed:
                raise HiddenContextError(
                    f"{tempfile.gettempdir()} has room for {room.free / 1e9:.1f} GB, but a "
                    f"checkpoint of {needed / 1e9:.1f} GB is written there; name another folder "
                    "with TMPDIR"
                )
            with tempfile.TemporaryDirectory() as folder:
                self._original.save_pretrained(folder)
                self._built["quantised"] = build_model(
                    folder,
                    heads.make("base"),
                    tuning="qlora",
                    lora=LoraOptions(dropout=0.0),
                    dtype=torch.bfloat16,
                    pad_token_id=PAD,
                )
        return self._built["quantised"]

    def _copy(self) -> Any:
        shared: dict[int, Any] = {id(p): p for p in self._original.base_model.parameters()}
        return copy.deepcopy(self._original, shared)

    def _once(self, name: str, lora: bool, build: Any) -> Any:
        key = f"{name} with LoRA" if lora else name
        if key not in self._built:
            model = build()
            if lora:
                model = add_lora(model, LoraOptions(dropout=0.0))
                if name != "stock":
                    _copy_trained(self.stock(lora=True), model)
            self._built[key] = model
        return self._built[key]

    def reset_adapters(self) -> None:
        """Bring all LoRA models back to one state: fresh adapters, the original head."""
        self.stock(lora=True), self.ours(lora=True)
        torch.manual_seed(1)
        fresh = add_lora(self._copy(), LoraOptions(dropout=0.0))
        for key, model in self._built.items():
            if key.endswith("with LoRA"):
                _copy_trained(fresh, model)

    def cost(self) -> Cost:
        """Count what a token costs."""
        backbone, config = self._original.base_model, self._original.config
        linear = (m for m in backbone.modules() if isinstance(m, (nn.Linear, Conv1D)))
        weights = sum(layer.weight.numel() for layer in linear)
        return Cost(weights, config.num_hidden_layers * config.hidden_size)

    @property
    def widths(self) -> tuple[int, int]:
        """Inputs and outputs of the first layer of the backbone's feed-forward networks."""
        config = self._original.config
        width = config.hidden_size
        return width, getattr(config, "intermediate_size", None) or 4 * width


def bytes_of(module: nn.Module) -> int:
    """Memory of a model's weights and buffers, in bytes."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _drop_mask(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return args, {**options, "attention_mask": None}


def _copy_trained(source: Any, target: Any) -> None:
    wanted = dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(wanted[name])


def reward_model(module: Any, tokenizer: Any) -> SequenceRewardModel:
    """Put a module into the package's reward model, with the scalar head that TRL has too."""
    limit = classifier_of(module).config.max_position_embeddings
    return SequenceRewardModel(module, tokenizer, make_likelihood(heads.make("base")), limit)
