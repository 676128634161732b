"""``--engine``, ``--tokens_per_batch`` and ``--compile`` of the commands that run models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hidden_context.cli.main import main
from hidden_context.models.engine import runner
from hidden_context.models.sequence import SequenceRewardModel
from support.builders import preference_rows, tiny_backbone
from support.paper_layout import one_thread, read_rows, reward_checkpoint, write_rows

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return reward_checkpoint(tmp_path_factory.mktemp("models") / "normal")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A probe on a frozen backbone, trained for an epoch."""
    folder = tmp_path_factory.mktemp("frozen")
    backbone = tiny_backbone(folder / "backbone")
    data = write_rows(folder / "pairs.jsonl", preference_rows(30))
    flags = ["--model_name", backbone, "--data_path", data, "--output_dir", str(folder / "run")]
    flags += ["--freeze_backbone", "--probe_epochs=1", "--probe_members=1", "--disable_tqdm"]
    assert main(["train", *flags, "--cache_dir", str(folder / "cache")]) == 0
    return str(folder / "run" / "final")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / "cache"))
    write_rows("pairs.jsonl", preference_rows(12))
    return tmp_path


@pytest.fixture
def forward_passes(monkeypatch):
    """The way and number of tokens of every forward pass of scoring."""
    seen = []
    original = runner.Runner._run

    def recorded(self, sequences, batch, way, max_tokens):
        seen.append((way, runner.batch_tokens(batch, way)))
        return original(self, sequences, batch, way, max_tokens)

    monkeypatch.setattr(runner.Runner, "_run", recorded)
    return seen


def command(verb, checkpoint, output, *flags):
    """Run a verb on pairs.jsonl; return its exit code."""
    if verb == "score":
        argv = ["pairs.jsonl", "--models", checkpoint]
    else:
        argv = [checkpoint, "--data_path=pairs.jsonl"]
    return main([verb, *argv, "--output", output, "--disable_tqdm", *flags])


def rewards(path):
    columns = ("reward_output_chosen", "reward_output_rejected")
    return torch.tensor([[row[column] for column in columns] for row in read_rows(path)])


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_engines_give_equal_rewards(here, checkpoint, forward_passes, verb):
    found = {}
    for engine in ("padded", "tree", "cache", "auto"):
        forward_passes.clear()
        assert command(verb, checkpoint, f"{engine}.jsonl", f"--engine={engine}") == 0
        found[engine] = rewards(f"{engine}.jsonl")
        assert {way for way, _ in forward_passes} == {"tree" if engine == "auto" else engine}
    assert found["padded"].shape == (12, 2, 2)
    assert found["padded"].std(0).min() > 0.01
    for engine in ("tree", "cache", "auto"):
        assert torch.allclose(found[engine], found["padded"], atol=1e-5, rtol=0)
    if verb == "evaluate":
        metrics = [
            json.loads(Path(f"{engine}.jsonl.metrics.json").read_text())["metrics"]
            for engine in ("padded", "tree")
        ]
        assert metrics[0] == pytest.approx(metrics[1], abs=1e-5)


@pytest.mark.parametrize("verb", ["score", "evaluate"])
@pytest.mark.parametrize("engine", ["tree", "padded"])
def test_tokens_per_batch_bounds_a_forward_pass(here, checkpoint, forward_passes, verb, engine):
    found = []
    for budget in (1, 150, 10**6):
        forward_passes.clear()
        flags = (f"--engine={engine}", f"--tokens_per_batch={budget}", "--batch_size=100")
        assert command(verb, checkpoint, "out.jsonl", *flags) == 0
        found.append((rewards("out.jsonl"), [tokens for _, tokens in forward_passes]))
    (one, smallest), (some, tokens), (every, whole) = found
    assert len(smallest) > len(tokens) > len(whole) == 1
    assert max(tokens) <= 150
    assert max(tokens) > 100
    for other in (one, some):
        assert torch.allclose(other, every, atol=1e-5, rtol=0)


@pytest.mark.parametrize("verb", ["score", "evaluate"])
@pytest.mark.parametrize("flag", ["--tokens_per_batch=0", "--batch_size=-5", "--engine=fast"])
def test_impossible_values_are_refused_by_name(here, checkpoint, capsys, verb, flag):
    name, value = flag.split("=")
    if name == "--engine":
        with pytest.raises(SystemExit):
            command(verb, checkpoint, "out.jsonl", flag)
    else:
        assert command(verb, checkpoint, "out.jsonl", flag) == 2
    error = capsys.readouterr().err
    expected = {"--engine": ["auto", "tree", "cache", "padded"]}
    for part in (name, value, *expected.get(name, [f"{flag.replace('=', ' is ')}; it must be"])):
        assert part in error
    assert "Traceback" not in error
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize("verb", ["score", "evaluate"])
@pytest.mark.parametrize("engine", ["tree", "cache"])
def test_frozen_backbones_have_no_shared_prompts(here, frozen, capsys, verb, engine):
    assert command(verb, frozen, "out.jsonl", f"--engine={engine}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --engine {engine} does not fit this model: ")
    assert "Take auto or padded" in error
    assert not Path("out.jsonl").exists()
    assert command(verb, frozen, "padded.jsonl", "--engine=padded") == 0
    assert command(verb, frozen, "auto.jsonl", "--tokens_per_batch=64") == 0
    assert torch.allclose(rewards("padded.jsonl"), rewards("auto.jsonl"), atol=1e-5)


def test_training_takes_the_same_flags(here, tmp_path, capsys):
    write_rows("pairs.jsonl", preference_rows(30))
    flags = ["--model_name", tiny_backbone(tmp_path / "backbone"), "--data_path=pairs.jsonl"]
    flags += ["--eval_fraction=0.25", "--tuning=full", "--disable_tqdm", "--min_judgements=0"]
    losses = {}
    for name, more in {
        "tree": ["--engine=tree", "--tokens_per_batch=70"],
        "padded": ["--engine=padded", "--tokens_per_batch=1000"],
        "random": ["--engine=tree", "--length_window=0"],
    }.items():
        assert main(["train", *flags, f"--output_dir={name}", *more]) == 0
        losses[name] = json.loads(Path(name, "metrics.json").read_text())["metrics"]["loss"]
    assert losses["tree"] == pytest.approx(losses["padded"], abs=1e-5)
    assert losses["tree"] != pytest.approx(losses["random"], abs=1e-7)
    with pytest.raises(SystemExit):
        main(["train", *flags, "--output_dir=bad", "--engine=cache"])  # keeps no gradients
    assert not Path("bad").exists()


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_compile_is_asked_of_the_backbone(here, checkpoint, monkeypatch, verb):
    calls = []
    monkeypatch.setattr(SequenceRewardModel, "compile", lambda self: calls.append(self.max_length))
    assert command(verb, checkpoint, "plain.jsonl") == 0
    assert calls == []
    assert command(verb, checkpoint, "compiled.jsonl", "--compile") == 0
    assert len(calls) == 1
    assert Path("plain.jsonl").read_bytes() == Path("compiled.jsonl").read_bytes()


def test_a_compiled_backbone_gives_the_same_rewards(here, checkpoint, monkeypatch):
    """With kernels as they are: what is tested is that the backbone can be traced."""
    original = torch.nn.Module.compile
    traced = []

    def without_kernels(self, **options):
        assert options == {"dynamic": True}
        traced.append(type(self).__name__)
        return original(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", without_kernels)
    for name, flags in {"plain": (), "compiled": ("--compile",)}.items():
        assert command("score", checkpoint, f"{name}.jsonl", "--engine=padded", *flags) == 0
    torch.compiler.reset()
    assert traced == ["GPT2Model"]
    assert torch.allclose(rewards("plain.jsonl"), rewards("compiled.jsonl"), atol=1e-5)
