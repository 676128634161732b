"""Chats from the file to the reward: refused rows, tools, tool calls, null keys, content parts."""

import json

import pytest
import torch

from hidden_context.data.importers import read_row
from hidden_context.data.model_input import ModelInput
from hidden_context.data.splits.held_out import Splits
from hidden_context.errors import DataError
from hidden_context.models import RewardModel
from hidden_context.scoring import EvaluateConfig, ScoreConfig, evaluate, score_file
from hidden_context.training import run
from hidden_context.training.resume import describe_run
from support.builders import preference_rows, tiny_backbone, tiny_tokenizer, train_config
from support.paper_layout import read_rows, write_rows

TEMPLATE = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ 'named' if 'name' in m }}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be kind."}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"role": "assistant", "tool_calls": [TOOL]}


def rows_with_a_refused_one():
    rows = preference_rows(24, seed=3, chat=True)
    for side in ("chosen", "rejected"):
        rows[6][side] = [SYSTEM, *rows[6][side]]
    return rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A language model and a reward model whose chat template refuses system turns."""
    tokenizer = tiny_tokenizer(chat_template=TEMPLATE, max_length=512)
    place = tmp_path_factory.mktemp("models")
    options = {"tokenizer": tokenizer, "n_positions": 512}
    return (
        tiny_backbone(place / "lm", **options),
        tiny_backbone(place / "rm", num_labels=1, **options),
    )


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "data.jsonl", rows_with_a_refused_one())


@pytest.mark.parametrize(
    "way", [{}, {"freeze_backbone": True, "embed": "together", "probe_epochs": 1}]
)
def test_training_names_or_skips_a_refused_row(folders, tmp_path, data, way):
    options = {"data_path": data, "eval_fraction": 0.2, "max_steps": 1, "max_length": 256} | way
    with pytest.raises(DataError, match=r"data\.jsonl, line 7: the chat template refuses"):
        run(train_config(folders[0], tmp_path / "a", **options))
    config = train_config(folders[0], tmp_path / "b", on_malformed="skip", **options)
    reports = run(config).reports
    assert sum(report.kept for report in reports.values()) == 23
    malformed = [text for report in reports.values() for text in report.malformed]
    assert len(malformed) == 1
    assert "line 7" in malformed[0]
    assert "no system turn" in malformed[0]


def test_evaluation_names_or_skips_a_refused_row(folders, tmp_path, data):
    config = {"data_path": data, "output": str(tmp_path / "e.jsonl"), "disable_tqdm": True}
    with pytest.raises(DataError, match=r"data\.jsonl, line 7: the chat template refuses"):
        evaluate(EvaluateConfig(checkpoint=folders[1], **config))
    result = evaluate(EvaluateConfig(checkpoint=folders[1], **config, on_malformed="skip"))
    assert (result.counts.rows, result.counts.dropped) == (24, 1)
    assert "2 texts refused by the chat template" in str(result.counts)
    config["over_length"] = "null"
    result = evaluate(EvaluateConfig(checkpoint=folders[1], **config, on_malformed="skip"))
    assert (result.counts.written, result.counts.unscored) == (24, 2)
    bad = write_rows(tmp_path / "bad.jsonl", rows_with_a_refused_one()[6:7])
    config = {"data_path": bad, "output": str(tmp_path / "n.jsonl"), "on_malformed": "skip"}
    with pytest.raises(DataError, match=r"none of 1 rows .* the chat template \(2 texts\)"):
        evaluate(EvaluateConfig(checkpoint=folders[1], **config))


def test_scores_of_a_refused_row_are_null_with_a_reason(folders, tmp_path, data):
    output = tmp_path / "o.jsonl"
    config = ScoreConfig(input=data, output=str(output), models=[folders[1]], disable_tqdm=True)
    counts = score_file(config).counts
    assert (counts.unscored, counts.refused) == (2, 2)
    rows = read_rows(output)
    assert [number for number, row in enumerate(rows) if None in row.values()] == [6]
    assert "no system turn" in rows[6]["reward_output_chosen_reason"]


def test_tools_and_tool_calls_are_scored(folders, tmp_path):
    model = RewardModel.from_pretrained(folders[1], dtype="float32", device="cpu")
    user, text = {"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}
    rows = [
        {"prompt": [user], "chosen": [CALL | {"content": None}], "rejected": [text], "tools": tools}
        for tools in (None, [TOOL], json.dumps([TOOL]))
    ]
    path, output = write_rows(tmp_path / "d.jsonl", rows), tmp_path / "o.jsonl"
    score_file(ScoreConfig(input=path, output=str(output), models=[folders[1]], disable_tqdm=True))
    chats = [[user, CALL], [user, text]]
    given = [ModelInput(chat, tools=tools) for tools in (None, [TOOL]) for chat in chats]
    bare_call, bare_text, call, answer = model.raw_outputs(given).squeeze(-1).tolist()
    assert len({round(value, 5) for value in (bare_call, bare_text, call, answer)}) == 4
    found = [
        (row["reward_output_chosen"], row["reward_output_rejected"]) for row in read_rows(output)
    ]
    for one, expected in zip(found, [(bare_call, bare_text)] + [(call, answer)] * 2, strict=True):
        assert one[0] == pytest.approx([expected[0]], abs=1e-5)
        assert one[1] == pytest.approx([expected[1]], abs=1e-5)
    rewards = model.score_responses([user], [[CALL], [text]], tools=[TOOL]).mean
    assert rewards.tolist() == pytest.approx([call, answer], abs=1e-5)


def test_other_tools_are_other_data_for_a_run_that_goes_on(folders, tmp_path):
    row = {"prompt": [SYSTEM], "chosen": [CALL], "rejected": [SYSTEM]}
    config = train_config(folders[0], tmp_path)
    one, same, other = (
        describe_run(config, Splits([read_row(row | {"tools": tools})], [], []))["data"]
        for tools in ([TOOL], json.dumps([TOOL]), None)
    )
    assert one == same != other


@pytest.mark.parametrize("embed", [None, "apart", "together"])
def test_conversations_given_by_hand_are_normalised(folders, tmp_path, embed):
    folder = folders[1]
    if embed:
        rows = preference_rows(24, seed=1, chat=True)
        config = train_config(
            folders[0], tmp_path, freeze_backbone=True, embed=embed, probe_epochs=1
        )
        folder = run(config, rows, rows).path
    model = RewardModel.from_pretrained(folder, dtype="float32", device="cpu")
    parts = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?", "image": None}]
    plain = [{"role": "user", "content": "Rain?"}, CALL]
    given = [
        {"role": "user", "content": parts, "name": None},
        CALL | {"content": None, "name": None},
    ]
    one, other = model.raw_outputs([plain, given])
    assert torch.allclose(one, other, atol=1e-6)
    image = [{"role": "user", "content": [{"type": "image"}]}, plain[1]]
    with pytest.raises(DataError, match="not a part of type 'image'"):
        model.raw_outputs([image])
