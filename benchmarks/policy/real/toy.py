"""A tiny random chat model, to take the whole study along in a few minutes; it knows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def toy_model(folder: Path, texts: Sequence[str]) -> str:
    """Write a Llama of two layers and a tokenizer of the texts, unless they are there.

    Returns:
        The folder's name.
    """
    if not (folder / "model.safetensors").is_file():
        import torch
        from paper_table import random_backbone
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        random_backbone(folder, list(texts))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = _TEMPLATE
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
