"""Tiny Llamas of random weights with a byte tokenizer: they try a script, and know nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from hidden_context import heads
from hidden_context.models.checkpoint.head_file import HeadFile

WORDS = ("tea", "rain", "maps", "bread", "music", "snow", "birds", "roads", "clocks", "rivers")
SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_llama(folder: Path, kind: Any, width: int = 64, **options: Any) -> tuple[Any, Any]:
    """Make a Llama of two layers, and a tokenizer whose tokens are bytes; save both.

    Args:
        folder: Where they are saved.
        kind: Class of the model.
        width: Of the hidden states, a multiple of 8.
        options: Further options of the configuration.
    """
    letters = [*SPECIAL.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    fast = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, model_max_length=2048, **SPECIAL)
    tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        pad_token_id=0,
        **options,
    )
    torch.manual_seed(0)
    model = kind(config) if hasattr(kind, "config_class") else kind.from_config(config)
    save(model, tokenizer, folder)
    return model, tokenizer


def save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a model with its tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_folder(folder: Path, num_outputs: int = 2, width: int = 64) -> str:
    """Save a tiny reward model that gives every text another reward; return its folder."""
    kind = AutoModelForSequenceClassification
    model, tokenizer = tiny_llama(folder, kind, width, num_labels=num_outputs)
    with torch.no_grad():  # as they are drawn, all texts look alike
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    return save_classifier(model, tokenizer, folder)


def save_classifier(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """Save a classifier of one or two outputs as a reward model; return its folder."""
    model.config.problem_type = "regression"
    save(model, tokenizer, folder)
    head = heads.make("base" if model.config.num_labels == 1 else "mean_and_variance")
    HeadFile(head, 2048, "random").save(folder)
    return str(folder)
