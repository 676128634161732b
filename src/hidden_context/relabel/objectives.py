"""What a language model is asked to judge: the objectives, and the words of a question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hidden_context.data.storage.unique_names import loads
from hidden_context.errors import ConfigError, DataError, MissingFileError

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


@dataclass(frozen=True, slots=True)
class Objective:
    """A criterion by which two responses are compared.

    Attributes:
        name: Its name, which stands in the annotator's.
        instruction: What the language model is told to judge.
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
            dialogue: What comes before both responses; None where that is not known.
            first: The response shown as A.
            second: The response shown as B.
        """
        words = {"first": first, "second": second, "instruction": self.instruction}
        if dialogue is None:
            return WITHOUT_DIALOGUE.format(**words)
        return WITH_DIALOGUE.format(dialogue=dialogue, **words)


def find_objectives(names: Sequence[str], path: str | None = None) -> list[Objective]:
    """Look up objectives by name, those of a file first.

    Args:
        names: Their names, in the order in which they are judged.
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
    if not path.is_file():
        raise MissingFileError(path, "Give --objectives_file a YAML or JSON file")
    remedy = f"Write a list such as {_EXAMPLE}"
    entries = _parse(path, remedy)
    if not isinstance(entries, list) or not entries:
        raise DataError("a list of objectives is needed", file=path, remedy=remedy)
    found: list[Objective] = []
    for number, entry in enumerate(entries):
        objective = _read_entry(entry, number, path, remedy)
        if objective.name in [one.name for one in found]:
            problem = f"the name {objective.name!r} stands there twice"
            raise DataError(problem, file=path, field=f"[{number}].name", remedy="Keep one of them")
        found.append(objective)
    return found


def _parse(path: Path, remedy: str) -> Any:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        reason = " ".join(str(error).split())
        raise DataError(f"not valid {kind}: {reason}", file=path, remedy=remedy) from error


def _read_entry(entry: Any, number: int, path: Path, remedy: str) -> Objective:
    if not isinstance(entry, dict) or set(entry) != {"name", "instruction"}:
        problem = "an objective is needed that has a 'name' and an 'instruction', and nothing else"
        raise DataError(problem, file=path, field=f"[{number}]", remedy=remedy)
    for key, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            problem = f"text is needed, not {value!r}"
            raise DataError(problem, file=path, field=f"[{number}].{key}", remedy=remedy)
    name = entry["name"].strip()
    if "/" in name or len(name.split()) > 1:
        problem = f"the name {name!r} has white space or a slash inside"
        remedy = "It becomes part of the annotator's name: use letters, digits, _ and -"
        raise DataError(problem, file=path, field=f"[{number}].name", remedy=remedy)
    return Objective(name, entry["instruction"].strip())
