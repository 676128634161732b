"""Precision and threads of a scoring: named, written down, and kept by the one that goes on."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from hidden_context import scoring
from hidden_context.errors import HiddenContextWarning
from hidden_context.models import precision
from hidden_context.models.precision import Timings
from hidden_context.models.sequence import SequenceRewardModel
from hidden_context.scoring import ScoreConfig, settle
from hidden_context.scoring.config import EvaluateConfig, ModelOptions
from hidden_context.scoring.loading import load_model
from hidden_context.scoring.partial import PartialScores, read_header

OPTIONS = {"window": 5, "batch_size": 4, "disable_tqdm": True, "device": "cpu"}


def score(source, model, output, **options):
    config = ScoreConfig(
        input=str(source), models=[model], output=str(output), **{**OPTIONS, **options}
    )
    return scoring.score_file(config).path.read_bytes()


def interrupted(monkeypatch, *run, **options):
    """Score two windows."""
    original, calls = SequenceRewardModel.try_raw_outputs, []

    def stop(self, *args, **more):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return original(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceRewardModel, "try_raw_outputs", stop)
        with pytest.raises(KeyboardInterrupt):
            score(*run, **options)


@pytest.fixture
def sizes(monkeypatch):
    """Number of texts of every call of the model."""
    calls = []
    original = SequenceRewardModel.try_raw_outputs

    def recorded(self, texts, *args, **options):
        calls.append((len(texts), next(self.module.parameters()).dtype, torch.get_num_threads()))
        return original(self, texts, *args, **options)

    monkeypatch.setattr(SequenceRewardModel, "try_raw_outputs", recorded)
    return calls


def record(path, dtype="torch.bfloat16", device="cpu", **facts):
    """Write the first line of a record."""
    with PartialScores(path, {"dtype": dtype, "device": device}, facts=facts) as partial:
        partial.append([{"row": 0, "raw": [[0.0]], "tokens": "x"}])
    return path


def test_left_open_it_is_float32_on_a_processor_and_written_down(
    checkpoint, pairs, tmp_path, sizes
):
    score(pairs, checkpoint, tmp_path / "out.jsonl")
    assert {dtype for _, dtype, _ in sizes} == {torch.float32}
    written = yaml.safe_load((tmp_path / "out.jsonl.config.yaml").read_text())
    assert (written["precision"], written["threads"]) == ("float32", None)


def test_a_scoring_that_goes_on_keeps_its_precision(
    checkpoint, pairs, tmp_path, monkeypatch, sizes
):
    whole = score(pairs, checkpoint, tmp_path / "whole.jsonl", precision="bfloat16")
    assert whole != score(pairs, checkpoint, tmp_path / "exact.jsonl")
    interrupted(monkeypatch, pairs, checkpoint, tmp_path / "out.jsonl", precision="bfloat16")
    sizes.clear()
    assert score(pairs, checkpoint, tmp_path / "out.jsonl") == whole
    assert [size for size, _, _ in sizes] == [10, 10, 6]
    interrupted(monkeypatch, pairs, checkpoint, tmp_path / "out.jsonl", precision="bfloat16")
    sizes.clear()
    with pytest.warns(HiddenContextWarning, match="begun with other dtype; all rows"):
        score(pairs, checkpoint, tmp_path / "out.jsonl", precision="float32")
    assert sum(size for size, _, _ in sizes) == 2 * 23


def test_a_scoring_that_goes_on_keeps_its_threads_and_changes_of_them_start_nothing_anew(
    checkpoint, pairs, tmp_path, monkeypatch, sizes
):
    monkeypatch.setattr(settle, "usable_cpus", lambda: 2)
    monkeypatch.setattr("hidden_context.models.threads.usable_cpus", lambda: 2)
    output = tmp_path / "out.jsonl"
    for asked, used in ((None, 2), (1, 1)):
        interrupted(monkeypatch, pairs, checkpoint, output, threads=2)
        assert read_header(tmp_path / "out.jsonl.normal.partial")["threads"] == 2
        sizes.clear()
        score(pairs, checkpoint, output, threads=asked)
        assert [(size, threads) for size, _, threads in sizes] == [
            (10, used), (10, used), (6, used)
        ]  # fmt: skip
        assert torch.get_num_threads() == 1  # as before


@pytest.mark.parametrize(
    ("dtype", "device", "resumed", "expected"),
    [
        ("torch.bfloat16", "cpu", True, "bfloat16"),
        ("torch.float16", "cpu", True, "float16"),
        ("torch.bfloat16", "cuda", True, "float32"),  # all is scored anew there anyway
        ("torch.int8", "cpu", True, "float32"),
        ("torch.bfloat16", "cpu", False, "float32"),
    ],
)
def test_what_a_record_says_holds_on_its_device(tmp_path, dtype, device, resumed, expected):
    path = record(tmp_path / "a.partial", dtype, device)
    options, _ = settle.settle(ModelOptions(device="cpu"), [path] if resumed else [])
    assert options.precision == expected


def test_what_is_asked_for_stands_above_a_record(tmp_path, monkeypatch):
    path = record(tmp_path / "a.partial", threads=2)
    monkeypatch.setattr(settle, "usable_cpus", lambda: 4)
    monkeypatch.setattr("hidden_context.models.threads.usable_cpus", lambda: 4)
    asked = ModelOptions(device="cpu", precision="float32", threads=3)
    assert settle.settle(asked, [path]) == (asked, 3)
    assert settle.settle(ModelOptions(device="cpu"), [path])[1] == 2
    monkeypatch.setattr(settle, "usable_cpus", lambda: 1)
    assert settle.settle(ModelOptions(device="cpu"), [path])[1] == torch.get_num_threads() == 1


def test_elsewhere_only_what_a_record_says_is_named(tmp_path):
    path = record(tmp_path / "a.partial", device="cuda", threads=1)
    assert settle.settle(ModelOptions(), here=False) == (ModelOptions(), None)
    options, threads = settle.settle(ModelOptions(), [tmp_path / "none", path], here=False)
    assert (options.precision, threads) == ("bfloat16", None)


def test_a_gpu_is_given_no_threads_unless_asked(monkeypatch):
    monkeypatch.setattr(settle, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("hidden_context.models.threads.usable_cpus", lambda: 4)
    assert settle.settle(ModelOptions()) == (ModelOptions(precision="bfloat16"), None)
    assert settle.settle(ModelOptions(threads=2))[1] == 2


def test_an_evaluation_is_settled_too(checkpoint, pairs, tmp_path, sizes):
    config = EvaluateConfig(
        checkpoint=checkpoint, data_path=str(pairs), output=str(tmp_path / "out.jsonl"),
        **{**OPTIONS, "precision": "bfloat16"},
    )  # fmt: skip
    scoring.evaluate(config)
    assert {dtype for _, dtype, _ in sizes} == {torch.bfloat16}
    written = yaml.safe_load((tmp_path / "out.jsonl.config.yaml").read_text())
    assert written["precision"] == "bfloat16"


def test_a_slow_precision_is_obeyed_with_a_warning_of_the_forward_pass(checkpoint, monkeypatch):
    seen = []

    def measure(device, name, *, backward):
        seen.append((device.type, name, backward))
        return Timings("cpu", 1, {"float32": 1e-3, name: 5e-3})

    monkeypatch.setattr(precision, "measure", measure)
    load_model(checkpoint, ModelOptions(precision="bfloat16", device="cpu"))
    assert not seen  # so small a model is not measured
    monkeypatch.setattr(precision, "MIN_WIDTH", 0)
    load_model(checkpoint, ModelOptions(device="cpu"))
    load_model(checkpoint, ModelOptions(device="cpu", precision="float32"))
    assert not seen
    with pytest.warns(HiddenContextWarning, match="bfloat16 is 5.0 times slower than float32"):
        model = load_model(checkpoint, ModelOptions(precision="bfloat16", device="cpu"))
    assert next(model.module.parameters()).dtype == torch.bfloat16
    assert seen == [("cpu", "bfloat16", False)]


def test_facts_of_a_record_do_not_tell_it_from_another(tmp_path):
    path = record(tmp_path / "a.partial", threads=2)
    again = PartialScores(path, {"dtype": "torch.bfloat16", "device": "cpu"}, facts={"threads": 7})
    assert again.rows_done == 1
    assert json.loads(path.read_text().splitlines()[0])["threads"] == 2
    assert read_header(tmp_path / "none") == {}
    (tmp_path / "cut").write_text('{"a"')
    assert read_header(tmp_path / "cut") == {}
