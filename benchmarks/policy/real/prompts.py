"""Who learns from which prompts, and which prompts a language model is asked."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hidden_context.data.dialogue import first_user_turn
from hidden_context.data.example import Example
from hidden_context.data.sources import load_examples
from hidden_context.data.splits.division import BY_FIRST_TURN
from hidden_context.data.storage.files import iter_jsonl
from hidden_context.errors import DataError

SETS: Final = ("helpful", "harmless", "jailbreak")
PAIRS: Final = Path("relabeled_hh_rlhf")
JAILBREAKS: Final = Path("jailbroken_responses.jsonl")
FIFTHS: Final = 5
_TURN: Final = re.compile(r"\n\n(Human|Assistant):")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt that is answered.

    Attributes:
        id: Its name among all: the set and a number.
        set: ``helpful`` or ``harmless``, the part of HH-RLHF a held-out prompt is from, or
            ``jailbreak``.
        prompt: The conversation before the answer, ``Human:`` and ``Assistant:`` turns as text.
    """

    id: str
    set: str
    prompt: str

    def messages(self) -> list[dict[str, str]]:
        """Return the prompt as chat messages, the last one the user's.

        A jailbreak is one message, whatever turns it quotes.
        """
        text = self.prompt.strip().removesuffix("Assistant:").rstrip()
        if self.set == "jailbreak":
            return [{"role": "user", "content": text.removeprefix("Human:").strip()}]
        parts = _TURN.split(f"\n\n{text}")[1:]
        turns = zip(parts[::2], parts[1::2], strict=True)
        return [{"role": _ROLES[who], "content": said.strip()} for who, said in turns]

    def example(self, responses: Sequence[str]) -> Example:
        """Return the prompt with responses, as reward models read them."""
        before = self.prompt.rstrip().removesuffix("Assistant:").rstrip()
        return Example(f"{before}\n\nAssistant:", tuple(f" {text}" for text in responses))


@dataclasses.dataclass(frozen=True)
class Division:
    """The relabelled pairs, no first question on two sides.

    Attributes:
        train: Pairs that reward models learn from.
        judges: Pairs that judges learn from.
        held_out: Pairs that all are tested on; their prompts are answered.
    """

    train: list[Example]
    judges: list[Example]
    held_out: list[Example]


def load_pairs(data: Path) -> list[Example]:
    """Read the relabelled pairs; two responses that are the same say nothing and are left out."""
    pairs = load_examples(data / PAIRS, "both", "test").examples
    return [pair for pair in pairs if not pair.identical]


def divide(pairs: Sequence[Example], seed: int = 0) -> Division:
    """Divide pairs by their first question into five parts: one held out, two for each side.

    The questions are sorted and shuffled, and part k is every fifth from the k-th on.

    Args:
        pairs: The pairs.
        seed: Seed of the shuffle.

    Returns:
        The division; pairs keep their order.

    Raises:
        DataError: If there are fewer than five first questions.
    """
    keys = BY_FIRST_TURN.keys(pairs)
    order = sorted(set(keys))
    if len(order) < FIFTHS:
        raise DataError(f"{len(order)} first questions cannot be divided into {FIFTHS} parts")
    random.Random(seed).shuffle(order)
    part = {key: place % FIFTHS for place, key in enumerate(order)}
    sides: tuple[list[Example], ...] = ([], [], [])
    for pair, key in zip(pairs, keys, strict=True):
        sides[(part[key] + 1) // 2].append(pair)
    held_out, judges, train = sides
    return Division(train, judges, held_out)


def questions(
    held_out: Sequence[Example], jailbreaks: Sequence[str], each: int, some: int
) -> list[Question]:
    """List what is asked: held-out prompts of each part of HH-RLHF, and jailbreaks.

    Fewer prompts are the first of more, by the same names.

    Args:
        held_out: Held-out pairs; of one first question one prompt is asked.
        jailbreaks: Jailbreak prompts.
        each: How many prompts of each part.
        some: How many jailbreak prompts.

    Raises:
        DataError: If there are fewer prompts.
    """
    found: list[Question] = []
    for name, count in zip(SETS, (each, each, some), strict=True):
        there = sorted(set(jailbreaks)) if name == SETS[2] else _prompts(held_out, name)
        if len(there) < count:
            raise DataError(f"there are {len(there)} {name} prompts to ask, fewer than {count}")
        random.Random(f"{name}/0").shuffle(there)
        found += [Question(f"{name}-{n}", name, prompt) for n, prompt in enumerate(there[:count])]
    return found


def load_jailbreaks(data: Path) -> list[str]:
    """Read the jailbreak prompts.

    Raises:
        DataError: If a row has no prompt, naming file, line and field.
    """
    path, found = data / JAILBREAKS, []
    for line, row in iter_jsonl(path, allow_empty=False):
        found.append(row.get("prompt"))
        if not isinstance(found[-1], str) or not found[-1].strip():
            remedy = "Each row has to give the text of a jailbreak prompt"
            raise DataError("no text", file=path, line=line, field="prompt", remedy=remedy)
    return found


def _prompts(pairs: Sequence[Example], name: str) -> list[str]:
    """List prompts of one part, one of each first question."""
    own = [str(pair.prompt) for pair in pairs if pair.data_subset == name]
    first = {first_user_turn(prompt): prompt for prompt in reversed(own)}
    return [first[key] for key in sorted(first)]
