"""A local model as the judge: probabilities of a forward pass, and questions that are too long."""

import math
from unittest.mock import Mock

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import iter_jsonl, write_jsonl
from hidden_context.errors import CheckpointError, ConfigError, MissingFileError
from hidden_context.relabel import RelabelConfig, local, run
from hidden_context.relabel.local import CUT, LocalJudge, letter_tokens
from hidden_context.relabel.questions import Objective, Question, chat_ids, items_of
from relabel.fake_endpoint import BASE, numbered_rows
from support.builders import CHAT_TEMPLATE, tiny_backbone, tiny_tokenizer

PLACES = 1024
SHORT = Objective("short", "Which is shorter?")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE + "{{ '>' }}", max_length=PLACES)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return tiny_backbone(folder, tokenizer=tokenizer, max_position_embeddings=PLACES)


def config(model, **options):
    usual = {"model": model, "backend": "local", "device": "cpu", "dtype": "float32"}
    return RelabelConfig(**BASE | usual | {"disable_tqdm": True} | options)


def question(row=None):
    write_jsonl("in.jsonl", [row or numbered_rows(1)[0]])
    (item,) = items_of(load_examples("in.jsonl").examples)
    return Question(item, SHORT, (0, 1))


def probabilities(model, text):
    """The next token's probabilities, by Transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer.encode(f"<user> {text}</s>>", add_special_tokens=False)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model)(torch.tensor([ids])).logits
    return torch.softmax(logits[0, -1].double(), 0), len(ids), tokenizer


def test_the_letters_probabilities_are_those_of_the_next_token(model):
    one = question()
    reply = LocalJudge(config(model)).ask(one)
    expected, count, tokenizer = probabilities(model, one.text())
    assert reply.letters is not None
    for letter in "AB":
        (token,) = tokenizer.encode(letter, add_special_tokens=False)
        assert math.exp(reply.letters[letter]) == pytest.approx(float(expected[token]), rel=1e-4)
    assert (reply.input_tokens, reply.output_tokens) == (count, 1)
    assert reply.text == tokenizer.decode([int(expected.argmax())])


def test_spellings_with_a_space_count_too():
    spelt = {"A": [4], " A": [9], "B": [5], " B": [1, 5]}
    tokenizer = Mock(encode=lambda text, add_special_tokens: spelt[text])
    assert (letter_tokens(tokenizer, "A"), letter_tokens(tokenizer, "B")) == ({4, 9}, {5})
    with pytest.raises(ConfigError, match="no token for the letter B"):
        letter_tokens(Mock(encode=Mock(return_value=[1, 2])), "B")


def test_the_beginning_of_a_conversation_is_left_out_and_nothing_else(model, monkeypatch):
    words = " ".join(f"word{number}" for number in range(300))
    row = {"prompt": f"Human: {words}\n\nAssistant:", "chosen": " yes", "rejected": " no"}
    judge = LocalJudge(config(model, max_length=300))
    one, noted = question(row), Mock(wraps=chat_ids)

    def length(text):
        return len(chat_ids(judge._tokenizer, text))

    monkeypatch.setattr(local, "chat_ids", noted)
    reply = judge.ask(one)
    assert reply.letters is not None
    assert 295 <= reply.input_tokens <= 300
    # the longest end of the conversation that fits in, the rest of the question whole
    seen = [call.args[1] for call in noted.call_args_list]
    longest = max((text for text in seen if length(text) <= 300), key=len)
    kept = longest.split(f"<conversation>\n{CUT}")[1].split("\n</conversation>")[0]
    assert words.endswith(kept)
    assert longest == SHORT.question(CUT + kept, "yes", "no")
    before = words[: -len(kept)].split()[-1]
    assert length(SHORT.question(f"{CUT}{before} {kept}", "yes", "no")) > 300


def test_a_question_that_is_too_long_by_itself_is_an_abstention(model):
    row = {"prompt": "Human: Hi\n\nAssistant:", "chosen": " yes" * 400, "rejected": " no"}
    write_jsonl("in.jsonl", [row, *numbered_rows(1)])
    result = run(config(model, max_length=600))
    (long, short) = [row["annotations"][1] for _, row in iter_jsonl("out.jsonl")]
    assert [one["reason"] for one in long["answers"]] == ["too_long"] * 2
    assert (long["abstains"], "preference" in long) == (True, False)
    assert 0 < short["preference"] < 1
    assert result.reasons == {"too_long": 2}
    assert result.uncounted == 0  # no server failed to count anything
    assert (result.judged, result.abstained, result.asked) == (1, 1, 4)


def test_both_orders_are_averaged_and_the_folder_s_name_is_the_judge_s(model, here):
    write_jsonl("in.jsonl", numbered_rows(3))
    assert run(config(model)).asked == 6
    for _, row in iter_jsonl("out.jsonl"):
        entry = row["annotations"][1]
        first, second = (one["preference"] for one in entry["answers"])
        assert entry["preference"] == pytest.approx((first + second) / 2)
        assert entry["annotator"].startswith("tiny/helpful/")
    result = run(config(model, output="b.jsonl", name="other", cache="out.jsonl.cache.sqlite"))
    assert (result.asked, result.known) == (0, 6)  # the same weights, whatever they are called
    assert run(config(model, max_length=700)).asked == 6


def test_a_tokenizer_without_a_template_or_no_model_is_refused(tmp_path):
    bare = tiny_backbone(tmp_path / "bare", tokenizer=tiny_tokenizer())
    with pytest.raises(ConfigError, match="has no chat template"):
        LocalJudge(config(bare))
    with pytest.raises(MissingFileError, match="--backend local"):
        LocalJudge(config("nowhere/at/all"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no language model that can be loaded"):
        LocalJudge(config(str(tmp_path / "empty")))
