"""One optimiser step in numbers: what is one example or many, merged or apart, is the same."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator

from hidden_context.data.expand import expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.tokenize import tokenize_examples
from hidden_context.models.engine.budget import TokenBudget
from hidden_context.models.modules import final_linear
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from hidden_context.training.module import PassOutput, PreferenceModule, Totals
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, train_config

PROMPT = "\n\nHuman: What about " + " ".join(["tea and rain and maps"] * 60) + "?\n\nAssistant:"
WORDS = ("kind", "clear", "vague", "cruel")
ANSWERS = [f" An answer that is {word}." for word in WORDS]
RANKING = {"prompt": PROMPT, "responses": ANSWERS, "ranks": [2, 1, 3, 4], "annotator": "ann"}


@dataclasses.dataclass
class Step:
    """A step's loss, its gradients, and what was run."""

    loss: float
    gradients: dict[str, torch.Tensor]
    tokens: int
    examples: int
    module: PreferenceModule
    data: ExampleDataset


@pytest.fixture
def step_of(backbones, tmp_path):
    """Runs all rows as one step in float64."""

    def run(rows, *, merge=False, budget=10**6, way="tree", prior=0.0, **options) -> Step:
        model_name = backbones("gpt2", spread=2.0, n_positions=1024)
        config = train_config(model_name, tmp_path, **options)
        examples = [read_row(dict(row), line=n) for n, row in enumerate(rows, start=1)]
        examples = merge_prompts(examples) if merge else examples
        likelihood = make_training_likelihood(config, make_head(config), examples).double()
        model = build_reward_model(config, likelihood)
        tokens = tokenize_examples(examples, model.tokenizer, 1024)
        data = ExampleDataset(tokens, training_labels(config, likelihood, tokens.examples))
        torch.manual_seed(0)  # an output layer by which rewards differ
        torch.nn.init.normal_(final_linear(model.module)[1].weight, std=0.3)
        module = PreferenceModule(model.module.double(), likelihood, way)
        runner = StepRunner(Accelerator(cpu=True), module, module, TokenBudget(budget))
        result = runner.step(data.batch(range(len(data))), prior)
        gradients = {
            name: values.grad.clone()
            for name, values in module.named_parameters()
            if values.grad is not None
        }
        return Step(result.loss, gradients, result.tokens, len(data), module, data)

    return run


def assert_same(one: Step, other: Step, tolerance: float = 1e-9) -> None:
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert set(one.gradients) == set(other.gradients)
    assert max(float(values.abs().max()) for values in one.gradients.values()) > 1e-3
    for name, values in one.gradients.items():
        assert values.dtype == torch.float64
        assert torch.allclose(values, other.gradients[name], atol=tolerance, rtol=1e-6), name


def six_pairs(ranking=RANKING):
    """The pairs of a ranking of four as rows of their own, one vote each."""
    pairs = [dict(pair.columns) for pair in expand_pairs(read_row(dict(ranking)))]
    assert {pair.pop("weight") for pair in pairs} == {0.5}
    return pairs


@pytest.mark.parametrize("way", ["tree", "padded"])
@pytest.mark.parametrize("head", ["base", "mean_and_variance"])
def test_a_ranking_is_its_six_pairs_and_runs_every_response_once(step_of, head, way):
    options = {"reward_model_type": head, "variance_penalty": 0.3, "way": way}
    ranking = step_of([RANKING], **options)
    merged = step_of(six_pairs(), merge=True, **options)
    apart = step_of(six_pairs(), **options)
    assert_same(ranking, merged)
    assert_same(ranking, apart)
    assert (ranking.examples, merged.examples, apart.examples) == (1, 1, 6)
    assert ranking.data.num_votes == 3
    assert ranking.loss > 0.5
    (tokens,) = (ranking.data[0],)
    shared = next(n for n in range(999) if len({tuple(ids[: n + 1]) for ids in tokens}) > 1)
    assert shared >= 400
    own = sum(len(ids) - shared for ids in tokens)
    if way == "tree":
        assert (ranking.tokens, merged.tokens) == (shared + own, shared + own)
        # three pairs hold each response, and each pair the prompt
        assert apart.tokens == 6 * shared + 3 * own
    else:
        longest = max(map(len, tokens))
        assert (ranking.tokens, merged.tokens, apart.tokens) == (
            4 * longest,
            4 * longest,
            12 * longest,
        )


def rows_of_prompts(count: int):
    """Three pairs of each prompt, which share responses, with one annotator each."""
    rows = []
    for number, row in enumerate(preference_rows(count, seed=5)):
        other = row["chosen"].rsplit(" ", 1)[0] + " odd."
        rows += [
            row | {"annotator": "ann"},
            row | {"rejected": other, "annotator": "bob", "preference": 0.25},
            row | {"chosen": other, "annotator": "cat" if number % 2 else "ann", "weight": 2.0},
        ]
    return rows


@pytest.mark.parametrize("budget", [1, 150, 10**6])
@pytest.mark.parametrize(
    "options",
    [
        {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3},
        {"reward_model_type": "factor", "annotators": "variational", "outcomes": "ties"},
        {"reward_model_type": "base", "outcomes": "ties"},
    ],
)
def test_merging_prompts_changes_neither_loss_nor_gradients(step_of, options, budget):
    merged = step_of(rows_of_prompts(4), merge=True, budget=budget, prior=0.1, **options)
    apart = step_of(rows_of_prompts(4), budget=budget, prior=0.1, **options)
    assert (merged.examples, apart.examples) == (4, 12)
    assert merged.data.num_votes == apart.data.num_votes == 12
    assert [len(merged.data[place]) for place in range(4)] == [3, 3, 3, 3]
    assert merged.tokens < 0.7 * apart.tokens
    assert_same(merged, apart)


def nested_rows():
    """Pairs with one to four votes each, of three annotators."""
    return [
        row
        | {
            "annotations": [
                {"annotator": "abc"[(number + vote) % 3], "preference": (1, 0, 1, 0.5)[vote]}
                for vote in range(1 + number % 4)
            ]
        }
        for number, row in enumerate(preference_rows(8, seed=6))
    ]


def row_per_vote():
    return [
        {**{name: row[name] for name in ("chosen", "rejected")}, **vote}
        for row in nested_rows()
        for vote in row["annotations"]
    ]


@pytest.mark.parametrize("inference", ["variational", "map"])
def test_votes_in_one_row_are_rows_of_one_vote(step_of, inference):
    options = {"reward_model_type": "factor", "num_factors": 2, "annotators": inference}
    nested = step_of(nested_rows(), prior=0.05, **options)
    apart = step_of(row_per_vote(), prior=0.05, **options)
    merged = step_of(row_per_vote(), prior=0.05, merge=True, **options)
    assert (nested.examples, apart.examples, merged.examples) == (8, 20, 8)
    assert_same(nested, apart)
    assert_same(nested, merged)
    location = nested.gradients["likelihood.annotators.location"]
    assert float(location.abs().min()) > 0  # every annotator learns


def test_weighed_by_example_the_loss_is_the_mean_over_examples_of_their_votes(step_of):
    options = {"reward_model_type": "base", "way": "padded"}
    by_vote = step_of(nested_rows(), **options)
    by_example = step_of(nested_rows(), weigh_by="example", **options)
    with torch.no_grad():
        module, data = by_example.module, by_example.data
        raw = module.raw_outputs([data[place] for place in range(8)]).squeeze(-1)
    difference, means, votes = raw[0::2] - raw[1::2], [], []
    for number, row in enumerate(nested_rows()):
        nats = []
        for vote in row["annotations"]:
            share = vote["preference"]
            first, second = (
                torch.nn.functional.logsigmoid(sign * difference[number]) for sign in (1, -1)
            )
            nats.append(float(-share * first - (1 - share) * second))
        means.append(sum(nats) / len(nats))
        votes += nats
    assert by_example.loss == pytest.approx(sum(means) / 8, abs=1e-6)
    assert by_vote.loss == pytest.approx(sum(votes) / 20, abs=1e-6)
    assert abs(by_vote.loss - by_example.loss) > 1e-3
    assert by_example.data.votes == pytest.approx([1.0] * 8)


def test_a_step_without_votes_has_no_loss_and_no_gradient(step_of):
    """As where a row holds ratings alone that nothing is learned from."""
    rows = [{"text": "Human: hi", "rating": 3, "annotator": "ann"}]
    found = step_of(rows, anchor_weight=0.0)
    assert found.loss == 0
    assert all(bool((values == 0).all()) for values in found.gradients.values())


# ---- the module


def test_one_module_holds_all_that_is_learned(step_of):
    rows = [row | {"rating_chosen": 1.0} for row in rows_of_prompts(2)]
    options = {"reward_model_type": "factor", "annotators": "map", "outcomes": "ties"}
    module = step_of(rows, anchor_weight=0.5, **options).module
    names = [name for name, _ in module.named_parameters()]
    assert {name.split(".")[0] for name in names} == {"network", "likelihood"}
    assert sum(name.startswith("network.") for name in names) == len(
        list(module.network.parameters())
    )
    beside = sorted(name for name in names if name.startswith("likelihood."))
    assert beside == [
        "likelihood.annotators.location",
        "likelihood.habits.location",
        "likelihood.habits.log_prior_scale",
        "likelihood.outcomes.raw_gaps",
        "likelihood.ratings.log_noise",
    ]


def test_the_passes_parts_of_a_loss_add_up(step_of):
    """Called by itself, the module divides by the votes that it is given."""
    options = {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3}
    found = step_of(rows_of_prompts(3), way="padded", **options)
    module, data = found.module, found.data
    whole = data.batch(range(9))
    output = module(whole.tokens, whole.labels)
    assert isinstance(output, PassOutput)
    assert float(output.loss.detach()) == pytest.approx(found.loss, abs=1e-6)
    assert output.raw.shape == (18, 2)
    assert output.nats.shape == (9,)
    weight = whole.labels.weight
    head = module.likelihood.head
    by_hand = (weight * output.nats).sum() / 9 + head.penalty(output.raw[0::2], output.raw[1::2])
    assert float(output.loss.detach()) == pytest.approx(float(by_hand.detach()), abs=1e-9)
    parts = [whole.part(places) for places in ([4, 0], [1, 2, 3, 8], [7, 5, 6])]
    totals = Totals(9.0, 9.0)
    each = [float(module(part.tokens, part.labels, totals).loss.detach()) for part in parts]
    assert sum(each) == pytest.approx(float(output.loss.detach()), abs=1e-9)
    assert torch.equal(module(whole.tokens), output.raw)
    assert math.isfinite(sum(each))
