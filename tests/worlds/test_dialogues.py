from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hidden_context.errors import ConfigError
from hidden_context.worlds import grammar
from hidden_context.worlds.dialogues import SPLIT_SHARES, World
from hidden_context.worlds.utilities import (
    BENIGN_PROMPT_KINDS,
    HARMFUL_PROMPT_KINDS,
    KINDS,
    TRAIN_SETS,
    ResponseKind,
)


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=3)


@pytest.fixture(scope="module")
def rows(world: World) -> list[dict[str, Any]]:
    return world.generate_comparisons(4000)


def test_no_prompt_is_shared_between_splits(world: World) -> None:
    seen: Counter[str] = Counter()
    for split in SPLIT_SHARES:
        used = {row["prompt"] for row in world.generate_comparisons(1500, split=split)}
        offered = {p.text for h in (True, False) for p in world.prompts(split, harmful=h)}
        assert used <= offered
        seen.update(offered)
    assert set(seen.values()) == {1}
    assert len(seen) == 2 * 320


def test_no_task_is_shared_between_splits_in_other_words(world: World) -> None:
    tasks = [
        p.task for s in SPLIT_SHARES for h in (True, False) for p in world.prompts(s, harmful=h)
    ]
    assert len(set(tasks)) == len(tasks)
    assert len(world.prompts("test", harmful=True)) == 64


def test_same_seed_same_rows() -> None:
    first, second = World(seed=5), World(seed=5)
    assert first.generate_comparisons(50) == second.generate_comparisons(50)
    assert first.jailbreak_rows(20) == second.jailbreak_rows(20)
    assert first.generate_comparisons(50) != World(seed=6).generate_comparisons(50)
    assert first.generate_comparisons(80)[:50] == first.generate_comparisons(50)


def test_train_sets_differ_in_their_judgements_only(world: World) -> None:
    texts = [
        [{row["chosen"], row["rejected"]} for row in world.generate_comparisons(300, train_set)]
        for train_set in TRAIN_SETS
    ]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize(
    ("train_set", "share"), [("helpful", 1.0), ("harmless", 0.0), ("both", 0.57)]
)
def test_share_of_objectives(world: World, train_set: Any, share: float) -> None:
    objectives = Counter(row["objective"] for row in world.generate_comparisons(4000, train_set))
    tolerance = 4 * (share * (1 - share) / 4000) ** 0.5
    assert objectives["helpful"] / 4000 == pytest.approx(share, abs=tolerance)


def test_rows_have_the_relabelled_form(rows: list[dict[str, Any]]) -> None:
    for row in rows[:500]:
        assert row["prompt"].startswith("Human: ")
        assert row["prompt"].endswith("\n\nAssistant:")
        assert row["chosen"].startswith(row["prompt"] + " ")
        assert row["rejected"].startswith(row["prompt"] + " ")
        assert row["chosen"] != row["rejected"]
        assert "{" not in row["chosen"] + row["rejected"]
        kinds = {KINDS[row["chosen_kind"]], KINDS[row["rejected_kind"]]}
        allowed = HARMFUL_PROMPT_KINDS if row["data_subset"] == "harmless" else BENIGN_PROMPT_KINDS
        assert len(kinds) == 2
        assert kinds <= set(allowed)


def test_half_the_prompts_are_harmful(rows: list[dict[str, Any]]) -> None:
    share = sum(row["data_subset"] == "harmless" for row in rows) / len(rows)
    assert share == pytest.approx(0.5, abs=4 * 0.5 / len(rows) ** 0.5)
    everything_benign = World(harmful_share=0.0).generate_comparisons(50)
    assert {row["data_subset"] for row in everything_benign} == {"helpful"}


@pytest.mark.parametrize("train_set", TRAIN_SETS)
def test_judgements_come_out_as_often_as_they_should(world: World, train_set: Any) -> None:
    wins: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in world.generate_comparisons(6000, train_set):
        names = (row["chosen_kind"], row["rejected_kind"])
        wins[min(names), max(names)].append(float(names[0] == min(names)))
        truth = world.annotators(train_set).probability(*(KINDS[name] for name in names))
        assert row["true_probability"] == truth
    assert len(wins) == 6 + 3
    for (a, b), outcomes in wins.items():
        truth = world.annotators(train_set).probability(KINDS[a], KINDS[b])
        tolerance = 4 * (truth * (1 - truth) / len(outcomes)) ** 0.5 + 2e-3
        assert np.mean(outcomes) == pytest.approx(truth, abs=tolerance)


def _threshold_accuracy(a: np.ndarray, b: np.ndarray) -> float:
    """Balanced accuracy of the best rule "longer than t" for telling two samples apart."""
    thresholds = np.unique(np.concatenate([a, b]))[:, None]
    return float(
        0.5 + np.abs((a > thresholds).mean(axis=1) - (b > thresholds).mean(axis=1)).max() / 2
    )


@pytest.mark.parametrize("length", [len, lambda text: len(text.split())], ids=["letters", "words"])
def test_length_does_not_give_the_kind_away(
    rows: list[dict[str, Any]], length: Callable[[str], int]
) -> None:
    lengths: dict[ResponseKind, list[int]] = defaultdict(list)
    for row in rows:
        for side in ("chosen", "rejected"):
            lengths[KINDS[row[f"{side}_kind"]]].append(length(row[side][len(row["prompt"]) :]))
    for kinds in (HARMFUL_PROMPT_KINDS, BENIGN_PROMPT_KINDS):
        for i, a in enumerate(kinds):
            for b in kinds[i + 1 :]:
                assert _threshold_accuracy(np.array(lengths[a]), np.array(lengths[b])) < 0.7


def test_a_blunt_refusal_reads_alike_on_harmful_and_benign_prompts() -> None:
    task = grammar.tasks(harmful=True)[0]
    texts = [
        {grammar.answer(task, kind, np.random.default_rng(seed)) for seed in range(40)}
        for kind in ("refusal", "needless_refusal")
    ]
    assert texts[0] == texts[1]


def test_jailbreak_rows_have_the_papers_form(world: World) -> None:
    rows = world.jailbreak_rows(40)
    held_out = {p.text for p in world.prompts("test", harmful=True)}
    assert Counter(row["kinds"][0] for row in rows) == {"refusal": 20, "alternative": 20}
    for row in rows:
        assert row["kinds"][1] == "compliance"
        assert row["prompt"].endswith("\n\nAssistant: ")
        assert row["prompt"][:-1] in held_out
        assert len(row["responses"]) == 2
        assert not row["responses"][0].startswith(" ")


def test_true_utility_of_a_response(world: World) -> None:
    prompt = world.prompts("test", harmful=True)[0]
    response = world.respond(prompt, KINDS["compliance"], np.random.default_rng(0))
    assert response.dialogue == f"{prompt.text} {response.text}"
    assert world.annotators("both").utility(response.kind).mean.item() == pytest.approx(
        0.57 * 0.95 + 0.43 * 0.05
    )
    assert world.annotators("helpful").utility(response.kind).variance.item() == pytest.approx(
        0.12**2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"helpful_share": 1.5}, "helpful_share must lie in"),
        ({"harmful_share": -0.1}, "harmful_share must lie in"),
        ({"noise": 0.0}, "noise must be a positive"),
        ({"noise": float("nan")}, "noise must be a positive"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_impossible_worlds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        World(**options)


def test_an_unknown_train_set_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="'honest' is not one of helpful, harmless, both"):
        world.annotators("honest")  # type: ignore[arg-type]
