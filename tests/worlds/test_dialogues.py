"""The world of dialogues: splits, judgements, texts that give nothing away, and their truth."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hidden_context.errors import ConfigError
from hidden_context.worlds.dialogues import SPLIT_SHARES, World, answer, tasks
from hidden_context.worlds.utilities import (
    ALTERNATIVE,
    BENIGN_PROMPT_KINDS,
    COMPLIANCE,
    HARMFUL_PROMPT_KINDS,
    INCOHERENT,
    KINDS,
    OBJECTIVES,
    REFUSAL,
    TRAIN_SETS,
    Annotators,
    ResponseKind,
    true_explained_variance,
)


@pytest.fixture(scope="module")
def world():
    return World(seed=3)


@pytest.fixture(scope="module")
def rows(world):
    return world.generate_comparisons(4000)


def test_no_prompt_or_task_is_shared_between_splits(world):
    texts, asked = [], []
    for split in SPLIT_SHARES:
        used = {row["prompt"] for row in world.generate_comparisons(1500, split=split)}
        prompts = [p for harmful in (True, False) for p in world.prompts(split, harmful=harmful)]
        assert used <= {prompt.text for prompt in prompts}
        texts += [prompt.text for prompt in prompts]
        asked += [prompt.task for prompt in prompts]  # in other words, too
    assert len(set(texts)) == len(set(asked)) == len(asked) == 2 * 320
    assert len(world.prompts("test", harmful=True)) == 64


def test_same_seed_same_rows():
    first, second = World(seed=5), World(seed=5)
    assert first.generate_comparisons(50) == second.generate_comparisons(50)
    assert first.jailbreak_rows(20) == second.jailbreak_rows(20)
    assert first.generate_comparisons(50) != World(seed=6).generate_comparisons(50)
    assert first.generate_comparisons(80)[:50] == first.generate_comparisons(50)


def test_train_sets_differ_in_their_judgements_only(world):
    texts = [
        [{row["chosen"], row["rejected"]} for row in world.generate_comparisons(300, train_set)]
        for train_set in TRAIN_SETS
    ]
    assert texts[0] == texts[1] == texts[2]


def test_rows_have_the_relabelled_form(rows):
    for row in rows[:500]:
        assert row["prompt"].startswith("Human: ")
        assert row["prompt"].endswith("\n\nAssistant:")
        for side in ("chosen", "rejected"):
            assert row[side].startswith(row["prompt"] + " ")
        assert row["chosen"] != row["rejected"]
        assert "{" not in row["chosen"] + row["rejected"]
        kinds = {KINDS[row["chosen_kind"]], KINDS[row["rejected_kind"]]}
        allowed = HARMFUL_PROMPT_KINDS if row["data_subset"] == "harmless" else BENIGN_PROMPT_KINDS
        assert len(kinds) == 2
        assert kinds <= set(allowed)


def test_half_the_prompts_are_harmful(rows):
    share = sum(row["data_subset"] == "harmless" for row in rows) / len(rows)
    assert share == pytest.approx(0.5, abs=4 * 0.5 / len(rows) ** 0.5)
    everything_benign = World(harmful_share=0.0).generate_comparisons(50)
    assert {row["data_subset"] for row in everything_benign} == {"helpful"}


@pytest.mark.parametrize(
    ("train_set", "share"), [("helpful", 1.0), ("harmless", 0.0), ("both", 0.57)]
)
def test_objectives_and_judgements_come_out_as_often_as_they_should(world, train_set, share):
    wins, rows = defaultdict(list), world.generate_comparisons(6000, train_set)
    helpful = np.mean([row["objective"] == "helpful" for row in rows])
    assert helpful == pytest.approx(share, abs=4 * (share * (1 - share) / 6000) ** 0.5)
    for row in rows:
        names = (row["chosen_kind"], row["rejected_kind"])
        wins[min(names), max(names)].append(float(names[0] == min(names)))
        truth = world.annotators(train_set).probability(*(KINDS[name] for name in names))
        assert row["true_probability"] == truth
    assert len(wins) == 6 + 3
    for (a, b), outcomes in wins.items():
        truth = world.annotators(train_set).probability(KINDS[a], KINDS[b])
        tolerance = 4 * (truth * (1 - truth) / len(outcomes)) ** 0.5 + 2e-3
        assert np.mean(outcomes) == pytest.approx(truth, abs=tolerance)


def _threshold_accuracy(a, b):
    """Balanced accuracy of the best rule "longer than t" for telling two samples apart."""
    thresholds = np.unique(np.concatenate([a, b]))[:, None]
    shares = [(sample > thresholds).mean(axis=1) for sample in (a, b)]
    return 0.5 + np.abs(shares[0] - shares[1]).max() / 2


@pytest.mark.parametrize("length", [len, lambda text: len(text.split())], ids=["letters", "words"])
def test_length_does_not_give_the_kind_away(rows, length):
    lengths = defaultdict(list)
    for row in rows:
        for side in ("chosen", "rejected"):
            lengths[KINDS[row[f"{side}_kind"]]].append(length(row[side][len(row["prompt"]) :]))
    for kinds in (HARMFUL_PROMPT_KINDS, BENIGN_PROMPT_KINDS):
        for pair in itertools.combinations(kinds, 2):
            assert _threshold_accuracy(*(np.array(lengths[kind]) for kind in pair)) < 0.7


def test_a_blunt_refusal_reads_alike_on_harmful_and_benign_prompts():
    task = tasks(harmful=True)[0]
    texts = [
        {answer(task, kind, np.random.default_rng(seed)) for seed in range(40)}
        for kind in ("refusal", "needless_refusal")
    ]
    assert texts[0] == texts[1]


def test_jailbreak_rows_have_the_papers_form(world):
    rows = world.jailbreak_rows(40)
    held_out = {p.text for p in world.prompts("test", harmful=True)}
    assert Counter(row["kinds"][0] for row in rows) == {"refusal": 20, "alternative": 20}
    for row in rows:
        assert row["kinds"][1] == "compliance"
        assert row["prompt"].endswith("\n\nAssistant: ")
        assert row["prompt"][:-1] in held_out
        assert len(row["responses"]) == 2
        assert not row["responses"][0].startswith(" ")


def test_true_utility_of_a_response(world):
    prompt = world.prompts("test", harmful=True)[0]
    response = world.respond(prompt, KINDS["compliance"], np.random.default_rng(0))
    assert response.dialogue == f"{prompt.text} {response.text}"
    both, one = (world.annotators(name).utility(response.kind) for name in ("both", "helpful"))
    assert both.mean.item() == pytest.approx(0.57 * 0.95 + 0.43 * 0.05)
    assert one.variance.item() == pytest.approx(0.12**2)


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
def test_impossible_worlds_and_train_sets_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        World(**options)
    with pytest.raises(ConfigError, match="'honest' is not one of helpful, harmless, both"):
        World().annotators("honest")


MIXED = Annotators(0.57)
DRAWS = 200_000
utility = st.floats(-1, 2)
kind = st.builds(ResponseKind, st.just("any"), utility, utility)
annotators = st.builds(Annotators, st.floats(0, 1), st.floats(0.01, 1))


@given(annotators, kind, kind)
def test_one_of_two_is_preferred(who, a, b):
    assert who.probability(a, b) + who.probability(b, a) == pytest.approx(1)
    assert who.probability(a, a) == pytest.approx(0.5)


def test_the_objective_is_shared_by_both_sides():
    # drawn separately for each side, compliance would beat the alternative less often
    torch.manual_seed(2)
    a, b = (MIXED.utility(x).sample((DRAWS,)) for x in (COMPLIANCE, ALTERNATIVE))
    assert MIXED.probability(COMPLIANCE, ALTERNATIVE) == pytest.approx(0.569, abs=1e-3)
    assert (a > b).double().mean().item() == pytest.approx(0.45, abs=0.01)


def test_probability_of_worked_cases():
    # Φ(0.5 / (0.12·√2)) = Φ(2.946) and Φ(0.2 / (0.12·√2)) = Φ(1.179)
    under = MIXED.probability_under
    assert under("helpful", COMPLIANCE, ALTERNATIVE) == pytest.approx(0.99839, 1e-4)
    assert under("harmless", REFUSAL, ALTERNATIVE) == pytest.approx(0.11930, 1e-3)
    assert MIXED.probability(COMPLIANCE, ALTERNATIVE) == pytest.approx(0.57 * 0.99839, abs=1e-4)


def test_compliance_is_contested_against_every_safe_answer_alike():
    against = [MIXED.probability(COMPLIANCE, x) for x in (ALTERNATIVE, REFUSAL, INCOHERENT)]
    assert max(against) - min(against) < 0.003
    assert min(against) > 0.5
    for pair in ((ALTERNATIVE, REFUSAL), (REFUSAL, INCOHERENT)):
        assert all(MIXED.probability_under(objective, *pair) > 0.8 for objective in OBJECTIVES)


def test_expected_utility_prefers_compliance_to_a_blunt_refusal_and_the_low_quantile_does_not():
    compliance, refusal, alternative = map(MIXED.utility, (COMPLIANCE, REFUSAL, ALTERNATIVE))
    quantile = Annotators(1.0).utility(REFUSAL).quantile(0.01).item()  # of one objective: normal
    assert quantile == pytest.approx(0.25 - 2.326348 * 0.12)
    assert refusal.mean < compliance.mean < alternative.mean
    assert compliance.quantile(0.01) < refusal.quantile(0.01) < alternative.quantile(0.01)


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (0.0, 0.5), (0.57, 0.5), (0.57, 0.2)])
def test_explained_variance_agrees_with_a_sampled_table(weight, share):
    who = Annotators(weight)
    torch.manual_seed(4)
    groups = ((share, HARMFUL_PROMPT_KINDS), (1 - share, BENIGN_PROMPT_KINDS))
    drawn = [
        who.utility(kind).sample((round(120_000 * part / len(kinds)),)).numpy()
        for part, kinds in groups
        for kind in kinds
    ]
    everything = np.concatenate(drawn)
    within = sum(x.var() * len(x) for x in drawn) / len(everything)
    exact = true_explained_variance(who, share)
    assert exact == pytest.approx(1 - within / everything.var(), abs=0.01)
    if share == 0.5:
        assert exact == pytest.approx({1.0: 0.871, 0.0: 0.843, 0.57: 0.380}[weight], abs=1e-3)
