"""A padding token that no text holds, so that Transformers finds where each text ends."""

from __future__ import annotations

from typing import Any, Final

import torch

from hidden_context.models.engine.pooling import LastAttendedPooling

PADDING_TOKEN: Final = "<|reward_padding|>"


def settle_padding(model: Any, tokenizer: Any) -> str | None:
    """Give decoders a padding token of their own, in tokenizer and configuration.

    Transformers' decoders read the reward at the last token that is not the padding token. Where
    that is the token that ends texts, it would be read before the end. Encoders go by the
    attention mask, and stay as they are.

    Args:
        model: The classifier; changed in place, a row more in its vocabulary where there is no
            room.
        tokenizer: Its tokenizer; changed in place.

    Returns:
        What was done, for people, or None.
    """
    if not isinstance(model, LastAttendedPooling):
        return None
    in_texts = {
        getattr(tokenizer, f"{name}_token_id", None)
        for name in ("eos", "bos", "unk", "sep", "cls", "mask")
    }
    before, done = tokenizer.pad_token, None
    if tokenizer.pad_token_id in in_texts | {None}:
        tokenizer.add_special_tokens({"pad_token": PADDING_TOKEN})
        shared = f"shares {before} with texts" if before else "is missing"
        done = f"the padding token is {PADDING_TOKEN} now: the tokenizer's own {shared}"
    _make_room(model, int(tokenizer.pad_token_id))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return done


def _make_room(model: Any, token_id: int) -> None:
    """Let the vocabulary reach as far as a token that is never attended to."""
    rows = model.get_input_embeddings().num_embeddings
    if token_id >= rows:
        model.resize_token_embeddings(token_id + 1, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[rows:] = 0
