"""Text part of the ground-truth benchmark: heads on dialogues whose annotators are known."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from ground_truth.metrics import calibration_error, r_squared_error, ranking_recovery
from ground_truth.text import RANKED_KINDS, Contest, TextWorld
from kit import fit
from torch import Tensor

from hidden_context import risk
from hidden_context.likelihood import Labels
from hidden_context.models import RewardModel
from hidden_context.statistics.agreement import auroc, contested
from hidden_context.synthetic.curves import spearman
from hidden_context.worlds.utilities import Annotators, ResponseKind

_KINDS: Final = ("chosen_kind", "rejected_kind")

# All heads share them; chosen by the test error of mean_and_variance on seeds 0 to 2.
PROBE: Final = {
    "freeze_backbone": True,
    "feature_layer": 1,
    "embed": "apart",
    "max_length": 128,
    "probe_hidden": 64,
    "probe_dropout": 0.6,
    "probe_members": 3,
    "probe_learning_rate": 3e-3,
    "probe_weight_decay": 0.1,
    "probe_batch_size": 256,
    "probe_epochs": 60,
    "probe_patience": 12,
    "objective_learning_rate": 0.05,
    "evaluate_at_end": False,
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A head, how it is trained, and how it ranks answers cautiously.

    Attributes:
        name: Its name in tables.
        head: Type of the head.
        options: Options of ``TrainConfig`` beside the type.
        caution: Risk measure for the worst-served tenth.
    """

    name: str
    head: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    caution: str = "quantile:0.1"


CONTENDERS: Final = (
    Contender("base", "base", caution="mean"),
    Contender("mean_and_variance (paper)", "mean_and_variance", {"likelihood": "logistic"}),
    Contender("categorical (paper)", "categorical", caution="quantile:0.1:bins"),
    Contender("ensemble of base", "base", {"ensemble": "heads"}),
    Contender("mean_and_variance", "mean_and_variance"),
    Contender("mixture", "mixture"),
    Contender("quantile", "quantile"),
    Contender("factor", "factor", caution="relative_quantile:0.1"),
    Contender(
        "factor, annotators known",
        "factor",
        {"annotators": "variational"},
        caution="relative_quantile:0.1",
    ),
)


@dataclasses.dataclass(frozen=True)
class TextSetting:
    """Sizes and training options of one run.

    Attributes:
        backbone: Folder of the backbone.
        num_annotators: How many annotators; each judges twenty pairs.
        test: Test comparisons.
        answers: Harmful prompts with all four answers.
        training: Options of ``TrainConfig`` that all heads share.
    """

    backbone: str
    num_annotators: int = 200
    test: int = 1000
    answers: int = 100
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Drawn:
    """What one world gives: rows to learn from and to be judged on."""

    def __init__(self, contest: Contest, seed: int, setting: TextSetting) -> None:
        self.world = TextWorld(seed, contest)
        self.train = self.world.annotated_comparisons(setting.num_annotators)
        self.test = self.world.test_comparisons(setting.test)
        self.sets = self.world.answer_sets(setting.answers)


def train(contender: Contender, drawn: Drawn, setting: TextSetting, seed: int) -> RewardModel:
    """Train one head on a world's rows."""
    own = {"model_name": setting.backbone, "reward_model_type": contender.head, "seed": seed}
    return fit({**own, **setting.training, **contender.options}, drawn.train).model


def raw_outputs_of(model: RewardModel, drawn: Drawn) -> Tensor:
    """Raw outputs of the test comparisons, of shape ``(2N, K)``, chosen and rejected in turn."""
    texts = [row[side] for row in drawn.test for side in ("chosen", "rejected")]
    return model.raw_outputs(texts).double()


def population_probability(model: RewardModel, raw: Tensor) -> np.ndarray:
    """P(chosen ≻ rejected) over the population: over the annotators known, if there are any."""
    likelihood, labels = model.likelihood, Labels.of_pairs(torch.ones(len(raw) // 2))
    known = likelihood.knows_annotators
    with torch.no_grad():
        log_prob = likelihood.population_log_prob_first if known else likelihood.log_prob_first
        return log_prob(raw, labels).exp().numpy()


def true_difference_variance(who: Annotators, a: ResponseKind, b: ResponseKind) -> float:
    """Variance of u(a) − u(b) over annotators and noise."""
    w, gap = who.helpful_weight, (a.helpful - b.helpful) - (a.harmless - b.harmless)
    return w * (1 - w) * gap**2 + 2 * who.noise**2


def judge(model: RewardModel, contender: Contender, drawn: Drawn) -> dict[str, Any]:
    """Hold a trained model against a world's truth."""
    raw = raw_outputs_of(model, drawn)
    predicted = population_probability(model, raw)
    true = np.array([row["true_probability"] for row in drawn.test])
    prompts = {
        prompt.text: prompt
        for harmful in (True, False)
        for prompt in drawn.world.world.prompts("test", harmful=harmful)
    }
    world = drawn.world
    judged = [  # by whom, and what
        (world.annotators(prompts[row["prompt"]]), *(world.kinds[row[k]] for k in _KINDS))
        for row in drawn.test
    ]
    rewards = model.head.distribution(raw)
    chosen, rejected = rewards[0::2], rewards[1::2]
    parts = chosen.difference_parts(rejected)
    people = [part for name, part in parts.items() if name != "ignorance"]
    variance = torch.stack(people).sum(0).numpy()
    result: dict[str, Any] = {
        "probability_error": float(np.abs(predicted - true).mean()),
        "calibration": calibration_error(predicted, true),
        "brier": float(np.square(predicted - 1).mean()),
        "nll": float(-np.log(np.clip(predicted, 1e-12, 1.0)).mean()),
        "disagreement_auroc": auroc(-np.abs(predicted - 0.5), contested(true)),
        "variance_spearman": spearman(
            variance, np.array([true_difference_variance(*each) for each in judged])
        ),
        "r2_error": _r2_error(judged, rewards),
    }
    total = sum(float(part.mean()) for part in parts.values())
    if len(parts) > 1:
        result |= {f"{name}_share": float(part.mean()) / total for name, part in parts.items()}
    return {**result, **_rankings(model, contender, drawn)}


def _r2_error(judged: Sequence[Any], rewards: Any) -> float:
    utilities = [who.utility(kind) for who, *kinds in judged for kind in kinds]
    mean = [float(utility.mean) for utility in utilities]
    variance = [float(utility.variance) for utility in utilities]
    return r_squared_error(rewards.mean, rewards.variance, mean, variance)


def _rankings(model: RewardModel, contender: Contender, drawn: Drawn) -> dict[str, Any]:
    texts = [text for answers in drawn.sets for text in answers.dialogues]
    raw = model.raw_outputs(texts).double().unflatten(0, (len(drawn.sets), len(RANKED_KINDS)))
    rewards = model.head.distribution(raw)
    if not model.likelihood.knows_annotators:
        caution = risk.parse(contender.caution)(rewards)
    else:  # the relative quantile over the people known, whatever the shape of their opinions
        everyone = model.likelihood.rewards_by_annotator(rewards).relative()
        level = risk.parse(contender.caution).parameter
        caution = everyone.mean.quantile(level, dim=0, interpolation="higher")
    exact, share = ranking_recovery(caution, RANKED_KINDS, drawn.sets[0].ranking)
    return {"ranking_exact": exact, "ranking_share": share}


def compare(
    contenders: Sequence[Contender], contest: Contest, seed: int, setting: TextSetting, say: Any
) -> list[dict[str, Any]]:
    """Train and judge every contender in one world of one seed."""
    results, drawn = [], Drawn(contest, seed, setting)
    for contender in contenders:
        started = time.perf_counter()
        result = judge(train(contender, drawn, setting, seed), contender, drawn)
        seconds = time.perf_counter() - started
        names = {"world": contest, "seed": seed, "head": contender.name}
        results.append({**names, **result, "seconds": seconds})
        say(
            f"{contest} {seed} {contender.name}: error {result['probability_error']:.3f}, "
            f"calibration {result['calibration']:.3f}, AUROC {result['disagreement_auroc']:.3f}, "
            f"ranking {result['ranking_exact']}, {seconds:.0f} s"
        )
    return results
