"""``objective.json`` and ``objective.safetensors``: what was learned beside the network."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hidden_context import heads
from hidden_context.errors import CheckpointError
from hidden_context.models.objective_file import (
    OBJECTIVE_FILE,
    OBJECTIVE_WEIGHTS,
    describe_objective,
    load_objective,
    save_objective,
)
from hidden_context.objectives import AnnotatorEmbeddings, Labels, Objective, Outcomes

FACTOR = heads.make("factor", num_factors=2)
ENSEMBLE = heads.EnsembleHead(FACTOR, 3)


def randomised(objective: Objective) -> Objective:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return objective


def full(head: heads.Head = FACTOR, inference: str = "variational", **options) -> Objective:
    """Thresholds, annotators and the noise of ratings, all at random."""
    members = head.members[1]
    names = ("ann", "bob", "7", "ü \n")
    annotators = AnnotatorEmbeddings(names, 2, members, inference, column="who")
    return randomised(Objective(head, Outcomes(5, members), annotators, 0.25))


OBJECTIVES = {
    "factor": full(),
    "point embeddings": full(inference="map"),
    "ensemble": full(ENSEMBLE),
    "ties": randomised(Objective(heads.make("base"), Outcomes(3))),
    "margins": Objective(heads.make("base"), Outcomes(margin_scale=0.5)),
    "ratings": randomised(Objective(heads.make("mixture"), anchor_weight=2.0)),
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_was_saved_is_read_back(tmp_path, kind):
    objective = OBJECTIVES[kind]
    save_objective(tmp_path, objective)
    again = load_objective(tmp_path, objective.head)
    assert {path.name for path in tmp_path.iterdir()} == {OBJECTIVE_FILE, OBJECTIVE_WEIGHTS}
    assert describe_objective(again) == describe_objective(objective)
    first, second = objective.state_dict(), again.state_dict()
    assert set(first) == set(second)
    for name, values in first.items():
        assert torch.equal(values, second[name]), name
    head = objective.head
    raw = torch.randn(2, 4, head.num_outputs, generator=torch.Generator().manual_seed(1))
    labels = Labels.of_preferences(torch.tensor([1.0, 0.5, 0.0, 1.0]), torch.tensor([0, 1, 2, -1]))
    for loss in (Objective.negative_log_likelihood, Objective.training_loss):
        assert torch.equal(loss(objective, *raw, labels), loss(again, *raw, labels))
    if objective.annotators is not None:
        assert again.annotators.names == ("ann", "bob", "7", "ü \n")
        assert again.annotators.index(7) == 2
        assert again.annotators.column == "who"


def test_the_description_is_plain_json(tmp_path):
    save_objective(tmp_path, full())
    assert json.loads((tmp_path / OBJECTIVE_FILE).read_text(encoding="utf-8")) == {
        "format": 1,
        "levels": 5,
        "margin_scale": 0.0,
        "anchor_weight": 0.25,
        "annotators": {
            "inference": "variational",
            "column": "who",
            "names": ["ann", "bob", "7", "ü \n"],
        },
    }
    shapes = {name: tuple(v.shape) for name, v in load_file(tmp_path / OBJECTIVE_WEIGHTS).items()}
    assert shapes == {
        "outcomes.raw_gaps": (1, 2),
        "annotators.location": (4, 1, 2),
        "annotators.log_scale": (4, 1, 2),
        "log_rating_noise": (1, 1),
    }


def test_a_plain_objective_leaves_no_files(tmp_path):
    plain = Objective(heads.make("base"))
    save_objective(tmp_path, plain)
    assert list(tmp_path.iterdir()) == []
    assert load_objective(tmp_path, plain.head).is_plain
    # those of an earlier run in the same folder are not its own
    save_objective(tmp_path, OBJECTIVES["ties"])
    (tmp_path / "reward_head.json").write_text("{}")
    save_objective(tmp_path, plain)
    assert [path.name for path in tmp_path.iterdir()] == ["reward_head.json"]
    assert load_objective(tmp_path, plain.head).is_plain


def edited(**changes):
    def edit(folder):
        path = folder / OBJECTIVE_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def without(key: str):
    def edit(folder):
        path = folder / OBJECTIVE_FILE
        content = json.loads(path.read_text())
        del content[key]
        path.write_text(json.dumps(content))

    return edit


def truncated(folder):
    path = folder / OBJECTIVE_WEIGHTS
    path.write_bytes(path.read_bytes()[:-3])


def another_name(folder):
    path = folder / OBJECTIVE_WEIGHTS
    save_file({f"{name}_": values for name, values in load_file(path).items()}, path)


DAMAGES = {
    "no weights": lambda folder: (folder / OBJECTIVE_WEIGHTS).unlink(),
    "truncated weights": truncated,
    "no safetensors": lambda folder: (folder / OBJECTIVE_WEIGHTS).write_text("hello"),
    "other weights": another_name,
    "no levels": without("levels"),
    "no annotators": without("annotators"),
    "other levels": edited(levels=7),
    "impossible levels": edited(levels=4),
    "levels in words": edited(levels="five"),
    "margins in words": edited(margin_scale="one"),
    "margins with levels": edited(margin_scale=1.0),
    "a negative weight": edited(anchor_weight=-1.0),
    "ratings left out": edited(anchor_weight=0.0),
    "annotators in words": edited(annotators="ann"),
    "fewer annotators": edited(
        annotators={"inference": "variational", "column": "who", "names": ["ann"]}
    ),
    "the same annotator twice": edited(
        annotators={"inference": "variational", "column": "who", "names": ["a", "b", "c", "a"]}
    ),
    "no column": edited(annotators={"inference": "map", "names": ["a", "b", "c", "d"]}),
    "another inference": edited(
        annotators={"inference": "map", "column": "who", "names": ["a", "b", "c", "d"]}
    ),
    "an unknown inference": edited(
        annotators={"inference": "guess", "column": "who", "names": ["a", "b", "c", "d"]}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told(tmp_path, damage):
    save_objective(tmp_path, full())
    DAMAGES[damage](tmp_path)
    with pytest.raises(CheckpointError, match=r"do not fit its head .*; the checkpoint is damaged"):
        load_objective(tmp_path, FACTOR)


@pytest.mark.parametrize(
    "head",
    [
        heads.make("base"),
        heads.make("factor", num_factors=1),
        heads.make("factor", num_factors=0),
        ENSEMBLE,
        heads.EnsembleHead(heads.make("base"), 1),
    ],
)
def test_the_objective_of_another_head_is_told(tmp_path, head):
    save_objective(tmp_path, full())
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_objective(tmp_path, head)


@pytest.mark.parametrize(("text", "words"), [
    ("{", "The checkpoint is damaged"),
    ("[1]", "a JSON object is needed"),
    ('{"levels": 2}', "has format None, this package reads 1"),
    ('{"format": 2}', "has format 2, this package reads 1; upgrade hidden-context"),
])  # fmt: skip
def test_what_is_no_description_is_told(tmp_path, text, words):
    (tmp_path / OBJECTIVE_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_objective(tmp_path, FACTOR)
    assert OBJECTIVE_FILE in str(caught.value)
