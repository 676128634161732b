"""The examples of each optimiser step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch


class StepSampler:
    """Deal examples into optimiser steps of a fixed number of votes, like lengths together.

    Examples are shuffled; windows of many steps are sorted by length and cut into steps; the steps
    are shuffled. So every example comes once an epoch, while the examples of a step need little
    padding and the processes have like work. An example is never divided: a step ends with the one
    that fills it. The order depends on seed and epoch alone, not on the number of processes: each
    process takes every n-th example of a step.

    Args:
        sizes: Tokens of each example.
        votes_per_step: Votes of an optimiser step, over all processes.
        votes: Votes of each example, > 0; None for one each.
        window: Steps whose examples are sorted together; 0 leaves them in random order.
        seed: Seed of the order.
        world_size: Number of processes.
        rank: This process.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        votes_per_step: int,
        votes: Sequence[float] | None = None,
        *,
        window: int = 50,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self.sizes, self.votes_per_step, self.window = sizes, votes_per_step, window
        # an example of more votes than a step has is a step, and takes none from those after it
        self.votes = (
            [1.0] * len(sizes) if votes is None else [min(v, votes_per_step) for v in votes]
        )
        self.seed, self.world_size, self.rank = seed, world_size, rank
        self.epoch = 0
        # a rounding more of votes must not make a step more
        wanted = math.ceil(sum(self.votes) / votes_per_step - 1e-6)
        self._count = min(max(wanted, 1), len(sizes))

    def __len__(self) -> int:
        """Number of steps, the same in every epoch."""
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's examples of each step of the epoch; a smaller step comes last.

        If it has fewer examples than there are processes, its first ones are dealt again.
        """
        for step in self.steps():
            if len(step) < self.world_size:
                step = (step * self.world_size)[: self.world_size]
            yield step[self.rank :: self.world_size]

    def steps(self) -> list[list[int]]:
        """All steps of the epoch, each with its examples of all processes, longest first."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.sizes), generator=generator).tolist()
        groups = self._cut(order, self._count)
        last = [groups.pop()] if self._is_partial(groups[-1]) else []
        steps: list[list[int]] = []
        for start in range(0, len(groups), max(self.window, 1)):
            window = groups[start : start + max(self.window, 1)]
            part = [index for group in window for index in group]
            if self.window:
                part.sort(key=lambda index: -self.sizes[index])
            steps += self._cut(part, len(window))
        shuffled = torch.randperm(len(steps), generator=generator).tolist()
        return [steps[number] for number in shuffled] + last

    def _is_partial(self, group: Sequence[int]) -> bool:
        return sum(self.votes[index] for index in group) < self.votes_per_step - 1e-6

    def _cut(self, order: Sequence[int], count: int) -> list[list[int]]:
        """Cut an order into non-empty groups, at multiples of a step's votes."""
        groups: list[list[int]] = []
        seen, place = 0.0, 0
        for number in range(count):
            start, left = place, count - number - 1
            end_at = (number + 1) * self.votes_per_step - 1e-6
            while place < len(order) - left and (place == start or seen < end_at or not left):
                seen += self.votes[order[place]]
                place += 1
            groups.append(list(order[start:place]))
        return groups
