"""Every snippet of the page on trainers works, and its options are those of the tools."""

import functools
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import trl

from support.builders import tiny_backbone, tiny_tokenizer
from support.rows import assistant, user

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "trainers.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture
def place(tmp_path, monkeypatch, folders):
    """A folder with the checkpoint and a policy where the page has them."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model").symlink_to(folders["normal"])
    tiny_backbone(tmp_path / "policy", "llama", tokenizer=tiny_tokenizer(bos="<s>"))
    monkeypatch.chdir(tmp_path)
    # packages whose own code is run in test_clients: here they only lend a name
    rewards = ModuleType("swift.rewards")
    rewards.orms, rewards.rm_plugins = {}, {}
    types = ModuleType("tinker_cookbook.preference.types")
    types.Comparison = SimpleNamespace
    parents = map(ModuleType, ("swift", "tinker_cookbook", "tinker_cookbook.preference"))
    for module in (*parents, rewards, types):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def run(snippet, url):
    code = snippet.replace("http://127.0.0.1:8000", url)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def snippet_of(word):
    (found,) = [snippet for snippet in SNIPPETS if word in snippet]
    return found


def test_every_snippet_is_run():
    assert len(SNIPPETS) == 7


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["GRPOTrainer", "RLOOTrainer"])
def test_trl_trains(place, url, trainer, monkeypatch):
    config = trainer.replace("Trainer", "Config")  # the page leaves these to the reader's machine
    settings = {"use_cpu": True, "bf16": False, "report_to": [], "max_steps": 2, "logging_steps": 1}
    made = functools.partial(getattr(trl, config), save_strategy="no", **settings)
    monkeypatch.setattr(trl, config, made)
    history = run(snippet_of(trainer), url)["trainer"].state.log_history
    assert len([step["rewards/cvar:0.05/mean"] for step in history if "reward" in step]) == 2


def test_pairs_and_best_of_n(place, url, expected_of, capsys):
    names = run(snippet_of("pair_builder"), url)
    want = expected_of(["What helps? "] * 3, names["examples"][0]["responses"])
    assert names["best"].values == pytest.approx(want, abs=1e-6, rel=1e-6)
    pairs, contested = len(names["pairs"]), names["built"].contested
    assert f"{pairs} pairs, {contested} contested" in capsys.readouterr().out
    assert pairs + contested > 0


def test_functions_of_other_trainers(place, url, expected_of, capsys):
    words = ("compute_score_async", "integrations.openrlhf", "integrations.ms_swift")
    verl, rlhf, swift = (run(snippet_of(word), url) for word in words)
    run(snippet_of("integrations.tinker"), url)
    asked, no = [user("?")], assistant("No.")
    of_swift = swift["orms"]["cautious"]()(["No."], messages=[[*asked, no]])
    assert list(swift["rm_plugins"]) == ["cautious"]
    of_rlhf = rlhf["reward_func"](["<s>Tea? No."], ["<s>Tea? "], [None])["rewards"].tolist()
    want = [(asked, [no]), ("Tea? ", "No."), (verl["row"]["prompt"], [assistant("Sleep.")])]
    want = expected_of(*zip(*want, strict=True))
    assert [*of_swift, *of_rlhf, verl["found"]["score"]] == pytest.approx(want, abs=1e-6, rel=1e-6)
    # what the preference model says
    assert 0 < abs(float(capsys.readouterr().out.split()[-1])) <= 1


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("openrlhf/cli/train_ppo_ray.py", ["--reward.remote_url"]),
        ("verl/trainer/config/reward/reward.yaml", ["custom_reward_function"]),
        ("verl/utils/import_utils.py", ["pkg://"]),
        ("llamafactory/hparams/finetuning_args.py", ["reward_model_type", "reward_model", "api"]),
        ("swift/arguments/base_args/base_args.py", ["external_plugins"]),
        ("swift/rlhf_trainers/grpo_trainer.py", ["reward_model_plugin", "orms", "rm_plugins"]),
        ("tinker_cookbook/rl/preference_envs.py", ["preference_model_builder"]),
    ],
)
def test_options_are_those_of_the_tools(clients, file, words):
    code = (clients / file).read_text(encoding="utf-8")
    for word in words:
        assert word in code
        assert word in TEXT
