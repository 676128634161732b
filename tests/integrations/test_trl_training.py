"""TRL's own trainers take steps with our rewards, and log what scoring in process says."""

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from hidden_context.integrations.trl import (
    async_reward_function,
    check_reward_functions,
    pair_builder,
    reward_function,
    reward_module,
)
from support.builders import tiny_backbone, tiny_tokenizer

pytestmark = pytest.mark.slow
RISK = "cvar:0.05"
PROMPTS = ["Tea? ", "Rain? "]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    tokenizer = tiny_tokenizer(bos="<s>")
    return tiny_backbone(tmp_path_factory.mktemp("policy"), "llama", tokenizer=tokenizer)


class Recorded:
    """A reward function that keeps what it was asked, and how often."""

    def __init__(self, function):
        self.function, self.asked = function, []
        self.__name__ = function.__name__

    def __call__(self, prompts, completions, **columns):
        self.asked.append((list(prompts), list(completions)))
        return self.function(prompts, completions, **columns)


def recorded_async(function):
    asked = []

    async def reward(prompts, completions, **columns):
        asked.append((list(prompts), list(completions)))
        return await function(prompts, completions, **columns)

    reward.__name__, reward.asked = function.__name__, asked
    return reward


def train(method, policy, functions, folder, processing=None):
    """Take two steps; return what was logged at each."""
    import trl

    config, trainer = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[method]
    settings = config(
        output_dir=str(folder),
        max_steps=2,
        logging_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
    )
    running = trainer(
        model=AutoModelForCausalLM.from_pretrained(policy),
        args=settings,
        reward_funcs=check_reward_functions(functions),
        reward_processing_classes=processing,
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS * 4}),
    )
    running.train()
    return [one for one in running.state.log_history if f"rewards/{RISK}/mean" in one]


@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.parametrize("kind", ["in process", "async", "server", "async server"])
def test_logged_rewards_are_those_of_scoring(
    method, kind, policy, models, url, expected_of, tmp_path
):
    model = url if "server" in kind else models["normal"]
    name = "normal" if "server" in kind else None
    if "async" in kind:
        function = recorded_async(async_reward_function(model, RISK, name=name))
    else:
        function = Recorded(reward_function(model, RISK, name=name))
    steps = train(method, policy, [function], tmp_path)
    assert (len(steps), len(function.asked)) == (2, 2)
    for logged, (prompts, completions) in zip(steps, function.asked, strict=True):
        want = expected_of(prompts, completions)
        assert logged[f"rewards/{RISK}/mean"] == pytest.approx(sum(want) / 4, abs=1e-5, rel=1e-5)
        assert logged[f"rewards/{RISK}/sigma"] > 0
        assert 0 <= logged[f"rewards/{RISK}/disagreement"] <= 0.5


def test_the_reward_network_and_the_function_agree(policy, models, tmp_path):
    module = reward_module(models["normal"], RISK)
    function = reward_function(models["normal"])
    steps = train("grpo", policy, [module, function], tmp_path, [module.tokenizer, None])
    assert all("rewards/mean/mean" in step for step in steps)
    both = train("grpo", policy, [reward_function(models["normal"], RISK), function], tmp_path)
    got = [step[f"rewards/{RISK}/mean"] for step in steps]
    assert got == pytest.approx([step[f"rewards/{RISK}/mean"] for step in both], rel=1e-5)


def test_dpo_takes_the_rows_of_pairs(policy, models, tmp_path):
    import trl

    build = pair_builder(models["normal"], RISK, contested="soften")
    rows = build([{"prompt": p, "responses": ["Yes.", "Never, thanks."]} for p in PROMPTS]).rows
    config = trl.DPOConfig(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, bf16=False, report_to=[],
        save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    running = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy),
        args=config,
        processing_class=AutoTokenizer.from_pretrained(policy),
        train_dataset=Dataset.from_list(rows),
    )
    assert len(running.train_dataset) == len(rows) == 8
    running.train()
    assert running.state.log_history[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
