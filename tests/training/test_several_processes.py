"""Two processes train like one of the same step; a network divided over them is put together."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from torch import nn

from hidden_context.errors import ConfigError
from hidden_context.heads import make
from hidden_context.likelihood import make_likelihood
from hidden_context.models import RewardModel
from hidden_context.training import TrainConfig, run
from hidden_context.training.labels import make_training_likelihood
from hidden_context.training.module import PreferenceModule
from hidden_context.training.sharding.base import Sharding, give_weights, without_weights
from hidden_context.training.sharding.fsdp import take_plugin
from hidden_context.training.sharding.processes import make_accelerator, make_sharding
from hidden_context.training.sharding.zero import set_config
from hidden_context.training.workflow import as_examples
from support.builders import preference_rows, train_config
from support.processes import assert_like_one, labelled_rows, train_in_two
from support.runs import largest_difference, logged, losses

CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
# two epochs of steps with 8, 8 and 5 pairs; divided networks are saved within the second one
ROWS, STEPS, SAVED = 21, 6, 4
VOTES = {"beside": 21 + 10 + 21}  # ratings are votes too where they are learned from
CASES = {
    # one pass a process, or two; the processes differ in number
    "uneven": {"tokens_per_batch": 100, "optim": "sgd", "learning_rate": 1e-2, "eval_steps": 2}
    | {"reward_model_type": "mean_and_variance", "variance_penalty": 0.3},
    # a pass for each pair: the last step has 3 in one process and 2 in the other
    "pairs": {"tokens_per_batch": 1, "engine": "padded", "optim": "sgd", "learning_rate": 1e-2},
    "adapters": {"tuning": "lora", "kind": "llama", "gradient_checkpointing": True},
    # the last step has a single pair, which both processes run
    "single": {"per_device_train_batch_size": 20, "optim": "sgd", "learning_rate": 1e-2},
    # thresholds, annotators and the noise of ratings, which no wrapper averages over processes
    "beside": {"tokens_per_batch": 100, "optim": "sgd", "learning_rate": 1e-2}
    | {"reward_model_type": "factor", "ensemble": "heads", "ensemble_members": 2}
    | {"outcomes": "five_levels", "annotators": "variational", "anchor_weight": 0.3}
    | {"objective_learning_rate": 1.0, "annotator_warmup": 0.5},
}
# whose network is divided over the processes
DIVIDED = {
    "full": {"reward_model_type": "mean_and_variance", "variance_penalty": 0.1}
    | {"annotators": "variational", "annotator_effects": ["sharpness", "readiness"]}
    | {"outcomes": "five_levels", "tokens_per_batch": 150, "eval_steps": 3},
    "lora": {"kind": "llama", "tuning": "lora", "reward_model_type": "mean_and_variance"}
    | {"annotators": "variational", "annotator_effects": ["readiness", "sharpness"]}
    | {"outcomes": "ties", "tokens_per_batch": 200, "gradient_checkpointing": True},
    # the best checkpoint's weights are loaded again, members brought to one unit, and a parameter
    # is a single number, which DeepSpeed does not take
    "best": {"ensemble": "heads", "ensemble_members": 2, "validation_fraction": 0.3}
    | {"annotators": "map", "annotator_effects": ["position"]}
    | {"eval_steps": 2, "save_steps": 2, "optim": "sgd", "learning_rate": 1e-2}
    | {"training_arguments": {"greater_is_better": True}},  # so that the best is not the last
}
# single rated texts that three annotators rated; each process compares its own share of a step
LINKED = {"max_comparisons": 6, "tokens_per_batch": 1, "optim": "sgd", "learning_rate": 1e-2}


DATA = {"train": labelled_rows(ROWS, seed=3), "test": labelled_rows(7, seed=4)}


def train(options: dict):
    return run(TrainConfig(**options), DATA["train"], DATA["test"])


def case_of(backbones, folder: Path, processes: int, case: str) -> dict:
    """Options of a training, whose steps are as large with any number of processes."""
    options = {"per_device_train_batch_size": 8, "num_train_epochs": 2}
    if case in DIVIDED:
        options |= {"save_steps": SAVED, "objective_learning_rate": 0.05, "quiet": True}
        options |= {"annotator_warmup": 0.5}
    options |= CASES.get(case) or DIVIDED.get(case, LINKED)
    options["per_device_train_batch_size"] //= processes
    config = train_config(backbones(options.pop("kind", "gpt2")), folder / case, **options)
    return {name: value for name, value in vars(config).items() if value is not None}


@pytest.fixture(scope="module")
def two(backbones, tmp_path_factory):
    """All cases, trained by two processes that were started once; a report of each process."""
    folder = tmp_path_factory.mktemp("two")
    rated = [
        {"text": row["chosen"], "rating": float(number % 5), "annotator": "abc"[number % 3]}
        for number, row in enumerate(preference_rows(ROWS, seed=5))
    ]
    cases = [case_of(backbones, folder, 2, case) for case in (*CASES, "linked")]
    # what accelerate calls several GPUs are several processes; without a GPU Gloo connects them
    launcher = ["--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    return train_in_two(folder, DATA | {"rated": rated}, cases, launcher), folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one(backbones, tmp_path, two, case):
    reports, folder = two
    options = case_of(backbones, tmp_path, 1, case)
    config, alone = TrainConfig(**options), train(options)
    assert len(losses(alone)) == 2 * -(-VOTES.get(case, ROWS) // config.per_device_train_batch_size)
    assert_like_one(alone, reports[case])
    # only one process writes
    assert any(path.endswith("metrics.json.partial") for path in reports[case][0]["written"])
    assert reports[case][1]["written"] == []
    file = "adapter_model.safetensors" if case == "adapters" else "model.safetensors"
    finals = [place / case / "final" for place in (folder, tmp_path)]
    assert (finals[0] / "reward_head.json").is_file()
    learned = [final / "likelihood.safetensors" for final in finals]
    assert [path.is_file() for path in learned] == [case == "beside"] * 2
    for pair in ([final / file for final in finals], learned if case == "beside" else []):
        assert not pair or largest_difference(*map(load_file, pair)) < 1e-4
    if case == "beside":
        examples = as_examples(DATA["train"])
        start = make_training_likelihood(config, alone.model.head, examples).state_dict()
        for name, values in load_file(learned[0]).items():
            least = 1e-4 if "log_prior_scale" in name else 1e-2
            assert float((values - start[name]).abs().max()) > least, name


@pytest.mark.slow
def test_processes_run_equally_many_passes(two):
    reports, _ = two
    for case in (*CASES, "linked"):
        first, second = (report["passes"] for report in reports[case])
        assert [all_of for _, all_of in first] == [all_of for _, all_of in second]
    own = [[own for own, _ in report["passes"]] for report in reports["pairs"]]
    # 4 and 4 pairs, and in the last step of an epoch 3 and 2: a pass there counts nothing
    assert own == [[4, 4, 3] * 2, [4, 4, 2] * 2]
    assert [len(report["passes"]) for report in reports["uneven"]] == [6, 6]
    assert max(total for _, total in reports["uneven"][0]["passes"]) > 1


@pytest.mark.slow
def test_linked_examples_of_processes_train_the_same_weights(two):
    """Texts that are compared stay in one pass where the other process has more passes."""
    first, second = two[0]["linked"]
    curve = losses(first["history"])
    # 21 texts, each with a vote of its own, in steps of 8
    assert len(curve) == 2 * 3
    assert all(0 < loss < 10 for loss in curve)
    assert first["weights"] == second["weights"]
    assert any(own < 4 for own, _ in first["passes"])  # of 4 texts of its own


# ---- a network divided over processes


@pytest.fixture(scope="module")
def alone(backbones, tmp_path_factory):
    """All cases, trained by this process."""
    folder = tmp_path_factory.mktemp("alone")
    return {case: train(case_of(backbones, folder, 1, case)) for case in DIVIDED}, folder


@pytest.fixture(scope="module", params=["fsdp2", "zero2", "zero3"])
def divided(request, backbones, alone, tmp_path_factory):
    """All cases, trained by two processes; two of them go on from one process's checkpoint."""
    if request.param != "fsdp2" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed (DS_ACCELERATOR=cpu pip install deepspeed)")
    folder = tmp_path_factory.mktemp(request.param)
    names = [case for case in DIVIDED if case != "best" or request.param == "fsdp2"]
    cases = [case_of(backbones, folder, 2, case) for case in names]
    for case in ("full", "lora"):
        start = {"resume_from_checkpoint": str(alone[1] / case / f"checkpoint-{SAVED}")}
        options = case_of(backbones, folder, 2, case) | start
        cases.append(options | {"output_dir": f"{options['output_dir']}-resumed"})
    launcher = [f"--config_file={CONFIGS / request.param}.yaml"]
    return train_in_two(folder, DATA, cases, launcher, DS_ACCELERATOR="cpu"), folder


@pytest.mark.slow
@pytest.mark.parametrize("case", DIVIDED)
def test_a_divided_network_trains_like_a_whole_one(alone, divided, case):
    """And leaves the same folders."""
    if case not in divided[0]:
        pytest.skip("DeepSpeed refuses parameters that are single numbers")
    one = alone[0][case]
    assert len(losses(one)) == STEPS
    assert_like_one(one, divided[0][case])
    if case == "best":
        found = logged(one, "eval_loss")
        assert found[0] == max(found)
    last = f"checkpoint-{2 if case == 'best' else SAVED}"
    texts = [row["chosen"] for row in DATA["test"]]
    for part in ("final", last):
        places = [where / case / part for where in (alone[1], divided[1])]
        names = [
            {path.name.replace("_0", "").replace("_1", "") for path in place.iterdir()}
            for place in places
        ]
        assert names[0] == names[1]
        first, second = (RewardModel.from_pretrained(p).raw_outputs(texts) for p in places)
        assert torch.allclose(first, second, rtol=0, atol=1e-4)
        learned = [load_file(place / "likelihood.safetensors") for place in places]
        assert largest_difference(*learned) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora"])
def test_each_process_holds_half_of_the_optimisers_state(alone, divided, case):
    one = torch.load(alone[1] / case / f"checkpoint-{SAVED}" / "optimizer.pt")["state"].values()
    whole = sum(value.numel() for each in one for value in each.values() if value.ndim)
    likelihood = sum(v.numel() for v in alone[0][case].model.likelihood.state_dict().values())
    for report in divided[0][case]:
        # rows that two do not divide, and what is learned beside the network, are in both
        assert whole / 2 - likelihood <= report["held"] <= 0.52 * whole + 2 * likelihood


@pytest.mark.slow
@pytest.mark.parametrize("case", ["full", "lora"])
def test_a_run_goes_on_with_another_number_of_processes(backbones, alone, divided, tmp_path, case):
    start = str(divided[1] / case / f"checkpoint-{SAVED}")
    fewer = train(case_of(backbones, tmp_path, 1, case) | {"resume_from_checkpoint": start})
    for curve in map(losses, (divided[0][f"{case}-resumed"][0]["history"], fewer)):
        assert len(curve) == STEPS
        assert curve[SAVED:] == pytest.approx(losses(alone[0][case])[SAVED:], abs=1e-4)


# ---- what is refused of a divided network, and how a divided one is put together again


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


def test_half_precision_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    arguments = SimpleNamespace(bf16=False, fp16=True, ddp_find_unused_parameters=None)
    with pytest.raises(ConfigError, match="FSDP supports float32 and bfloat16"):
        make_accelerator(arguments, recomputes=False)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("DEEPSPEED", torch.zeros(()), r"network\.more.*position.*fsdp2\.yaml"),
        ("FSDP", torch.zeros((3, 1), dtype=torch.uint8), r"--tuning qlora.*--multi_gpu"),
    ],
)
def test_single_numbers_and_weights_of_four_bits_are_not_divided(kind, values, message):
    module = tied()
    module.network.more = nn.Parameter(values, requires_grad=values.is_floating_point())
    with pytest.raises(ConfigError, match=message):
        make_sharding(SimpleNamespace(distributed_type=DistributedType[kind]), module)
    whole = make_sharding(Accelerator(cpu=True), module)
    assert type(whole) is Sharding
    assert whole.whole() is module


def test_a_copy_without_weights_takes_them_later_and_ties_stay():
    module = tied()
    copy = without_weights(module)
    assert {parameter.device.type for parameter in copy.parameters()} == {"meta"}
    give_weights(copy, {name: value + 1 for name, value in module.state_dict().items()})
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
    assert config.mixed_precision == "no"
    assert f"configs/accelerate/{path.name}" in path.read_text(encoding="utf-8")
    if path.stem == "fsdp2":
        assert config.distributed_type == "FSDP"
        assert config.fsdp_config["fsdp_version"] == 2
    else:
        assert config.distributed_type == "DEEPSPEED"
        assert config.deepspeed_config["zero_stage"] == int(path.stem.removeprefix("zero"))
