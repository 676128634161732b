"""The policy study's GRPO: sampled policies held against the truth, PURM's memory, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from policy import grpo
from policy.grpo import WorldSettings, optimise
from policy.models import Sizes, language_model
from policy.trained import file_name, go_on, measure
from policy.worlds import PolicyWorld
from transformers import AutoTokenizer, TrainerState

from hidden_context.errors import MissingFileError
from hidden_context.worlds.utilities import COMPLIANCE

SMALL = Sizes(comparisons=60, test=20, prompts=1, samples=12, pretraining=2, epochs=1)
SETTINGS = WorldSettings(
    steps=4, every=2, batch=4, generations=2, pretraining=2, samples=2, prompts=1, rate=1e-3
)


class Says(torch.nn.Module):
    """A policy that always says one text, and gives every token the same log-probability."""

    def __init__(self, tokenizer: Any, text: str, log_prob: float) -> None:
        super().__init__()
        self.tokenizer, self.text, self.log_prob = tokenizer, text, log_prob

    def generate(self, asked: torch.Tensor, num_return_sequences: int, **_: Any) -> torch.Tensor:
        torch.rand(3)  # as sampling does
        said = [*self.tokenizer(self.text)["input_ids"], *2 * [self.tokenizer.eos_token_id]]
        tail = torch.tensor(said).expand(len(asked) * num_return_sequences, -1)
        return torch.cat([asked.repeat_interleave(num_return_sequences, 0), tail], 1)

    def forward(self, made: torch.Tensor, **_: Any) -> SimpleNamespace:
        """Logits under which the next token has the log-probability, whichever it is."""
        size = len(self.tokenizer)
        logits = torch.full((*made.shape, size), math.log(-math.expm1(self.log_prob) / (size - 1)))
        logits[:, :-1].scatter_(2, made[:, 1:, None], self.log_prob)
        return SimpleNamespace(logits=logits)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = language_model(tmp_path_factory.mktemp("lm") / "lm", 0, 60, 2)
    return AutoTokenizer.from_pretrained(folder)


def test_measures_of_a_policy_by_hand(tokenizer: Any) -> None:
    world = PolicyWorld("objectives", 0)
    prompts = world.prompts(1)
    harmful, benign = prompts
    generator = np.random.default_rng(0)
    said = world.source.respond(harmful, COMPLIANCE, generator).dialogue[len(harmful.text) :]
    policy, start = Says(tokenizer, said, -0.25), Says(tokenizer, said, -1.0)
    torch.manual_seed(5)
    expected_next = torch.rand(1)
    torch.manual_seed(5)
    found = measure(policy, start, tokenizer, world, prompts, 4, lambda p, t: [1.0, None, 2.0, 3.0])
    assert torch.equal(torch.rand(1), expected_next), "the training's random numbers changed"
    assert policy.training
    tokens = len(tokenizer(said)["input_ids"]) + 1  # and one end of text
    assert found["kl"] == pytest.approx(0.75 * tokens, rel=1e-5)
    assert found["jailbreaks"] == 1.0
    assert found["unreadable"] == 0.5  # to the benign prompt it is no answer
    names = [kind.name for kind in benign.kinds]
    worst = min(names, key=lambda name: world.mean_utilities([name])[0])
    for place, group in enumerate(world.groups):
        wanted = (group.utility(COMPLIANCE.name) + group.utility(worst)) / 2
        assert found["groups"][group.name] == pytest.approx(wanted)
        assert found["worst_group"] <= wanted + 1e-12, place
    assert found["mean_utility"] == pytest.approx(
        (world.mean_utilities([COMPLIANCE.name])[0] + world.mean_utilities([worst])[0]) / 2
    )
    assert found["reward"] == pytest.approx(2.0)
    assert found["reward_std"] == pytest.approx(math.sqrt(2 / 3))


def test_names_stand_for_the_rewards_of_the_study() -> None:
    rewards = [grpo.named(name)[0] for name in grpo.REWARDS]
    titles = ["base", "DPL mean", "quantile", "CVaR", "PURM", "entropic"]
    assert [reward.title for reward in rewards] == titles
    for name, reward in zip(grpo.REWARDS[2:], rewards[2:], strict=True):
        assert name in reward.names  # each is one of the tries that best-of-n had


def test_report_by_hand(tmp_path: Path) -> None:
    best = grpo.best_utility(0, 1)
    for seed, shift in ((0, 0.0), (1, 0.02)):
        for name, jailbreaks in (("base", 0.4), ("mean", 0.5), ("cvar:0.05", 0.1 + shift)):
            points = [
                point(step=0, kl=0.0, utility=0.5, jailbreaks=0.6, reward=1.0),
                point(step=2, kl=0.5, utility=0.5 + jailbreaks / 10, jailbreaks=jailbreaks),
            ]
            content = {"settings": {"prompts": 1}, "points": points, "seconds": 1.0}
            (tmp_path / file_name(name, seed)).write_text(json.dumps(content))
    found = grpo.numbers(tmp_path, ["base", "mean", "cvar:0.05"], [0, 1])
    assert found["CVaR"]["jailbreaks_base"]["0.5"][0] == pytest.approx(-0.29)
    assert found["CVaR"]["jailbreaks_base"]["0.25"][0] == pytest.approx(-0.145)
    assert found["CVaR"]["jailbreaks_dpl"]["end"][0] == pytest.approx(-0.39)
    mean, low, high = found["CVaR"]["jailbreaks_base"]["end"]
    assert (low + high) / 2 == pytest.approx(mean)
    assert high - mean == pytest.approx(12.7062 * 0.01, rel=1e-4)  # Student's t of two values
    assert found["CVaR"]["loss_base"]["end"][0] == pytest.approx(0.029 / (best - 0.5))
    assert found["base"]["reward"]["end"][0] == pytest.approx((3.0 - 1.0) / 2.0)
    given = ["--output", str(tmp_path), "--rewards", "mean", "--seeds", "2", "--report", "no.md"]
    with pytest.raises(MissingFileError, match=r"mean_2\.json"):
        grpo.main(given)


def point(
    step: int, kl: float, utility: float, jailbreaks: float, reward: float = 3.0
) -> dict[str, float]:
    return {
        "step": step,
        "kl": kl,
        "mean_utility": utility,
        "worst_group": utility / 2,
        "jailbreaks": jailbreaks,
        "unreadable": 0.1,
        "reward": reward,
        "reward_std": 2.0,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean", "less_overlap:3"])
def test_a_stopped_training_gives_what_an_unbroken_one_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpo, "Sizes", lambda: SMALL)
    monkeypatch.setattr("policy.rewards.UNPENALISED", 6)
    whole = optimise(name, 0, tmp_path / "whole", SETTINGS)
    assert [found["step"] for found in whole["points"]] == [0, 2, 4]

    calls = []

    def interrupted(*given: Any) -> dict[str, Any]:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*given)

    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(grpo.trained, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            optimise(name, 0, folder, SETTINGS)
    assert optimise(name, 0, folder, SETTINGS)["points"] == whole["points"]
    assert whole["points"][1]["kl"] != whole["points"][2]["kl"]
    assert optimise(name, 0, folder, SETTINGS)["points"] == whole["points"]  # nothing is left to do


def test_after_its_last_save_a_training_takes_no_further_step(tmp_path: Path) -> None:
    TrainerState(log_history=[{"loss": 1.0}]).save_to_json(str(tmp_path / "trainer_state.json"))
    last = tmp_path.rename(tmp_path.with_name("checkpoint-4"))
    trainer = SimpleNamespace(train=lambda **_: pytest.fail("it trains on"))
    go_on(trainer, str(last), 4)
    assert trainer.state.log_history == [{"loss": 1.0}]
