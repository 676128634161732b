"""The linear parts of a probe's members."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hidden_context.likelihood import Likelihood
from hidden_context.models.frozen import Probe
from hidden_context.training.config import TrainConfig
from hidden_context.training.features import FeatureSet
from hidden_context.training.linear_people import fit_with_annotators
from hidden_context.training.linear_start import Beside, LinearStart


class MemberStarts:
    """The members' linear parts: each learns from what its member learns from, then from all."""

    def __init__(self, start: LinearStart) -> None:
        self.fitted = start
        self.slopes, self.starts = list[Tensor](), list[Tensor]()

    @classmethod
    def of(cls, config: TrainConfig, probe: Probe, train: FeatureSet) -> MemberStarts | None:
        """Fit it; None where it is not wanted, or there is more to learn from than comparisons."""
        if not config.probe_linear or len(train.labels.ratings) or train.linker is not None:
            return None
        pairs = train.voted_pairs(train.features, train.labels.weight)
        return None if pairs is None else cls(LinearStart(probe.head.member, pairs))

    def beside(
        self, network: nn.Module, train: FeatureSet, judged: Tensor, drawn: Tensor | None
    ) -> nn.Module:
        """Put a member's network beside the linear part that its own training pairs give."""
        weight = train.labels.weight
        if drawn is not None:
            weight = weight * drawn[train.labels.example].to(weight)
        own, every = (train.voted_pairs(train.features, weight, to) for to in (judged, None))
        self.slopes.append(self.fitted.slope(every if drawn is not None else None))
        self.starts.append(self.fitted.start)
        assert isinstance(network, nn.Sequential)
        return Beside(network, self.fitted.slope(own), self.fitted.start)

    def with_annotators(
        self,
        config: TrainConfig,
        likelihood: Likelihood,
        train: FeatureSet,
        drawn: Tensor | None,
    ) -> list[dict[str, float]]:
        """Fit a member's linear part together with its annotators."""
        slope, start, history = fit_with_annotators(config, likelihood, train, self.fitted, drawn)
        self.slopes.append(slope)
        self.starts.append(start)
        return history

    def give(self, probe: Probe) -> None:
        """Give the probe what all training pairs say: one for all, or one for each member."""
        count = probe.head.num_members or 1
        probe.slope, probe.start = torch.cat(self.slopes[:count]), torch.cat(self.starts[:count])
