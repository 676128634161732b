"""One optimiser step in numbers: what is one example or many, merged or apart, is the same."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from hidden_context.data.importers import read_row
from hidden_context.data.reshape import expand_pairs, merge_prompts
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
from hidden_context.training.sharding.base import Sharding
from support.builders import preference_rows, train_config
from support.runs import losses

PROMPT = "\n\nHuman: What about " + " ".join(["tea and rain and maps"] * 60) + "?\n\nAssistant:"
WORDS = ("kind", "clear", "vague", "cruel")
ANSWERS = [f" An answer that is {word}." for word in WORDS]
RANKING = {"prompt": PROMPT, "responses": ANSWERS, "ranks": [2, 1, 3, 4], "annotator": "ann"}


@pytest.fixture
def step_of(backbones, tmp_path):
    """Runs all rows as one step in float64: its loss, its gradients, and what was run."""

    def run(rows, *, merge=False, budget=10**6, way="tree", prior=0.0, **options):
        model_name = backbones("gpt2", spread=2.0, max_position_embeddings=1024)
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
        runner = StepRunner(Sharding(Accelerator(cpu=True), module), TokenBudget(budget))
        result = runner.step(data.batch(range(len(data))), prior)
        gradients = {
            name: values.grad.clone()
            for name, values in module.named_parameters()
            if values.grad is not None
        }
        step = {"loss": result.loss, "tokens": result.tokens, "module": module, "data": data}
        return SimpleNamespace(gradients=gradients, **step)

    return run


def assert_same(one, other, tolerance: float = 1e-9, factor: float = 1.0) -> None:
    """One step's loss and gradients are a factor times the other's."""
    assert one.loss == pytest.approx(factor * other.loss, abs=1e-6)
    assert set(one.gradients) == set(other.gradients)
    assert max(float(values.abs().max()) for values in one.gradients.values()) > 1e-3
    for name, values in one.gradients.items():
        assert values.dtype == torch.float64
        expected = factor * other.gradients[name]
        assert torch.allclose(values, expected, atol=tolerance, rtol=1e-6), name


def six_pairs():
    """The pairs of a ranking of four as rows of their own, one vote each."""
    pairs = [dict(pair.columns) for pair in expand_pairs(read_row(dict(RANKING)))]
    assert {pair.pop("weight") for pair in pairs} == {0.5}
    return pairs


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


PENALISED = {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3}
FACTOR = {"reward_model_type": "factor", "annotators": "variational"}
WAYS = ({"way": "tree"}, {"way": "padded"})
TIES = {"outcomes": "ties"}
# rows of one judgement each, the same in one row an example, and the number of examples
RANKED = (six_pairs(), [RANKING], 1)
PROMPTS = (rows_of_prompts(4), None, 4)
VOTED = (row_per_vote(nested_rows()), nested_rows(), 8)


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        *((RANKED, way | head) for way in WAYS for head in ({}, PENALISED)),
        *(
            (PROMPTS, way | {"budget": budget} | more)
            for budget in (1, 150)
            for way in WAYS
            for more in (PENALISED, FACTOR | TIES, TIES | {"anchor_weight": 0.5})
        ),
        *(
            (VOTED, FACTOR | {"num_factors": 2, "annotators": how})
            for how in ("variational", "map")
        ),
    ],
)
def test_the_same_judgements_in_any_rows_are_the_same_step(step_of, layout, options):
    """In any passes; every response runs once where rows of one prompt are merged."""
    rows, nested, examples = layout
    merged = step_of(rows, merge=True, prior=0.1, **options)
    apart = step_of(rows, prior=0.1, **options | {"budget": 10**6})
    assert_same(merged, apart)
    assert (len(merged.data), len(apart.data)) == (examples, len(rows))
    votes = len(rows) + (examples if "anchor_weight" in options else 0)
    assert merged.data.num_votes == apart.data.num_votes == votes
    assert merged.tokens < 0.7 * apart.tokens
    if "annotators" in options:  # every annotator learns
        assert float(merged.gradients["likelihood.annotators.location"].abs().min()) > 0
    if nested is not None:
        whole = step_of(nested, prior=0.1, **options)
        assert_same(whole, merged)
        assert (len(whole.data), whole.tokens) == (examples, merged.tokens)


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


def test_weighed_by_example_the_loss_is_the_mean_over_examples_of_their_votes(step_of):
    by_vote = step_of(nested_rows(), way="padded")
    by_example = step_of(nested_rows(), weigh_by="example", way="padded")
    with torch.no_grad():
        raw = by_example.module.raw_outputs([by_example.data[place] for place in range(8)])
    share = torch.tensor([row["preference"] for row in row_per_vote(nested_rows())])
    number = torch.arange(8).repeat_interleave(1 + torch.arange(8) % 4)
    gap = (raw[0::2, 0] - raw[1::2, 0])[number]
    nats = torch.nn.functional.softplus(gap) - share * gap
    by_hand = float((nats / number.bincount()[number]).sum() / 8)
    assert by_example.loss == pytest.approx(by_hand, abs=1e-6)
    assert by_vote.loss == pytest.approx(float(nats.mean()), abs=1e-6)
    assert abs(by_vote.loss - by_example.loss) > 1e-3
    assert by_example.data.votes == pytest.approx([1.0] * 8)


def test_a_step_without_votes_has_no_loss_and_no_gradient(step_of):
    """As where a row holds ratings alone that nothing is learned from."""
    found = step_of([{"text": "Human: hi", "rating": 3, "annotator": "ann"}], anchor_weight=0.0)
    assert found.loss == 0
    assert all(bool((values == 0).all()) for values in found.gradients.values())


# ---- the module


@pytest.mark.parametrize(
    "options", [PENALISED, {"reward_model_type": "categorical", "entropy_coeff": 0.5}]
)
def test_the_passes_parts_of_a_loss_add_up(step_of, options):
    """Called by itself, the module divides by the votes that it is given.

    An entropy bonus is of a mean over a pass's comparisons, so it counts by pass.
    """
    found = step_of(rows_of_prompts(3), way="padded", **options)
    module, data = found.module, found.data
    whole = data.batch(range(9))
    output = module(whole.tokens, whole.labels)
    assert isinstance(output, PassOutput)
    assert float(output.loss.detach()) == pytest.approx(found.loss, abs=1e-6)
    assert torch.equal(module(whole.tokens), output.raw)
    assert (output.raw.shape[0], output.nats.shape) == (18, (9,))
    total = 0.0
    for part in (whole, *(whole.part(places) for places in ([4, 0], [1, 2, 3, 8], [7, 5, 6]))):
        output = module(part.tokens, part.labels, Totals(9.0, 9.0))
        penalty = module.likelihood.head.penalty(output.raw[0::2], output.raw[1::2])
        by_hand = (part.labels.weight * output.nats).sum() / 9 + penalty * len(part) / 9
        assert abs(float(penalty.detach())) > 0.01
        assert float(output.loss.detach()) == pytest.approx(float(by_hand.detach()), abs=1e-9)
        total += float(output.loss.detach())
    if options is PENALISED:
        assert total == pytest.approx(2 * found.loss, abs=1e-6)


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
