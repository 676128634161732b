"""The laws of every kind of reward model, whatever its network."""

import shutil

import pytest
import torch

from hidden_context import heads
from hidden_context.data.storage.files import read_json
from hidden_context.errors import ConfigError, DataError, HiddenContextWarning, StorageError
from hidden_context.models.checkpoint.head_file import HEAD_FILE, HeadFile
from hidden_context.models.featurizer import Featurizer
from support.builders import CHAT_TEMPLATE, sample_texts
from support.models import NORMAL, SCALE, edit_json, load, refusal

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
    with torch.no_grad():
        for parameter in (model.probe if kind == "frozen" else model.module).parameters():
            parameter.add_(1.0)

    def full_disk(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(HeadFile, "save", full_disk)
        with pytest.raises(StorageError, match=r"model could not be written: No space .*Free some"):
            model.save_pretrained(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert {entry.name for entry in tmp_path.iterdir()} <= {"model", "cache"}
    model.save_pretrained(path)
    assert {file: file.read_bytes() for file in before} != before


def test_heads_are_checked_against_the_checkpoint(saved, tmp_path, kind):
    name = "ensemble" if kind == "ensemble" else "mean_and_variance"
    message = refusal(load, saved(kind), "base")
    assert f"was trained with a {name} head of " in message
    assert "but a base head of 1 outputs was asked for" in message
    # a type's name alone leaves the options to the checkpoint
    assert load(saved(kind), name).head == load(saved(kind)).head
    if kind != "ensemble":
        exact = {"type": name, "likelihood": "probit"}
        assert load(saved(kind), exact).head.likelihood == "probit"
    damaged = tmp_path / "damaged"
    shutil.copytree(saved(kind), damaged)
    path = damaged / HEAD_FILE
    for text, words in (("{nonsense", "not valid JSON"), ("[1]", "a JSON object is needed")):
        path.write_text(text)
        assert words in refusal(load, damaged)
    for values, words in (
        ({"format": 99}, "has format 99, this package reads 1; upgrade"),
        ({"head": None}, "'head' is missing"),
        ({"head": {"type": "alien"}}, "'alien' is not known"),
        ({"reward_scale": {"median": 1}}, "reward_head.json is damaged"),
    ):
        shutil.copyfile(saved(kind) / HEAD_FILE, path)
        edit_json(path, **values)
        assert words in refusal(load, damaged)


def test_texts_that_are_too_long_or_empty(saved, kind):
    model = load(saved(kind), max_length=20)
    assert (model.max_length, load(saved(kind)).max_length) == (20, 100)
    with pytest.warns(HiddenContextWarning, match="1 of 1 texts are longer than 20 tokens"):
        cut = model.raw_outputs([LONG])
    outputs = model.try_raw_outputs(["Tea?", "", LONG, "Rain"], over_length="drop")
    assert outputs.raw.isnan().all(1).tolist() == [False, True, True, False]
    assert outputs.reasons[::3] == [None, None]
    assert outputs.reasons[1] == ("it has no text" if kind == "frozen" else "it has no tokens")
    assert outputs.reasons[2].endswith("more than 20")
    with pytest.raises(DataError, match=f"text 1 cannot be scored: {outputs.reasons[1]}"):
        model.raw_outputs(["fine", ""])
    with pytest.raises(ConfigError, match="a list of texts is needed"):
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
            with pytest.raises(ConfigError, match=f"--engine {way} does not fit this model"):
                model.score(["tea"], engine=way)
        with pytest.raises(ConfigError, match="--compile does not fit"):
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


def test_saved_models_are_loaded_without_their_backbone_running(saved, tmp_path, monkeypatch):
    raw = load(saved("frozen")).raw_outputs(TEXTS, batch_size=3)

    def never(*args):
        raise AssertionError("the backbone ran")

    monkeypatch.setattr(Featurizer, "_forward", never)
    assert torch.equal(load(saved("frozen")).raw_outputs(TEXTS), raw)


def test_chat_messages_and_prompts_with_responses(saved):
    model = load(saved("lora"))
    model.tokenizer.chat_template = CHAT_TEMPLATE
    messages = [{"role": "user", "content": "tea?"}, {"role": "assistant", "content": "kind"}]
    rewards = model.score([messages, "<user> tea?</s><assistant> kind</s>"]).mean
    assert torch.allclose(rewards[0], rewards[1], atol=1e-5)
    both = model.score_responses(messages[:1], ["kind", "rude"]).mean
    assert both.shape == (2,)
    assert torch.allclose(both[0], rewards[0], atol=1e-5)
    text = model.score_responses("\n\nHuman: tea?\n\nAssistant:", ["kind"]).mean
    joined = model.score(["\n\nHuman: tea?\n\nAssistant: kind"]).mean
    assert torch.allclose(text, joined, atol=1e-5)


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
