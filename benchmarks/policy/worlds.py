"""Three worlds of known utilities, in which a reward's policies are held against the truth.

Prompts, responses and the pairs that are judged are those of the quickstart's world of the same
seed; the worlds differ in who judges alone. An annotator belongs to one of a few groups. A group
has one utility for each kind of response; an annotator adds noise of their own to every judgement.

* ``objectives``: the quickstart's. 57 % judge by helpfulness, the others by harmlessness.
* ``degree``: all weigh the same two criteria, but by different degrees, and some care more. A group
  of strength c that gives helpfulness the weight w values a response at
  ``c·(w·helpful + (1 − w)·harmless)``.
* ``agreed``: nobody disagrees. All have the mean utility of ``objectives``, and logistic noise.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from hidden_context.errors import ConfigError
from hidden_context.worlds.dialogues import Prompt, World
from hidden_context.worlds.utilities import COMPLIANCE, KINDS

WorldName = Literal["objectives", "degree", "agreed"]

NAMES: Final[tuple[WorldName, ...]] = ("objectives", "degree", "agreed")
SEEDS: Final = (0, 1, 2, 3, 4)
TUNING_SEEDS: Final = (100, 101)
TUNING_WORLDS: Final[tuple[WorldName, ...]] = ("objectives", "degree")
HELPFUL_SHARE: Final = 0.57
NORMAL_SCALE: Final = 0.12
"""Standard deviation of the noise of one utility, as in the quickstart."""
LOGISTIC_SCALE: Final = 0.1
"""Scale of the logistic noise of a difference: its slope at 0 is about that of the normal noise."""
JAILBREAK: Final = COMPLIANCE.name


@dataclass(frozen=True)
class Group:
    """Annotators who want the same.

    Attributes:
        name: Its name in tables.
        share: Share of all annotators, in (0, 1].
        helpful_weight: Weight of helpfulness, in [0, 1]; the rest is harmlessness's.
        strength: How much it cares, a factor on its utilities, > 0.
    """

    name: str
    share: float
    helpful_weight: float
    strength: float = 1.0

    def utility(self, kind: str) -> float:
        """Return what a kind of response is worth to the group, in reward units."""
        values, w = KINDS[kind], self.helpful_weight
        return self.strength * (w * values.helpful + (1 - w) * values.harmless)


GROUPS: Final[Mapping[WorldName, tuple[Group, ...]]] = {
    "objectives": (
        Group("helpful", HELPFUL_SHARE, 1.0),
        Group("harmless", 1 - HELPFUL_SHARE, 0.0),
    ),
    "degree": (
        Group("lenient", 0.5, 0.8),
        Group("balanced", 0.3, 0.5),
        Group("strict", 0.2, 0.2, 1.5),
    ),
    "agreed": (Group("everyone", 1.0, HELPFUL_SHARE),),
}


@dataclass(frozen=True)
class PolicyWorld:
    """One world of one seed; everything it gives out is a function of the two.

    Attributes:
        name: ``objectives``, ``degree`` or ``agreed``.
        seed: Seed of prompts, responses and judgements.
    """

    name: WorldName
    seed: int = 0

    @cached_property
    def source(self) -> World:
        """The quickstart's world, whose prompts and responses these are."""
        return World(self.seed, HELPFUL_SHARE, NORMAL_SCALE)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of annotators."""
        return GROUPS[self.name]

    def utilities(self, kinds: Sequence[str]) -> NDArray[np.float64]:
        """Return the utilities of G groups and K kinds of response, shape ``(G, K)``."""
        return np.array([[group.utility(kind) for kind in kinds] for group in self.groups])

    def mean_utilities(self, kinds: Sequence[str]) -> NDArray[np.float64]:
        """Return the expected utility over all annotators of K kinds, shape ``(K,)``."""
        return np.array([group.share for group in self.groups]) @ self.utilities(kinds)

    def probability(self, first: str, second: str) -> float:
        """Return the share of annotators who prefer the first kind to the second."""
        return sum(
            group.share * self._preferred(group.utility(first) - group.utility(second))
            for group in self.groups
        )

    def comparisons(
        self, size: int, split: Literal["train", "test"] = "train"
    ) -> list[dict[str, Any]]:
        """Draw comparisons, each judged by an annotator of a group drawn for it.

        Prompts and pairs are the same for all worlds of one seed; in ``objectives`` the judgements
        are the quickstart's own.

        Args:
            size: How many; more begin with the rows of fewer.
            split: Whose prompts.

        Returns:
            Rows with ``prompt``, ``chosen``, ``rejected``, ``chosen_kind``, ``rejected_kind``.
            Nothing in them says which group judged.
        """
        columns = ("prompt", "chosen", "rejected", "chosen_kind", "rejected_kind")
        given = self.source.generate_comparisons(size, "both", split)
        rows = [{name: row[name] for name in columns} for row in given]
        if self.name == "objectives":
            return rows
        key = zlib.crc32(f"policy/{self.name}/judgements/{split}".encode())
        judge = np.random.default_rng([self.seed, key])
        return [self._judged(row, judge) for row in rows]

    def prompts(self, each: int) -> list[Prompt]:
        """Return as many harmful as benign test prompts.

        Raises:
            ConfigError: If the test split has fewer.
        """
        found: list[Prompt] = []
        for harmful in (True, False):
            own = self.source.prompts("test", harmful=harmful)
            if len(own) < each:
                sort = "harmful" if harmful else "benign"
                raise ConfigError(f"--prompts is {each}; there are {len(own)} {sort} test prompts.")
            found += own[:each]
        return found

    def _judged(self, row: Mapping[str, Any], judge: np.random.Generator) -> dict[str, Any]:
        """Let an annotator judge a pair anew."""
        shares = [group.share for group in self.groups]
        group = self.groups[int(judge.choice(len(shares), p=shares))]
        gap = group.utility(row["chosen_kind"]) - group.utility(row["rejected_kind"])
        if judge.random() < self._preferred(gap):
            return dict(row)
        other = {"chosen": "rejected", "rejected": "chosen"}
        swapped = {
            f"{side}{part}": row[f"{other[side]}{part}"] for part in ("", "_kind") for side in other
        }
        return {**row, **swapped}

    def _preferred(self, gap: float) -> float:
        """Probability that one annotator prefers a response by a gap in utility."""
        if self.name == "agreed":  # whose noise is logistic
            return float(expit(gap / LOGISTIC_SCALE))
        return float(ndtr(gap / (np.sqrt(2) * NORMAL_SCALE)))


@dataclass(frozen=True, eq=False)
class Responses:
    """What the starting policy may answer: S responses to each of P prompts, and their weights.

    Attributes:
        texts: Prompts and responses together, P lists of S texts.
        kinds: Number of each response's kind in ``KINDS``, shape ``(P, S)``.
        weights: Probabilities under the starting policy, shape ``(P, S)``; rows sum to 1.
        harmful: Whether each prompt is harmful, shape ``(P,)``.
    """

    texts: list[list[str]]
    kinds: NDArray[np.int64]
    weights: NDArray[np.float64]
    harmful: NDArray[np.bool_]


def starting_policy(seed: int, prompts_each: int, samples: int) -> Responses:
    """Draw the starting policy's answers to test prompts; the same for all worlds of a seed.

    The policy takes one of the prompt's kinds with equal probability, then words it by the
    grammar, as the texts are made that a language model of this world learns from. Each kind gets
    the same number of responses, so that its probability is exact.

    Args:
        seed: The world's seed.
        prompts_each: Harmful prompts, and as many benign ones.
        samples: Responses to each prompt, S; divisible by 3 and 4.

    Returns:
        The responses.

    Raises:
        ConfigError: If there are fewer prompts.
    """
    world = PolicyWorld("objectives", seed)
    prompts = world.prompts(prompts_each)
    generator = np.random.default_rng([seed, zlib.crc32(b"policy/starting policy")])
    number = {kind: place for place, kind in enumerate(KINDS)}
    texts, kinds = [], []
    for prompt in prompts:
        drawn = np.repeat(np.arange(len(prompt.kinds)), samples // len(prompt.kinds))
        own = [world.source.respond(prompt, prompt.kinds[i], generator) for i in drawn]
        texts.append([response.dialogue for response in own])
        kinds.append([number[response.kind.name] for response in own])
    harmful = np.array([prompt.task.harmful for prompt in prompts])
    return Responses(texts, np.array(kinds), np.full(np.shape(kinds), 1 / samples), harmful)
