"""What questions cost: the estimate, the limit, what is agreed to, and what the command prints."""

import io
from unittest.mock import Mock

import pytest

from hidden_context.cli.main import main
from hidden_context.cli.relabel import ask_user
from hidden_context.data.sources import load_examples
from hidden_context.data.storage.files import write_jsonl
from hidden_context.errors import ConfigError
from hidden_context.relabel.config import CostOptions
from hidden_context.relabel.cost import Estimate, Meter, token_counter
from hidden_context.relabel.questions import find_objectives, items_of, questions_of
from hidden_context.relabel.replies import Reply
from relabel.fake_endpoint import arguments, better, numbered_rows, says
from support.builders import CHAT_TEMPLATE, tiny_tokenizer

PRICES = {"price_input": 2.0, "price_output": 8.0}
COUNTED = {**PRICES, "tokenizer": "tokenizer"}


@pytest.fixture
def counting(here, serve):
    """An endpoint that counts as the model with the tokenizer in this folder would."""
    tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
    tokenizer.save_pretrained("tokenizer")

    def respond(asked):
        shown = f"<user> {asked.text}</s>"
        count = len(tokenizer.encode(shown, add_special_tokens=False))
        return says(better(asked), usage=(count, 1))

    return serve(respond)


def test_the_cost_is_within_five_per_cent_of_the_estimate(relabel, counting):
    confirm = Mock(return_value=True)
    result, _ = relabel(numbered_rows(30), counting, confirm, **COUNTED, yes=False)
    (estimate,) = confirm.call_args.args
    assert result.cost == (2.0 * result.input_tokens + 8.0 * result.output_tokens) / 1e6
    assert estimate.cost == pytest.approx(result.cost, rel=0.05)
    assert estimate.tokens == result.input_tokens
    assert estimate.most == pytest.approx((2.0 * result.input_tokens + 8.0 * 16 * 60) / 1e6)
    assert (estimate.questions, estimate.known, result.output_tokens) == (60, 0, 60)


def test_without_a_tokenizer_characters_count_until_replies_say_better(relabel, counting, capsys):
    result, _ = relabel(numbered_rows(30), counting, **PRICES, concurrency=1)
    first, second = capsys.readouterr().err.splitlines()[:2]
    items = items_of(load_examples("in.jsonl").examples)
    asked = questions_of(items, find_objectives(["helpful"]), "both", 1)
    expected = sum(-(-len(one.text()) // 4) for one in asked)
    cost, most = ((2 * expected + 8 * each * 60) / 1e6 for each in (2, 16))
    assert first == (
        f"Questions to m ({counting.url[7:-3]}): 60; answered before: 0. About {expected:,} tokens "
        f"(characters/4). Expected cost {cost:.4g}, at most {most:.4g}."
    )
    assert second.startswith("The server counts ")
    ratio = float(second.split()[3])
    assert ratio == pytest.approx(result.input_tokens / expected, rel=0.05)
    assert ratio > 1.2  # the tiny tokenizer needs more
    left = float(second.split("Expected cost ")[1].split(",")[0])
    assert left == pytest.approx(result.cost * 2 / 3, rel=0.05)


def test_the_limit_is_kept_and_a_higher_one_goes_on(relabel, counting, here):
    options = {**COUNTED, "concurrency": 4}
    whole, _ = relabel(numbered_rows(10), counting, **options, output="whole.jsonl")
    count = len(counting.asked)
    assert count == 20
    limit = 0.5 * whole.cost
    result, _ = relabel(numbered_rows(10), counting, **options, max_cost=limit, yes=False)
    asked = len(counting.asked) - count
    assert result.path is None
    assert not (here / "out.jsonl").exists()
    assert 0.8 * limit < result.cost <= limit
    assert (result.asked, result.left, result.judged) == (asked, 20 - asked, 0)
    again, _ = relabel(numbered_rows(10), counting, **options, max_cost=limit)
    assert (again.asked, again.cost, again.path) == (0, result.cost, None)  # earlier runs count
    last, rows = relabel(numbered_rows(10), counting, **options, max_cost=1.2 * whole.cost)
    assert (last.known, last.asked, len(rows)) == (asked, 20 - asked, 10)
    assert last.cost == pytest.approx(whole.cost)
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()


def test_questions_wait_for_others_to_cost_less_than_they_might(relabel, counting):
    """Long replies are put by for; short ones set free what was put by."""
    options = {**COUNTED, "concurrency": 8, "max_tokens": 1000}
    free, _ = relabel(numbered_rows(10), counting, **options, output="free.jsonl")
    limit = free.cost + 8 * 1000 / 1e6
    result, rows = relabel(numbered_rows(10), counting, **options, max_cost=limit)
    assert (result.asked, result.left, len(rows)) == (20, 0, 10)


def test_nothing_is_asked_without_an_agreement(endpoint, relabel):
    for confirm in (None, lambda estimate: False):
        with pytest.raises(ConfigError, match=r"Nothing was asked\. --yes .* --max_cost"):
            relabel(numbered_rows(2), endpoint, confirm, yes=False)
    assert endpoint.asked == []
    relabel(numbered_rows(2), endpoint, lambda estimate: True, yes=False)
    relabel(numbered_rows(2), endpoint, None, yes=False)  # all is answered: nothing to agree to
    assert len(endpoint.asked) == 4


def test_replies_without_a_count_are_estimated_and_said_so(serve, relabel, counting):
    silent = serve(lambda asked: says("A", usage=None))
    result, _ = relabel(numbered_rows(3), silent, **COUNTED)
    counted, _ = relabel(numbered_rows(3), counting, **PRICES, output="counted.jsonl")
    assert (result.uncounted, counted.uncounted) == (6, 0)
    assert result.input_tokens == counted.input_tokens
    assert result.output_tokens == 12


def test_the_meter_corrects_itself_after_twenty_replies():
    meter = Meter(CostOptions(price_input=1.0, price_output=0.0), 16)
    for _ in range(19):
        meter.add(Reply("A", None, 15, 1), 10)
    assert (meter.ratio, meter.expected(10**6, 1)) == (1.0, 1.0)
    meter.add(Reply("A", None, 15, 1), 10)
    assert (meter.ratio, meter.expected(10**6, 1)) == (1.5, 1.5)
    assert meter.spent == 300 / 1e6


def test_tokens_are_counted_with_the_chat_template_where_there_is_one(counting):
    plain = tiny_tokenizer()
    plain.save_pretrained("plain")
    text = "What about tea?"
    assert token_counter("plain")(text) == len(plain.encode(text))
    assert token_counter("tokenizer")(text) == len(plain.encode(f"<user> {text}</s>"))
    assert [token_counter(None)(one) for one in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    with pytest.raises(ConfigError, match="--tokenizer 'none' cannot be loaded"):
        token_counter("none")


FLAGS = ("--price_input=2", "--price_output=8")


def command(endpoint, *options):
    write_jsonl("in.jsonl", numbered_rows(4))
    return main(arguments(endpoint, *options))


def test_it_prints_what_was_judged_and_what_it_cost(serve, capsys):
    def respond(asked):
        return says("Hm." if "number 7" in asked.reply("A") else better(asked), usage=(250, 1))

    endpoint = serve(respond)
    assert command(endpoint, "--yes", *FLAGS) == 0
    host = endpoint.url[7:-3]
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "in.jsonl: 4 of 4 examples kept.",
        "questions: 8 asked, 0 answered before",
        "cost: 0.004064 in all, for 2,000 tokens of questions and 8 of replies",
        "judgements: 3, abstentions: 1",
        "answers that abstain: 1 unparseable",
        "out.jsonl: 4 rows",
    ]
    assert said.err.startswith(f"Questions to m ({host}): 8; answered before: 0. About ")
    assert said.err.endswith("done: questions\n")
    assert command(endpoint, *FLAGS) == 0
    assert capsys.readouterr().out.splitlines()[1] == "questions: 0 asked, 8 answered before"


def test_the_limit_of_the_cost_ends_it_with_exit_code_1(serve, capsys, here):
    endpoint = serve(lambda asked: says(better(asked), usage=(250, 1)))
    assert command(endpoint, *FLAGS, "--max_cost=0.0022", "--concurrency=1") == 1
    said = capsys.readouterr()
    asked = len(endpoint.asked)
    assert 0 < asked < 8
    assert f"questions: {asked} asked, 0 answered before\n" in said.out
    assert f"stopped before --max_cost, with {8 - asked} questions left" in said.err
    assert not (here / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("typed", "is_terminal", "agreed"),
    [("y\n", True, True), ("YES\n", True, True), ("\n", True, False), ("y\n", False, False)],
)
def test_the_user_is_asked_on_a_terminal_alone(monkeypatch, typed, is_terminal, agreed, capsys):
    stream = io.StringIO(typed)
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stdin", stream)
    assert ask_user(Estimate(1, 0, "m (h)", 10, None, None, None, 0.0)) is agreed
    assert capsys.readouterr().err == "Go on? [y/N] " * is_terminal


def test_the_command_asks_nothing_without_an_agreement(endpoint, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal
    assert command(endpoint) == 2
    assert "error: Nothing was asked. --yes" in capsys.readouterr().err
    assert endpoint.asked == []
