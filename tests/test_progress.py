"""The progress of a stage: a line at its end where there is no terminal, a bar where there is."""

import sys

import pytest

from hidden_context.progress import stage


@pytest.mark.parametrize(("disable", "shown"), [(False, "done: training\n"), (True, "")])
def test_a_log_gets_one_line_at_the_end_of_a_stage_if_any(capsys, disable, shown):
    with stage("training", 3, disable=disable) as advance:
        advance(2)
        advance(1)
    assert capsys.readouterr().err == shown


def test_a_stage_that_fails_is_not_done(capsys):
    with pytest.raises(KeyboardInterrupt), stage("training", 3):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with stage("training", 3) as advance:
        advance(3)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown
    assert "3/3" in shown
    assert "done" not in shown
