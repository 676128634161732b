"""The trainers' own client code, unmodified, gets the rewards of scoring in process.

Their files are loaded one by one from the folder that HIDDEN_CONTEXT_CLIENTS names; packages that
those files import but that the code under test does not run are stood in for.
"""

import asyncio
import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import aiohttp
import httpx2
import pytest
import torch
from transformers import AutoTokenizer

from hidden_context.integrations import ms_swift, openrlhf, tinker, verl
from support.rows import assistant, user

CHAT = [user("What helps?")]
TOLERANCE = {"abs": 1e-6, "rel": 1e-6}


@pytest.fixture
def load(monkeypatch, clients):
    """Load a client's file: ``load("verl/….py", "ray", …)``, the packages named stood in for."""

    def from_file(path, *missing, **modules):
        parts = path.removesuffix(".py").split("/")
        packages = [".".join(parts[:n]) for n in range(1, len(parts))]
        for name in (*packages, *missing):
            monkeypatch.setitem(sys.modules, name, StandIn(name))
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        spec = importlib.util.spec_from_file_location(".".join(parts), clients / path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return from_file


class StandIn(ModuleType):
    """A package of which every name can be imported."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


@pytest.fixture
def tokenizer(folders):
    return AutoTokenizer.from_pretrained(folders["normal"])


def generating(tokenizer, response):
    """An engine that answers the same to everything."""

    async def generate(ids, params, multi_modal_data=None):
        tokens = tokenizer(response, add_special_tokens=False)["input_ids"]
        one = SimpleNamespace(token_ids=tokens, text=response, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[one])

    return SimpleNamespace(generate=generate)


@pytest.mark.parametrize("prompt", ["Tea? ", "<s>Tea? "])
@pytest.mark.parametrize("behind", ["server", "file"])
def test_openrlhf(load, url, folders, tokenizer, models, expected, prompt, behind, tmp_path):
    agent = load("openrlhf/utils/agent.py", "openrlhf.utils.logging_utils")
    if behind == "server":
        endpoint = f"{url}/get_reward?model=normal@cvar:0.05"
    else:
        endpoint = str(tmp_path / "reward.py")
        Path(endpoint).write_text(
            "from hidden_context.integrations.openrlhf import reward_function\n"
            f"reward_func = reward_function({folders['normal']!r}, 'cvar:0.05')\n"
        )
    execute = agent.SingleTurnAgentExecutor(endpoint).execute
    params = SimpleNamespace(max_tokens=32, logprobs=None)
    engine = generating(tokenizer, "With pleasure.</s>")
    found = asyncio.run(execute(prompt, None, params, 128, tokenizer, engine))
    bare = openrlhf.MarkedText(f"{prompt}With pleasure.</s>")
    want = expected([bare])
    if prompt.startswith("<s>"):  # the same tokens as the text whose BOS the tokenizer adds
        assert want == pytest.approx(expected(["Tea? With pleasure.</s>"]), **TOLERANCE)
    for name in ("reward", "scores"):
        assert torch.as_tensor(found[name]).tolist() == pytest.approx(want, **TOLERANCE)
    mean = torch.as_tensor(found["extra_logs"]["mean"]).tolist()
    assert mean == pytest.approx(expected([bare], "mean"), **TOLERANCE)


def verl_row(tokenizer, response, **extra):
    """A row as verl's workers hold it: response tokens with padding behind them."""
    ids = tokenizer(response, add_special_tokens=False)["input_ids"]
    mask = torch.tensor([1] * 5 + [1] * len(ids) + [0] * 3)
    batch = {"responses": torch.tensor(ids + [0] * 3), "attention_mask": mask}
    return SimpleNamespace(batch=batch, non_tensor_batch={"raw_prompt": CHAT} | extra)


LOOP = "verl.experimental.reward_loop"
# what verl's files import and the code under test does not run
VERL = ("ray", "ray.actor", "omegaconf", "tensordict", "verl", "verl.protocol", "verl.utils")
VERL += ("verl.utils.fs", "verl.utils.ray_utils", "verl.utils.reward_score", f"{LOOP}.reward_model")
VERL += ("verl.trainer", "verl.trainer.ppo", "verl.trainer.ppo.reward", "verl.single_controller")
VERL += ("verl.single_controller.ray", "verl.single_controller.ray.base")


@pytest.fixture
def verl_worker(load, folders, tokenizer):
    """verl's worker around a served reward model: ``verl_worker(url, "vllm")``."""
    loop = load("verl/experimental/reward_loop/reward_loop.py", *VERL)

    def make(url, engine, template="", model=folders["normal"]):
        worker = loop.RewardLoopWorker.__new__(loop.RewardLoopWorker)
        rollout, custom = SimpleNamespace(name=engine), SimpleNamespace(path=None)
        served = SimpleNamespace(enable=True, model_path=model, rollout=rollout)
        reward = SimpleNamespace(custom_reward_function=custom, reward_model=served)
        worker.config = SimpleNamespace(reward=reward)
        worker.reward_router_address = url.removeprefix("http://")
        own = AutoTokenizer.from_pretrained(folders["normal"])
        own.chat_template = template + own.chat_template
        worker.input_tokenizer, worker.reward_model_tokenizer = tokenizer, own
        return worker

    return make


def scores_of(worker, tokenizer, responses):
    """Have verl's worker score responses, all at once."""
    rows = [verl_row(tokenizer, text) for text in responses]

    async def all_of_them():
        return await asyncio.gather(*(worker.compute_score([row]) for row in rows))

    return [one["reward_score"] for one in asyncio.run(all_of_them())]


def chats(responses):
    return [[*CHAT, assistant(text)] for text in responses]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("template", ["", "{{ bos_token }}"])
def test_verl_reward_loop(verl_worker, url, tokenizer, expected, engine, template):
    responses = ("Sleep.", "Tea.", "Nothing.")
    found = scores_of(verl_worker(url, engine, template), tokenizer, responses)
    assert found == pytest.approx(expected(chats(responses)), **TOLERANCE)


def test_verl_asks_again_where_there_was_no_room(verl_worker, serving, tokenizer, expected):
    responses = ("Sleep.", "Tea.")
    with serving(risk="cvar:0.05", max_queue=1, max_items=1, coalesce_ms=500) as url:
        found = scores_of(verl_worker(url, "vllm"), tokenizer, responses)
        metrics = httpx2.get(f"{url}/metrics").text
    assert found == pytest.approx(expected(chats(responses)), **TOLERANCE)
    counted = [line for line in metrics.splitlines() if '"503"' in line and "total" in line]
    assert [float(line.rsplit(" ", 1)[1]) for line in counted] == [1.0]


def test_verl_gives_up_at_once_on_an_unknown_model(verl_worker, url, tokenizer):
    worker = verl_worker(url, "vllm", model="unknown")
    with pytest.raises(aiohttp.ClientResponseError) as refused:
        scores_of(worker, tokenizer, ["Sleep."])
    assert refused.value.status == 404


@pytest.mark.parametrize("is_async", [False, True])
def test_verl_custom_reward_function(load, url, tokenizer, expected_of, is_async):
    managers = StandIn(f"{LOOP}.reward_manager")
    managers.register = lambda name: lambda cls: cls
    base = load("verl/experimental/reward_loop/reward_manager/base.py", *VERL)
    modules = {base.__name__: base, managers.__name__: managers}
    naive = load("verl/experimental/reward_loop/reward_manager/naive.py", *VERL, **modules)
    raw = verl.compute_score_async if is_async else verl.compute_score
    compute = functools.partial(raw, model=url, name="normal", risk="cvar:0.05")
    extra = {"data_source": "set", "reward_model": {"ground_truth": ""}}
    row = verl_row(tokenizer, "Sleep.</s>", **extra, extra_info={"prompt": CHAT})

    async def run():
        manager = naive.NaiveRewardManager(None, tokenizer, compute)
        manager.loop = asyncio.get_running_loop()
        return await manager.run_single([row])

    found = asyncio.run(run())
    said = ([CHAT], [[assistant("Sleep.")]])
    assert [found["reward_score"]] == pytest.approx(expected_of(*said), **TOLERANCE)
    mean = expected_of(*said, "mean")
    assert [found["reward_extra_info"]["mean"]] == pytest.approx(mean, **TOLERANCE)


def test_llama_factory(load, url, tokenizer, expected):
    ppo = load("llamafactory/train/ppo/ppo_utils.py", "llamafactory.extras.packages")
    texts = ["Tea? With pleasure.", "Rain? Never."]
    messages = tokenizer.batch_decode(tokenizer(texts)["input_ids"])
    assert all(message.startswith("<s>") for message in messages)
    found = ppo.get_rewards_from_server(f"{url}/v1/score/evaluation", messages)
    assert found.tolist() == pytest.approx(expected(texts), **TOLERANCE)


def test_ms_swift(load, url, folders, expected_of):
    swift = load(
        "swift/rl_core/grpo_algorithm.py", "swift.rl_core.data", "swift.utils", "swift.dataset"
    )
    batched = SimpleNamespace(
        rows_to_batched=lambda rows: {key: [row[key] for row in rows] for key in rows[0]}
    )
    sys.modules["swift.dataset"].RowPreprocessor = batched
    rows = [[*CHAT, assistant(text)] for text in ("Sleep.", "Nothing.")]
    samples = [
        SimpleNamespace(messages=row, to_reward_row=lambda row=row: {"messages": row, "x": 1})
        for row in rows
    ]
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(folders["normal"])
    plugin = ms_swift.reward_plugin("cvar:0.05")(model=network, template=None)
    remote = ms_swift.reward_orm(url, "cvar:0.05")(args=None)
    found = swift.compute_rewards_per_func(
        samples, [network, remote], [plugin, None], torch.device("cpu")
    )
    want = expected_of([CHAT] * 2, [row[-1:] for row in rows])
    for column in found.T.tolist():
        assert column == pytest.approx(want, **TOLERANCE)


@pytest.mark.parametrize("behind", ["model", "server"])
def test_tinker_cookbook(load, models, url, chance, behind):
    others = ("chz", "tinker", "tinker_cookbook.renderers", "tinker_cookbook.tokenizer_utils")
    types = load("tinker_cookbook/preference/types.py", *others)
    comparison = types.Comparison(CHAT, [assistant("Sleep.")], [assistant("Nothing.")])
    where = (models["factor"], None) if behind == "model" else (url, "factor")
    model = tinker.preference_model_builder(where[0], name=where[1])()
    assert asyncio.run(model(comparison)) == pytest.approx(2 * chance - 1, abs=1e-6)
    assert asyncio.run(model(comparison.swap())) == pytest.approx(1 - 2 * chance, abs=1e-6)
