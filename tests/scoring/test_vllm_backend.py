"""The vLLM backend, with a module in vLLM's place that has the signatures of vLLM 0.33."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any

import pytest
import torch

from hidden_context import RewardModel, scoring
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    HiddenContextError,
    MissingDependencyError,
)
from hidden_context.scoring import ScoreConfig
from hidden_context.scoring.vllm_backend import ALLOWED, check_parity
from support.builders import preference_rows
from support.paper_layout import read_rows, write_rows


@dataclasses.dataclass
class PoolerConfig:
    task: str | None = None
    use_activation: bool | None = None


class Pooled:
    def __init__(self, data, prompt_token_ids, error=None):
        self.outputs = types.SimpleNamespace(data=data)
        self.prompt_token_ids, self.error = prompt_token_ids, error


class FakeVllm(types.ModuleType):
    """Loads a folder by Transformers, and does to its outputs what a test asks for."""

    __version__ = "0.33.0"

    def __init__(self):
        super().__init__("vllm")
        self.spoil = lambda raw: raw
        self.error = None
        self.started: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        fake = self

        class LLM:
            def __init__(
                self,
                model,
                *,
                runner="auto",
                convert="auto",
                tokenizer=None,
                trust_remote_code=False,
                dtype="auto",
                revision=None,
                seed=0,
                gpu_memory_utilization=0.92,
                pooler_config=None,
                max_model_len=None,  # one of EngineArgs, which LLM takes too
            ):
                fake.started.append({**locals()})
                self.model = RewardModel.from_pretrained(model, device="cpu", dtype=dtype)

            def encode(
                self,
                prompts,
                pooling_params=None,
                *,
                use_tqdm=True,
                lora_request=None,
                pooling_task=None,
                tokenization_kwargs=None,
            ):
                assert pooling_task == "classify"
                ids = [prompt["prompt_token_ids"] for prompt in prompts]
                fake.lengths += map(len, ids)
                raw = fake.spoil(self.model.raw_outputs_of_tokens(ids, engine="padded"))
                return [Pooled(*each, fake.error) for each in zip(raw, ids, strict=True)]

        self.LLM = LLM


@pytest.fixture
def vllm(monkeypatch):
    fake = FakeVllm()
    config = types.ModuleType("vllm.config")
    config.PoolerConfig = PoolerConfig
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.config", config)
    return fake


@pytest.fixture
def source(tmp_path):
    rows = [{"id": n, "text": row["chosen"]} for n, row in enumerate(preference_rows(7, 5))]
    rows[3]["text"] = "much too long " * 400
    rows[5]["text"] = " "
    return write_rows(tmp_path / "texts.jsonl", rows)


def score(source, model, output, **options):
    options = {"disable_tqdm": True, "window": 4, "device": "cpu", "max_length": 128} | options
    return scoring.score_file(
        ScoreConfig(input=str(source), models=[model], output=str(output), **options)
    )


def test_the_scores_are_those_of_our_own_pass(vllm, source, checkpoint, tmp_path):
    ours = score(source, checkpoint, tmp_path / "ours.jsonl")
    theirs = score(source, checkpoint, tmp_path / "theirs.jsonl", backend="vllm")
    assert theirs.counts == ours.counts
    assert theirs.counts.unscored == 2
    for one, other in zip(read_rows(ours.path), read_rows(theirs.path), strict=True):
        raw, found = one.pop("reward_output"), other.pop("reward_output")
        assert one == other
        assert found == (raw if raw is None else pytest.approx(raw, abs=1e-5))
    (started,) = vllm.started
    expected = {"model": checkpoint, "runner": "pooling", "dtype": "float32", "revision": None}
    assert {name: started[name] for name in expected} == expected
    assert started["max_model_len"] == 128
    assert started["pooler_config"] == PoolerConfig("classify", use_activation=False)
    assert max(vllm.lengths) == 128  # the check runs a text of the longest kind


def test_a_run_of_ours_does_not_go_on_with_vllm(vllm, source, checkpoint, tmp_path, monkeypatch):
    from hidden_context.scoring import partial as partial_module

    original = partial_module.PartialScores.append

    def append(self, *args):
        original(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(partial_module.PartialScores, "append", append)
        with pytest.raises(KeyboardInterrupt):
            score(source, checkpoint, tmp_path / "out.jsonl")
    with pytest.warns(match="was begun with other backend"):
        score(source, checkpoint, tmp_path / "out.jsonl", backend="vllm")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.softmax(-1),
        lambda raw: raw.roll(1, 0),
        lambda raw: raw + 0.01 * (raw.amax(0) - raw.amin(0)),
        lambda raw: torch.full_like(raw, torch.nan),
    ],
    ids=["softmax", "other texts", "a constant", "nan"],
)
def test_other_outputs_are_refused_before_anything_is_scored(
    vllm, source, checkpoint, tmp_path, spoil
):
    vllm.spoil = spoil
    with pytest.raises(CheckpointError, match=r"vllm 0\.33\.0 gives other rewards"):
        score(source, checkpoint, tmp_path / "out.jsonl", backend="vllm")
    assert [each.name for each in tmp_path.iterdir()] == ["texts.jsonl"]


def test_another_number_of_outputs_is_refused(vllm, source, checkpoint, tmp_path):
    vllm.spoil = lambda raw: raw[:, :1]
    with pytest.raises(HiddenContextError, match=r"shape \(1,\) for each text, not 2 numbers"):
        score(source, checkpoint, tmp_path / "out.jsonl", backend="vllm")


def test_an_error_in_an_answer_is_told(vllm, source, checkpoint, tmp_path):
    vllm.error = "out of blocks"
    with pytest.raises(HiddenContextError, match=r"did not answer a text of .*: out of blocks"):
        score(source, checkpoint, tmp_path / "out.jsonl", backend="vllm")


def test_a_model_that_vllm_does_not_know(vllm, source, checkpoint, tmp_path):
    def unknown(**options):
        raise ValueError("no such architecture")

    vllm.LLM = unknown
    with pytest.raises(CheckpointError, match=r"cannot load .*: no such architecture"):
        score(source, checkpoint, tmp_path / "out.jsonl", backend="vllm")


def test_what_vllm_cannot_do_is_said_before(vllm, source, checkpoint, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--engine does not fit --backend vllm"):
        score(source, checkpoint, tmp_path / "o", backend="vllm", engine="tree")
    with pytest.raises(ConfigError, match="does not compute in float64"):
        score(source, checkpoint, tmp_path / "o", backend="vllm", precision="float64")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"Export it first: `hidden-context export"):
        score(source, str(adapter), tmp_path / "o", backend="vllm")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match="--backend vllm needs vLLM"):
        score(source, checkpoint, tmp_path / "o", backend="vllm")
    assert vllm.started == []


@pytest.mark.parametrize("dtype", ALLOWED)
def test_the_bound_is_in_units_of_the_spread(dtype):
    expected = torch.tensor([[1000.0, 0.0], [1002.0, 4.0], [1001.0, 1.0]])
    below = torch.tensor([[0.0, 0.0], [0.0, 0.99], [0.0, 0.0]]) * 4 * ALLOWED[dtype]
    worst = check_parity(expected + below, expected, dtype, "b")
    assert worst == pytest.approx(0.99 * ALLOWED[dtype], rel=1e-3)
    with pytest.raises(CheckpointError, match="on 3 texts an output differs by"):
        check_parity(expected + below * 1.05, expected, dtype, "b")
