"""One optimiser step in numbers: what is one example or many, merged or apart, is the same."""

from __future__ import annotations

import dataclasses
import math
import zlib

import pytest
import torch
from accelerate import Accelerator

from hidden_context.data.expand import expand_pairs
from hidden_context.data.importers import read_row
from hidden_context.data.merge import merge_prompts
from hidden_context.data.tokens.tokenize import tokenize_examples
from hidden_context.models.engine.budget import TokenBudget
from hidden_context.models.network.modules import final_linear
from hidden_context.training.dataset import ExampleDataset
from hidden_context.training.finetune import build_reward_model
from hidden_context.training.frozen.features import feature_set
from hidden_context.training.frozen.fit import group_codes, response_groups
from hidden_context.training.frozen.probe import train_probe
from hidden_context.training.labels import make_head, make_training_likelihood, training_labels
from hidden_context.training.module import PassOutput, PreferenceModule, Totals
from hidden_context.training.runner import StepRunner
from support.builders import preference_rows, train_config
from support.runs import losses

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


def assert_same(one: Step, other: Step, tolerance: float = 1e-9, factor: float = 1.0) -> None:
    """One step's loss and gradients are a factor times the other's."""
    assert one.loss == pytest.approx(factor * other.loss, abs=1e-6)
    assert set(one.gradients) == set(other.gradients)
    assert max(float(values.abs().max()) for values in one.gradients.values()) > 1e-3
    for name, values in one.gradients.items():
        assert values.dtype == torch.float64
        expected = factor * other.gradients[name]
        assert torch.allclose(values, expected, atol=tolerance, rtol=1e-6), name


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
    tokens = ranking.data[0]
    shared = next(n for n in range(999) if len({tuple(ids[: n + 1]) for ids in tokens}) > 1)
    assert shared >= 400
    own = sum(len(ids) - shared for ids in tokens)
    if way == "tree":
        assert (ranking.tokens, merged.tokens) == (shared + own, shared + own)
        # three pairs hold each response, and each pair the prompt
        assert apart.tokens == 6 * shared + 3 * own
    else:
        longest = max(map(len, tokens))
        found = (ranking.tokens, merged.tokens, apart.tokens)
        assert found == (4 * longest, 4 * longest, 12 * longest)


def rows_of_prompts(count: int):
    """Three pairs of each prompt, which share responses, with one annotator each."""
    rows = []
    for number, row in enumerate(preference_rows(count, seed=5)):
        other = row["chosen"].rsplit(" ", 1)[0] + " odd."
        rows += [
            row | {"annotator": "ann", "rating_chosen": 2.0},
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
        {"reward_model_type": "base", "outcomes": "ties", "anchor_weight": 0.5},
    ],
)
def test_merging_prompts_changes_neither_loss_nor_gradients(step_of, options, budget):
    merged = step_of(rows_of_prompts(4), merge=True, budget=budget, prior=0.1, **options)
    apart = step_of(rows_of_prompts(4), budget=budget, prior=0.1, **options)
    assert (merged.examples, apart.examples) == (4, 12)
    ratings = 4 if "anchor_weight" in options else 0
    assert merged.data.num_votes == apart.data.num_votes == 12 + ratings
    assert [len(merged.data[place]) for place in range(4)] == [3, 3, 3, 3]
    assert merged.tokens < 0.7 * apart.tokens
    assert_same(merged, apart)


@pytest.mark.parametrize("outcomes", ["preference", "ties"])
def test_a_row_of_weight_two_is_the_row_twice(step_of, outcomes):
    rows = preference_rows(5, seed=1)
    rows[3]["preference"] = 0.5
    weighted = [row | {"weight": 2.0} if n in (0, 3) else row for n, row in enumerate(rows)]
    # a step's loss is a sum divided by the number of votes, 5 and 7
    one, twice = (
        step_of(each, outcomes=outcomes) for each in (weighted, [rows[0], rows[3], *rows])
    )
    assert_same(one, twice, factor=7 / 5)


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


def row_per_vote(rows):
    return [
        {name: value for name, value in row.items() if name != "annotations"} | vote
        for row in rows
        for vote in row["annotations"]
    ]


@pytest.mark.parametrize("inference", ["variational", "map"])
def test_votes_in_one_row_are_rows_of_one_vote(step_of, inference):
    options = {"reward_model_type": "factor", "num_factors": 2, "annotators": inference}
    nested = step_of(nested_rows(), prior=0.05, **options)
    apart = step_of(row_per_vote(nested_rows()), prior=0.05, **options)
    merged = step_of(row_per_vote(nested_rows()), prior=0.05, merge=True, **options)
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


# ---- a probe


class Features:
    """Stands for a backbone: numbers that depend on the text alone."""

    def features(self, texts, progress=None):
        seeds = [torch.Generator().manual_seed(zlib.crc32(repr(text).encode())) for text in texts]
        return torch.stack([torch.randn(6, generator=seed) for seed in seeds])


@pytest.mark.parametrize("linear", [False, True])
def test_votes_in_one_row_are_learned_like_rows_of_their_own(linear):
    """The same votes in the same order make the same steps, however the rows are laid out."""
    config = train_config(
        "x", "y", reward_model_type="factor", annotators="variational", probe_members=1,
        probe_epochs=6, probe_batch_size=8, probe_dropout=0.0, probe_linear=linear,
    )  # fmt: skip
    nested, apart = (
        [read_row(dict(row)) for row in rows]
        for rows in (nested_rows(), row_per_vote(nested_rows()))
    )
    found = []
    for examples in (nested, merge_prompts(apart), apart):
        torch.manual_seed(0)
        likelihood = make_training_likelihood(config, make_head(config), examples)
        labels = training_labels(config, likelihood, examples)
        groups = group_codes(response_groups(examples))
        probe, history = train_probe(
            config, likelihood, feature_set(Features(), examples, labels, groups=groups)
        )
        state = probe.state_dict() | likelihood.state_dict()
        found.append((len(examples), losses(history), state))
    assert [count for count, *_ in found] == [8, 8, 20]
    _, curve, state = found[0]
    start = make_training_likelihood(config, make_head(config), nested).state_dict()
    assert float((state["annotators.location"] - start["annotators.location"]).abs().min()) > 1e-3
    for _, other_curve, other in found[1:]:
        assert other_curve == pytest.approx(curve, abs=1e-4)
        for name, values in state.items():
            assert torch.allclose(values, other[name], atol=1e-3), name
