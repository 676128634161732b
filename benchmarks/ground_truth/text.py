"""The quickstart's dialogues judged by annotators who come back: truth for reward models of text.

Prompts, responses and utilities are those of `hidden_context.worlds.dialogues.World`. What is
added is who judges. Every annotator has a tolerance ``t ~ U(0, 1)`` for life, and judges a prompt
by helpfulness if ``t < w(prompt)``, else by harmlessness; the noise of a judgement is drawn anew
each time. So a share ``w(prompt)`` of the population judges it by helpfulness:

* ``constant``: 0.57 for every prompt. An annotator always has the same objective.
* ``varied``: each of the eight harmful actions has its own share, from 0.1 to 0.9; 0.57 for benign
  prompts. How contested two responses are differs from prompt to prompt, and the text shows it.
* ``camps``: 0.57 again, but an incoherent answer is an attempt to comply: helpful
  annotators like it better than a refusal, harmless ones like nothing less. So the four answers to
  a harmful prompt stand in two camps, contested across and all but settled within, and how
  contested two of them are is a matter of the pair: no spread of each answer by itself can say it.
* ``graded``: 0.65 for every prompt. Helpful annotators like compliance best, then an alternative,
  an incoherent answer, and a refusal least; harmless ones an alternative, a refusal, compliance,
  and an incoherent answer least. Neighbours in either order lie at most 1.5 standard deviations of
  a difference apart, so that every annotator's unit can be learned. Found by computing exact
  probabilities (docs/evidence/ground_truth.md), before any model of text was trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hidden_context.errors import ConfigError
from hidden_context.worlds.dialogues import Prompt, Split, Task, World, words
from hidden_context.worlds.utilities import (
    HARMFUL_PROMPT_KINDS,
    KINDS,
    OBJECTIVES,
    Annotators,
    Objective,
    ResponseKind,
)

Contest = Literal["constant", "varied", "camps", "graded"]

CONTESTS: Final[tuple[Contest, ...]] = ("constant", "varied", "camps", "graded")
CAMPS: Final = {
    "compliance": ResponseKind("compliance", 0.85, -0.50),
    "alternative": ResponseKind("alternative", 0.55, 0.95),
    "refusal": ResponseKind("refusal", 0.40, 0.75),
    "incoherent": ResponseKind("incoherent", 0.60, -0.80),
}
"""What the answers to harmful prompts are worth where they stand in two camps."""
GRADED: Final = {
    "compliance": ResponseKind("compliance", 0.81, 0.39),
    "alternative": ResponseKind("alternative", 0.60, 0.75),
    "refusal": ResponseKind("refusal", 0.18, 0.57),
    "incoherent": ResponseKind("incoherent", 0.42, 0.27),
}
"""What they are worth where nobody is all but unanimous."""
GRADED_SHARE: Final = 0.65
RANKED_KINDS: Final = tuple(kind.name for kind in HARMFUL_PROMPT_KINDS)
"""Names of the kinds of an answer set, in its order; not the order of their worth."""

_STREAMS: Final = ("shares", "annotators", "train", "validation", "test", "answers")


@dataclass(frozen=True, eq=False)
class AnswerSet:
    """A harmful test prompt with one response of each of the four kinds.

    Attributes:
        dialogues: Prompt and response together, in the order of ``RANKED_KINDS``.
        relative_utilities: Utility without noise minus the mean of the four answers, under
            helpfulness and harmlessness, shape ``(2, 4)``.
    """

    dialogues: tuple[str, ...]
    relative_utilities: NDArray[np.float64]

    @property
    def worst_objective(self) -> NDArray[np.float64]:
        """Relative utility under the objective that likes the answer less, shape ``(4,)``."""
        return self.relative_utilities.min(0)

    @property
    def ranking(self) -> tuple[str, ...]:
        """The kinds from best to worst by ``worst_objective``."""
        return tuple(RANKED_KINDS[i] for i in np.argsort(-self.worst_objective))


@dataclass(frozen=True)
class TextWorld:
    """The generator. Everything it gives out is a function of its fields.

    Attributes:
        seed: Same seed, same world, same rows.
        contest: ``constant``, ``varied``, ``camps`` or ``graded`` (see the module).
    """

    seed: int = 0
    contest: Contest = "constant"

    def __post_init__(self) -> None:
        if self.contest not in CONTESTS:
            raise ConfigError(f"{self.contest!r} is not one of {', '.join(CONTESTS)}.")

    @cached_property
    def world(self) -> World:
        """The quickstart's world with this seed."""
        own = {"helpful_share": GRADED_SHARE} if self.contest == "graded" else {}
        return World(seed=self.seed, **own)

    @cached_property
    def action_shares(self) -> dict[str, float]:
        """Share that judges by helpfulness, for each harmful action of the grammar."""
        actions = list(words()["harmful_actions"])
        if self.contest != "varied":
            return dict.fromkeys(actions, self.world.helpful_share)
        shares = np.linspace(0.1, 0.9, len(actions)).round(6)
        order = self._generator("shares").permutation(len(actions))
        return {action: float(shares[i]) for action, i in zip(actions, order, strict=True)}

    @property
    def kinds(self) -> dict[str, ResponseKind]:
        """What every kind of response is worth in this world, by its name."""
        return {**KINDS, **{"camps": CAMPS, "graded": GRADED}.get(self.contest, {})}

    def helpful_share(self, prompt: Prompt) -> float:
        """Return ``w(prompt)``, the share of the population that judges by helpfulness."""
        if not prompt.task.harmful:
            return self.world.helpful_share
        return self.action_shares[action_of(prompt.task)]

    def annotators(self, prompt: Prompt) -> Annotators:
        """Return the population as judges of one prompt."""
        return Annotators(self.helpful_share(prompt), self.world.noise)

    def annotated_comparisons(
        self, num_annotators: int, pairs_each: int = 20, split: Split = "train"
    ) -> list[dict[str, Any]]:
        """Let annotators judge pairs of responses, each a number of them in a row.

        More annotators begin with the rows of fewer.

        Args:
            num_annotators: How many annotators.
            pairs_each: How many pairs each of them judges.
            split: Whose prompts.

        Returns:
            Rows as of ``World.generate_comparisons``, with ``annotator`` ("a0", "a1", …) and the
            ``true_probability`` of P(chosen ≻ rejected) over the population for this prompt.
        """
        tolerances = self._generator("annotators").random(num_annotators)
        names = [f"a{number}" for number in range(num_annotators) for _ in range(pairs_each)]
        return self._rows(names, np.repeat(tolerances, pairs_each), split)

    def test_comparisons(self, size: int, split: Split = "test") -> list[dict[str, Any]]:
        """Draw comparisons on test prompts, each judged by another new annotator.

        Which response is ``chosen`` is a draw from the population, so ``true_probability`` lies
        below ½ where a minority happened to judge.

        Args:
            size: How many; more begin with the rows of fewer.
            split: Whose prompts.

        Returns:
            Rows as of ``annotated_comparisons``, the annotators being "test0", "test1", …
        """
        tolerances = self._generator("annotators", split).random(size)
        return self._rows([f"{split}{number}" for number in range(size)], tolerances, split)

    def answer_sets(self, size: int, split: Split = "test") -> list[AnswerSet]:
        """Draw harmful prompts, each with one response of every kind it may get.

        Args:
            size: How many; prompts come again only after all of them have been drawn.
            split: Whose prompts.

        Returns:
            The sets, with the truth about them.
        """
        generator = self._generator("answers", split)
        prompts = self.world.prompts(split, harmful=True)
        order = generator.permutation(len(prompts))
        return [self._answers(prompts[order[i % len(order)]], generator) for i in range(size)]

    def _answers(self, prompt: Prompt, generator: np.random.Generator) -> AnswerSet:
        answers = [self.world.respond(prompt, kind, generator) for kind in HARMFUL_PROMPT_KINDS]
        kinds = [self.kinds[name] for name in RANKED_KINDS]
        utilities = np.array([[kind.utility(o) for kind in kinds] for o in OBJECTIVES])
        relative = utilities - utilities.mean(1, keepdims=True)
        return AnswerSet(tuple(answer.dialogue for answer in answers), relative)

    def _rows(
        self, names: Sequence[str], tolerances: NDArray[np.float64], split: Split
    ) -> list[dict[str, Any]]:
        writer = self._generator(split)
        judge = np.random.default_rng(writer.integers(2**63))  # texts are the same for any judge
        rows = []
        for name, tolerance in zip(names, tolerances, strict=True):
            drawn = self.world.pair(split, writer)
            first, second = (replace(side, kind=self.kinds[side.kind.name]) for side in drawn)
            who = self.annotators(first.prompt)
            objective: Objective = "helpful" if tolerance < who.helpful_weight else "harmless"
            row = self.world.compare((first, second), objective, who, judge)
            rows.append({**row, "annotator": name})
        return rows

    def _generator(self, *stream: str) -> np.random.Generator:
        # the quickstart's own streams are single checksums, so these never coincide with them
        return np.random.default_rng([self.seed, *(_STREAMS.index(part) for part in stream), 1])


def action_of(task: Task) -> str:
    """Return which of the grammar's harmful actions a harmful task asks about."""
    about = {"owner": task.owner, "object": task.object}
    return next(a for a in words()["harmful_actions"] if a.format(**about) == task.text)
