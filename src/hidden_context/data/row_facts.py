"""Facts about rows of pairs or responses: prompts, lengths and positions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hidden_context.data.checks import is_finite, read_conversation
from hidden_context.data.dialogue import canonical_prompt, message_text, shared_prompt
from hidden_context.data.published import plain_row
from hidden_context.data.storage.rows import drop_nulls
from hidden_context.errors import DataError

_LENGTH_BINS: Final = 4
_ROW: Final = np.dtype(
    {
        "names": ["cluster", "item", "identity", "length", "swapped", "position"],
        "formats": ["i8", "u8", "u8", "2f8", "?", "f8"],
    }
)


@dataclass(frozen=True, eq=False)
class RowFacts:
    """Facts of N rows.

    Attributes:
        cluster: ``(N,)`` integers, the number of each row's prompt. A row with no prompt and no
            shared start of its texts has its own number, which it shares with rows of the same
            texts.
        item: ``(N,)`` integers, the number of each row's prompt and texts, in any order: rows with
            the same two responses are one item. Each row without texts is a separate item.
        identity: ``(N,)`` unsigned integers, a checksum of each row's texts; 0 where it has none.
        length: ``(N, 2)`` float64, characters of the chosen and the rejected text, or of the two
            responses. For any other number of responses, both are half of the total. NaN without
            texts.
        swapped: ``(N,)``, whether the chosen text comes after the rejected one in the alphabet: an
            order of the two sides that no annotator decided.
        position: ``(N,)`` float64, the place at which the chosen response was shown: the column
            ``position``, or ``label`` beside two ``responses``; NaN where the row has neither.
        prompts: The prompts by number, where they were kept.
    """

    cluster: NDArray[np.int64]
    item: NDArray[np.int64]
    identity: NDArray[np.uint64]
    length: NDArray[np.float64]
    swapped: NDArray[np.bool_]
    position: NDArray[np.float64]
    prompts: Sequence[str] = ()

    def select(self, rows: NDArray[np.int64]) -> RowFacts:
        """Return the facts of some rows."""
        arrays = {name: value[rows] for name, value in vars(self).items() if name != "prompts"}
        return replace(self, **arrays)

    def length_bins(self) -> NDArray[np.str_]:
        """Name each row's quartile of length, ``(N,)``; empty for rows without text."""
        total = np.nansum(self.length, axis=1)
        known = ~np.isnan(self.length).all(1)
        if not known.any():
            return np.full(len(total), "", dtype=np.str_)
        inner = np.arange(1, _LENGTH_BINS) / _LENGTH_BINS
        edges = np.unique(np.quantile(total[known], inner).round())
        names = np.array(
            [
                *(f"{place + 1}: up to {edge:.0f} characters" for place, edge in enumerate(edges)),
                f"{len(edges) + 1}: more than {edges[-1]:.0f} characters",
            ]
        )
        return np.where(known, names[np.searchsorted(edges, total)], "")


class FactsReader:
    """A collector of facts about rows while a file is read.

    Args:
        keep_prompts: Whether to keep the prompts' texts; their checksums take less memory.
    """

    def __init__(self, keep_prompts: bool = False) -> None:
        self._keep = keep_prompts
        self._codes: dict[Any, int] = {}
        self._prompts: list[str] = []
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._rows) // _ROW.itemsize

    def add(self, row: dict[str, Any]) -> None:
        """Read one row."""
        row = plain_row(row)
        prompt, texts = prompt_of(row), [text_of(value) for value in _sides(row)]
        alone = f"\0row {len(self)}"  # a unique item: no text begins like this
        same = _digest("\0".join([prompt, *sorted(texts)]) if texts else alone)
        key: str | bytes = prompt if self._keep else _digest(prompt)
        code = self._codes.setdefault(key if prompt else same, len(self._codes))
        if self._keep and code == len(self._prompts):
            self._prompts.append(prompt)
        item = int.from_bytes(same[:8], "big")
        content = "\0".join([prompt, *texts]) if texts else ""
        identity = int.from_bytes(_digest(content)[:8], "big") if content else 0
        length = tuple(map(len, texts)) or (np.nan, np.nan)
        swapped = len(texts) == 2 and texts[0] > texts[1]
        facts = (code, item, identity, length, swapped, _position_of(row))
        self._rows += np.array(facts, _ROW).tobytes()

    def facts(self) -> RowFacts:
        """Return what was collected."""
        table = np.frombuffer(bytes(self._rows), _ROW)
        columns = {name: np.ascontiguousarray(table[name]) for name in _ROW.fields or ()}
        _, first, code = np.unique(columns["item"], return_index=True, return_inverse=True)
        columns["item"] = np.argsort(np.argsort(first))[code]  # in the order of first occurrence
        return RowFacts(**columns, prompts=self._prompts)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _sides(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the two texts of a pair; join any other number of responses and cut it in half."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if chosen is not None and rejected is not None:
        return chosen, rejected
    responses = row.get("responses")
    if isinstance(responses, list) and responses:
        if len(responses) == 2:
            return tuple(responses)
        text = "\n".join(text_of(response) for response in responses)
        return text[: len(text) // 2], text[len(text) // 2 :]
    return ()


def _position_of(row: dict[str, Any]) -> float:
    place: Any = row.get("position", row.get("label") if "responses" in row else None)
    return float(place) if is_finite(place) else np.nan


def text_of(value: Any) -> str:
    """Return a text unchanged or the text of chat messages; empty for anything else."""
    try:
        said = value if isinstance(value, str) else read_conversation(value, "")
    except DataError:
        return ""
    return said if isinstance(said, str) else "\n".join(map(message_text, said))


def prompt_of(row: dict[str, Any]) -> str:
    """Return a row's prompt, or else the shared start of the two sides; empty if there is none."""
    prompt, chosen, rejected = (row.get(name) for name in ("prompt", "chosen", "rejected"))
    if not (isinstance(prompt, (str, list)) and prompt):
        kind = str if isinstance(chosen, str) else list
        if not isinstance(chosen, kind) or not isinstance(rejected, kind):
            return ""
        prompt = shared_prompt(drop_nulls(chosen), drop_nulls(rejected))
    return canonical_prompt(prompt) if isinstance(prompt, str) else text_of(prompt)
