"""Whether knowing who votes helps to foretell votes on new items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.features import Features
from hidden_context.check.items import NOBODY, Items
from hidden_context.check.predict import FOLDS, design_of
from hidden_context.check.probe import SCALED_FROM, labels_of, turned
from hidden_context.check.results import FEWEST_PEOPLE
from hidden_context.check.results_predicted import KnownVoters
from hidden_context.statistics.checks import Codes, Floats
from hidden_context.statistics.interval import FEWEST, Interval
from hidden_context.statistics.two_way_bootstrap import two_way_interval
from hidden_context.statistics.vote_losses import three_way_losses
from hidden_context.statistics.votes import BETWEEN, EQUAL, Booleans

if TYPE_CHECKING:
    from hidden_context.likelihood import Labels

FEWEST_VOTES: Final = 10
"""Votes to learn from, from which on somebody counts as known."""
TOO_FEW: Final = (
    "Whether it helps to know who votes: fewer than five people have ten votes to learn from, and "
    "votes on other items."
)
_FACTORS: Final = 2
_ITEMS_PER_COLUMN: Final = 20
"""Few texts would be learned by heart, and a person's votes say too little to unlearn them."""
_MOST: Final = 0.5


def know_voters(
    items: Items, features: Features, answers: Mapping[str, Floats], seed: int = 0
) -> KnownVoters | str:
    r"""Measure by how much it lowers the loss to know who votes, on the first fold alone.

    A linear model learns rewards together with what each person cares for (two factors) and habits:
    how readily somebody says ``equal``, and how high somebody rates. With ℓ the three-way loss of a
    vote on items of groups that were not learned from, the gain is

    .. math:: \bar\ell(\text{nobody is known}) - \bar\ell(\text{the voter is known})

    The first is the best of all predictions without names: the forecasts, and those of the models
    here for somebody unknown. Votes are of people with ten votes or more to learn from.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        answers: Foretold answers without names, by the same folds and seed, each ``(I, 3)``.
        seed: Of folds and models.

    Returns:
        What was found; a sentence where too few people are known.
    """
    folds = list(group_folds(np.stack([items.group, items.group], axis=1), FOLDS, seed))
    votes = _Votes.of(items, *folds[0])
    who = items.votes.table.annotator[votes.new]
    if len(np.unique(who)) < FEWEST_PEOPLE:
        return TOO_FEW
    item = items.votes.table.item[votes.new]
    cluster, by = _clusters(items, item)
    if len(np.unique(cluster)) < FEWEST:
        return TOO_FEW
    model = _Model(items, votes, features, seed)
    fits = [model.losses(has_tastes=True)]
    if votes.habits:
        fits.append(model.losses(has_tastes=False))
    nameless = [nobody for _, nobody in fits]
    nameless += [model.losses_of(np.log(each[item])) for each in answers.values()]
    best = min(nameless, key=lambda each: float(each.mean()))
    gains = [two_way_interval(best - known, cluster, who, seed=seed) for known, _ in fits]
    by_habits = gains[1] if votes.habits else None
    known, nobody = fits[0]
    own_gain = two_way_interval(nobody - known, cluster, who, seed=seed)
    return KnownVoters(
        people=len(np.unique(who)),
        votes=len(who),
        loss=float(fits[0][0].mean()),
        nameless_loss=float(best.mean()),
        gain=gains[0],
        by_habits=by_habits,
        interval_by=by,
        folds=len(folds),
        sentence=_sentence(items, gains[0], own_gain, by_habits, len(folds)),
    )


@dataclass(frozen=True, eq=False)
class _Votes:
    """Whole votes by people who are named.

    Attributes:
        items: Items learned from, indices.
        learn: Votes to learn from, indices.
        new: Votes to foretell, indices.
        habits: What people differ in, beside what they care for.
        levels: Number of answers, 3 with ``equal``.
    """

    items: Codes
    learn: Codes
    new: Codes
    habits: tuple[str, ...]
    levels: int

    @classmethod
    def of(cls, items: Items, learned: Booleans, held_out: Booleans) -> _Votes:
        table = items.votes.table
        whole = table.named & (table.answer != BETWEEN)
        learn = np.flatnonzero(whole & learned[table.item])
        new = np.flatnonzero(whole & held_out[table.item])
        often = np.bincount(table.annotator[learn], minlength=table.annotators) >= FEWEST_VOTES
        has_ties = bool((table.answer[whole] == EQUAL).any())
        habits = ("readiness",) * has_ties + ("position",) * (not items.are_pairs)
        return cls(
            np.flatnonzero(learned),
            learn,
            new[often[table.annotator[new]]],
            habits,
            3 if has_ties else 2,
        )


class _Model:
    """What is the same for all fits: features, and votes as comparisons of two of their rows.

    A rated text is compared with one that is the same for all; it stands first, so that a
    leaning towards the first response is one towards high ratings.
    """

    def __init__(self, items: Items, votes: _Votes, features: Features, seed: int) -> None:
        import torch

        self.items, self.votes, self.seed = items, votes, seed
        design = design_of(items, features, votes.items)
        most = SCALED_FROM + max(1, len(votes.items) // _ITEMS_PER_COLUMN)
        design = turned(design[:, :most], seed)
        second = np.where(items.second == NOBODY, len(items.responses), items.second)
        # a row for each group that has the response, by which a penalty is chosen
        number = int(items.group.max()) + 1
        key = np.stack([items.first, second], axis=1) * number + items.group[:, None]
        rows, place = np.unique(key, return_inverse=True)
        self.sides = place.reshape(key.shape)
        self.features = torch.as_tensor(design[rows // number], dtype=torch.float32)
        self.groups = torch.as_tensor(rows % number)

    def losses(self, *, has_tastes: bool) -> tuple[Floats, Floats]:
        """Fit a model, and return losses where the voter is known, and where nobody is."""
        import torch

        from hidden_context.likelihood import LikelihoodOptions, make_likelihood
        from hidden_context.training.config import TrainConfig
        from hidden_context.training.features import FeatureSet
        from hidden_context.training.labels import make_head
        from hidden_context.training.probe import train_probe

        config = TrainConfig(
            freeze_backbone=True,
            reward_model_type="factor" if has_tastes else "base",
            num_factors=_FACTORS,
            probe_members=1,
            seed=self.seed,
        )
        options = LikelihoodOptions(
            levels=self.votes.levels,
            inference="variational",
            taste=has_tastes,
            habits=self.votes.habits,
            names=self.items.votes.names,
            seed=self.seed,
        )
        likelihood = make_likelihood(make_head(config), options)
        data = FeatureSet(self.features, self._labels(self.votes.learn), groups=self.groups)
        with torch.random.fork_rng(devices=[]):
            probe, _ = train_probe(config, likelihood, data)
        labels = self._labels(self.votes.new)
        with torch.inference_mode():
            raw = probe(self.features)
            known, nobody = (
                likelihood.outcome_log_probs(raw, each).double().numpy()
                for each in (labels, labels.judged_by(None))
            )
        return self.losses_of(known), self.losses_of(nobody)

    def losses_of(self, log_probs: Floats) -> Floats:
        """Losses of the votes to foretell in nats."""
        return three_way_losses(log_probs, self.items.votes.table.share[self.votes.new])

    def _labels(self, votes: Codes) -> Labels:
        table = self.items.votes.table
        first, second = self.sides[table.item[votes]].T
        return labels_of(
            first,
            second,
            table.share[votes],
            len(self.features),
            annotator=table.annotator[votes],
        )


def _clusters(items: Items, item: Codes) -> tuple[Codes, Literal["group", "prompt", "item"]]:
    """What intervals resample beside people: groups, where there are enough."""
    if len(np.unique(items.group[item])) >= FEWEST:
        return items.group[item], "group"
    if len(np.unique(items.prompt[item])) >= FEWEST:
        return items.prompt[item], "prompt"
    return item, "item"


def _sentence(
    items: Items, gain: Interval, own_gain: Interval, by_habits: Interval | None, folds: int
) -> str:
    where = f"measured on one fold of {folds}"
    if not gain.low > 0 and own_gain.low > 0:
        return (
            "It stays open whether knowing who votes helps: it helps a simple model, which even so "
            f"foretells votes no better than the best one without names ({where})."
        )
    if not gain.low > 0:
        return f"Knowing who votes adds nothing that held-out votes show ({where})."
    part = ""
    if by_habits is not None and by_habits.low > 0:
        habit = "how readily each says equal" if items.are_pairs else "how each uses the scale"
        part = f"; most by {habit}" if by_habits.estimate >= _MOST * gain.estimate else ""
    return (
        f"Knowing who votes lowers the loss by {gain.estimate:.3f} nats per vote "
        f"({100 * gain.level:.0f} % {gain.low:.3f} to {gain.high:.3f}; {where}){part}."
    )
