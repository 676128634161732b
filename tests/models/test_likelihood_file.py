"""``likelihood.json`` and ``likelihood.safetensors``: what was learned beside the network."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from hidden_context import heads
from hidden_context.errors import CheckpointError
from hidden_context.likelihood import CovariateCoding, LikelihoodOptions, make_likelihood
from hidden_context.likelihood.single import members_of
from hidden_context.models.checkpoint import likelihood_file
from hidden_context.models.network.weights import shapes_in
from support.models import damage, edit_json

FILE, WEIGHTS = "likelihood.json", "likelihood.safetensors"
BASE = heads.make("base")
FACTOR = heads.make("factor", num_factors=2)
ENSEMBLE = heads.EnsembleHead(FACTOR, 3)
PEOPLE = ("ann", "bob", "7", "ü \n")
WHO = {"inference": "variational", "names": PEOPLE, "column": "who"}
FULL = LikelihoodOptions(5, **WHO, rating_weight=0.25, styles=True)
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


def randomised(head=FACTOR, options=FULL, *known):
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


def names(folder):
    return {path.name for path in folder.iterdir()}


def same_state(first, second):
    assert first.options == second.options
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_what_was_saved_is_read_back(tmp_path, kind):
    likelihood = LIKELIHOODS[kind]
    likelihood_file.save_likelihood(tmp_path, likelihood)
    again = likelihood_file.load_likelihood(tmp_path, likelihood.head)
    assert names(tmp_path) == {FILE, WEIGHTS}
    same_state(again, likelihood)
    if again.options.names == PEOPLE:
        assert again.names.index(7) == 2
        assert again.names.column == "who"


def test_the_description_is_plain_json(tmp_path):
    likelihood = randomised()
    likelihood_file.save_likelihood(tmp_path, likelihood)
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8")) == {
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
    assert shapes_in(tmp_path / WEIGHTS) == {
        "outcomes.raw_gaps": (2,),
        "annotators.location": (4, 2),
        "annotators.log_scale": (4, 2),
        "ratings.log_noise": (1,),
        "ratings.styles.level": (4,),
        "ratings.styles.log_unit": (4,),
    }
    # fields that were added later may be missing
    edit_json(tmp_path / FILE, ["taste", "habits", "covariates"])
    assert likelihood_file.load_likelihood(tmp_path, likelihood.head).options == likelihood.options


def test_default_options_leave_no_files(tmp_path):
    plain = make_likelihood(BASE)
    likelihood_file.save_likelihood(tmp_path, plain)
    assert names(tmp_path) == set()
    assert likelihood_file.load_likelihood(tmp_path, BASE).options == LikelihoodOptions()
    # those of an earlier run in the same folder are not its own
    likelihood_file.save_likelihood(tmp_path, LIKELIHOODS["ties"])
    for name in ("reward_head.json", "objective.json", "objective.safetensors"):
        (tmp_path / name).write_text("{}")
    likelihood_file.save_likelihood(tmp_path, plain)
    assert names(tmp_path) == {"reward_head.json"}


def write_first_format(folder, members=1, *, full=True):
    """Write the files of the first format by hand, and return their tensors."""
    levels, weight, known = (5, 0.25, WHO) if full else (2, 2.0, None)
    shapes = {"outcomes.raw_gaps": (members, (levels - 1) // 2), "log_rating_noise": (members, 1)}
    if full:
        shapes |= {f"annotators.{name}": (4, members, 2) for name in ("location", "log_scale")}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    save_file(state, folder / "objective.safetensors")
    content = {"format": 1, "levels": levels, "margin_scale": 0.0, "anchor_weight": weight}
    (folder / "objective.json").write_text(json.dumps(content | {"annotators": known}))
    return state


@pytest.mark.parametrize(
    ("head", "full"),
    [
        *((head, True) for head in (FACTOR, ENSEMBLE, heads.EnsembleHead(FACTOR, 1))),
        *((head, False) for head in (BASE, heads.EnsembleHead(BASE, 2))),
    ],
)
def test_the_first_format_is_read(tmp_path, head, full):
    count = max(head.num_members, 1)
    state = write_first_format(tmp_path, count, full=full)
    likelihood = likelihood_file.load_likelihood(tmp_path, head)
    assert likelihood.head == head
    little = LikelihoodOptions(rating_weight=2.0)
    assert likelihood.options == (dataclasses.replace(FULL, styles=False) if full else little)
    members = members_of(likelihood)
    assert len(members) == count
    for number, member in enumerate(members):
        assert torch.equal(member.ratings.log_noise, state["log_rating_noise"][number])
        for name in ("location", "log_scale") if full else ():
            assert torch.equal(member.outcomes.raw_gaps, state["outcomes.raw_gaps"][number])
            own = state[f"annotators.{name}"][:, number]
            assert torch.equal(getattr(member.annotators, name), own)
    # and is written as the second
    likelihood_file.save_likelihood(tmp_path, likelihood)
    assert names(tmp_path) == {FILE, WEIGHTS}
    same_state(likelihood_file.load_likelihood(tmp_path, head), likelihood)


OTHERS = [heads.make("factor", num_factors=count) for count in (0, 1)]


@pytest.mark.parametrize(
    ("first_format_of", "head"),
    [
        *((1, ENSEMBLE), (2, ENSEMBLE), (3, FACTOR), (1, BASE)),
        *((None, head) for head in (BASE, ENSEMBLE, heads.EnsembleHead(BASE, 1), *OTHERS)),
    ],
)
def test_the_likelihood_of_another_head_is_told(tmp_path, first_format_of, head):
    if first_format_of is None:
        likelihood_file.save_likelihood(tmp_path, randomised())
    else:
        write_first_format(tmp_path, first_format_of)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: .* do not fit its head"):
        likelihood_file.load_likelihood(tmp_path, head)


UNFIT = "do not fit its head .*; the checkpoint is damaged"


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        *(
            (FILE, change, UNFIT)
            for change in (
                *([field] for field in ("levels", "names", "column")),
                *({"levels": levels} for levels in (7, 4, "five")),
                *({"margin_scale": scale} for scale in ("one", 1.0)),
                *({"rating_weight": weight} for weight in (-1.0, 0.0)),
                *({"ratings": "ordinal", "grades": [1, 2]}, {"ratings": "stars"}),
                {"styles": False},
                *({"names": names} for names in ("anna", ["ann"], ["a", "b", "c", "a"])),
                *({"inference": inference} for inference in ("map", None, "guess")),
            )
        ),
        *(
            (WEIGHTS, change, UNFIT)
            for change in (None, 3, "hello", ["outcomes"], {"annotators.scale": torch.ones(2)})
        ),
        (FILE, "{", "likelihood.json.* The checkpoint is damaged"),
        (FILE, "[1]", "likelihood.json: a JSON object is needed"),
        (FILE, ["format"], "likelihood.json has format None, but this version reads 2"),
        (FILE, {"format": 3}, "likelihood.json has .* reads 2; upgrade hidden-context"),
    ],
)
def test_damaged_files_are_told(tmp_path, file, change, words):
    likelihood_file.save_likelihood(tmp_path, randomised())
    damage(tmp_path / file, change)
    with pytest.raises(CheckpointError, match=words):
        likelihood_file.load_likelihood(tmp_path, FACTOR)
