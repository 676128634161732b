"""``likelihood.json`` and ``likelihood.safetensors``: what was learned beside the network."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hidden_context import heads
from hidden_context.errors import CheckpointError
from hidden_context.likelihood import (
    CovariateCoding,
    Likelihood,
    LikelihoodOptions,
    make_likelihood,
)
from hidden_context.models.checkpoint.likelihood_file import (
    LIKELIHOOD_FILE,
    LIKELIHOOD_WEIGHTS,
    load_likelihood,
    members_of,
    save_likelihood,
)
from support.models import edit_json

BASE = heads.make("base")
FACTOR = heads.make("factor", num_factors=2)
ENSEMBLE = heads.EnsembleHead(FACTOR, 3)
PEOPLE = ("ann", "bob", "7", "ü \n")
FULL = LikelihoodOptions(
    5,
    inference="variational",
    names=PEOPLE,
    column="who",
    rating_weight=0.25,
    styles=True,
)
GRADES = LikelihoodOptions(rating_weight=2.0, ratings="ordinal", grades=(1.0, 2.0, 5.0))


AGES = [{"age": float(age), "land": "ab"[age % 2]} for age in range(12)]
CODING = CovariateCoding.of(AGES)
HABITS = LikelihoodOptions(
    levels=3,
    inference="variational",
    names=tuple(map(str, range(12))),
    habits=("position", "readiness"),
    covariates=CODING,
)


def randomised(
    head: heads.Head = FACTOR, options: LikelihoodOptions = FULL, *known: torch.Tensor
) -> Likelihood:
    """A likelihood whose parameters are all at random."""
    likelihood = make_likelihood(head, options, *known)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return likelihood


LIKELIHOODS = {
    "factor": randomised(),
    "point embeddings": randomised(options=dataclasses.replace(FULL, inference="map")),
    "ensemble": randomised(ENSEMBLE),
    "ensemble of one": randomised(heads.EnsembleHead(FACTOR, 1)),
    "ties": randomised(BASE, LikelihoodOptions(3)),
    "margins": randomised(BASE, LikelihoodOptions(margin_scale=0.5)),
    "ratings": randomised(heads.make("mixture"), LikelihoodOptions(rating_weight=2.0)),
    "grades": randomised(BASE, GRADES),
    "styles": randomised(BASE, dataclasses.replace(GRADES, styles=True, names=("a", "b"))),
    "nobody yet": randomised(options=LikelihoodOptions(inference="variational")),
    "habits and covariates": randomised(FACTOR, HABITS, CODING.encode(AGES)),
}


def same_state(first: Likelihood, second: Likelihood) -> None:
    assert first.options == second.options
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_what_was_saved_is_read_back(tmp_path, kind):
    likelihood = LIKELIHOODS[kind]
    save_likelihood(tmp_path, likelihood)
    again = load_likelihood(tmp_path, likelihood.head)
    assert {path.name for path in tmp_path.iterdir()} == {LIKELIHOOD_FILE, LIKELIHOOD_WEIGHTS}
    same_state(again, likelihood)
    if again.options.names == PEOPLE:
        assert again.names.index(7) == 2
        assert again.names.column == "who"


def test_the_description_is_plain_json(tmp_path):
    likelihood = randomised()
    save_likelihood(tmp_path, likelihood)
    assert json.loads((tmp_path / LIKELIHOOD_FILE).read_text(encoding="utf-8")) == {
        "format": 2,
        "levels": 5,
        "margin_scale": 0.0,
        "inference": "variational",
        "taste": True,
        "habits": [],
        "covariates": None,
        "names": ["ann", "bob", "7", "ü \n"],
        "column": "who",
        "rating_weight": 0.25,
        "ratings": "gaussian",
        "rating_location": 0.0,
        "rating_scale": 1.0,
        "grades": [],
        "styles": True,
        "seed": 0,
    }
    shapes = {name: tuple(v.shape) for name, v in load_file(tmp_path / LIKELIHOOD_WEIGHTS).items()}
    assert shapes == {
        "outcomes.raw_gaps": (2,),
        "annotators.location": (4, 2),
        "annotators.log_scale": (4, 2),
        "ratings.log_noise": (1,),
        "ratings.styles.level": (4,),
        "ratings.styles.log_unit": (4,),
    }
    # fields that were added later may be missing
    edit_json(tmp_path / LIKELIHOOD_FILE, ["taste", "habits", "covariates"])
    assert load_likelihood(tmp_path, likelihood.head).options == likelihood.options


def test_default_options_leave_no_files(tmp_path):
    plain = make_likelihood(BASE)
    save_likelihood(tmp_path, plain)
    assert list(tmp_path.iterdir()) == []
    assert load_likelihood(tmp_path, BASE).options == LikelihoodOptions()
    # those of an earlier run in the same folder are not its own
    save_likelihood(tmp_path, LIKELIHOODS["ties"])
    for name in ("reward_head.json", "objective.json", "objective.safetensors"):
        (tmp_path / name).write_text("{}")
    save_likelihood(tmp_path, plain)
    assert [path.name for path in tmp_path.iterdir()] == ["reward_head.json"]


LITTLE = {"annotators": False, "anchor_weight": 2.0, "levels": 2}


def write_first_format(folder, members=1, *, annotators=True, anchor_weight=0.25, levels=5):
    """Write the files of the first format by hand, and return their tensors."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    state = {
        "outcomes.raw_gaps": draw(members, (levels - 1) // 2),
        "log_rating_noise": draw(members, int(anchor_weight > 0)),
    }
    known = None
    if annotators:
        known = {"inference": "variational", "column": "who", "names": list(PEOPLE)}
        state |= {f"annotators.{name}": draw(4, members, 2) for name in ("location", "log_scale")}
    save_file(state, folder / "objective.safetensors")
    content = {"format": 1, "levels": levels, "margin_scale": 0.0, "annotators": known}
    path = folder / "objective.json"
    path.write_text(json.dumps(content | {"anchor_weight": anchor_weight}))
    return state


@pytest.mark.parametrize(
    ("head", "written"),
    [
        *((head, {}) for head in (FACTOR, ENSEMBLE, heads.EnsembleHead(FACTOR, 1))),
        *((head, LITTLE) for head in (BASE, heads.EnsembleHead(BASE, 2))),
    ],
)
def test_the_first_format_is_read(tmp_path, head, written):
    count = max(head.num_members, 1)
    state = write_first_format(tmp_path, count, **written)
    likelihood = load_likelihood(tmp_path, head)
    assert likelihood.head == head
    little, full = LikelihoodOptions(rating_weight=2.0), dataclasses.replace(FULL, styles=False)
    assert likelihood.options == (little if written else full)
    members = members_of(likelihood)
    assert len(members) == count
    for number, member in enumerate(members):
        assert torch.equal(member.ratings.log_noise, state["log_rating_noise"][number])
        if written:
            continue
        assert torch.equal(member.outcomes.raw_gaps, state["outcomes.raw_gaps"][number])
        for name in ("location", "log_scale"):
            own = state[f"annotators.{name}"][:, number]
            assert torch.equal(getattr(member.annotators, name), own)
    # and is written as the second
    save_likelihood(tmp_path, likelihood)
    assert {path.name for path in tmp_path.iterdir()} == {LIKELIHOOD_FILE, LIKELIHOOD_WEIGHTS}
    again = load_likelihood(tmp_path, head)
    same_state(again, likelihood)


@pytest.mark.parametrize(
    ("written", "head"), [(1, ENSEMBLE), (2, ENSEMBLE), (3, FACTOR), (1, BASE)]
)
def test_the_first_format_of_another_head_is_told(tmp_path, written, head):
    write_first_format(tmp_path, written)
    with pytest.raises(CheckpointError, match=r"objective.json .* do not fit its head"):
        load_likelihood(tmp_path, head)


DAMAGES = {
    "no levels": (["levels"], {}),
    "no annotators": (["names"], {}),
    "no column": (["column"], {}),
    "other levels": ([], {"levels": 7}),
    "impossible levels": ([], {"levels": 4}),
    "levels in words": ([], {"levels": "five"}),
    "margins in words": ([], {"margin_scale": "one"}),
    "margins with levels": ([], {"margin_scale": 1.0}),
    "a negative weight": ([], {"rating_weight": -1.0}),
    "ratings left out": ([], {"rating_weight": 0.0}),
    "ratings of another kind": ([], {"ratings": "ordinal", "grades": [1, 2]}),
    "ratings of no kind": ([], {"ratings": "stars"}),
    "no styles": ([], {"styles": False}),
    "annotators in words": ([], {"names": "anna"}),
    "fewer annotators": ([], {"names": ["ann"]}),
    "the same annotator twice": ([], {"names": ["a", "b", "c", "a"]}),
    "another inference": ([], {"inference": "map"}),
    "no inference": ([], {"inference": None}),
    "an unknown inference": ([], {"inference": "guess"}),
}
WEIGHTS = {
    "missing": lambda path: path.unlink(),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "no safetensors": lambda path: path.write_text("hello"),
    "other names": lambda path: save_file({f"{n}_": v for n, v in load_file(path).items()}, path),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *WEIGHTS])
def test_damaged_files_are_told(tmp_path, damage):
    save_likelihood(tmp_path, randomised())
    if damage in WEIGHTS:
        WEIGHTS[damage](tmp_path / LIKELIHOOD_WEIGHTS)
    else:
        drop, values = DAMAGES[damage]
        edit_json(tmp_path / LIKELIHOOD_FILE, drop, **values)
    with pytest.raises(CheckpointError, match=r"do not fit its head .*; the checkpoint is damaged"):
        load_likelihood(tmp_path, FACTOR)


@pytest.mark.parametrize(
    "head",
    [
        BASE,
        heads.make("factor", num_factors=1),
        heads.make("factor", num_factors=0),
        ENSEMBLE,
        heads.EnsembleHead(BASE, 1),
    ],
)
def test_the_likelihood_of_another_head_is_told(tmp_path, head):
    save_likelihood(tmp_path, randomised())
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_likelihood(tmp_path, head)


@pytest.mark.parametrize(("text", "words"), [
    ("{", "The checkpoint is damaged"),
    ("[1]", "a JSON object is needed"),
    ('{"levels": 2}', "has format None, this package reads 2"),
    ('{"format": 3}', "has format 3, this package reads 2; upgrade hidden-context"),
])  # fmt: skip
def test_what_is_no_description_is_told(tmp_path, text, words):
    (tmp_path / LIKELIHOOD_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_likelihood(tmp_path, FACTOR)
    assert LIKELIHOOD_FILE in str(caught.value)
