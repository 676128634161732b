"""Tokenizing and batching of examples and texts, with counts of texts that are too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from hidden_context.data.example import Example, Text, as_input, with_context
from hidden_context.data.report import OverLength, ReadReport, UsableExamples, keep_usable
from hidden_context.data.tokens.cache import TokenCache
from hidden_context.data.tokens.chat import (
    SpecialTokens,
    encode_batch,
    read_chat_template,
    render,
    special_tokens,
)
from hidden_context.errors import ConfigError, DataError

_CHUNK = 1024


@dataclass
class TokenizedTexts:
    """Token ids of texts.

    Attributes:
        input_ids: The ids of each text, or None where it was dropped.
        reasons: Why it was dropped, or None.
        truncated: How many were cut.
        refused: The chat template's errors, by index of the text that was dropped.
    """

    input_ids: list[list[int] | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    truncated: int = 0
    refused: dict[int, DataError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass
class TokenizedExamples(UsableExamples):
    """Examples that are left, with their token ids.

    Attributes:
        input_ids: The ids of the whole text of each remaining response, for each example.
    """

    input_ids: list[list[list[int]]] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example, all its responses together."""
        return [sum(map(len, ids)) for ids in self.input_ids]


def truncate_left(ids: list[int], max_length: int, special: SpecialTokens) -> list[int]:
    """Keep the end of a sequence, and a BOS or [CLS] at its front.

    Args:
        ids: The sequence.
        max_length: The number of tokens to keep.
        special: What the tokenizer puts around a text.

    Returns:
        At most ``max_length`` ids. The start of the prompt is cut, because the reward is read at
        the end of the response.
    """
    if len(ids) <= max_length:
        return ids
    front = special.front if ids[: len(special.front)] == special.front else []
    return front + ids[len(ids) - (max_length - len(front)) :]


def _special(tokenizer: Any, max_length: int | None, over_length: str) -> SpecialTokens:
    """Check the options, then return the special ids around a text."""
    if over_length not in ("drop", "truncate", "keep"):
        raise ConfigError(f"over_length has to be drop, truncate or keep, not {over_length!r}.")
    special = special_tokens(tokenizer)
    least = len(special.front) + len(special.back) + 1
    if max_length is not None and max_length < least:
        raise ConfigError(f"--max_length has to be at least {least}, not {max_length}.")
    return special


def tokenize_texts(
    texts: Sequence[Text],
    tokenizer: Any,
    max_length: int | None,
    over_length: OverLength = "truncate",
    chat_template: str | None = None,
    cache: TokenCache | None = None,
) -> TokenizedTexts:
    """Turn texts or chats into token ids.

    Args:
        texts: Texts or chat messages, with tools or without, N of them.
        tokenizer: A Transformers tokenizer.
        max_length: The most tokens a text may have; None for no limit.
        over_length: What happens to a longer one: ``drop``, ``truncate`` (its end is kept) or
            ``keep``.
        chat_template: A template, or a file with one, in place of the tokenizer's own.
        cache: Where the ids are kept from one run to the next; meant for whole data sets.

    Returns:
        The ids (N entries, None where dropped), the reasons and the counts.

    Raises:
        ConfigError: If an option cannot work, or there are messages but no template.
    """
    special = _special(tokenizer, max_length, over_length)
    if chat_template is not None:
        chat_template = read_chat_template(chat_template)
    all_ids: Iterable[list[int]] = _encode(texts, tokenizer, chat_template, special)
    if cache is not None:
        all_ids = cache.get_or_make(texts, tokenizer, chat_template, all_ids)
    result = TokenizedTexts()
    for text, ids in zip(texts, all_ids, strict=True):
        error = None if ids else refusal(text, tokenizer, chat_template)
        reason = None
        if error is not None:
            result.refused[len(result)] = error
            reason = error.problem
        elif not ids:
            reason = "it has no tokens"
        elif max_length is not None and len(ids) > max_length and over_length == "drop":
            reason = f"it has {len(ids)} tokens, more than {max_length}"
        elif max_length is not None and len(ids) > max_length and over_length == "truncate":
            ids = truncate_left(ids, max_length, special)
            result.truncated += 1
        result.input_ids.append(ids if reason is None else None)
        result.reasons.append(reason)
    return result


def _encode(
    texts: Sequence[Text],
    tokenizer: Any,
    chat_template: str | None,
    special: SpecialTokens,
) -> Iterator[list[int]]:
    """Encode texts chunk by chunk; there are no ids where the chat template refuses one."""
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        try:
            yield from encode_batch(chunk, tokenizer, chat_template, special)
        except DataError:
            for text in chunk:
                refused = refusal(text, tokenizer, chat_template)
                yield [] if refused else encode_batch([text], tokenizer, chat_template, special)[0]


def refusal(text: Text, tokenizer: Any, chat_template: str | None = None) -> DataError | None:
    """Return the chat template's error where it refuses a chat, else None."""
    given = as_input(text)
    try:
        if not isinstance(given.conversation, str):
            render(given.conversation, tokenizer, chat_template, given.tools)
    except DataError as error:
        return error
    return None


def tokenize_examples(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int | None,
    over_length: OverLength = "drop",
    chat_template: str | None = None,
    report: ReadReport | None = None,
    cache: TokenCache | None = None,
    on_malformed: Literal["error", "skip"] = "error",
) -> TokenizedExamples:
    """Turn examples into token ids; equal texts are tokenized once.

    Args:
        examples: The examples.
        tokenizer: A Transformers tokenizer.
        max_length: The most tokens a whole text may have; None for no limit.
        over_length: ``drop`` responses that are longer, and with them a pair (the paper's way) or
            an example that has no vote left; ``truncate`` (the end of the text is kept) or
            ``keep``.
        chat_template: A template, or a file with one, in place of the tokenizer's own.
        report: Brought up to date with what was dropped and cut.
        cache: Where the ids are kept from one run to the next; meant for whole data sets.
        on_malformed: Whether responses that the chat template refuses are an error, or left out.

    Returns:
        The examples that remain, their ids, where they stood, and the counts.

    Raises:
        ConfigError: If an option cannot work, or there are messages but no template.
        DataError: If the template refuses messages, naming file and line.
    """
    special = _special(tokenizer, max_length, over_length)
    all_ids = _encode_once(examples, tokenizer, chat_template, cache)
    lengths = [[one if isinstance(one, DataError) else len(one) for one in ids] for ids in all_ids]
    found = keep_usable(examples, lengths, max_length, over_length, on_malformed, report)
    result = TokenizedExamples(**vars(found))
    for index, places in zip(found.indices, found.places, strict=True):
        ids = [one for one in (all_ids[index][n] for n in places) if not isinstance(one, DataError)]
        if over_length == "truncate" and max_length is not None:
            ids = [truncate_left(one, max_length, special) for one in ids]
        result.input_ids.append(ids)
    return result


def _encode_once(
    examples: Sequence[Example], tokenizer: Any, chat_template: str | None, cache: TokenCache | None
) -> list[list[list[int] | DataError]]:
    """Tokenize each response's whole text, and equal texts only once; return ids or errors."""
    texts: dict[Any, Text] = {}
    keys = []
    for example in examples:
        # Messages are dictionaries, which cannot be keys themselves; a tuple is never a text.
        own: list[Any] = []
        for text in example.texts:
            own.append(text if isinstance(text, str) else (repr(text), repr(example.tools)))
            texts[own[-1]] = with_context(text, None, example.tools)
        keys.append(own)
    # Lengths are checked for each example later, so nothing is truncated or dropped here.
    found = tokenize_texts(list(texts.values()), tokenizer, None, "keep", chat_template, cache)
    ids = {
        key: found.refused.get(place, one or [])
        for place, (key, one) in enumerate(zip(texts, found.input_ids, strict=True))
    }
    return [[ids[key] for key in own] for own in keys]


def pad_batch(
    sequences: Sequence[Sequence[int]], pad_token_id: int, pad_to_multiple_of: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad sequences on the right to one length.

    Args:
        sequences: B sequences of ids.
        pad_token_id: The id to fill with; the mask, not the id, tells padding from text.
        pad_to_multiple_of: The length is rounded up to a multiple of this.

    Returns:
        ``input_ids`` and ``attention_mask``, both int64 of shape ``(B, T)``.
    """
    longest = max(map(len, sequences), default=0)
    length = -(-longest // pad_to_multiple_of) * pad_to_multiple_of
    input_ids = torch.full((len(sequences), length), pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(sequences), length), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        attention_mask[row, : len(sequence)] = 1
    return input_ids, attention_mask


def sorted_windows(lengths: Sequence[int], window: int, batch_size: int) -> list[list[int]]:
    """Group indices into batches of similar length within windows of the input.

    Args:
        lengths: The length of each item, in input order.
        window: Items are sorted, longest first, within consecutive windows of this many.
        batch_size: Items per batch; the last batch of a window may have fewer.

    Returns:
        Batches of indices; every index is in exactly one, and all batches of a window come
        before the next window, so results can be written in input order window by window.

    Raises:
        ConfigError: If ``window`` or ``batch_size`` is below 1.
    """
    if window < 1 or batch_size < 1:
        raise ConfigError(f"Window and batch size are at least 1, not {window} and {batch_size}.")
    batches: list[list[int]] = []
    for start in range(0, len(lengths), window):
        indices = range(start, min(start + window, len(lengths)))
        order = sorted(indices, key=lambda index: -lengths[index])
        batches += [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return batches
