"""A tokenizer and a small GPT-2 language model, built from given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int = 1024, max_length: int = 128
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: The texts to encode in few tokens; any other text is still encoded without loss.
        vocabulary_size: The largest number of tokens, 257 or more (the bytes and the end of text).
        max_length: The longest input the model takes, in tokens.

    Returns:
        A tokenizer whose end, beginning, padding and unknown token is ``<|endoftext|>``. It pads
        on the right, as GPT-2's tokenizer does in reward models.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT),
        padding_side="right",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


@dataclass(frozen=True)
class BackboneConfig:
    """A small GPT-2 and its brief training as a language model.

    Attributes:
        width: Size of the hidden states, a multiple of ``attention_heads``.
        layers: Number of transformer blocks.
        attention_heads: Attention heads per block.
        feed_forward_width: Hidden units of each block's feed-forward network.
        vocabulary_size: The largest number of tokens.
        max_length: The number of positions, in tokens.
        pretraining_steps: Updates on next-token prediction; 0 leaves the weights random.
        pretraining_batch_size: Texts per update.
        pretraining_learning_rate: The peak; linear warm-up over a tenth, then cosine to a tenth.
        seed: Fixes the weights and the order of the texts.
    """

    width: int = 64
    layers: int = 2
    attention_heads: int = 4
    feed_forward_width: int = 128
    vocabulary_size: int = 1024
    max_length: int = 128
    pretraining_steps: int = 200
    pretraining_batch_size: int = 32
    pretraining_learning_rate: float = 3e-3
    seed: int = 0


def build_backbone(
    folder: str | Path,
    texts: Sequence[str],
    config: BackboneConfig | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write a small GPT-2-style language model and its tokenizer into a folder.

    The folder then loads by its path like any other pretrained model. Nothing is downloaded, and
    PyTorch's global random state is left as it was.

    The pretraining sees only texts, no comparisons. Without pretraining, a reward model trained
    from random weights keeps to the single direction that separates better from worse responses,
    and cannot yet tell *which* responses are contested.

    Args:
        folder: The folder to write; created if needed.
        texts: The training texts of the tokenizer and the language model.
        config: Sizes, pretraining and seed; None for the defaults.
        progress: Called with 1 after each pretraining step.

    Returns:
        The folder.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from hidden_context.models.engine.forward import quiet_loading

    config = config or BackboneConfig()
    tokenizer = train_tokenizer(texts, config.vocabulary_size, config.max_length)
    end = tokenizer.eos_token_id
    architecture = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=config.max_length,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.attention_heads,
        n_inner=config.feed_forward_width,
        # GPT-2's own activation, in one fused operation instead of eight
        activation_function="gelu_pytorch_tanh",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = GPT2LMHeadModel(architecture)
    if config.pretraining_steps:
        _pretrain(model, tokenizer(list(texts))["input_ids"], config, progress)
    folder = Path(folder)
    with quiet_loading():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _pretrain(
    model: GPT2LMHeadModel,
    token_ids: list[list[int]],
    config: BackboneConfig,
    progress: Callable[[int], object] | None,
) -> None:
    """Train on next-token prediction, including the end of text."""
    import torch

    steps, rate = config.pretraining_steps, config.pretraining_learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    warm_up = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm_up) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        ),
    )
    generator = torch.Generator().manual_seed(config.seed)
    end = model.config.eos_token_id
    model.train()
    for _ in range(steps):
        picked = torch.randint(
            len(token_ids), (config.pretraining_batch_size,), generator=generator
        )
        batch = [torch.tensor([*token_ids[i], end]) for i in picked.tolist()]
        # the padding token is also the end of text, so labels mask by length
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=end)
        labels = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
        optimizer.zero_grad()
        model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(1)
