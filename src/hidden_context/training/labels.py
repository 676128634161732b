"""Head, likelihood and labels of a training, made from its configuration and examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev
from typing import Final

import torch
from torch import Tensor

from hidden_context import heads
from hidden_context.data.annotators import read_annotators
from hidden_context.data.example import Comparison, Example, Ranking, Rating
from hidden_context.data.labels import annotator_names, annotator_of, labels_of
from hidden_context.errors import ConfigError, DataError
from hidden_context.heads import Head
from hidden_context.likelihood import Labels, Likelihood, LikelihoodOptions, make_likelihood
from hidden_context.likelihood.covariates import CovariateCoding
from hidden_context.likelihood.habits import HABITS
from hidden_context.training.config import TrainConfig
from hidden_context.training.links import Linker

_LEVELS: Final = {"preference": 2, "ties": 3, "five_levels": 5, "seven_levels": 7}
_MOST_GRADES: Final = 20


def make_head(config: TrainConfig) -> Head:
    """Make the head that a configuration names, with the options that this head takes.

    The head is an ensemble if the configuration asks for one, or if a probe has several members
    whose raw outputs cannot be averaged.

    Raises:
        ConfigError: If the head, or one of its options, is unknown or cannot work.
    """
    kind = config.reward_model_type
    options = heads.options_for(kind, dataclasses.asdict(config))
    head = heads.make(kind, **{**options, **config.head_options})
    members = config.probe_members if config.freeze_backbone else config.ensemble_members
    if config.ensemble == "heads":
        return heads.EnsembleHead(head, members, config.ensemble_prior_scale)
    if config.freeze_backbone and members > 1 and not head.can_average and not head.num_members:
        return heads.EnsembleHead(head, members, prior_scale=0.0)
    return head


def make_training_likelihood(
    config: TrainConfig, head: Head, examples: Sequence[Example]
) -> Likelihood:
    """Make the untrained likelihood of a configuration.

    Args:
        config: The options.
        head: The head.
        examples: Training examples, which say who the annotators are and what was rated.

    Returns:
        The likelihood, on the CPU.

    Raises:
        ConfigError: If head and options do not fit together.
        DataError: If annotators are to be learned and none is named, or the ratings do not fit.
    """
    options = LikelihoodOptions(
        levels=_LEVELS[config.outcomes],
        margin_scale=config.margin_scale,
        column=config.annotator_column,
        seed=config.seed,
    )
    design = None
    if config.annotators != "ignore":
        options = _with_annotators(config, head, options, examples)
        options, design = _with_covariates(config, options)
    return make_likelihood(head, _with_ratings(config, options, examples), design)


def _with_annotators(
    config: TrainConfig, head: Head, options: LikelihoodOptions, examples: Sequence[Example]
) -> LikelihoodOptions:
    """Add to the options who the annotators are and what differs between them."""
    effects = config.annotator_effects
    if not effects:
        effects = ["taste"] if head.num_factors else []
        effects += ["readiness"] if options.levels > 2 else []
    strange = [effect for effect in effects if effect not in ("taste", *HABITS)]
    if strange:
        raise ConfigError(
            f"--annotator_effects {strange[0]} is not known; choose among taste, "
            f"{', '.join(HABITS)}."
        )
    if not effects or ("taste" in effects and not head.num_factors):
        raise ConfigError(
            f"--annotators {config.annotators} learns tastes with --reward_model_type factor and "
            f"--num_factors of at least 1, not with a {head.member.type} head; with other heads "
            "name --annotator_effects: readiness (with --outcomes ties), sharpness or position."
        )
    names = annotator_names(examples, config.annotator_column)
    if not names:
        raise DataError(
            "no training example names its annotator",
            field=config.annotator_column,
            remedy="Name the column with --annotator_column, or leave --annotators out",
        )
    if "position" in effects:
        _check_order(examples)
    return dataclasses.replace(
        options,
        inference=config.annotators if config.annotators != "ignore" else None,
        names=tuple(names),
        taste="taste" in effects,
        habits=tuple(effect for effect in effects if effect != "taste"),
    )


def _check_order(examples: Sequence[Example]) -> None:
    """Refuse to learn a position bias if the order of responses gives away the answer."""
    compared = [answer for answer in _answers(examples) if isinstance(answer, Comparison)]
    leads = {(said.preference > 0.5) - (said.preference < 0.5) for said in compared} - {0}
    if len(leads) < 2:
        raise DataError(
            "every comparison prefers the same side, so the data do not keep the order in which "
            "the responses were shown",
            field="preference",
            remedy="Keep the order shown, or leave position out of --annotator_effects",
        )


def _with_covariates(
    config: TrainConfig, options: LikelihoodOptions
) -> tuple[LikelihoodOptions, Tensor | None]:
    """Add to the options what else is known about the annotators, and encode it."""
    if config.annotator_covariates is None:
        return options, None
    known = read_annotators(config.annotator_covariates)
    people = [known.get(name, {}) for name in options.names]
    if not any(people):
        raise DataError(
            "the file names none of the annotators of the training examples",
            file=config.annotator_covariates,
            field="annotator",
            remedy="Name annotators as the data do",
        )
    coding = CovariateCoding.of(people)
    return dataclasses.replace(options, covariates=coding), coding.encode(people)


def _with_ratings(
    config: TrainConfig, options: LikelihoodOptions, examples: Sequence[Example]
) -> LikelihoodOptions:
    """Add to the options how ratings are read, if there are ratings that count."""
    values = [answer.value for answer in _answers(examples) if isinstance(answer, Rating)]
    alone = not any(isinstance(a, (Comparison, Ranking)) for a in _answers(examples))
    weight = float(alone) if config.anchor_weight is None else config.anchor_weight
    names = options.names or tuple(annotator_names(examples, config.annotator_column))
    if config.max_comparisons:
        options = dataclasses.replace(options, names=names)
    if not weight or not values:
        return options
    styles = config.rating_styles and bool(_raters(examples, config.annotator_column))
    options = dataclasses.replace(
        options,
        rating_weight=weight,
        ratings=config.ratings,
        styles=styles,
        names=names if styles or options.inference else options.names,
    )
    if config.ratings == "ordinal":
        grades = sorted(set(values))
        if not 2 <= len(grades) <= _MOST_GRADES:
            raise DataError(
                f"the number of different ratings is {len(grades)}",
                field="rating",
                remedy=f"Ordinal ratings have 2 to {_MOST_GRADES} grades: take --ratings gaussian",
            )
        return dataclasses.replace(options, grades=tuple(grades))
    if alone:  # nothing else gives rewards a unit, so the ratings' spread does
        spread = pstdev(values)
        if not spread:
            raise DataError(
                "all ratings are equal", field="rating", remedy="Nothing can be learned from them"
            )
        return dataclasses.replace(options, rating_location=fmean(values), rating_scale=spread)
    return options


def _answers(examples: Sequence[Example]) -> Iterator[object]:
    return (judgement.answer for example in examples for judgement in example.judgements)


def read_labels(likelihood: Likelihood, examples: Sequence[Example]) -> Labels:
    """Return labels to evaluate on, as the likelihood reads them: every vote counts the same.

    Raises:
        DataError: If a strength is beyond the likelihood's levels, or a rating none of its grades,
            naming its line.
    """
    options = likelihood.options
    for example in examples if options.grades else ():
        _check_grades(example, options.grades)
    labels = labels_of(examples, likelihood.names.index, options.column, options.levels)
    return likelihood.read(labels)


def training_labels(
    config: TrainConfig, likelihood: Likelihood, examples: Sequence[Example]
) -> Labels:
    """Return labels to train on, weighted by vote or by example (see ``read_labels``)."""
    labels = read_labels(likelihood, examples)
    return labels if config.weigh_by == "vote" else labels.by_example()


def _check_grades(example: Example, grades: Sequence[float]) -> None:
    values = [j.answer.value for j in example.judgements if isinstance(j.answer, Rating)]
    strange = [value for value in values if value not in grades]
    if strange:
        raise DataError(
            f"no training example has the rating {strange[0]:g}, so this grade was not learned",
            line=next(iter(example.source_lines), None),
            field="rating",
            remedy="Take --ratings gaussian, or leave such ratings out",
        )


def make_linker(
    config: TrainConfig, likelihood: Likelihood, examples: Sequence[Example]
) -> Linker | None:
    """Make the linker, which compares responses that one annotator rated; None if it is off."""
    if not config.max_comparisons:
        return None
    labels = labels_of(examples, likelihood.names.index, likelihood.options.column)
    return Linker(labels, config.max_comparisons, config.seed)


def check_labels(config: TrainConfig, examples: Sequence[Example]) -> None:
    """Refuse options whose labels no example has, because they would teach nothing.

    Raises:
        DataError: If there is no strength, margin or rating where they are asked for, or there
            are ratings alone and they play no part.
    """
    said = list(_answers(examples))
    compared = [answer for answer in said if isinstance(answer, Comparison)]
    rated = any(isinstance(answer, Rating) for answer in said)
    weight, margin, most = config.anchor_weight or 0, config.margin_scale, config.max_comparisons
    strengths = config.outcomes in ("five_levels", "seven_levels")
    has_strength = any(answer.strength is not None for answer in compared)
    has_margin = any(answer.margin is not None for answer in compared)
    for missing, option, field in (
        (strengths and not has_strength, f"--outcomes {config.outcomes}", "strength"),
        (margin and not has_margin, f"--margin_scale {margin:g}", "margin"),
        (weight and not rated, f"--anchor_weight {weight:g}", "rating_chosen"),
        (most and not rated, f"--max_comparisons {most}", "ratings"),
    ):
        if missing:
            raise DataError(
                f"no training example has what {option} learns from",
                field=field,
                remedy=f"Add the column {field!r}, or leave the option out",
            )
    raters = _raters(examples, config.annotator_column)
    if most and len(set(raters)) == len(raters):
        raise DataError(
            "no annotator of the training examples rated two responses, which "
            "--max_comparisons compares",
            field=config.annotator_column,
            remedy="Name the column with --annotator_column, or leave --max_comparisons out",
        )
    only_rated = not any(isinstance(answer, (Comparison, Ranking)) for answer in said)
    unread = only_rated and config.anchor_weight == 0
    if unread and not most:
        raise DataError(
            "the training examples hold only ratings, and --anchor_weight 0 ignores them",
            field="rating",
            remedy="Leave --anchor_weight out, or compare ratings with --max_comparisons 64",
        )
    if unread and config.validation_fraction and not config.freeze_backbone:
        raise DataError(
            "the data hold only ratings and --anchor_weight 0 ignores them, so "
            "--validation_fraction has no loss to choose a checkpoint by",
            field="rating",
            remedy="Leave one of the two options out",
        )


def _raters(examples: Sequence[Example], column: str) -> list[object]:
    """List who gave each rating, without unnamed annotators."""
    who = (
        annotator_of(judgement, column)
        for example in examples
        for judgement in example.judgements
        if isinstance(judgement.answer, Rating)
    )
    return [name for name in who if name is not None]


def member_draws(
    config: TrainConfig,
    head: Head,
    examples: Sequence[Example],
    usable: Sequence[Tensor] | None = None,
) -> Tensor | None:
    """Draw how often each member of an ensemble sees each example: a bootstrap by prompt.

    Args:
        config: ``ensemble_bootstrap`` and the seed.
        head: The head.
        examples: E training examples.
        usable: For each member a mask of shape ``(E,)`` of the examples it may learn from; None,
            or a mask of none, for all. A draw that leaves a member none of them is repeated.

    Returns:
        Poisson counts of shape ``(E, M)``, the same for all examples of a prompt; None for once.
    """
    if not head.num_members or not config.ensemble_bootstrap:
        return None
    place: dict[str, int] = {}
    prompts = torch.tensor([place.setdefault(e.prompt_key, len(place)) for e in examples])
    generator = torch.Generator().manual_seed(config.seed + 7919)
    draws = torch.poisson(torch.ones(len(place), head.num_members), generator)
    for member in range(head.num_members):
        own = prompts
        if usable is not None and bool(usable[member].any()):
            own = prompts[usable[member]]
        while len(own) and not bool(draws[own, member].any()):
            draws[:, member] = torch.poisson(torch.ones(len(place)), generator)
    return draws[prompts]
