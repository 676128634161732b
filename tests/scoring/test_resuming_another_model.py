"""A run that was interrupted and goes on with something changed ends like one begun with that."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from hidden_context import heads, scoring
from hidden_context.errors import HiddenContextWarning
from hidden_context.likelihood import make_likelihood
from hidden_context.models.backbone import build_model
from hidden_context.models.featurizer import Featurizer, FeaturizerOptions
from hidden_context.models.frozen import FrozenRewardModel, Probe, ProbeOptions
from hidden_context.models.modules import final_linear
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.models.tokenizer import load_tokenizer
from hidden_context.scoring import EvaluateConfig, ScoreConfig
from hidden_context.scoring.partial import PartialScores
from support.builders import preference_rows, tiny_backbone, tiny_tokenizer
from support.paper_layout import read_rows, reward_checkpoint, write_rows

HEAD = heads.make("base")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}"
    "{% if m.tool_calls %} {{ m.tool_calls[0].function.arguments }}{% endif %}{% endfor %}"
)
DATED = "{{ strftime_now('%S %f') if strftime_now is defined }}" + TEMPLATE
SIDES = ("reward_output_chosen", "reward_output_rejected")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "cache"))


def classifier(folder, **options):
    tokenizer = tiny_tokenizer(chat_template=options.pop("template", TEMPLATE))
    return reward_checkpoint(folder, "base", tokenizer=tokenizer, **options)


def adapter(folder):
    """An adapter in ``folder``, whose backbone is in ``FOLDER-base``."""
    tokenizer = tiny_tokenizer(chat_template=TEMPLATE)
    base = tiny_backbone(f"{folder}-base", "gpt2", tokenizer=tokenizer)
    module = build_model(base, HEAD)
    with torch.no_grad():
        final_linear(module.get_base_model())[1].weight.mul_(20)
    SequenceRewardModel(
        module, load_tokenizer(base), make_likelihood(HEAD), 100, base_model=base
    ).save_pretrained(folder)
    return str(folder)


def frozen(folder):
    """A probe in ``folder``, whose backbone is in ``FOLDER-base``."""
    tokenizer = tiny_tokenizer(chat_template=TEMPLATE)
    base = tiny_backbone(f"{folder}-base", "gpt2", tokenizer=tokenizer)
    options = ProbeOptions(hidden=8, dropout=0.0, members=1)
    probe = Probe(32, HEAD, options)
    featurizer = Featurizer(base, FeaturizerOptions(embed="together", max_length=100))
    FrozenRewardModel(featurizer, probe, options, make_likelihood(HEAD)).save_pretrained(folder)
    return str(folder)


def chats(count=12, **call):
    rows = preference_rows(count, 3, chat=True)
    for row in rows:
        for side in ("chosen", "rejected"):
            row[side][1]["tool_calls"] = [{"function": {"name": "f", "arguments": side, **call}}]
    return rows


def score(source, model, output, **options):
    config = ScoreConfig(
        input=source, models=[model], output=str(output), names=["m"], window=4,
        disable_tqdm=True, **options,
    )  # fmt: skip
    return scoring.score_file(config)


def stop_after_a_window(monkeypatch, run):
    original = PartialScores.append

    def append(self, *window):
        original(self, *window)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PartialScores, "append", append)
        with pytest.raises(KeyboardInterrupt):
            run()


def rewards(path):
    return torch.tensor([[row[side] for side in SIDES] for row in read_rows(path)])


def keep_times(path, change):
    """Change a file in place so that size and time of change stay the same."""
    status = path.stat()
    change(path)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def retrain(folder, kind="gpt2", **options):
    made = Path(f"{folder}-retrained")
    tiny_backbone(made, kind, seed=5, **options)
    keep_times(Path(folder) / "model.safetensors", lambda path: shutil.copy(made / path.name, path))


def change_template(folder):
    path = Path(folder) / "chat_template.jinja"
    path.write_text(path.read_text().replace("<{{ m.role }}>", "{{ m.role }}:"))


def change_tokenizer(folder):
    path = Path(folder) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = content["model"]["merges"][:20]
    path.write_text(json.dumps(content))


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
def test_the_model_changed_in_between(tmp_path, monkeypatch, name):
    make, change = CHANGES[name]
    source = write_rows(tmp_path / "chats.jsonl", chats())
    model, output = make(tmp_path / "model"), tmp_path / "out.jsonl"
    before = rewards(score(source, model, tmp_path / "before.jsonl").path)
    stop_after_a_window(monkeypatch, lambda: score(source, model, output))
    change(Path(model))
    with pytest.warns(HiddenContextWarning, match="scored anew"):
        after = rewards(score(source, model, output).path)
    assert torch.equal(after, rewards(score(source, model, tmp_path / "fresh.jsonl").path))
    assert ((after - before).abs().amax((1, 2)) > 1e-6).all()


def test_another_folder_with_a_tokenizer(tmp_path, monkeypatch):
    source = write_rows(tmp_path / "chats.jsonl", chats())
    model, output = classifier(tmp_path / "model"), tmp_path / "out.jsonl"
    other = classifier(tmp_path / "other")
    stop_after_a_window(monkeypatch, lambda: score(source, model, output, tokenizer_name=other))
    change_tokenizer(other)
    with pytest.warns(HiddenContextWarning, match="the tokens are others"):
        score(source, model, output, tokenizer_name=other)
    fresh = score(source, model, tmp_path / "fresh.jsonl", tokenizer_name=other)
    assert output.read_bytes() == fresh.path.read_bytes()


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_pairs_that_differ_in_tool_calls_alone(tmp_path, monkeypatch, verb):
    def run(output):
        if verb == "score":
            return score(source, model, output).path
        return scoring.evaluate(
            EvaluateConfig(
                checkpoint=model, data_path=source, output=str(output), window=4, disable_tqdm=True
            )
        ).path

    source = write_rows(tmp_path / "chats.jsonl", chats())
    model = classifier(tmp_path / "model")
    stop_after_a_window(monkeypatch, lambda: run(tmp_path / "out.jsonl"))
    write_rows(source, chats(arguments="other"))
    with pytest.warns(HiddenContextWarning, match="from row 1 on the tokens are others"):
        output = run(tmp_path / "out.jsonl")
    assert output.read_bytes() == run(tmp_path / "fresh.jsonl").read_bytes()


def test_rows_before_the_change_are_kept(tmp_path, monkeypatch):
    """The same model and options: only what follows the first other token is scored again."""
    rows = chats()
    source = write_rows(tmp_path / "chats.jsonl", rows)
    model, output = classifier(tmp_path / "model"), tmp_path / "out.jsonl"
    stop_after_a_window(monkeypatch, lambda: score(source, model, output))
    stop_after_a_window(monkeypatch, lambda: score(source, model, output))
    write_rows(source, [*rows[:5], *chats(arguments="other")[5:]])
    scored, original = [], SequenceRewardModel.try_raw_outputs

    def recorded(self, texts, *args, **options):
        scored.append(len(texts))
        return original(self, texts, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", recorded)
    with pytest.warns(HiddenContextWarning, match="from row 5 on the tokens are others"):
        score(source, model, output)
    assert scored == [8, 8]
    assert output.read_bytes() == score(source, model, tmp_path / "fresh.jsonl").path.read_bytes()


def test_a_template_that_writes_the_time(tmp_path, monkeypatch):
    source = write_rows(tmp_path / "chats.jsonl", chats())
    model = classifier(tmp_path / "model", template=DATED)
    stop_after_a_window(monkeypatch, lambda: score(source, model, tmp_path / "out.jsonl"))
    with pytest.warns(HiddenContextWarning, match="from row 1 on the tokens are others"):
        score(source, model, tmp_path / "out.jsonl")


def test_a_checkpoint_that_was_moved_is_the_same(tmp_path, monkeypatch, recwarn):
    source = write_rows(tmp_path / "chats.jsonl", chats())
    model, output = classifier(tmp_path / "model"), tmp_path / "out.jsonl"
    stop_after_a_window(monkeypatch, lambda: score(source, model, output))
    shutil.move(model, tmp_path / "moved")
    score(source, str(tmp_path / "moved"), output)
    assert not [each for each in recwarn if "anew" in str(each.message)]
    fresh = score(source, str(tmp_path / "moved"), tmp_path / "fresh.jsonl")
    assert output.read_bytes() == fresh.path.read_bytes()


def test_an_input_that_changes_while_it_is_scored(tmp_path, monkeypatch):
    from hidden_context.errors import DataError
    from hidden_context.scoring import merge

    source = write_rows(tmp_path / "chats.jsonl", chats())
    model = classifier(tmp_path / "model")
    original = merge.score_rows

    def change(*args, **options):
        original(*args, **options)
        write_rows(source, chats()[::-1])

    monkeypatch.setattr(merge, "score_rows", change)
    with pytest.raises(DataError, match="it was changed while its rows were scored"):
        score(source, model, tmp_path / "out.jsonl")


def test_a_record_whose_rows_stand_elsewhere_is_refused(tmp_path, monkeypatch):
    from hidden_context.errors import DataError
    from hidden_context.scoring import merge

    source = write_rows(tmp_path / "chats.jsonl", chats())
    model = classifier(tmp_path / "model")
    original = merge.score_rows

    def exchange(model, rows, record, **options):
        original(model, rows, record, **options)
        header, first, second, *rest = record.path.read_bytes().splitlines(keepends=True)
        record.path.write_bytes(b"".join([header, second, first, *rest]))

    monkeypatch.setattr(merge, "score_rows", exchange)
    with pytest.raises(DataError, match="the record of row 1 is another row's"):
        score(source, model, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
