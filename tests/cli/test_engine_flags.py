"""``--engine``, ``--tokens_per_batch`` and ``--compile`` of the commands that run models."""

import pytest
import torch

from hidden_context.cli.main import main
from hidden_context.models.engine import runner
from support.builders import preference_rows
from support.paper_layout import one_thread, read_rows, reward_checkpoint, write_rows

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return reward_checkpoint(tmp_path_factory.mktemp("models") / "normal")


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
@pytest.mark.parametrize("engine", ["padded", "tree", "cache", "auto"])
def test_engines_and_budgets_reach_the_forward_passes_and_change_no_reward(
    here, checkpoint, forward_passes, verb, engine
):
    assert command(verb, checkpoint, "padded.jsonl", "--engine=padded") == 0
    expected = rewards("padded.jsonl")
    assert expected.shape == (12, 2, 2)
    assert expected.std(0).min() > 0.01
    found = []
    for budget in (1, 150, 10**6):
        forward_passes.clear()
        flags = (f"--engine={engine}", f"--tokens_per_batch={budget}", "--batch_size=100")
        assert command(verb, checkpoint, "out.jsonl", *flags) == 0
        assert torch.allclose(rewards("out.jsonl"), expected, atol=1e-5, rtol=0)
        assert {way for way, _ in forward_passes} == {"tree" if engine == "auto" else engine}
        found.append([tokens for _, tokens in forward_passes])
    if engine != "cache":  # which runs each beginning by itself
        smallest, some, whole = found
        assert len(smallest) > len(some) > len(whole) == 1
        assert 100 < max(some) <= 150


@pytest.mark.parametrize("verb", ["score", "evaluate"])
def test_a_compiled_backbone_gives_the_same_rewards(here, checkpoint, monkeypatch, verb):
    """With kernels as they are: what is tested is that the backbone can be traced."""
    original, traced = torch.nn.Module.compile, []

    def without_kernels(self, **options):
        assert options == {"dynamic": True}
        traced.append(type(self).__name__)
        return original(self, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", without_kernels)
    assert command(verb, checkpoint, "plain.jsonl", "--engine=padded") == 0
    assert traced == []
    assert command(verb, checkpoint, "compiled.jsonl", "--engine=padded", "--compile") == 0
    torch.compiler.reset()
    assert traced == ["GPT2Model"]
    assert torch.allclose(rewards("plain.jsonl"), rewards("compiled.jsonl"), atol=1e-5)
