"""Scoring a file, here or on remote storage: the same rewards for every row, and nothing lost.

fsspec's memory and local file systems stand for object stores.
"""

from pathlib import Path
from unittest.mock import Mock

import fsspec
import pytest
import torch
import yaml

from hidden_context import RewardModel, risk
from hidden_context.cli.score import main
from hidden_context.data.storage.rows import iter_rows
from hidden_context.errors import (
    ConfigError,
    DataError,
    MissingDependencyError,
    MissingFileError,
    StorageError,
)
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring.columns import People, added_columns
from hidden_context.scoring.remote import fetch, local_files, put
from hidden_context.scoring.requests import Scorer
from support.builders import preference_rows, sample_texts
from support.models import edit_weights
from support.paper_layout import jailbroken_rows, read_rows, reward_checkpoint, write_rows
from support.scoring import score

SIDES = ("chosen", "rejected")


def raw_outputs(row):
    """Take the raw outputs of a row's texts out of it."""
    columns = ("reward_output", *(f"reward_output_{side}" for side in SIDES))
    return row.pop("reward_outputs_m", None) or [row.pop(name) for name in columns if name in row]


KINDS = {
    "pair": (preference_rows(23, 5), {}, lambda row: [row[side] for side in SIDES]),
    "text": ([{"text": text} for text in sample_texts(4)], {}, lambda row: [row["text"]]),
    "chat": (
        [{"messages": row["chosen"], "id": 7} for row in preference_rows(3, chat=True)],
        {},
        lambda row: [row["messages"]],
    ),
    "responses": (
        jailbroken_rows(4), {}, lambda row: [row["prompt"] + text for text in row["responses"]]
    ),
    "responses from the first human turn": (
        jailbroken_rows(4),
        {"prompt_from_first_human": True},
        lambda row: [row["prompt"].partition("\n\n")[2] + text for text in row["responses"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_row_keeps_its_columns_and_gets_raw_outputs_in_order(
    kind, categorical, tmp_path
):
    given, options, texts_of = KINDS[kind]
    source = write_rows(tmp_path / "rows.jsonl", given)
    result = score(source, categorical, tmp_path / "out.jsonl", names=["m"], window=3, **options)
    rows = read_rows(result.path)
    assert str(result.counts) == f"{len(given)} of {len(given)} rows written"
    model = RewardModel.from_pretrained(categorical)
    raw = torch.tensor([each for row in rows for each in raw_outputs(row)])
    expected = model.raw_outputs([text for row in given for text in texts_of(row)])
    assert torch.allclose(raw, expected, atol=1e-5, rtol=0)
    assert raw.std(0).min() > 0.01  # the model tells texts apart
    assert [list(row.items()) for row in rows] == [list(row.items()) for row in given]


def test_several_models_each_in_columns_of_their_own(checkpoint, categorical, pairs, tmp_path):
    names = ["a/b", "a_b"]  # kept apart, though they differ in a slash only
    both = score(pairs, [checkpoint, categorical], tmp_path / "both.jsonl", names=names)
    alone = score(pairs, categorical, tmp_path / "alone.jsonl")
    row, single = read_rows(both.path)[0], read_rows(alone.path)[0]
    columns = [f"reward_output_{side}_{name}" for name in names for side in SIDES]
    assert list(row)[-4:] == columns
    assert [len(row[column]) for column in columns] == [2, 2, 5, 5]
    assert [row[column] for column in columns[2:]] == raw_outputs(single)


def test_the_options_and_heads_lie_beside_the_output(checkpoint, pairs, tmp_path):
    score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["mean"])
    names = ["out.jsonl", "out.jsonl.config.yaml", "out.jsonl.heads", "pairs.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    stored = yaml.safe_load((tmp_path / "out.jsonl.config.yaml").read_text())
    expected = {"input": pairs, "models": [checkpoint], "risk": ["mean"]}
    expected |= {"precision": "float32", "threads": None}  # what was taken on this processor
    assert {name: stored[name] for name in expected} == expected


@pytest.mark.parametrize("annotator", [None, "ann"])
def test_risk_measures_of_an_annotator_and_of_groups(factor, pairs, tmp_path, annotator):
    groups, measures = {"old": ["ann", "7"], "young": ["bob"]}, ["mean", "relative_quantile:0.1"]
    options = {"risk": measures, "annotator": annotator}
    options["groups"] = write_rows(tmp_path / "g.json", [groups])
    rows = read_rows(score(pairs, factor, tmp_path / "risk.jsonl", **options).path)
    plain = read_rows(score(pairs, factor, tmp_path / "plain.jsonl").path)
    people = People(RewardModel.from_pretrained(factor).likelihood, annotator, groups)
    for row, bare in zip(rows, plain, strict=True):
        line = {"raw": raw_outputs(dict(bare))}
        added = added_columns("pair", "m", line, people, list(map(risk.parse, measures)))
        assert row == bare | added  # what was there is untouched
        assert set(added["rewards_groups_chosen"]["mean"]) == {"old", "young", "worst_group"}


def test_blank_responses_have_no_reward_and_are_no_candidates(factor, tmp_path):
    rows = [
        {"prompt": "Human: a", "responses": ["one", " ", "two", "three"]},
        {"prompt": "Human: c", "responses": [""]},
    ]
    options = {"names": ["m"], "risk": ["mean", "relative_cvar:1"], "window": 1}
    options["groups"] = write_rows(tmp_path / "g.json", [{"all": ["7", "ann", "bob"]}])
    result = score(write_rows(tmp_path / "r.jsonl", rows), factor, tmp_path / "o.jsonl", **options)
    first, second = read_rows(result.path)
    reason = "nothing but white space follows the prompt"
    assert first["reward_outputs_m_reason"] == [None, reason, None, None]
    risks = first["rewards_m"]
    assert first["reward_outputs_m"][1] is risks[1] is first["rewards_groups_m"][1] is None
    assert set(first["rewards_groups_m"][0]["relative_cvar:1"]) == {"all", "worst_group"}
    texts = [f"Human: a\n\nAssistant: {text}" for text in ("one", "two", "three")]
    means = RewardModel.from_pretrained(factor).score(texts).mean.tolist()
    # of all annotators together: the mean less the mean over the three
    for place, mean in zip((0, 2, 3), means, strict=True):
        wanted = {"mean": mean, "relative_cvar:1": mean - sum(means) / 3}
        assert risks[place] == pytest.approx(wanted, abs=1e-5)
    added = {"reward_outputs_m": [None], "reward_outputs_m_reason": [reason], "rewards_m": [None]}
    added["rewards_groups_m"] = [None]
    assert second == rows[1] | added
    assert result.counts.unscored == 2


@pytest.mark.parametrize(
    ("over_length", "kept", "said"),
    [
        ("null", [0, 1, 2, 3], "4 of 4 rows written; 2 texts without a reward (see the _reason "
         "columns)"),
        ("drop", [0, 3], "2 of 4 rows written; 2 dropped: a text is too long or empty, or its "
         "reward not finite"),
        ("truncate", [0, 1, 2, 3], "4 of 4 rows written; 1 text without a reward (see the "
         "_reason columns), 1 text cut on the left"),
    ],
)  # fmt: skip
def test_texts_that_are_too_long_or_blank(checkpoint, tmp_path, over_length, kept, said):
    inputs = preference_rows(4)
    inputs[1]["rejected"] = long = "Human: " + "word " * 40 + "\n\nAssistant: so."
    inputs[2]["chosen"] = ""
    source = write_rows(tmp_path / "long.jsonl", inputs)
    options = {"max_length": 50, "over_length": over_length, "risk": ["mean"]}
    result = score(source, checkpoint, tmp_path / "o.jsonl", **options)
    rows = read_rows(result.path)
    assert [row["chosen"] for row in rows] == [inputs[n]["chosen"] for n in kept]
    assert str(result.counts) == said
    model = RewardModel.from_pretrained(checkpoint)
    ids = model.tokenizer(long)["input_ids"]
    reasons = {(2, "chosen"): "nothing but white space follows the prompt"}
    if over_length == "null":
        reasons[1, "rejected"] = f"it has {len(ids)} tokens, more than 50"
    for number, row in enumerate(rows):
        for side in SIDES:
            reason = None if over_length == "drop" else reasons.get((number, side))
            assert row.get(f"reward_output_{side}_reason") == reason
            for column in (f"reward_output_{side}", f"rewards_{side}"):
                assert (row[column] is None) == (reason is not None)
    if over_length == "truncate":
        cut = model.raw_outputs_of_tokens([ids[-50:]])[0].tolist()
        assert rows[1]["reward_output_rejected"] == pytest.approx(cut, abs=1e-5)


def test_a_raw_output_that_is_not_finite_is_no_reward(tmp_path):
    broken = reward_checkpoint(tmp_path / "broken")
    edit_weights(Path(broken, "model.safetensors"), **{"score.weight": torch.full((2, 32), 1e38)})
    source = write_rows(tmp_path / "texts.jsonl", [{"text": "Tea."}])
    (row,) = read_rows(score(source, broken, tmp_path / "out.jsonl").path)
    assert row["reward_output"] is None
    assert row["reward_output_reason"] == "the model's raw output is not finite"
    asked = Scorer(RewardModel.from_pretrained(broken)).raw(["Tea."])
    assert asked.reasons == [row["reward_output_reason"]]


@pytest.mark.parametrize(
    ("output", "options", "error", "words"),
    [
        (".", {}, StorageError, "is a folder; name a file to write"),
        ("pairs.jsonl", {}, ConfigError, r"pairs.jsonl is the input too; name another"),
        ("o.jsonl", {"kind": "text"}, DataError, "pairs.jsonl, line 1, field 'text'"),
        ("o.jsonl", {"risk": ["worst"]}, ConfigError, "risk measure 'worst' is not known; choose"),
        ("o.jsonl", {"risk": ["relative_cvar:0.1"]}, ConfigError, "needs a head that models"),
        ("o.jsonl", {"risk": ["mean"], "groups": "g.json"}, MissingFileError, "g.json does not"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_scored(
    checkpoint, pairs, tmp_path, calls, output, options, error, words
):
    with pytest.raises(error, match=words):
        score(pairs, checkpoint, tmp_path / output, **options)
    assert calls == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl"]


OPTIONS = {"names": ["m"], "window": 4}


@pytest.fixture
def memory():
    """A file system in memory that holds nine pairs."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    return files


@pytest.fixture
def source(memory, tmp_path):
    """Nine pairs, here and in memory."""
    path = write_rows(tmp_path / "pairs.jsonl", preference_rows(9, 5))
    memory.pipe_file("/in/pairs.jsonl", Path(path).read_bytes())
    return path


def cached(tmp_path):
    return {each.name for each in (tmp_path / "cache").rglob("*") if each.is_file()}


def test_a_remote_file_is_scored_as_a_local_one_and_an_interrupted_run_goes_on(
    memory, source, checkpoint, tmp_path, interrupt, calls
):
    address = "memory://out/deep/scores.jsonl"
    run = ("memory://in/pairs.jsonl", checkpoint, address)
    interrupt(2, score, *run, **OPTIONS)
    assert not memory.exists("/out/deep/scores.jsonl")
    assert cached(tmp_path) == {"pairs.jsonl", "scores.jsonl.m.partial"}
    calls.clear()
    there = score(*run, **OPTIONS)
    assert [len(call.texts) for call in calls] == [2]  # one window was left
    here = score(source, checkpoint, tmp_path / "out.jsonl", **OPTIONS)
    assert memory.cat_file("/out/deep/scores.jsonl") == here.path.read_bytes()
    assert (there.place, there.counts) == (address, here.counts)
    ends = ("", ".config.yaml", ".heads/m/reward_head.json")
    assert sorted(memory.find("/out")) == [f"/out/deep/scores.jsonl{end}" for end in ends]
    said = memory.cat_file("/out/deep/scores.jsonl.config.yaml").decode()
    assert "input: memory://in/pairs.jsonl\n" in said
    assert f"output: {address}\n" in said
    assert cached(tmp_path) == set()


def test_parquet_in_and_out(source, checkpoint, tmp_path, capsys):
    here = score(source, checkpoint, tmp_path / "out.jsonl", **OPTIONS)
    local = score(source, checkpoint, tmp_path / "out.parquet", **OPTIONS).path
    address = f"file://{tmp_path}/far/again.parquet"
    flags = f"--models {checkpoint} --names m --output {address} --window 4 --disable_tqdm"
    assert main([f"file://{local}", *flags.split()]) == 0
    assert capsys.readouterr().out == f"{address}: 9 of 9 rows written\n"
    expected = [row for _, row in iter_rows(here.path)]
    for path in (local, tmp_path / "far/again.parquet"):
        assert [row for _, row in iter_rows(path)] == expected


def test_a_file_is_fetched_anew_where_it_changed(memory):
    memory.pipe_file("/in.jsonl", b"one\n")
    first = fetch("memory://in.jsonl")
    assert (first.name, first.read_bytes()) == ("in.jsonl", b"one\n")
    first.write_bytes(b"kept\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"kept\n"
    memory.pipe_file("/in.jsonl", b"other\n")
    assert fetch("memory://in.jsonl").read_bytes() == b"other\n"


@pytest.mark.parametrize(
    ("given", "output", "error", "words"),
    [
        ("i", "memory://folder/", ConfigError, "names no file"),
        ("i", "memory://", ConfigError, "names no file"),
        ("i", "nowhere://a.jsonl", ConfigError, r"nowhere://a\.jsonl: .*nowhere"),
        ("memory://a", "memory://a", ConfigError, "is the input too"),
        ("memory://no.jsonl", "o", MissingFileError, r"memory://no\.jsonl does not exist"),
        ("gone://bucket/a.jsonl", "o", MissingDependencyError, "not installed: Install gone"),
    ],
)
def test_addresses_that_cannot_be(memory, given, output, error, words):
    fsspec.register_implementation("gone", "gone.Files", clobber=True, errtxt="Install gone")
    config = ScoreConfig(input=given, models=["m"], output=output)
    with pytest.raises(error, match=words), local_files(config):
        pass


def test_a_place_that_cannot_be_written(memory, tmp_path, monkeypatch):
    memory.pipe_file("/out.jsonl", b"earlier")
    result = tmp_path / "out.jsonl"
    result.write_bytes(b"new")
    monkeypatch.setattr("shutil.copyfileobj", Mock(side_effect=OSError("quota")))
    with pytest.raises(StorageError, match=rf"quota The result is kept in {result}"):
        put(result, "memory://out.jsonl")
    assert memory.cat_file("/out.jsonl") == b"earlier"
    assert result.read_bytes() == b"new"
