import io
import signal
import subprocess
import sys
import time

import pytest

from hidden_context.cli.main import main
from hidden_context.cli.relabel import ask_user
from hidden_context.data.storage.files import write_jsonl
from hidden_context.relabel.cost import Estimate
from relabel.fake_endpoint import better, fails, numbered_rows, says

PRICES = ("--price_input=2", "--price_output=8")


def relabel(endpoint, *options):
    write_jsonl("in.jsonl", numbered_rows(4))
    fixed = ("--output=out.jsonl", "--model=m", "--objectives", "helpful")
    return main(["relabel", "in.jsonl", f"--base_url={endpoint.url}", *fixed, *options])


def test_it_prints_what_was_judged_and_what_it_cost(serve, capsys):
    def respond(asked):
        return says("Hm." if "number 7" in asked.reply("A") else better(asked), usage=(250, 1))

    endpoint = serve(respond)
    assert relabel(endpoint, "--yes", *PRICES) == 0
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
    assert said.err.startswith(f"8 questions to m ({host}); 0 answered before. About ")
    assert said.err.endswith("done: questions\n")
    assert relabel(endpoint, *PRICES) == 0
    assert capsys.readouterr().out.splitlines()[1] == "questions: 0 asked, 8 answered before"


def test_the_limit_of_the_cost_ends_it_with_exit_code_1(serve, capsys, here):
    endpoint = serve(lambda asked: says(better(asked), usage=(250, 1)))
    assert relabel(endpoint, *PRICES, "--max_cost=0.0022", "--concurrency=1") == 1
    said = capsys.readouterr()
    asked = len(endpoint.asked)
    assert 0 < asked < 8
    assert f"questions: {asked} asked, 0 answered before\n" in said.out
    assert f"stopped before --max_cost, with {8 - asked} questions left" in said.err
    assert not (here / "out.jsonl").exists()


def test_nobody_agrees_where_there_is_no_terminal(serve, capsys, monkeypatch):
    endpoint = serve(lambda asked: says("A"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert relabel(endpoint) == 2
    assert "error: Nothing was asked. --yes" in capsys.readouterr().err
    assert endpoint.asked == []


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("YES\n", True), ("\n", False)])
def test_on_a_terminal_the_user_is_asked(monkeypatch, typed, agreed, capsys):
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    estimate = Estimate(1, 0, "m (h)", 10, None, None, None, 0.0)
    assert ask_user(estimate) is agreed
    assert capsys.readouterr().err == "Go on? [y/N] "


def test_a_refused_request_is_one_paragraph_and_exit_code_2(serve, capsys):
    endpoint = serve(lambda asked: fails(404, "The model m does not exist."))
    assert relabel(endpoint, "--yes") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {endpoint.url[7:-3]} refuses the request with status 404: The")
    assert "Check --model" in error


@pytest.mark.slow
def test_ctrl_c_waits_for_the_answers_that_are_under_way(serve, here):
    """They are paid for, so they are kept."""
    write_jsonl("in.jsonl", numbered_rows(30))
    endpoint = serve(lambda asked: says(better(asked), delay=0.5))
    argv = ["relabel", "in.jsonl", "--output=out.jsonl", "--model=m", "--objectives", "helpful"]
    argv += ["--yes", "--concurrency=4", f"--base_url={endpoint.url}"]
    command = [sys.executable, "-m", "hidden_context", *argv]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while len(endpoint.asked) < 4 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    assert len(endpoint.asked) == len(endpoint.answered) == 4
    assert main(argv) == 0
    assert len(endpoint.answered) == len(set(endpoint.answered)) == 60
