"""A tokenizer and a small GPT-2 with random weights, built on the spot from texts at hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(
    texts: Iterable[str], vocabulary_size: int = 1024, max_length: int = 128
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer.

    Args:
        texts: What it shall write shortly; any other text is still encoded without loss.
        vocabulary_size: Tokens at most, 257 or more (the bytes and the end of text).
        max_length: The longest input the model takes, in tokens.

    Returns:
        A tokenizer whose end, beginning, padding and unknown token is ``<|endoftext|>``, padding on the
        right, as GPT-2's is used for reward models.
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
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="right",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def build_backbone(
    folder: str | Path,
    texts: Iterable[str],
    *,
    seed: int = 0,
    width: int = 64,
    layers: int = 2,
    attention_heads: int = 4,
    feed_forward_width: int = 128,
    dropout: float = 0.0,
    vocabulary_size: int = 1024,
    max_length: int = 128,
) -> Path:
    """Write a GPT-2-style model with random weights and its tokenizer into a folder.

    The folder then loads by its path like any other pretrained model. Nothing is downloaded, and
    PyTorch's global random state is left as it was.

    Args:
        folder: Where to; created if need be.
        texts: What the tokenizer is trained on.
        seed: Fixes the weights.
        width: Size of the hidden states, a multiple of ``attention_heads``.
        layers: Number of transformer blocks.
        attention_heads: Attention heads per block.
        feed_forward_width: Hidden units of each block's feed-forward network.
        dropout: Dropout probability of embeddings, attention and residuals.
        vocabulary_size: Tokens at most.
        max_length: Positions the model has, in tokens.

    Returns:
        The folder.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = train_tokenizer(texts, vocabulary_size, max_length)
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=max_length,
        n_embd=width,
        n_layer=layers,
        n_head=attention_heads,
        n_inner=feed_forward_width,
        # GPT-2's own activation, in one fused operation instead of eight
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    folder = Path(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
