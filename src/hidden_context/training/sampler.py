"""Which pairs make up which optimiser step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[list[int]]):
    """Deal pairs into optimiser steps of a fixed size, like lengths together.

    Pairs are shuffled; windows of many steps are sorted by length and cut into steps; the steps are
    shuffled. So every pair comes once an epoch with the same weight, while the pairs of a step
    need little padding and the processes have like work. The order depends on seed and epoch
    alone, not on the number of processes: each process takes every n-th pair of a step.

    Args:
        sizes: Tokens of each pair.
        pairs_per_step: Pairs of an optimiser step, over all processes.
        window: Steps whose pairs are sorted together; 0 leaves them in random order.
        seed: Seed of the order.
        world_size: Number of processes.
        rank: This process.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        pairs_per_step: int,
        *,
        window: int = 50,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self.sizes, self.pairs_per_step, self.window = sizes, pairs_per_step, window
        self.seed, self.world_size, self.rank = seed, world_size, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, which has an order of its own."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.sizes) // self.pairs_per_step)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's pairs of each step; a last, smaller step comes last.

        If it has fewer pairs than there are processes, its first ones are dealt again.
        """
        for step in self.steps():
            if len(step) < self.world_size:
                step = (step * self.world_size)[: self.world_size]
            yield step[self.rank :: self.world_size]

    def steps(self) -> list[list[int]]:
        """Return all steps of the epoch, each with its pairs of all processes, longest first."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.sizes), generator=generator).tolist()
        size = self.pairs_per_step
        whole = len(order) - len(order) % size
        steps: list[list[int]] = []
        for start in range(0, whole, max(self.window, 1) * size):
            part = order[start : min(start + max(self.window, 1) * size, whole)]
            if self.window:
                part.sort(key=lambda index: -self.sizes[index])
            steps += [part[place : place + size] for place in range(0, len(part), size)]
        shuffled = torch.randperm(len(steps), generator=generator).tolist()
        last = [order[whole:]] if whole < len(order) else []
        return [steps[number] for number in shuffled] + last


class StepLoader(DataLoader[Any]):
    """A data loader over a ``StepSampler``, which already deals each process its share."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; the Trainer calls this."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)
