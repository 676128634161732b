"""Where an export may be written, that it is whole or not there, and what cannot be exported."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from hidden_context import heads
from hidden_context.cli.main import main
from hidden_context.errors import CheckpointError, ConfigError, StorageError
from hidden_context.export import ExportConfig, check, workflow
from support.builders import CHAT_TEMPLATE, tiny_tokenizer
from support.models import export, frozen_model, load, refusal

BASE = heads.make("base")
ATOMS = heads.make("categorical", num_atoms=4)
CONFIG = ExportConfig(checkpoint="a", output="b")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_command_says_how_far_the_folder_is_from_the_checkpoint(checkpoint, tmp_path, capsys):
    tokenizer = tiny_tokenizer(bos="<s>", pad="</s>", chat_template=CHAT_TEMPLATE)
    source, out = checkpoint("gpt2", BASE, tokenizer=tokenizer), tmp_path / "out"
    before = contents(source)
    assert main(["export", str(source), "--output", str(out), "--form", "scalar"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: outputs of 7 texts are within ")  # chats are among them
    assert "of the checkpoint's (allowed: " in printed
    assert "\n  the padding token is <|reward_padding|> now" in printed
    assert contents(source) == before
    assert main(["export", str(source), "--output", str(out)]) == 2
    assert "is not empty; name another folder, or give --overwrite" in capsys.readouterr().err


def test_the_folder_is_whole_or_not_there(source, tmp_path, monkeypatch):
    export(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    export(source, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before  # the same bytes, the second time too
    full_disk = OSError(28, "No space left on device")
    monkeypatch.setattr(workflow, "classifier_outputs", Mock(side_effect=full_disk))
    with pytest.raises(StorageError, match="No space left"):
        export(source, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before
    with pytest.raises(StorageError):
        export(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_read_is_never_replaced(source, backbones, tmp_path):
    for output in (source, source / "inside", source.parent):
        assert "overlaps with" in refusal(export, source, output, overwrite=True, error=ConfigError)
    with pytest.raises(ConfigError, match=r"overlaps with .*, which the export reads"):
        export(source, Path(backbones("gpt2")) / "out")
    assert (source / "adapter_model.safetensors").is_file()


def test_other_folders_and_files_are_not_replaced(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"no reward_head\.json, so it is not an earlier export"):
        export(source, tmp_path / "mine", overwrite=True)
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        export(source, tmp_path / "mine" / "notes.txt", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export(source, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_probes_on_frozen_backbones_are_refused(backbones, tmp_path):
    frozen_model(backbones("gpt2")).save_pretrained(tmp_path / "probe")
    with pytest.raises(ConfigError, match=r"a probe on features .* `hidden-context serve`"):
        export(tmp_path / "probe", tmp_path / "out")


@pytest.mark.parametrize(
    ("made", "form", "message"),
    [
        ({"tuning": "full"}, "adapters", "has no adapters: it is a whole network"),
        ({"members": 2}, "full", "of 2 adapters cannot be merged"),
        ({"members": 2}, "scalar", "of 2 adapters cannot be merged"),
        ({"head": ATOMS}, "scalar", "the mean reward of the categorical head is not a linear"),
        ({"head": heads.make("mixture", num_components=2)}, "scalar", "of the mixture head .* 6"),
        ({"head": heads.EnsembleHead(ATOMS, 2)}, "scalar", "of the ensemble of categorical .* 8"),
    ],
)
def test_forms_that_do_not_fit_are_refused(checkpoint, tmp_path, made, form, message):
    source = checkpoint("gpt2", **made)
    with pytest.raises(ConfigError, match=message):
        export(source, tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()


def test_adapters_that_do_not_merge_are_refused(source, tmp_path, monkeypatch):
    fail = Mock(side_effect=ValueError("NaNs detected in the merged weights.\nmore"))
    monkeypatch.setattr(PeftModel, "merge_and_unload", fail, raising=False)
    with pytest.raises(ConfigError, match=r"cannot be merged .*\(NaNs detected"):
        export(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": ""}, "export needs a checkpoint, as in"),
        ({"output": ""}, "export needs --output, as in"),
        ({"form": "half"}, "--form is 'half'; choose full, scalar or adapters."),
        ({"dtype": "int8"}, "--dtype is 'int8'"),
        ({"drop_constant": True}, "--drop_constant needs --form scalar"),
        ({"write_base": True}, "--write_base needs --form adapters"),
        ({"form": "adapters", "dtype": "bfloat16"}, "adapters keep the precision"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**({"checkpoint": "a", "output": "b"} | options))


@pytest.mark.parametrize(
    ("scale", "difference", "rounding", "dtype", "allowed"),
    [
        (1.0, 9e-7, 0.0, torch.float32, 1e-6),
        (1.0, 4e-5, 1e-5, torch.float32, 5e-5),
        (1.0, 0.09, 0.0, torch.bfloat16, 0.1),
        (1.0, 0.01, 0.0, torch.float16, 0.02),
        (3000.0, 2e-3, 0.0, torch.float32, 3e-3),  # large rewards are compared relatively
    ],
)
def test_differences_within_rounding_pass(scale, difference, rounding, dtype, allowed):
    expected = torch.tensor([[scale], [1.0]])
    sample = check.Sample([], [], expected, rounding, 100, dtype)
    agreement = check.compare(expected + difference, expected, sample)
    assert agreement.allowed == pytest.approx(allowed)
    assert agreement.greatest == pytest.approx(difference, rel=0.1)


@pytest.mark.parametrize("found", [1.00001, float("nan"), -1.0])
def test_other_differences_are_refused(found):
    sample = check.Sample([], [], torch.ones(1), 0.0, 9)
    with pytest.raises(CheckpointError, match=r"the export was deleted: .* at most 1e-06"):
        check.compare(torch.tensor([[found]]), torch.ones(1, 1), sample)


def test_folders_that_are_not_whole_are_refused(source, tmp_path):
    sample = check.sample_of(load(source), CONFIG)
    export(source, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    state = load_file(path)
    state["score.weights"] = state.pop("score.weight")
    save_file(state, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"without 2 weights \(score\.weight, score\.weights"):
        check.classifier_outputs(tmp_path / "out", sample, torch.device("cpu"))
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"Transformers cannot load .* as a classifier"):
        check.load_plain(str(tmp_path / "out"))


def test_tokenizers_that_make_other_tokens_are_refused(source, tmp_path):
    export(source, tmp_path / "out")
    sample = check.sample_of(load(source), CONFIG)
    assert sample.rounding < 1e-5
    assert check.plain_tokenizer(tmp_path / "out", sample).pad_token == "<pad>"
    other = check.Sample(["Tea?"], [[5, 6]], torch.zeros(1, 1), 0.0, 100)
    assert "makes other tokens of 'Tea?'" in refusal(check.plain_tokenizer, tmp_path / "out", other)


def test_encoder_decoders_are_checked_on_texts_with_one_end(checkpoint):
    sample = check.sample_of(load(checkpoint("t5", BASE, tuning="full")), CONFIG)
    assert len(sample.texts) == 4
    assert {ids.count(2) for ids in sample.token_ids} == {1}
