"""From preferences and texts to token ids and batches, with a count of all that is too long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hidden_context.data.chat import SpecialTokens, encode_batch, read_chat_template, special_tokens
from hidden_context.data.dialogue import Conversation
from hidden_context.data.preferences import Preference
from hidden_context.data.report import ReadReport
from hidden_context.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from hidden_context.data.token_cache import TokenCache

OverLength = Literal["drop", "truncate", "keep"]

_CHUNK = 1024


@dataclass
class TokenizedTexts:
    """Token ids of texts.

    Attributes:
        input_ids: The ids of each text, or None where it was dropped.
        reasons: Why it was dropped, or None.
        too_long: How many were dropped for their length.
        truncated: How many were cut.
        empty: How many were dropped because they have no tokens.
    """

    input_ids: list[list[int] | None] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    too_long: int = 0
    truncated: int = 0
    empty: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass
class TokenizedPreferences:
    """Token ids of preference pairs; the three lists run in parallel.

    Attributes:
        input_ids_chosen: The ids of the preferred text of each pair kept.
        input_ids_rejected: The ids of the other one.
        indices: Where each pair stands in the preferences given.
        too_long: How many pairs were dropped because a side is too long.
        truncated: How many pairs were kept with a side cut.
        empty: How many pairs were dropped because a side has no tokens.
    """

    input_ids_chosen: list[list[int]] = field(default_factory=list)
    input_ids_rejected: list[list[int]] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    too_long: int = 0
    truncated: int = 0
    empty: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair, both sides together."""
        pairs = zip(self.input_ids_chosen, self.input_ids_rejected, strict=True)
        return [len(chosen) + len(rejected) for chosen, rejected in pairs]


def truncate_left(ids: list[int], max_length: int, special: SpecialTokens) -> list[int]:
    """Keep the end of a sequence, and a BOS or [CLS] that stands at its front.

    Args:
        ids: The sequence.
        max_length: The number of tokens to keep.
        special: What the tokenizer puts around a text.

    Returns:
        At most ``max_length`` ids: the reward is read at the end of the response, so what goes is
        the beginning of the prompt.
    """
    if len(ids) <= max_length:
        return ids
    front = special.front if ids[: len(special.front)] == special.front else []
    return front + ids[len(ids) - (max_length - len(front)) :]


def _check(max_length: int | None, over_length: str, special: SpecialTokens) -> None:
    if over_length not in ("drop", "truncate", "keep"):
        raise ConfigError(f"Too long texts are dropped, truncated or kept, not {over_length!r}.")
    least = len(special.front) + len(special.back) + 1
    if max_length is not None and max_length < least:
        raise ConfigError(f"--max_length has to be at least {least}, not {max_length}.")


def tokenize_texts(
    texts: Sequence[Conversation],
    tokenizer: Any,
    max_length: int | None,
    over_length: OverLength = "truncate",
    chat_template: str | None = None,
    cache: TokenCache | None = None,
) -> TokenizedTexts:
    """Turn texts or chats into token ids.

    Args:
        texts: Texts or chat messages, N of them.
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
        DataError: If the template refuses messages.
    """
    special = special_tokens(tokenizer)
    _check(max_length, over_length, special)
    if chat_template is not None:
        chat_template = read_chat_template(chat_template)
    all_ids: Iterable[list[int]] = _encode(texts, tokenizer, chat_template, special)
    if cache is not None:
        all_ids = cache.get_or_make(texts, tokenizer, chat_template, all_ids)
    result = TokenizedTexts()
    for ids in all_ids:
        _add_text(result, ids, max_length, over_length, special)
    return result


def _encode(
    texts: Sequence[Conversation],
    tokenizer: Any,
    chat_template: str | None,
    special: SpecialTokens,
) -> Iterator[list[int]]:
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        yield from encode_batch(chunk, tokenizer, chat_template, special)


def _add_text(
    result: TokenizedTexts,
    ids: list[int],
    max_length: int | None,
    over_length: OverLength,
    special: SpecialTokens,
) -> None:
    kept: list[int] | None = ids
    reason = None
    if not ids:
        kept, reason = None, "it has no tokens"
        result.empty += 1
    elif max_length is not None and len(ids) > max_length and over_length != "keep":
        if over_length == "truncate":
            kept = truncate_left(ids, max_length, special)
            result.truncated += 1
        else:
            kept, reason = None, f"it has {len(ids)} tokens, more than {max_length}"
            result.too_long += 1
    result.input_ids.append(kept)
    result.reasons.append(reason)


def tokenize_preferences(
    preferences: Sequence[Preference],
    tokenizer: Any,
    max_length: int | None,
    over_length: OverLength = "drop",
    chat_template: str | None = None,
    report: ReadReport | None = None,
    cache: TokenCache | None = None,
) -> TokenizedPreferences:
    """Turn preference pairs into token ids.

    Args:
        preferences: The pairs.
        tokenizer: A Transformers tokenizer.
        max_length: The most tokens a side may have; None for no limit.
        over_length: ``drop`` the pair if either side is longer (the paper's way), ``truncate``
            (the end of the text is kept) or ``keep``.
        chat_template: A template, or a file with one, in place of the tokenizer's own.
        report: Brought up to date with what was dropped and cut.
        cache: Where the ids are kept from one run to the next; meant for whole data sets.

    Returns:
        The ids of the pairs that remain, where they stood, and the counts.

    Raises:
        ConfigError: If an option cannot work, or there are messages but no template.
        DataError: If the template refuses messages.
    """
    # Both sides of a pair side by side: one call of the fast tokenizer for many pairs.
    both = [text for pair in preferences for text in (pair.chosen, pair.rejected)]
    # Lengths are judged per pair below, so nothing is cut or dropped here.
    sides = tokenize_texts(both, tokenizer, None, "keep", chat_template, cache)
    special = special_tokens(tokenizer)
    _check(max_length, over_length, special)
    result = TokenizedPreferences()
    for index in range(len(preferences)):
        chosen, rejected = sides.input_ids[2 * index], sides.input_ids[2 * index + 1]
        if chosen is None or rejected is None:
            result.empty += 1
            continue
        if max_length is not None and max(len(chosen), len(rejected)) > max_length:
            if over_length == "drop":
                result.too_long += 1
                continue
            if over_length == "truncate":
                result.truncated += 1
                chosen = truncate_left(chosen, max_length, special)
                rejected = truncate_left(rejected, max_length, special)
        result.input_ids_chosen.append(chosen)
        result.input_ids_rejected.append(rejected)
        result.indices.append(index)
    if report is not None:
        report.too_long += result.too_long
        report.truncated += result.truncated
        report.empty += result.empty
        report.kept -= result.too_long + result.empty
        report.identical = sum(preferences[index].identical for index in result.indices)
    return result


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
    import torch

    longest = max((len(sequence) for sequence in sequences), default=0)
    length = -(-longest // pad_to_multiple_of) * pad_to_multiple_of
    input_ids = torch.full((len(sequences), length), pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(sequences), length), dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        attention_mask[row, : len(sequence)] = 1
    return input_ids, attention_mask


def sorted_windows(lengths: Sequence[int], window: int, batch_size: int) -> list[list[int]]:
    """Group indices into batches of like length without looking far ahead.

    Args:
        lengths: The length of each item, in input order.
        window: Items are sorted, longest first, within consecutive windows of this many.
        batch_size: Items per batch; the last batch of a window may have fewer.

    Returns:
        Batches of indices; every index stands in exactly one, and all of a window's batches come
        before those of the next, so results can be written in input order window by window.

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
