"""What questions cost: the estimate, the limit, and what is agreed to."""

import pytest
from transformers import AutoTokenizer

from hidden_context.data.sources import load_examples
from hidden_context.errors import ConfigError
from hidden_context.relabel.cost import Meter, Prices, token_counter
from hidden_context.relabel.objectives import find_objectives
from hidden_context.relabel.questions import items_of, questions_of
from hidden_context.relabel.replies import Reply
from relabel.fake_endpoint import better, numbered_rows, says
from support.builders import CHAT_TEMPLATE, tiny_tokenizer

PRICES = {"price_input": 2.0, "price_output": 8.0}


@pytest.fixture
def tokenizer(here):
    tiny_tokenizer(chat_template=CHAT_TEMPLATE).save_pretrained("tokenizer")
    return "tokenizer"


def counting(name, replied=1):
    """An endpoint that counts as the model with this tokenizer would."""
    tokenizer = AutoTokenizer.from_pretrained(name)

    def respond(asked):
        shown = f"<user> {asked.text}</s>"
        count = len(tokenizer.encode(shown, add_special_tokens=False))
        return says(better(asked), usage=(count, replied))

    return respond


def test_the_cost_is_within_five_per_cent_of_the_estimate(serve, relabel, tokenizer):
    estimates = []

    def confirm(estimate):
        estimates.append(estimate)
        return True

    options = {**PRICES, "tokenizer": tokenizer, "yes": False}
    result, _ = relabel(numbered_rows(30), serve(counting(tokenizer)), confirm, **options)
    (estimate,) = estimates
    assert result.cost == (2.0 * result.input_tokens + 8.0 * result.output_tokens) / 1e6
    assert estimate.cost == pytest.approx(result.cost, rel=0.05)
    assert estimate.tokens == result.input_tokens
    assert estimate.most == pytest.approx((2.0 * result.input_tokens + 8.0 * 16 * 60) / 1e6)
    assert (estimate.questions, estimate.known, result.output_tokens) == (60, 0, 60)


def test_without_a_tokenizer_characters_count_until_replies_say_better(
    serve, relabel, tokenizer, capsys
):
    options = {**PRICES, "concurrency": 1}
    endpoint = serve(counting(tokenizer))
    result, _ = relabel(numbered_rows(30), endpoint, **options)
    first, second = capsys.readouterr().err.splitlines()[:2]
    config_items = items_of(load_examples("in.jsonl").examples)
    texts = [
        one.text() for one in questions_of(config_items, find_objectives(["helpful"]), "both", 1)
    ]
    expected = sum(-(-len(text) // 4) for text in texts)
    cost, most = ((2 * expected + 8 * each * 60) / 1e6 for each in (2, 16))
    assert first == (
        f"60 questions to m ({endpoint.url[7:-3]}); 0 answered before. About {expected:,} tokens "
        f"(characters/4). Expected cost {cost:.4g}, at most {most:.4g}."
    )
    assert second.startswith("The server counts ")
    ratio = float(second.split()[3])
    assert ratio == pytest.approx(result.input_tokens / expected, rel=0.05)
    assert ratio > 1.2  # the tiny tokenizer needs more
    left = float(second.split("Expected cost ")[1].split(",")[0])
    assert left == pytest.approx(result.cost * 2 / 3, rel=0.05)


def test_the_limit_is_kept_and_a_higher_one_goes_on(serve, relabel, tokenizer, here):
    endpoint = serve(counting(tokenizer))
    options = {**PRICES, "tokenizer": tokenizer, "concurrency": 4}
    whole, _ = relabel(numbered_rows(10), endpoint, **options, output="whole.jsonl")
    count = len(endpoint.asked)
    assert count == 20
    limit = 0.5 * whole.cost
    result, _ = relabel(numbered_rows(10), endpoint, **options, max_cost=limit, yes=False)
    asked = len(endpoint.asked) - count
    assert result.path is None
    assert not (here / "out.jsonl").exists()
    assert 0.8 * limit < result.cost <= limit
    assert (result.asked, result.left, result.judged) == (asked, 20 - asked, 0)
    again, _ = relabel(numbered_rows(10), endpoint, **options, max_cost=limit)
    assert (again.asked, again.cost, again.path) == (0, result.cost, None)  # earlier runs count
    last, rows = relabel(numbered_rows(10), endpoint, **options, max_cost=1.2 * whole.cost)
    assert (last.known, last.asked, len(rows)) == (asked, 20 - asked, 10)
    assert last.cost == pytest.approx(whole.cost)
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()


def test_questions_wait_for_others_to_cost_less_than_they_might(serve, relabel, tokenizer):
    """Long replies are put by for; short ones set free what was put by."""
    endpoint = serve(counting(tokenizer))
    options = {**PRICES, "tokenizer": tokenizer, "concurrency": 8, "max_tokens": 1000}
    free, _ = relabel(numbered_rows(10), endpoint, **options, output="free.jsonl")
    limit = free.cost + 8 * 1000 / 1e6
    result, rows = relabel(numbered_rows(10), endpoint, **options, max_cost=limit)
    assert (result.asked, result.left, len(rows)) == (20, 0, 10)


def test_nothing_is_asked_without_an_agreement(serve, relabel):
    endpoint = serve(lambda asked: says("A"))
    for confirm in (None, lambda estimate: False):
        with pytest.raises(ConfigError, match=r"Nothing was asked\. --yes .* --max_cost"):
            relabel(numbered_rows(2), endpoint, confirm, yes=False)
    assert endpoint.asked == []
    relabel(numbered_rows(2), endpoint, lambda estimate: True, yes=False)
    relabel(numbered_rows(2), endpoint, None, yes=False)  # all is answered: nothing to agree to
    assert len(endpoint.asked) == 4


def test_replies_without_a_count_are_estimated_and_said_so(serve, relabel, tokenizer):
    endpoint = serve(lambda asked: says("A", usage=None))
    result, _ = relabel(numbered_rows(3), endpoint, **PRICES, tokenizer=tokenizer)
    counted, _ = relabel(
        numbered_rows(3), serve(counting(tokenizer)), **PRICES, output="counted.jsonl"
    )
    assert (result.uncounted, counted.uncounted) == (6, 0)
    assert result.input_tokens == counted.input_tokens
    assert result.output_tokens == 12


def test_the_meter_corrects_itself_after_twenty_replies():
    meter = Meter(Prices(1.0, 0.0), None, 16)
    for _ in range(19):
        meter.add(Reply("A", None, 15, 1), 10)
    assert (meter.ratio, meter.expected(10**6, 1)) == (1.0, 1.0)
    meter.add(Reply("A", None, 15, 1), 10)
    assert (meter.ratio, meter.expected(10**6, 1)) == (1.5, 1.5)
    assert meter.spent == 300 / 1e6


def test_tokens_are_counted_with_the_chat_template_where_there_is_one(here, tokenizer):
    plain = tiny_tokenizer()
    plain.save_pretrained("plain")
    text = "What about tea?"
    assert token_counter("plain")(text) == len(plain.encode(text))
    assert token_counter(tokenizer)(text) == len(plain.encode(f"<user> {text}</s>"))
    assert [token_counter(None)(one) for one in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    with pytest.raises(ConfigError, match="--tokenizer 'none' cannot be loaded"):
        token_counter("none")
