"""A question as a language model reads it: one message of a chat."""

from __future__ import annotations

from typing import Any


def chat_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenize a question by the tokenizer's chat template, up to where the answer begins.

    Args:
        tokenizer: A Transformers tokenizer with a chat template.
        text: The question.

    Returns:
        The ids, neither padded nor truncated.
    """
    found = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_dict=True,
        tokenizer_kwargs={"verbose": False},  # lengths are looked at by the caller
    )
    return list(found["input_ids"])
