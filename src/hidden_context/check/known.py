"""Whether knowing who votes helps to predict votes on new items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from hidden_context.baselines.pairs import group_folds
from hidden_context.check.features import Features
from hidden_context.check.findings import KnownVoters
from hidden_context.check.items import Items
from hidden_context.check.predict import FOLDS, SCALED_FROM, design_of, labels_of, turned
from hidden_context.data.votes.people import FEWEST_PEOPLE
from hidden_context.statistics.checks import Booleans, Codes, Floats
from hidden_context.statistics.interval import FEWEST, Interval
from hidden_context.statistics.means import two_way_interval
from hidden_context.statistics.votes.losses import three_way_losses
from hidden_context.statistics.votes.table import BETWEEN, EQUAL

if TYPE_CHECKING:
    from hidden_context.likelihood import Labels

FEWEST_VOTES: Final = 10
"""Votes to learn from, from which on somebody counts as known."""
TOO_FEW: Final = (
    "Whether knowing who votes helps is unknown: fewer than five people have ten votes to learn "
    "from, and votes on other items."
)
_ITEMS_PER_COLUMN: Final = 20
"""Few texts would be learned by heart, and a person's votes say too little to unlearn them."""


def know_voters(
    items: Items, features: Features, answers: Mapping[str, Floats], seed: int = 0
) -> KnownVoters | None:
    r"""Measure how much knowing who votes lowers the loss, on the first fold.

    A linear model learns rewards together with what each person cares for (two factors) and habits:
    how readily somebody says ``equal``, and how high somebody rates. With ℓ the three-way loss of a
    vote on items of groups that were not learned from, the gain is

    .. math:: \bar\ell(\text{nobody is known}) - \bar\ell(\text{the voter is known})

    The first is the best of all predictions without names: the forecasts, and what the models
    here predict for somebody unknown. Votes are of people with ten votes or more to learn from.

    Args:
        items: The items.
        features: Learns and computes the features of responses.
        answers: Predicted answers without names, by the same folds and seed, each ``(I, 3)``.
        seed: Seed of folds and models.

    Returns:
        What was found; None where too few people are known.
    """
    folds = list(group_folds(np.stack([items.group, items.group], axis=1), FOLDS, seed))
    model = _Model(items, *folds[0], seed)
    who, item = items.votes.table.annotator[model.new], items.votes.table.item[model.new]
    cluster, by = _clusters(items, item)
    if len(np.unique(who)) < FEWEST_PEOPLE or len(np.unique(cluster)) < FEWEST:
        return None
    model.read(features)
    fits = [model.losses(has_tastes=True)]
    if model.habits:
        fits.append(model.losses(has_tastes=False))
    nameless = [nobody for _, nobody in fits]
    nameless += [model.losses_of(np.log(each[item])) for each in answers.values()]
    best = min(nameless, key=lambda each: float(each.mean()))
    gains = [two_way_interval(best - known, cluster, who, seed=seed) for known, _ in fits]
    by_habits = gains[1] if model.habits else None
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


class _Model:
    """The data that all fits share: whole votes by named people, and features.

    Votes are comparisons of two rows of features. A rated text is compared with one that is the
    same for all; it stands first, so that a leaning towards the first response is one towards high
    ratings.

    Attributes:
        learn: Votes to learn from, indices.
        new: Votes to predict, indices.
        habits: What people differ in, beside what they care for.
        levels: Number of answers, 3 with ``equal``.
    """

    def __init__(self, items: Items, learned: Booleans, held_out: Booleans, seed: int) -> None:
        self.items, self.learned, self.seed = items, np.flatnonzero(learned), seed
        table = items.votes.table
        whole = table.named & (table.answer != BETWEEN)
        self.learn = np.flatnonzero(whole & learned[table.item])
        new = np.flatnonzero(whole & held_out[table.item])
        often = np.bincount(table.annotator[self.learn], minlength=table.annotators) >= FEWEST_VOTES
        self.new = new[often[table.annotator[new]]]
        has_ties = bool((table.answer[whole] == EQUAL).any())
        self.habits = ("readiness",) * has_ties + ("position",) * (not items.are_pairs)
        self.levels = 3 if has_ties else 2

    def read(self, features: Features) -> None:
        """Compute the features of both sides, a row for each group that has a response.

        By the groups a penalty is chosen.
        """
        import torch

        items = self.items
        design = design_of(items, features, self.learned)
        most = SCALED_FROM + max(1, len(self.learned) // _ITEMS_PER_COLUMN)
        design = turned(design[:, :most], self.seed)
        number = int(items.group.max()) + 1
        key = np.stack(items.sides, axis=1) * number + items.group[:, None]
        rows, place = np.unique(key, return_inverse=True)
        self.sides = place.reshape(key.shape)
        self.features = torch.as_tensor(design[rows // number], dtype=torch.float32)
        self.groups = torch.as_tensor(rows % number)

    def losses(self, *, has_tastes: bool) -> tuple[Floats, Floats]:
        """Fit a model, and return losses where the voter is known, and where nobody is."""
        import torch

        from hidden_context.likelihood import LikelihoodOptions, make_likelihood
        from hidden_context.training.config import TrainConfig
        from hidden_context.training.frozen.features import FeatureSet
        from hidden_context.training.frozen.probe import train_probe
        from hidden_context.training.labels import make_head

        config = TrainConfig(
            freeze_backbone=True,
            reward_model_type="factor" if has_tastes else "base",
            num_factors=2,
            probe_members=1,
            seed=self.seed,
        )
        options = LikelihoodOptions(
            levels=self.levels,
            inference="variational",
            taste=has_tastes,
            habits=self.habits,
            names=self.items.votes.names,
            seed=self.seed,
        )
        likelihood = make_likelihood(make_head(config), options)
        data = FeatureSet(self.features, self._labels(self.learn), groups=self.groups)
        with torch.random.fork_rng(devices=[]):
            probe, _ = train_probe(config, likelihood, data)
        labels = self._labels(self.new)
        with torch.inference_mode():
            raw = probe(self.features)
            known, nobody = (
                likelihood.outcome_log_probs(raw, each).double().numpy()
                for each in (labels, labels.judged_by(None))
            )
        return self.losses_of(known), self.losses_of(nobody)

    def losses_of(self, log_probs: Floats) -> Floats:
        """Losses of the votes to predict in nats."""
        return three_way_losses(log_probs, self.items.votes.table.share[self.new])

    def _labels(self, votes: Codes) -> Labels:
        table = self.items.votes.table
        first, second = self.sides[table.item[votes]].T
        share, who = table.share[votes], table.annotator[votes]
        return labels_of(first, second, share, len(self.features), annotator=who)


def _clusters(items: Items, item: Codes) -> tuple[Codes, Literal["group", "prompt", "item"]]:
    """Choose what intervals resample beside people: groups, if there are enough."""
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
            "Whether knowing who votes helps stays open: it helps a simple model, but that model "
            f"predicts votes no better than the best model without names ({where})."
        )
    measured = (
        f"{gain.estimate:.3f} nats per vote "
        f"({100 * gain.level:.0f} % {gain.low:.3f} to {gain.high:.3f}; {where})"
    )
    if not gain.low > 0:
        return f"Held-out votes do not show that knowing who votes helps: the saving is {measured}."
    part = ""
    if by_habits is not None and by_habits.low > 0:
        habit = "how readily each says equal" if items.are_pairs else "how each uses the scale"
        part = f"; most by {habit}" if by_habits.estimate >= 0.5 * gain.estimate else ""
    return f"Knowing who votes lowers the loss by {measured}{part}."
