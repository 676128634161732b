"""The progress of a stage: a line at its end where there is no terminal, a bar where there is."""

import sys

import pytest

from hidden_context.progress import stage


def test_a_log_gets_one_line_at_the_end_of_a_stage(capsys):
    with stage("training", 3) as advance:
        advance(2)
        advance(1)
    assert capsys.readouterr().err == "done: training\n"


def test_a_stage_that_fails_is_not_done(capsys):
    with pytest.raises(KeyboardInterrupt), stage("training", 3):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_it_is_not_wanted(capsys):
    with stage("training", 3, disable=True) as advance:
        advance(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with stage("training", 3) as advance:
        advance(3)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown
    assert "3/3" in shown
    assert "done" not in shown
