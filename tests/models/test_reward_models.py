"""The laws of every kind of reward model, whatever its network, and probes on a frozen backbone."""

import json
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from hidden_context import heads
from hidden_context.data.storage.files import read_json
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, StorageError
from hidden_context.models.checkpoint.contents import FROZEN_CONFIG, PROBE_WEIGHTS
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.frozen import Probe, ProbeOptions
from support.builders import CHAT_TEMPLATE, sample_texts
from support.models import NORMAL, SCALE, edit_json, edit_weights, load, refusal
from support.rows import assistant, user

KINDS = ("full", "lora", "ensemble", "frozen")
TEXTS = sample_texts(10)
LONG = "tea " * 150
FILES = {
    "full": {"model.safetensors", "config.json"},
    "lora": {"adapter_model.safetensors", "adapter_config.json"},
    "ensemble": {"adapter_ensemble.json", "member_0", "member_1", "member_2"},
    "frozen": {"frozen_backbone.json", "probe.safetensors"},
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_what_was_saved_comes_back(saved, backbones, tmp_path, kind):
    model = load(saved(kind))
    raw = model.raw_outputs(TEXTS)
    assert raw.shape == (10, 6 if kind == "ensemble" else 2)
    assert raw.std(0).min() > 1e-3
    model.tokenizer.chat_template = CHAT_TEMPLATE
    model.card = {"data": {"source": "tests"}, "metrics": {"accuracy": 0.75}}
    model.save_pretrained(tmp_path / "again")
    again = load(str(tmp_path / "again"))
    assert type(again) is type(model)
    assert torch.equal(again.raw_outputs(TEXTS), raw)
    assert again.head == model.head
    assert (again.head.member if kind == "ensemble" else again.head) == NORMAL
    assert (again.reward_scale, again.max_length) == (SCALE, 100)
    assert again.base_model == backbones("llama" if kind == "ensemble" else "gpt2")
    assert again.tokenizer.padding_side == "right"
    assert again.tokenizer.chat_template == CHAT_TEMPLATE
    names = {path.name for path in (tmp_path / "again").iterdir()} - {"chat_template.jinja"}
    beside = {"reward_head.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert names == FILES[kind] | beside
    card = (tmp_path / "again" / "README.md").read_text()
    assert "| accuracy | 0.75 |" in card
    assert again.head.type in card


def test_an_interrupted_save_leaves_the_old_folder_whole(saved, tmp_path, monkeypatch, kind):
    model, path = load(saved(kind)), tmp_path / "model"
    model.save_pretrained(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for parameter in (model.probe if kind == "frozen" else model.module).parameters():
        parameter.data.add_(1.0)
    full_disk = Mock(side_effect=OSError(28, "No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr(HeadFile, "save", full_disk)
        with pytest.raises(StorageError, match=r"model could not be written: No space .*Free some"):
            model.save_pretrained(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert {entry.name for entry in tmp_path.iterdir()} <= {"model", "cache"}
    model.save_pretrained(path)
    assert {file: file.read_bytes() for file in before} != before


def test_heads_are_checked_against_the_checkpoint(saved, kind):
    name = "ensemble" if kind == "ensemble" else "mean_and_variance"
    message = refusal(load, saved(kind), "base")
    assert f" is {name} (num_outputs " in message
    assert "but base (num_outputs 1) was requested" in message
    # a type's name alone leaves the options to the checkpoint
    assert load(saved(kind), name).head == load(saved(kind)).head
    if kind != "ensemble":
        exact = {"type": name, "likelihood": "probit"}
        assert load(saved(kind), exact).head.likelihood == "probit"


def test_texts_that_are_too_long_or_empty(saved, kind):
    model = load(saved(kind), max_length=20)
    assert (model.max_length, load(saved(kind)).max_length) == (20, 100)
    with pytest.warns(HiddenContextWarning, match="longer than 20 tokens: 1 of 1;"):
        cut = model.raw_outputs([LONG])
    outputs = model.try_raw_outputs(["Tea?", "", LONG, "Rain"], over_length="drop")
    assert outputs.raw.isnan().all(1).tolist() == [False, True, True, False]
    assert outputs.reasons[::3] == [None, None]
    assert outputs.reasons[1] == ("it has no text" if kind == "frozen" else "it has no tokens")
    assert outputs.reasons[2].endswith("more than 20")
    with pytest.raises(DataError, match=f"text 1 cannot be scored: {outputs.reasons[1]}"):
        model.raw_outputs(["fine", ""])
    with pytest.raises(ConfigError, match="texts must be a list"):
        model.score("one text")
    assert model.raw_outputs([]).shape == (0, cut.shape[1])
    if kind != "frozen":  # it pools each turn by itself
        ids = model.tokenizer(LONG)["input_ids"]
        assert torch.allclose(cut, model.raw_outputs_of_tokens([ids[-20:]]), atol=1e-6)


def test_rewards_do_not_depend_on_batch_or_way(saved, tmp_path, monkeypatch, kind):
    model = load(saved(kind))
    with pytest.raises(ConfigError, match="engine 'trees' is not known; choose auto, tree, cache"):
        model.score(TEXTS, engine="trees")
    if kind == "frozen":
        for way in ("tree", "cache"):
            with pytest.raises(ConfigError, match=f"--engine {way} does not work with this model"):
                model.score(["tea"], engine=way)
        with pytest.raises(ConfigError, match="--compile does not work"):
            model.compile()
    expected = model.raw_outputs(TEXTS, engine="padded")
    for options in (
        *({"engine": "padded"}, {}, {"tokens_per_batch": 40}),
        *({"batch_size": size} for size in (1, 7, 64)),
        *(({"engine": "cache"}, {"tokens_per_batch": 1}) if kind != "frozen" else ()),
    ):
        monkeypatch.setenv("HIDDEN_CONTEXT_CACHE", str(tmp_path / str(options)))
        model = load(saved(kind))
        found = model.raw_outputs(TEXTS, **options)
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
        fastest = "padded" if kind == "frozen" else "tree"
        assert model.engine.name == options.get("engine", fastest)


def test_chat_messages_and_prompts_with_responses(saved):
    model = load(saved("lora"))
    model.tokenizer.chat_template = CHAT_TEMPLATE
    messages = [user("tea?"), assistant("kind")]
    rewards = model.score([messages, "<user> tea?</s><assistant> kind</s>"]).mean
    assert torch.allclose(rewards[0], rewards[1], atol=1e-5)
    both = model.score_responses(messages[:1], ["kind", "rude"]).mean
    assert both.shape == (2,)
    assert torch.allclose(both[0], rewards[0], atol=1e-5)
    prompt = "\n\nHuman: tea?\n\nAssistant:"
    text, joined = model.score_responses(prompt, ["kind"]), model.score([f"{prompt} kind"])
    assert torch.allclose(text.mean, joined.mean, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "comparison"),
    [
        (heads.make("base"), None),
        (heads.make("mean_and_variance", variance_penalty=0.25, likelihood="logistic"), "paper"),
        (heads.make("mean_and_variance", likelihood="probit"), "exact"),
        (heads.make("categorical", num_atoms=6, entropy_coeff=0.0), None),
    ],
)
def test_head_files_come_back_and_name_the_comparison_as_the_paper_does(tmp_path, head, comparison):
    stored = HeadFile(head, 77, "someone/model", SCALE)
    stored.save(tmp_path)
    assert HeadFile.load(tmp_path / HEAD_FILE) == stored
    assert read_json(tmp_path / HEAD_FILE).get("comparison") == comparison


LINEAR = ProbeOptions(0, 0.0, 1)


def test_probe_is_the_mean_of_standardised_members():
    torch.manual_seed(0)
    probe = Probe(5, NORMAL, ProbeOptions(4, 0.5, 3)).eval()
    features = torch.randn(40, 5) * 3 + 7
    probe.standardise(features)
    features[0, 0] = 1e4  # an outlier is cut at 8 standard deviations
    standardised = (features - probe.location) / probe.scale
    assert standardised[0, 0] > 1e3
    assert torch.allclose(standardised[1:].mean(0), torch.zeros(5), atol=0.2)
    standardised[0, 0] = 8
    by_hand = []
    for first, _, _, last in probe.members:
        hidden = torch.relu(standardised @ first.weight.T + first.bias)
        by_hand.append(hidden @ last.weight.T + last.bias)
    plain = probe(features)
    assert torch.allclose(plain, torch.stack(by_hand).mean(0), atol=1e-6)
    assert plain.abs().max() < 0.1  # nearly equal rewards to start from
    probe.slope, probe.start = torch.randn(2, 5), torch.tensor([1.0, -2.0])
    linear = standardised @ probe.slope.T + probe.start
    assert torch.allclose(probe(features) - plain, linear, atol=1e-4)
    assert sum(p.numel() for p in Probe(5, NORMAL, LINEAR).parameters()) == 5 * 2 + 2


def test_features_that_count_several_times_or_are_constant():
    features, counts = torch.randn(6, 3), torch.tensor([1, 0, 3, 2, 1, 5])
    one, other = (Probe(3, NORMAL, LINEAR) for _ in range(2))
    one.standardise(features, counts)
    repeated = features.repeat_interleave(counts, 0)
    other.standardise(repeated)
    assert torch.allclose(one.location, other.location, atol=1e-6)
    for scale in (other.scale, repeated.std(0, correction=0)):
        assert torch.allclose(one.scale, scale, atol=1e-6)
    one.standardise(torch.ones(4, 3))
    assert one(torch.ones(4, 3)).isfinite().all()


@pytest.mark.parametrize("options", [{"hidden": -1}, {"members": 0}, {"dropout": 1.0}])
def test_impossible_probes(options):
    with pytest.raises(ConfigError, match="options cannot work"):
        ProbeOptions(**options)
    with pytest.raises(ConfigError, match="the probe has 3 members, but the ensemble head has 2"):
        Probe(5, heads.EnsembleHead(NORMAL, 2), ProbeOptions(members=3))


def test_features_are_those_of_the_backbone(saved):
    model = load(saved("frozen"))
    texts = [*TEXTS[:3], " "]
    outputs = model.try_raw_outputs(texts, with_features=True)
    assert outputs.reasons == [None, None, None, "it has no text"]
    assert outputs.features.shape == (4, 1, 64)
    assert outputs.features[:3, 0].equal(model.featurizer.features(texts[:3]))
    assert outputs.features[3].isnan().all()
    assert model.probe(outputs.features[:3, 0]).equal(outputs.raw[:3])
    assert model.try_raw_outputs(texts).features is None
    assert len(model.readout()) == 2 * 64 + 3 * 2 * 8


def test_another_backbone_but_no_other_tokenizer_can_be_named(saved, copied, backbones):
    raw = load(saved("frozen")).raw_outputs(TEXTS)
    other = load(saved("frozen"), base_model=backbones("gpt2", seed=3))
    assert (other.raw_outputs(TEXTS) - raw).abs().max() > 1e-4
    assert load(saved("frozen"), max_length=9999).max_length == 100
    message = refusal(load, saved("frozen"), tokenizer_name="other", error=ConfigError)
    assert "leave tokenizer_name out" in message
    edit_json((folder := copied("frozen")) / FROZEN_CONFIG, trust_remote_code=True)
    assert load(folder, trust_remote_code=True).head == NORMAL


def test_a_folder_of_the_first_format_has_no_linear_part(copied):
    folder = copied("frozen")
    model = load(folder)
    for name in ("slope", "start"):
        setattr(model.probe, name, torch.zeros_like(getattr(model.probe, name)))
    assert json.loads((folder / FROZEN_CONFIG).read_text())["format"] == 2
    assert load_file(folder / PROBE_WEIGHTS)["slope"].shape == (2, 64)
    edit_weights(folder / PROBE_WEIGHTS, ["slope", "start"])
    # a folder of this format cannot lack it
    assert 'Missing key(s) in state_dict: "slope"' in refusal(load, folder)
    edit_json(folder / FROZEN_CONFIG, format=1)
    assert torch.equal(load(folder).raw_outputs(TEXTS), model.raw_outputs(TEXTS))
