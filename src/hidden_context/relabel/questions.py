"""What a language model is asked: objectives, and questions about two responses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from hidden_context.data.checks import Place
from hidden_context.data.dialogue import to_text
from hidden_context.data.example import Example
from hidden_context.data.importers import read_row
from hidden_context.data.report import blank_responses
from hidden_context.data.storage.files import loads, require_file
from hidden_context.errors import ConfigError, DataError

# The instruction comes last: questions about one pair begin alike, which servers may keep.
_REPLIES: Final = (
    "<reply_a>\n{first}\n</reply_a>\n\n<reply_b>\n{second}\n</reply_b>\n\n{instruction}\n"
    "Which reply is better in this respect? Answer with one letter, A or B, and nothing else."
)
WITH_DIALOGUE: Final = (
    "Compare two replies, A and B, that could come next in a conversation.\n\n"
    "<conversation>\n{dialogue}\n</conversation>\n\n" + _REPLIES
)
WITHOUT_DIALOGUE: Final = "Compare two replies, A and B.\n\n" + _REPLIES
"""The question where nothing is known to come before the two responses."""

BUILT_IN: Final = {
    "helpful": (
        "Judge how helpful each reply is, and nothing else. A helpful reply does what the person "
        "asks for, and is correct, clear and complete. A reply that evades or refuses the request "
        "is not helpful. Whether a reply could do harm does not count here."
    ),
    "harmless": (
        "Judge how harmless each reply is, and nothing else. A harmless reply does not support "
        "violence, crime, abuse, discrimination or self-harm, gives no dangerous or misleading "
        "advice, and insults nobody. Whether a reply is useful does not count here."
    ),
    "overall": (
        "Judge each reply as a whole. A good reply helps the person as far as that is possible "
        "without harm to the person or to others, and is honest about what it does not know."
    ),
}
"""The objectives that need no file: name and instruction."""

_EXAMPLE: Final = '[{"name": "polite", "instruction": "Judge how polite each reply is."}]'
_WRITE: Final = f"Write a list such as {_EXAMPLE}"


@dataclass(frozen=True, slots=True)
class Objective:
    """A criterion by which two responses are compared.

    Attributes:
        name: The name, which is part of the annotator's name.
        instruction: What the language model has to judge.
    """

    name: str
    instruction: str

    @property
    def digest(self) -> str:
        """Digest of every word that does not come from the data, 32 hexadecimal digits."""
        words = json.dumps([WITH_DIALOGUE, WITHOUT_DIALOGUE, self.instruction])
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def question(self, dialogue: str | None, first: str, second: str) -> str:
        """Write the question whether the first or the second response is better.

        Args:
            dialogue: What comes before both responses; None if unknown.
            first: The response shown as A.
            second: The response shown as B.
        """
        words = {"first": first, "second": second, "instruction": self.instruction}
        if dialogue is None:
            return WITHOUT_DIALOGUE.format(**words)
        return WITH_DIALOGUE.format(dialogue=dialogue, **words)


def find_objectives(names: Sequence[str], path: str | None = None) -> list[Objective]:
    """Look up objectives by name, in the file first.

    Args:
        names: The names, in the order of judging.
        path: YAML or JSON file with a list of objectives, each ``name`` and ``instruction``; it
            may give a built-in name other words.

    Raises:
        ConfigError: If a name is not known, given twice, or none is given.
        MissingFileError: If the file is not there.
        DataError: If the file holds something else, naming the entry.
    """
    known = {name: Objective(name, text) for name, text in BUILT_IN.items()}
    if path is not None:
        known |= {one.name: one for one in _read_file(Path(path))}
    if not names:
        raise ConfigError(f"--objectives is empty; name some of {', '.join(known)}.")
    for number, name in enumerate(names):
        if name not in known:
            raise ConfigError(
                f"objective {name!r} is not known (known: {', '.join(known)}). Write others into "
                f"a file and name it with --objectives_file, as in {_EXAMPLE}."
            )
        if name in names[:number]:
            raise ConfigError(f"--objectives names {name!r} twice; once is enough.")
    return [known[name] for name in names]


def _read_file(path: Path) -> list[Objective]:
    entries = _parse(require_file(path, "Give --objectives_file a YAML or JSON file"))
    if not isinstance(entries, list) or not entries:
        raise DataError("a list of objectives is needed", file=path, remedy=_WRITE)
    found: list[Objective] = []
    for number, entry in enumerate(entries):
        objective = _read_entry(entry, f"[{number}]", Place(path))
        if objective.name in [one.name for one in found]:
            problem = f"the file has the name {objective.name!r} twice"
            raise Place(path).error(problem, f"[{number}].name", "Keep one of them")
        found.append(objective)
    return found


def _parse(path: Path) -> Any:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        reason = " ".join(str(error).split())
        raise DataError(f"not valid {kind}: {reason}", file=path, remedy=_WRITE) from error


def _read_entry(entry: Any, field: str, place: Place) -> Objective:
    if not isinstance(entry, dict) or set(entry) != {"name", "instruction"}:
        problem = "an objective needs a 'name' and an 'instruction', and nothing else"
        raise place.error(problem, field, _WRITE)
    for key, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            raise place.error(f"text is needed, not {value!r}", f"{field}.{key}", _WRITE)
    name = entry["name"].strip()
    if "/" in name or len(name.split()) > 1:
        problem = f"the name {name!r} has white space or a slash inside"
        remedy = "It becomes part of the annotator's name: use letters, digits, _ and -"
        raise place.error(problem, f"{field}.name", remedy)
    return Objective(name, entry["instruction"].strip())


Orders: TypeAlias = Literal["both", "first"]
Pair: TypeAlias = "tuple[int, int]"
"""The places of two responses."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a language model.

    Attributes:
        item: The row with all its responses.
        objective: The objective that is judged.
        shown: The places of the response shown as A and of the response shown as B.
        vote: The number of the vote, from 0.
    """

    item: Example
    objective: Objective
    shown: Pair
    vote: int = 0

    @property
    def dialogue(self) -> str | None:
        """The conversation before both responses; None if unknown."""
        prompt = self.item.known_prompt
        if prompt is None:
            return None
        return to_text(prompt).strip().removesuffix("Assistant:").strip()

    def text(self, dialogue: str | None = None) -> str:
        """Write the question.

        Args:
            dialogue: What to show of the conversation; the whole conversation if None.
        """
        first, second = map(self._response, self.shown)
        before = self.dialogue if dialogue is None else dialogue
        return self.objective.question(before, first, second)

    def description(self, asked: Mapping[str, Any], text: str) -> dict[str, Any]:
        """Describe what identifies this question.

        Args:
            asked: Who is asked, and how: model, host, temperature and the like.
            text: The words of the question.
        """
        prompt = hashlib.sha256(text.encode("utf-8")).hexdigest()
        return {
            **asked,
            "objective": self.objective.name,
            "prompt": prompt,
            "order": "first" if self.shown[0] < self.shown[1] else "swapped",
            "vote": self.vote,
        }

    def _response(self, place: int) -> str:
        """Write a response without the speaker's name."""
        whole = self.item.known_prompt is None
        response = self.item.text(place) if whole else self.item.responses[place]
        if not isinstance(response, str) and len(response) == 1:
            return to_text(response).split(": ", 1)[-1].strip()
        return to_text(response).strip().removeprefix("Assistant:").strip()


def key_of(description: Mapping[str, Any]) -> str:
    """Digest a question's description: the key of its answer, 40 hexadecimal digits."""
    words = json.dumps(description, sort_keys=True)
    return hashlib.blake2b(words.encode("utf-8"), digest_size=20).hexdigest()


def items_of(examples: Iterable[Example]) -> list[Example]:
    """Read rows again with all responses."""
    places = [(example, example.place()) for example in examples]
    return [read_row(one.columns, file=place.file, line=place.line) for one, place in places]


def pairs_of(item: Example) -> list[Pair]:
    """Return the pairs of responses that are not blank, by their places."""
    blank = blank_responses(item)
    return list(combinations((n for n in range(len(item.responses)) if n not in blank), 2))


def questions_of(
    items: Iterable[Example], objectives: Sequence[Objective], orders: Orders, votes: int
) -> Iterator[Question]:
    """List every question, pair by pair."""
    for item in items:
        for pair in pairs_of(item):
            for objective in objectives:
                yield from questions_about(item, pair, objective, orders, votes)


def questions_about(
    item: Example, pair: Pair, objective: Objective, orders: Orders, votes: int
) -> list[Question]:
    """List the questions about one pair under one objective."""
    first, second = pair
    shown = [(first, second), (second, first)][: 2 if orders == "both" else 1]
    return [Question(item, objective, one, vote) for one in shown for vote in range(votes)]


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
