"""What is refused of a divided network, and how a divided one is put together again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate import Accelerator, DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from torch import nn

from hidden_context.errors import ConfigError
from hidden_context.heads import make
from hidden_context.likelihood import make_likelihood
from hidden_context.training.module import PreferenceModule
from hidden_context.training.sharding.base import Sharding, give_weights, without_weights
from hidden_context.training.sharding.fsdp import take_plugin
from hidden_context.training.sharding.processes import make_accelerator, make_sharding
from hidden_context.training.sharding.zero import set_config

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"


def launched(**plugin) -> SimpleNamespace:
    """An accelerator as a launcher's options make it."""
    options = {"fsdp_version": 2, "cpu_ram_efficient_loading": False}
    state = SimpleNamespace(
        fsdp_plugin=SimpleNamespace(**(options | {"activation_checkpointing": False} | plugin))
    )
    return SimpleNamespace(state=state, distributed_type=DistributedType.FSDP)


class Tied(nn.Module):
    """A network with a weight of two names and a buffer."""

    _no_split_modules = ("Linear", "NowhereHere")

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(2, 3)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.register_buffer("count", torch.arange(2.0))


def tied() -> PreferenceModule:
    return PreferenceModule(Tied(), make_likelihood(make("base")))


def test_what_fsdp_cannot_do_here_is_refused_with_the_remedy():
    for options, message in (
        ({"fsdp_version": 1}, "fsdp_version: 2"),
        ({"cpu_ram_efficient_loading": True}, "set it to false"),
        ({"activation_checkpointing": True}, "--gradient_checkpointing"),
    ):
        with pytest.raises(ConfigError, match=message):
            take_plugin(launched(**options))
    accelerator = launched(mixed_precision_policy="bf16")
    take_plugin(accelerator)
    policy = accelerator.state.fsdp_plugin.mixed_precision_policy
    # nothing is rounded by the wrapper
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (None, None, None)


def test_deepspeeds_configuration_is_filled_in_or_refused():
    arguments = SimpleNamespace(per_device_train_batch_size=6, max_grad_norm=0.5)
    config = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": True}}
    plugin = SimpleNamespace(deepspeed_config=config)
    accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin), num_processes=4)
    set_config(accelerator, arguments)
    assert config["train_batch_size"] == 24
    assert config["gradient_clipping"] == 0.5
    assert not config["bf16"]["enabled"]
    config["optimizer"] = {"type": "Adam"}
    with pytest.raises(ConfigError, match=r"'optimizer'.*--optim"):
        set_config(accelerator, arguments)


def test_deepspeed_refuses_parameters_that_are_single_numbers():
    module = tied()
    module.network.scale = nn.Parameter(torch.zeros(()))
    divided = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ConfigError, match=r"network\.scale.*position.*fsdp2\.yaml"):
        make_sharding(divided, module)


def test_half_precision_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    arguments = SimpleNamespace(bf16=False, fp16=True, ddp_find_unused_parameters=None)
    with pytest.raises(ConfigError, match="FSDP goes with float32 and bfloat16"):
        make_accelerator(arguments, recomputes=False)


def test_weights_of_four_bits_are_refused():
    module = tied()
    module.network.first.weight = nn.Parameter(
        torch.zeros((3, 1), dtype=torch.uint8), requires_grad=False
    )
    divided = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(ConfigError, match=r"--tuning qlora.*--multi_gpu"):
        make_sharding(divided, module)
    whole = make_sharding(Accelerator(cpu=True), module)
    assert type(whole) is Sharding
    assert whole.whole() is module


def test_a_copy_without_weights_takes_them_later_and_ties_stay():
    module = tied()
    copy = without_weights(module)
    assert {parameter.device.type for parameter in copy.parameters()} == {"meta"}
    weights = {name: value + 1 for name, value in module.state_dict().items()}
    give_weights(copy, weights)
    for name, value in copy.state_dict().items():
        assert torch.equal(value, module.state_dict()[name] + 1), name
    assert copy.network.second.weight is copy.network.first.weight
    assert not copy.network.second.bias.requires_grad
    assert copy.network.first.bias.requires_grad
    # and the module that was copied is as it was
    assert torch.equal(module.network.count, torch.arange(2.0))


def test_layers_that_are_gathered_at_a_time_are_those_there_are():
    assert tied()._no_split_modules == ["Linear"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_are_what_accelerate_reads(path):
    config = load_config_from_file(str(path))
    expected = "FSDP" if path.stem == "fsdp2" else "DEEPSPEED"
    assert config.distributed_type == expected
    assert config.mixed_precision == "no"
    text = path.read_text(encoding="utf-8")
    assert f"configs/accelerate/{path.name}" in text
    options = yaml.safe_load(text)
    if expected == "DEEPSPEED":
        assert options["deepspeed_config"]["zero_stage"] == int(path.stem.removeprefix("zero"))
    else:
        assert options["fsdp_config"]["fsdp_version"] == 2
    assert json.dumps(options)  # nothing but plain values
