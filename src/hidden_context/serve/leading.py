"""The BOS that a trainer has cut off a chat, put back where the tokenizer would not add it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from hidden_context.data.chat import special_tokens
from hidden_context.scoring.prepare import Asked

_MARK: Final = "0e5f7c3a"
_openings: WeakKeyDictionary[Any, tuple[str, tuple[str, ...]]] = WeakKeyDictionary()


def restored(asked: Sequence[Asked], tokenizer: Any) -> list[Asked]:
    """Put a chat template's BOS back before texts that begin as its chats do after it.

    verl renders a chat, cuts off the BOS, and relies on the server's tokenizer to add one. Some
    tokenizers add none, although their template begins with it.

    Args:
        asked: The texts of a request.
        tokenizer: The model's tokenizer.

    Returns:
        The same texts, with the BOS where it was cut off.
    """
    bos, openings = _opening(tokenizer)
    if not openings:
        return list(asked)
    return [
        bos + one if isinstance(one, str) and one.startswith(openings) else one for one in asked
    ]


def _opening(tokenizer: Any) -> tuple[str, tuple[str, ...]]:
    """Return the BOS, and what chats begin with after it; nothing where the tokenizer adds it."""
    if tokenizer not in _openings:
        _openings[tokenizer] = _find_opening(tokenizer)
    return _openings[tokenizer]


def _find_opening(tokenizer: Any) -> tuple[str, tuple[str, ...]]:
    bos = getattr(tokenizer, "bos_token", None)
    if not bos or not getattr(tokenizer, "chat_template", None) or special_tokens(tokenizer).front:
        return "", ()
    openings = set()
    for role in ("system", "user"):
        chat = [{"role": role, "content": _MARK}, {"role": "user", "content": "a"}][-2:]
        if role == "user":
            chat[1] = {"role": "assistant", "content": "a"}
        try:
            text = str(tokenizer.apply_chat_template(chat, tokenize=False))
        except Exception:  # Jinja's errors, and whatever a template raises
            continue
        before, found, _ = text.partition(_MARK)
        if found and before.startswith(bos):
            openings.add(before[len(bos) :])
    return bos, tuple(sorted(opening for opening in openings if opening.strip()))
