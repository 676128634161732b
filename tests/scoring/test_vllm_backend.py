"""The vLLM backend, with a module in vLLM's place that has the signatures of vLLM 0.33."""

import sys
import types
from unittest.mock import Mock

import pytest
import torch

from hidden_context import RewardModel
from hidden_context.errors import (
    CheckpointError,
    ConfigError,
    HiddenContextError,
    MissingDependencyError,
)
from hidden_context.scoring.vllm_backend import ALLOWED, check_parity
from support.builders import preference_rows
from support.paper_layout import read_rows, write_rows
from support.scoring import score

# of vLLM 0.33, which takes EngineArgs too
OPTIONS = {"runner", "convert", "tokenizer", "trust_remote_code", "dtype", "revision", "seed"}
OPTIONS |= {"gpu_memory_utilization", "pooler_config", "max_model_len"}


@pytest.fixture
def vllm(monkeypatch):
    """A module that loads a folder by Transformers, and does to outputs what a test asks for."""
    fake, config = types.ModuleType("vllm"), types.ModuleType("vllm.config")
    fake.__version__, fake.spoil, fake.error = "0.33.0", lambda raw: raw, None
    fake.lengths, config.PoolerConfig = [], dict

    def llm(model, **options):
        assert set(options) <= OPTIONS
        loaded = RewardModel.from_pretrained(model, device="cpu", dtype=options["dtype"])

        def encode(prompts, *, pooling_task, use_tqdm):
            assert pooling_task == "classify"
            ids = [prompt["prompt_token_ids"] for prompt in prompts]
            fake.lengths += map(len, ids)
            raw = fake.spoil(loaded.raw_outputs_of_tokens(ids, engine="padded"))
            outputs = [types.SimpleNamespace(data=data) for data in raw]
            return [
                types.SimpleNamespace(outputs=one, prompt_token_ids=own, error=fake.error)
                for one, own in zip(outputs, ids, strict=True)
            ]

        return types.SimpleNamespace(encode=encode)

    fake.LLM = Mock(side_effect=llm)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.config", config)
    return fake


@pytest.fixture
def source(tmp_path):
    rows = [{"id": n, "text": row["chosen"]} for n, row in enumerate(preference_rows(7, 5))]
    rows[3]["text"] = "much too long " * 400
    rows[5]["text"] = " "
    return write_rows(tmp_path / "texts.jsonl", rows)


@pytest.fixture
def run(source, checkpoint, tmp_path):
    """Score by vLLM."""

    def score_by(model=checkpoint, name="out.jsonl", **options):
        options = {"window": 4, "device": "cpu", "max_length": 128, "backend": "vllm", **options}
        return score(source, model, tmp_path / name, **options)

    return score_by


def test_the_scores_are_those_of_our_own_pass(vllm, run, checkpoint):
    ours, theirs = run(name="ours.jsonl", backend="own"), run()
    assert theirs.counts == ours.counts
    assert theirs.counts.unscored == 2
    for one, other in zip(read_rows(ours.path), read_rows(theirs.path), strict=True):
        raw, found = one.pop("reward_output"), other.pop("reward_output")
        assert one == other
        assert found == (raw if raw is None else pytest.approx(raw, abs=1e-5))
    expected = {"model": checkpoint, "runner": "pooling", "dtype": "float32", "revision": None}
    expected |= {"pooler_config": {"task": "classify", "use_activation": False}}
    assert (expected | {"max_model_len": 128}).items() <= vllm.LLM.call_args.kwargs.items()
    assert max(vllm.lengths) == 128  # the check runs a text of the longest kind


def test_a_run_of_ours_does_not_go_on_with_vllm(vllm, run, interrupt):
    interrupt(1, run, backend="own")
    with pytest.warns(match="was begun with other backend"):
        run()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda raw: raw.softmax(-1), None, r"vllm 0\.33\.0 gives other rewards"),
        (lambda raw: raw.roll(1, 0), None, "gives other rewards"),
        (lambda raw: raw + 0.01 * (raw.amax(0) - raw.amin(0)), None, "gives other rewards"),
        (lambda raw: torch.full_like(raw, torch.nan), None, "gives other rewards"),
        (lambda raw: raw[:, :1], None, r"shape \(1,\) for each text, not 2 numbers"),
        (lambda raw: raw, "out of blocks", "did not answer a text of .*: out of blocks"),
    ],
)
def test_other_outputs_are_refused_before_anything_is_scored(
    vllm, run, tmp_path, spoil, error, words
):
    vllm.spoil, vllm.error = spoil, error
    with pytest.raises(HiddenContextError, match=words):
        run()
    assert [each.name for each in tmp_path.iterdir()] == ["texts.jsonl"]


def test_what_vllm_cannot_do_is_said(vllm, run, tmp_path, monkeypatch):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    vllm.LLM = Mock(side_effect=ValueError("no such architecture"))
    for options, error, words in [
        ({}, CheckpointError, r"cannot load .* \(no such architecture\)"),
        ({"engine": "tree"}, ConfigError, "--engine does not fit --backend vllm"),
        ({"precision": "float64"}, ConfigError, "does not support --precision float64"),
        ({"model": str(adapter)}, ConfigError, "Export it first: `hidden-context export"),
    ]:
        with pytest.raises(error, match=words):
            run(**options)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match="--backend vllm needs vLLM"):
        run()


@pytest.mark.parametrize("dtype", ALLOWED)
def test_the_bound_is_in_units_of_the_spread(dtype):
    expected = torch.tensor([[1000.0, 0.0], [1002.0, 4.0], [1001.0, 1.0]])
    below = torch.tensor([[0.0, 0.0], [0.0, 0.99], [0.0, 0.0]]) * 4 * ALLOWED[dtype]
    worst = check_parity(expected + below, expected, dtype, "b")
    assert worst == pytest.approx(0.99 * ALLOWED[dtype], rel=1e-3)
    with pytest.raises(CheckpointError, match="on 3 texts an output differs by"):
        check_parity(expected + below * 1.05, expected, dtype, "b")
