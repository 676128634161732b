"""Interrupted runs: what goes on, what is scored anew, and the bytes of a run left alone."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from hidden_context import heads
from hidden_context.errors import DataError, HiddenContextWarning
from hidden_context.scoring import files, loading, stream
from hidden_context.scoring.record import read_header
from support.builders import preference_rows, tiny_backbone, tiny_tokenizer
from support.models import edit_json, frozen_model, sequence_model
from support.paper_layout import read_rows, reward_checkpoint, write_rows
from support.scoring import evaluate, score

HEAD = heads.make("base")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}"
    "{% if m.tool_calls %} {{ m.tool_calls[0].function.arguments }}{% endif %}{% endfor %}"
)
WINDOWS = {"window": 5, "batch_size": 4, "device": "cpu"}
LEFT, ALL = [10, 10, 6], [10, 10, 10, 10, 6]  # texts by window, of 23 pairs


def sizes(calls):
    return [len(call.texts) for call in calls]


@pytest.mark.parametrize(
    ("begun", "then", "left", "said"),
    [
        ({}, {"resume": False}, ALL, None),
        ({}, {"kind": "pair"}, ALL, "kind"),
        ({}, {"prompt_from_first_human": True}, ALL, "prompt_from_first_human"),
        ({}, {"risk": ["mean"], "batch_size": 3}, LEFT, None),
        ({"precision": "bfloat16"}, {}, LEFT, None),  # auto keeps what it was begun with
        ({"precision": "bfloat16"}, {"precision": "float32"}, ALL, "dtype"),
        ({"max_length": 20, "over_length": "truncate"}, {}, ALL, "max_length, over_length"),
    ],
)
def test_options_that_change_rewards_start_anew_and_others_go_on(
    checkpoint, pairs, tmp_path, interrupt, calls, recwarn, begun, then, left, said
):
    output = tmp_path / "out.jsonl"
    interrupt(2, score, pairs, checkpoint, output, **WINDOWS | begun)
    assert not output.exists()
    calls.clear()
    result = score(pairs, checkpoint, output, **WINDOWS | then)
    assert sizes(calls) == left
    found = [str(each.message) for each in recwarn if "anew" in str(each.message)]
    record = f"{output}.normal.partial"
    expected = [f"{record} was begun with other {said}; all rows are scored anew."] if said else []
    assert found == expected
    whole = WINDOWS | (begun if left == LEFT else {}) | then
    alone = score(pairs, checkpoint, tmp_path / "whole.jsonl", **whole)
    assert output.read_bytes() == alone.path.read_bytes()
    assert result.counts == alone.counts
    assert not Path(record).exists()


@pytest.mark.parametrize(
    ("lost", "engine"), [(0, "auto"), (1, "tree"), (30, "cache"), (300, "padded")]
)
def test_a_window_that_was_cut_off_is_scored_again(
    checkpoint, pairs, tmp_path, interrupt, calls, lost, engine
):
    """The machine went down while the last window was being written."""
    options = WINDOWS | {"max_length": 20, "over_length": "truncate", "engine": engine}
    output, record = tmp_path / "out.jsonl", tmp_path / "out.jsonl.normal.partial"
    interrupt(2, score, pairs, checkpoint, output, **options)
    record.write_bytes(record.read_bytes()[: -lost or None])
    calls.clear()
    result = score(pairs, checkpoint, output, **options)
    assert sizes(calls) == ([10, *LEFT] if lost else LEFT)
    assert (result.counts.written, result.counts.truncated) == (23, 46)  # of the whole run
    alone = score(pairs, checkpoint, tmp_path / "whole.jsonl", **options)
    assert output.read_bytes() == alone.path.read_bytes()


def test_the_first_model_s_scores_are_kept_while_the_second_is_interrupted(
    factor, pairs, tmp_path, interrupt, calls
):
    """Whose risk measures are asked for does not matter."""
    models, options = [factor, factor], WINDOWS | {"names": ["one", "other"]}
    interrupt(7, score, pairs, models, tmp_path / "out.jsonl", **options)
    calls.clear()
    groups = write_rows(tmp_path / "groups.json", [{"old": ["ann"], "young": ["bob"]}])
    options |= {"risk": ["relative_quantile:0.1"], "annotator": "bob", "groups": groups}
    score(pairs, models, tmp_path / "out.jsonl", **options)
    assert sizes(calls) == LEFT
    score(pairs, models, tmp_path / "whole.jsonl", **options)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(("asked", "used"), [(None, 2), (1, 1)])
def test_threads_are_kept_and_other_numbers_start_nothing_anew(
    checkpoint, pairs, tmp_path, monkeypatch, interrupt, calls, asked, used
):
    monkeypatch.setattr(loading, "usable_cpus", lambda: 2)
    monkeypatch.setattr("hidden_context.models.network.threads.usable_cpus", lambda: 2)
    output = tmp_path / "out.jsonl"
    interrupt(2, score, pairs, checkpoint, output, **WINDOWS, threads=2)
    assert read_header(tmp_path / "out.jsonl.normal.partial")["threads"] == 2
    calls.clear()
    score(pairs, checkpoint, output, **WINDOWS | {"window": 9}, threads=asked)  # larger windows too
    assert [(len(call.texts), call.threads) for call in calls] == [(18, used), (8, used)]
    assert torch.get_num_threads() == 1  # as before


def chats(count=12, **call):
    rows = preference_rows(count, 3, chat=True)
    for row in rows:
        for side in ("chosen", "rejected"):
            row[side][1]["tool_calls"] = [{"function": {"name": "f", "arguments": side, **call}}]
    return rows


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "chats.jsonl", chats())


def score_chats(source, model, output, **options):
    return score(source, model, output, names=["m"], window=4, **options).path


def evaluate_chats(source, model, output):
    return evaluate(model, source, output=str(output), window=4).path


def classifier(folder):
    return reward_checkpoint(folder, "base", tokenizer=tiny_tokenizer(chat_template=TEMPLATE))


def backbone_of(folder):
    return tiny_backbone(f"{folder}-base", "gpt2", tokenizer=tiny_tokenizer(chat_template=TEMPLATE))


@pytest.mark.parametrize("run", [score_chats, evaluate_chats])
@pytest.mark.parametrize(
    ("rows", "first", "left"),
    [
        (chats(), None, [8]),
        (chats(arguments="other"), 1, [8, 8, 8]),
        ([*chats()[:4], *chats(arguments="other")[4:]], 5, [8, 8]),
        (chats()[:6], 5, [4]),
    ],
)
def test_rows_are_scored_again_from_the_first_one_that_changed(
    source, tmp_path, interrupt, calls, run, rows, first, left
):
    """The rows differ in their tool calls alone, or there are fewer now."""
    model, output = classifier(tmp_path / "model"), tmp_path / "out.jsonl"
    for _ in range(2):  # it may be interrupted more than once
        interrupt(1, run, source, model, output)
    write_rows(source, rows)
    calls.clear()
    with told(first and f"from row {first} on the tokens are others"):
        run(source, model, output)
    assert sizes(calls) == left
    assert output.read_bytes() == run(source, model, tmp_path / "fresh.jsonl").read_bytes()


def told(words):
    if words:
        return pytest.warns(HiddenContextWarning, match=words)
    return contextlib.nullcontext()


def adapter(folder):
    """An adapter in ``folder``, whose backbone is in ``FOLDER-base``."""
    sequence_model(backbone_of(folder), HEAD).save_pretrained(folder)
    return str(folder)


def frozen(folder):
    """A probe in ``folder``, whose backbone is in ``FOLDER-base``."""
    frozen_model(backbone_of(folder), HEAD, "together").save_pretrained(folder)
    return str(folder)


def retrain(folder, **options):
    """Put other weights into a folder, whose file has the same size and time of change."""
    made, path = Path(f"{folder}-retrained"), Path(folder) / "model.safetensors"
    tiny_backbone(made, "gpt2", seed=5, **options)
    status = path.stat()
    shutil.copy(made / path.name, path)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_template(folder):
    path = Path(folder) / "chat_template.jinja"
    path.write_text(path.read_text().replace("<{{ m.role }}>", "{{ m.role }}:"))


def change_tokenizer(folder):
    path = Path(folder) / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    edit_json(path, model=model | {"merges": model["merges"][:20]})


CHANGES = {
    "template": (classifier, change_template),
    "tokenizer": (classifier, change_tokenizer),
    "weights": (classifier, lambda folder: retrain(folder, num_labels=1)),
    "base of an adapter": (adapter, lambda folder: retrain(f"{folder}-base")),
    "template of an adapter": (adapter, change_template),
    "base of a frozen head": (frozen, lambda folder: retrain(f"{folder}-base")),
    "template of a frozen head": (frozen, change_template),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_that_changed_in_between_starts_anew(source, tmp_path, interrupt, name):
    make, change = CHANGES[name]
    model, output = make(tmp_path / "model"), tmp_path / "out.jsonl"
    before = rewards(score_chats(source, model, tmp_path / "before.jsonl"))
    interrupt(1, score_chats, source, model, output)
    change(Path(model))
    with told("scored anew"):
        after = rewards(score_chats(source, model, output))
    assert torch.equal(after, rewards(score_chats(source, model, tmp_path / "fresh.jsonl")))
    assert ((after - before).abs().amax((1, 2)) > 1e-6).all()


def rewards(path):
    sides = ("reward_output_chosen", "reward_output_rejected")
    return torch.tensor([[row[side] for side in sides] for row in read_rows(path)])


def test_another_tokenizer_starts_anew_and_a_moved_checkpoint_goes_on(
    source, tmp_path, interrupt, recwarn
):
    model, output = classifier(tmp_path / "model"), tmp_path / "out.jsonl"
    options = {"tokenizer_name": classifier(tmp_path / "other")}
    interrupt(1, score_chats, source, model, output, **options)
    model = shutil.move(model, tmp_path / "moved")
    interrupt(1, score_chats, source, model, output, **options)
    assert not [each for each in recwarn if "anew" in str(each.message)]
    change_tokenizer(options["tokenizer_name"])
    with told("the tokens are others"):
        score_chats(source, model, output, **options)
    fresh = score_chats(source, model, tmp_path / "fresh.jsonl", **options)
    assert output.read_bytes() == fresh.read_bytes()


def exchange_rows(record):
    header, first, second, *rest = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join([header, second, first, *rest]))


@pytest.mark.parametrize(
    ("rows", "seen", "words"),
    [
        (12, True, "it was changed while its rows were scored"),
        (13, False, "row 13 was added while the others were scored"),
        (11, False, "the rows after row 11 were removed while they were scored"),
        (None, True, "the record of row 1 belongs to another row"),
    ],
)
def test_what_changes_while_rows_are_scored_is_refused(
    source, tmp_path, monkeypatch, rows, seen, words
):
    original = stream.score_rows

    def disturbed(model, options, given, record, progress):
        original(model, options, given, record, progress)
        if rows is None:
            exchange_rows(record.path)
        else:
            write_rows(source, chats(rows))

    monkeypatch.setattr(stream, "score_rows", disturbed)
    if not seen:  # as where the file changes while it is read again
        monkeypatch.setattr(files, "describe_file", lambda path: [])
    with pytest.raises(DataError, match=words):
        score_chats(source, classifier(tmp_path / "model"), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
