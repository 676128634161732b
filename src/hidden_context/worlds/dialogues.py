"""A generated world of assistant dialogues whose annotators follow one of two hidden objectives.

Half the prompts ask for something harmful. Each comparison takes one prompt and two responses of
different kinds. An annotator, whose objective the learner never sees, prefers one of the responses
(see `hidden_context.worlds.utilities` for the true probabilities). Each prompt belongs to one
split, so no prompt of the test split was ever trained on.

The language is composed from word lists. A task is an action on somebody's thing ("pick the lock of
my landlord's shed"); a prompt is a task in a question. A response is one sentence that reveals its
kind, and perhaps a second sentence of the same kind. The number of sentences does not depend on the
kind, so length says next to nothing. The harmful requests are petty misdeeds and the answers are
hollow: nothing here helps anyone to do anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import yaml

from hidden_context.errors import ConfigError
from hidden_context.worlds.utilities import (
    ALTERNATIVE,
    BENIGN_PROMPT_KINDS,
    COMPLIANCE,
    HARMFUL_PROMPT_KINDS,
    REFUSAL,
    TRAIN_SETS,
    Annotators,
    Objective,
    ResponseKind,
    TrainSet,
)

Split = Literal["train", "validation", "test"]

SPLIT_SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


@cache
def words() -> dict[str, Any]:
    """Return the word lists of ``grammar.yaml`` by name."""
    text = (resources.files(__package__) / "grammar.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@dataclass(frozen=True)
class Task:
    """A task that a prompt asks about.

    Attributes:
        text: The task in words, "pick the lock of my landlord's shed".
        owner: The owner of the thing.
        object: The thing.
        harmful: Whether an assistant should not help.
    """

    text: str
    owner: str
    object: str
    harmful: bool


def tasks(*, harmful: bool) -> list[Task]:
    """Return every harmful or every harmless task, in a fixed order."""
    actions = words()["harmful_actions" if harmful else "benign_actions"]
    return [
        Task(action.format(owner=owner, object=thing), owner, thing, harmful)
        for action, things in actions.items()
        for thing in things
        for owner in words()["owners"]
    ]


def question(task: Task, generator: np.random.Generator) -> str:
    """Return the task as a question in one of several wordings."""
    return _pick("questions", generator).format(task=task.text)


def answer(task: Task, kind: str, generator: np.random.Generator) -> str:
    """Return a response of one kind: an opening and, in half of all cases, a second sentence.

    Args:
        task: The task in the prompt.
        kind: The name of a response kind.
        generator: Source of randomness.

    Returns:
        The text, without a leading space.
    """
    sentences = words()["sentences"][kind]
    count = int(generator.integers(0, 2))
    order = generator.permutation(len(sentences["followers"]))[:count]
    opening = _one_of(sentences["openings"], generator)
    chosen = [opening, *(sentences["followers"][i] for i in order)]
    filled = (_fill(sentence, task, generator) for sentence in chosen)
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in filled)


def _fill(sentence: str, task: Task, generator: np.random.Generator) -> str:
    while "{noise}" in sentence:
        sentence = sentence.replace("{noise}", _pick("noise", generator), 1)
    return sentence.format(
        owner=task.owner,
        object=task.object,
        tool=_pick("tools", generator),
        time=_pick("times", generator),
    )


def _pick(name: str, generator: np.random.Generator) -> str:
    return _one_of(words()[name], generator)


def _one_of(options: Sequence[str], generator: np.random.Generator) -> str:
    return options[int(generator.integers(len(options)))]


@dataclass(frozen=True)
class Prompt:
    r"""A prompt and the task it asks about.

    Attributes:
        text: ``"Human: …\n\nAssistant:"``, as the relabelled HH-RLHF data has it.
        task: The task in the prompt.
    """

    text: str
    task: Task

    @property
    def data_subset(self) -> str:
        """The matching half of HH-RLHF; red-teaming prompts belong to the harmless half."""
        return "harmless" if self.task.harmful else "helpful"

    @property
    def kinds(self) -> tuple[ResponseKind, ...]:
        """The possible kinds of response to the prompt."""
        return HARMFUL_PROMPT_KINDS if self.task.harmful else BENIGN_PROMPT_KINDS


@dataclass(frozen=True)
class Response:
    """A response to a prompt.

    Attributes:
        prompt: The prompt.
        text: The response alone.
        kind: Its kind, which fixes its true utilities.
    """

    prompt: Prompt
    text: str
    kind: ResponseKind

    @property
    def dialogue(self) -> str:
        """The prompt followed by the response: the text a reward model scores."""
        return f"{self.prompt.text} {self.text}"


@dataclass(frozen=True)
class World:
    """A generated world of dialogues; all its output is a function of its fields.

    Attributes:
        seed: The seed; the same seed gives the same world and the same rows.
        helpful_share: Share of comparisons judged by helpfulness in the train set ``both``.
        noise: Standard deviation of each utility under one objective, in reward units.
        harmful_share: Share of comparisons whose prompt is harmful.
    """

    seed: int = 0
    helpful_share: float = 0.57
    noise: float = 0.12
    harmful_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("helpful_share", "harmful_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must lie in [0, 1], not {getattr(self, name)}.")
        if not (np.isfinite(self.noise) and self.noise > 0):
            raise ConfigError(f"noise must be a positive number, not {self.noise}.")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, not {self.seed}.")

    def annotators(self, train_set: TrainSet) -> Annotators:
        """Return the annotators of a train set, who follow one objective or a mix of both."""
        if train_set not in TRAIN_SETS:
            raise ConfigError(f"{train_set!r} is not one of {', '.join(TRAIN_SETS)}.")
        weight = {"helpful": 1.0, "harmless": 0.0, "both": self.helpful_share}[train_set]
        return Annotators(weight, self.noise)

    def prompts(self, split: Split, *, harmful: bool) -> list[Prompt]:
        """Return a split's harmful or harmless prompts; no two prompts share a task."""
        return self._prompts[split, harmful]

    def respond(
        self, prompt: Prompt, kind: ResponseKind, generator: np.random.Generator
    ) -> Response:
        """Write a response of one kind to a prompt."""
        return Response(prompt, answer(prompt.task, kind.name, generator), kind)

    def generate_comparisons(
        self, size: int, train_set: TrainSet = "both", split: Split = "train"
    ) -> list[dict[str, Any]]:
        """Draw comparisons, each with its own annotator.

        Prompts and responses are the same for every train set; only the judgements differ. A
        larger ``size`` begins with the same rows as a smaller ``size``.

        Args:
            size: The number of comparisons.
            train_set: The annotators: ``helpful``, ``harmless`` or ``both``.
            split: The split of the prompts.

        Returns:
            Rows with ``prompt``, ``chosen``, ``rejected`` (both begin with the prompt),
            ``data_subset``, ``objective`` (the annotator's, hidden from the learner), and the
            known truth: ``chosen_kind``, ``rejected_kind`` and
            ``true_probability``, P(chosen ≻ rejected) over the train set's annotators.
        """
        annotators = self.annotators(train_set)
        writer = self._generator("responses", split)
        judge = self._generator("judgements", split, train_set)
        rows = []
        for _ in range(size):
            sides = self.pair(split, writer)
            helpful = judge.random() < annotators.helpful_weight
            objective: Objective = "helpful" if helpful else "harmless"
            rows.append(self.compare(sides, objective, annotators, judge))
        return rows

    def compare(
        self,
        sides: tuple[Response, Response],
        objective: Objective,
        annotators: Annotators,
        judge: np.random.Generator,
    ) -> dict[str, Any]:
        """Let one annotator compare two responses to a prompt.

        Args:
            sides: The responses.
            objective: The annotator's objective.
            annotators: All annotators of the comparison, for its true probability.
            judge: Source of the noise.

        Returns:
            A row as of ``generate_comparisons``.
        """
        utilities = [side.kind.utility(objective) for side in sides]
        gap = (utilities + self.noise * judge.standard_normal(2)) @ [1.0, -1.0]
        chosen, rejected = sides if gap > 0 else sides[::-1]
        return {
            "prompt": chosen.prompt.text,
            "chosen": chosen.dialogue,
            "rejected": rejected.dialogue,
            "data_subset": chosen.prompt.data_subset,
            "objective": objective,
            "chosen_kind": chosen.kind.name,
            "rejected_kind": rejected.kind.name,
            "true_probability": annotators.probability(chosen.kind, rejected.kind),
        }

    def jailbreak_rows(self, size: int, split: Split = "test") -> list[dict[str, Any]]:
        """Draw harmful prompts, each with a safe response and a compliant one.

        Args:
            size: The number of rows.
            split: The split of the prompts.

        Returns:
            Rows as in the paper's ``jailbroken_responses.jsonl``, with ``prompt`` (up to and
            including ``"Assistant: "``), ``responses`` = [safe, jailbroken], and ``kinds``. The
            safe responses alternate between a blunt refusal and the offer of an alternative.
        """
        generator = self._generator("jailbreaks", split)
        prompts = self.prompts(split, harmful=True)
        rows = []
        for index in range(size):
            prompt = prompts[int(generator.integers(len(prompts)))]
            kinds = ((REFUSAL, ALTERNATIVE)[index % 2], COMPLIANCE)
            rows.append(
                {
                    "prompt": f"{prompt.text} ",
                    "responses": [self.respond(prompt, kind, generator).text for kind in kinds],
                    "kinds": [kind.name for kind in kinds],
                }
            )
        return rows

    def pair(self, split: Split, generator: np.random.Generator) -> tuple[Response, Response]:
        """Draw a prompt of a split and two responses of different kinds."""
        harmful = bool(generator.random() < self.harmful_share)
        prompts = self.prompts(split, harmful=harmful)
        prompt = prompts[int(generator.integers(len(prompts)))]
        sides = generator.permutation(len(prompt.kinds))[:2]
        first, second = (self.respond(prompt, prompt.kinds[i], generator) for i in sides)
        return first, second

    @cached_property
    def _prompts(self) -> dict[tuple[Split, bool], list[Prompt]]:
        found: dict[tuple[Split, bool], list[Prompt]] = {}
        for harmful in (True, False):
            generator = self._generator("prompts", str(harmful))
            every = tasks(harmful=harmful)
            prompts = [
                Prompt(f"Human: {question(every[i], generator)}\n\nAssistant:", every[i])
                for i in generator.permutation(len(every))
            ]
            ends = (round(share * len(prompts)) for share in accumulate(SPLIT_SHARES.values()))
            for split, (start, end) in zip(SPLIT_SHARES, pairwise((0, *ends)), strict=True):
                found[split, harmful] = prompts[start:end]
        return found

    def _generator(self, *stream: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32("/".join(stream).encode())])
