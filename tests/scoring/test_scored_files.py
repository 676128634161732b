"""Scoring a file: the same rewards for every kind of row in every format, and nothing lost."""

import errno
import json
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from hidden_context import RewardModel, heads, risk
from hidden_context.data.storage import row_writer
from hidden_context.errors import ConfigError, DataError, MissingFileError, StorageError
from hidden_context.likelihood import make_likelihood
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import merge
from hidden_context.scoring.columns import People, added_columns, risk_values
from support.builders import preference_rows, sample_texts
from support.paper_layout import jailbroken_rows, read_rows, write_rows
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
    result = score(source, categorical, tmp_path / "out.jsonl", names=["m"], **options)
    rows = read_rows(result.path)
    assert str(result.counts) == f"{len(given)} of {len(given)} rows written"
    model = RewardModel.from_pretrained(categorical)
    raw = torch.tensor([each for row in rows for each in raw_outputs(row)])
    expected = model.raw_outputs([text for row in given for text in texts_of(row)])
    assert torch.allclose(raw, expected, atol=1e-6, rtol=0)
    assert raw.std(0).min() > 0.01  # the model tells texts apart
    assert [list(row.items()) for row in rows] == [list(row.items()) for row in given]


def test_cells_that_json_lacks_are_written(checkpoint, tmp_path):
    extra = {"image": {"bytes": b"\x89PNG"}, "price": Decimal("1.50")}
    rows = [{"text": "a", "note": math.nan, **extra}, {"text": "b", "note": 0.5, **extra}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    found = read_rows(score(tmp_path / "t.parquet", checkpoint, tmp_path / "o.jsonl").path)
    assert all(len(row.pop("reward_output")) == 2 for row in found)
    written = {"image": {"bytes": "iVBORw=="}, "price": "1.50"}
    assert found == [{"text": "a", "note": None, **written}, {"text": "b", "note": 0.5, **written}]


def test_values_that_cannot_be_read_are_found_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(SequenceRewardModel, "from_pretrained", None)
    texts = pa.array(["a"] * 1025)
    days = pa.array([0] * 1024 + [10**7], pa.date32())
    table = pa.table({"chosen": texts, "rejected": texts, "day": days})
    pq.write_table(table, tmp_path / "a.parquet")
    content = "chosen,rejected\na,b\n\"[{'role': 'user', 'content': 'a'}]\",b\n"
    (tmp_path / "a.csv").write_text(content)
    for name, words in [
        ("a.parquet", r"field 'day': a value after row 1024 cannot be read"),
        ("a.csv", r"line 2, field 'chosen': .*json\.dumps"),
    ]:
        with pytest.raises(DataError, match=words):
            score(tmp_path / name, "m", tmp_path / "o.jsonl")
    assert not list(tmp_path.glob("o.jsonl*"))


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 64}, {"window": 3}])
def test_rewards_and_order_do_not_depend_on_batches(checkpoint, pairs, tmp_path, options):
    one = read_rows(score(pairs, checkpoint, tmp_path / "one.jsonl", batch_size=1).path)
    other = read_rows(score(pairs, checkpoint, tmp_path / "other.jsonl", **options).path)
    first, second = (torch.tensor(list(map(raw_outputs, rows))) for rows in (one, other))
    assert torch.allclose(first, second, atol=1e-5, rtol=1e-5)
    assert one == other


def test_several_models_each_in_columns_of_their_own(checkpoint, categorical, pairs, tmp_path):
    names = ["a/b", "a_b"]  # kept apart, though they differ in a slash only
    both = score(pairs, [checkpoint, categorical], tmp_path / "both.jsonl", names=names)
    alone = score(pairs, categorical, tmp_path / "alone.jsonl")
    row, single = read_rows(both.path)[0], read_rows(alone.path)[0]
    columns = [f"reward_output_{side}_{name}" for name in names for side in SIDES]
    assert list(row)[-4:] == columns
    assert [len(row[column]) for column in columns] == [2, 2, 5, 5]
    assert [row[column] for column in columns[2:]] == raw_outputs(single)


def test_the_options_and_heads_lie_beside_the_output_and_bytes_are_the_same_at_every_run(
    checkpoint, pairs, tmp_path
):
    first = score(pairs, checkpoint, tmp_path / "out.jsonl", risk=["mean"]).path.read_bytes()
    names = ["out.jsonl", "out.jsonl.config.yaml", "out.jsonl.heads", "pairs.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    stored = yaml.safe_load((tmp_path / "out.jsonl.config.yaml").read_text())
    expected = {"input": pairs, "models": [checkpoint], "risk": ["mean"]}
    expected |= {"precision": "float32", "threads": None}  # what was taken on this processor
    assert {name: stored[name] for name in expected} == expected
    again = score(pairs, checkpoint, tmp_path / "again.jsonl", risk=["mean"])
    assert again.path.read_bytes() == first


def test_risk_measures_of_an_annotator_and_of_groups(factor, pairs, tmp_path):
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"old": ["ann", 7], "young": ["bob"]}))
    options = {"risk": ["mean", "relative_quantile:0.1"], "groups": str(groups)}
    rows, of_ann, plain = (
        read_rows(score(pairs, factor, tmp_path / f"{n}.jsonl", **each).path)
        for n, each in enumerate([options, options | {"annotator": "ann"}, {}])
    )
    model, measure = RewardModel.from_pretrained(factor), risk.parse("relative_quantile:0.1")
    assert len(rows) == 23
    for row, own, bare in zip(rows, of_ann, plain, strict=True):
        assert bare.items() <= row.items()  # what was there is untouched
        assert bare.items() <= own.items()
        raw = torch.tensor(raw_outputs(bare), dtype=torch.float64)
        rewards = model.head.distribution(raw)
        each = {who: model.likelihood.rewards_of(rewards, who) for who in ("ann", "bob", "7", None)}
        mean = {who: of_one.mean.tolist() for who, of_one in each.items()}
        value = {who: measure(of_one).tolist() for who, of_one in each.items()}
        for place, side in enumerate(SIDES):
            for found, who in ((row, None), (own, "ann")):
                expected = {"mean": mean[who][place], str(measure): value[who][place]}
                assert found[f"rewards_{side}"] == pytest.approx(expected, abs=1e-9)
            old = (value["ann"][place] + value["7"][place]) / 2
            young = value["bob"][place]
            of_groups = {"old": old, "young": young, "worst_group": min(old, young)}
            for found in (row, own):
                by_group = found[f"rewards_groups_{side}"][str(measure)]
                assert by_group == pytest.approx(of_groups, abs=1e-9)
    assert [row["rewards_chosen"] for row in rows] != [row["rewards_chosen"] for row in of_ann]


def test_blank_responses_have_no_reward_and_are_no_candidates(factor, tmp_path):
    rows = [
        {"prompt": "Human: a", "responses": ["one", " ", "two", "three"]},
        {"prompt": "Human: c", "responses": [""]},
    ]
    source = write_rows(tmp_path / "r.jsonl", rows)
    options = {"names": ["m"], "risk": ["mean", "relative_cvar:1"], "window": 1}
    (tmp_path / "g.json").write_text('{"all": ["7", "ann", "bob"]}')
    options["groups"] = str(tmp_path / "g.json")
    result = score(source, factor, tmp_path / "o.jsonl", **options)
    first, second = read_rows(result.path)
    reason = "nothing but white space follows the prompt"
    assert first["reward_outputs_m_reason"] == [None, reason, None, None]
    risks = first["rewards_m"]
    assert first["reward_outputs_m"][1] is risks[1] is first["rewards_groups_m"][1] is None
    assert set(first["rewards_groups_m"][0]["relative_cvar:1"]) == {"all", "worst_group"}
    texts = [f"Human: a\n\nAssistant: {text}" for text in ("one", "two", "three")]
    means = RewardModel.from_pretrained(factor).score(texts).mean.tolist()
    # of all annotators together: the mean less the mean over the three
    assert [risks[place] for place in (0, 2, 3)] == [
        pytest.approx({"mean": mean, "relative_cvar:1": mean - sum(means) / 3}, abs=1e-5)
        for mean in means
    ]
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
        ("truncate", [0, 1, 2, 3], "4 of 4 rows written; 1 texts without a reward (see the "
         "_reason columns), 1 texts cut on the left"),
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


def test_a_full_disk_at_the_end_leaves_the_old_output_and_the_record(
    checkpoint, pairs, tmp_path, monkeypatch, calls
):
    output = tmp_path / "out.jsonl"
    output.write_text("old\n")

    def full(row):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(row_writer, "json_line", full)
        with pytest.raises(StorageError, match=r"out.jsonl could not be written: No space"):
            score(pairs, checkpoint, output)
    assert output.read_text() == "old\n"
    names = ["out.jsonl", "out.jsonl.normal.partial", "pairs.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    calls.clear()
    score(pairs, checkpoint, output)
    assert calls == []  # nothing is scored twice
    assert len(read_rows(output)) == 23


@pytest.mark.parametrize(
    ("output", "options", "error", "words"),
    [
        (".", {}, StorageError, "is a folder; name a file to write"),
        ("pairs.jsonl", {}, ConfigError, r"pairs.jsonl is the input too; name another"),
        ("file/o.jsonl", {}, StorageError, r"could not be written: File exists. Check that"),
        ("o.jsonl", {"risk": ["worst"]}, ConfigError, "risk measure 'worst' is not known; choose"),
        ("o.jsonl", {"risk": ["relative_cvar:0.1"]}, ConfigError, "needs a head that knows what"),
        ("o.jsonl", {"risk": ["mean"], "annotator": "a"}, ConfigError, "knows no annotators"),
        ("o.jsonl", {"risk": ["mean"], "groups": "g.json"}, MissingFileError, "g.json does not"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_scored(
    checkpoint, pairs, tmp_path, calls, output, options, error, words
):
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=words):
        score(pairs, checkpoint, tmp_path / output, **options)
    assert calls == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pairs.jsonl"]


def test_rows_added_while_the_others_were_scored(checkpoint, pairs, tmp_path, monkeypatch):
    original = merge._merged

    def grow(*args, **options):
        with Path(pairs).open("a") as file:
            file.write(json.dumps(preference_rows(1)[0]) + "\n")
        return original(*args, **options)

    monkeypatch.setattr(merge, "_merged", grow)
    with pytest.raises(DataError, match="row 24 was added while the others were scored"):
        score(pairs, checkpoint, tmp_path / "out.jsonl")


def test_risk_columns_hold_closed_forms_by_name():
    everybody = People(make_likelihood(heads.make("mean_and_variance")))
    measures = [risk.parse("mean"), risk.parse("mean_minus_std:2")]
    line = {"raw": [[1.0, math.log(math.expm1(1.0))], None], "reasons": [None, "too long"]}
    columns = added_columns("pair", "m", line, everybody, measures)
    expected = pytest.approx({"mean": 1.0, "mean_minus_std:2": -1.0}, abs=1e-12)
    assert (columns["rewards_chosen"], columns["rewards_rejected"]) == (expected, None)
    of_responses = added_columns("responses", "m", line, everybody, measures)["rewards_m"]
    assert of_responses == [columns["rewards_chosen"], None]
    of_text = added_columns("text", "m", {"raw": line["raw"][:1]}, everybody, measures)
    assert of_text["rewards"] == columns["rewards_chosen"]
    # a column per measure even where nothing was scored
    assert risk_values([None, None], measures, everybody) == [None, None]
    assert risk_values([[1.0, 0.0]], [], everybody) == [None]


@pytest.mark.parametrize("kind", ["factor", "mixture", "quantile", "ensemble"])
def test_every_head_has_its_columns(kind):
    head = heads.make(kind)
    raw = torch.linspace(-1, 1, head.num_outputs).tolist()
    own = People(make_likelihood(head))
    columns = added_columns("text", "m", {"raw": [raw]}, own, [risk.parse("cvar:0.3")])
    expected = head.distribution(torch.tensor(raw, dtype=torch.float64)).cvar(0.3).item()
    assert columns["reward_output"] == raw
    assert columns["rewards"]["cvar:0.3"] == pytest.approx(expected, abs=1e-12)
