from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest

from hidden_context.cli import main as cli
from hidden_context.cli import offline
from hidden_context.errors import ConfigError, HiddenContextWarning

HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas", "rich", "peft", "numpy")


def run_command(command):
    return cli.run_safely(command, [])


def raising(error):
    def command(argv):
        raise error

    return command


class TestTheCommand:
    @pytest.mark.parametrize(
        "line",
        [["-m", "hidden_context"], ["-m", "hidden_context.cli.main"]],
        ids=["package", "module"],
    )
    def test_as_a_module(self, line):
        done = subprocess.run(
            [sys.executable, *line, "--version"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"hidden-context {version('hidden-context')}\n"

    def test_as_an_installed_script(self):
        script = os.path.join(os.path.dirname(sys.executable), "hidden-context")
        if not os.path.exists(script):
            pytest.skip("the package's script is not installed beside this Python")
        done = subprocess.run([script, "wash"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith("error: 'wash' is not a verb.")

    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
    def test_help_lists_every_verb(self, arguments, capsys):
        assert cli.main(arguments) == 0
        printed = capsys.readouterr().out
        assert [verb for verb in cli.VERBS if f"  {verb} " not in printed] == []

    def test_nothing_at_all_is_an_error_with_the_same_help(self, capsys):
        assert cli.main([]) == 2
        assert "usage: hidden-context VERB" in capsys.readouterr().out

    def test_arguments_come_from_the_process_by_default(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["hidden-context", "-V"])
        assert cli.main() == 0
        assert capsys.readouterr().out == f"hidden-context {version('hidden-context')}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_a_terminal_without_greek_letters_still_gets_its_help(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hidden_context", *arguments],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


@pytest.mark.parametrize("verb", ["", "train", "evaluate", "score", "analyze", "synthetic", "data"])
def test_help_answers_at_once_and_imports_nothing_heavy(verb):
    code = (
        "import sys\n"
        "from hidden_context.cli.main import main\n"
        f"try:\n    code = main({[verb, '--help'] if verb else ['--help']!r})\n"
        "except SystemExit as stopped:\n    code = stopped.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(', '.join(found) or code)"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    after = os.times()
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage:" in done.stdout
    seconds = after.children_user - before.children_user
    seconds += after.children_system - before.children_system
    assert seconds < 0.5


class TestErrors:
    def test_a_known_error_is_one_paragraph_and_code_2(self, capsys):
        assert run_command(raising(ConfigError("this cannot work."))) == 2
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("", "error: this cannot work.\n")

    def test_codes_pass_through(self):
        assert run_command(lambda argv: 0) == 0
        assert run_command(lambda argv: 1) == 1

    def test_an_interruption_says_what_is_kept(self, capsys):
        assert run_command(raising(KeyboardInterrupt())) == 130
        assert capsys.readouterr().err.startswith("interrupted; finished work is kept")

    def test_a_full_disk_in_another_library(self, capsys):
        full = OSError(errno.ENOSPC, "No space left on device", "checkpoint-10/optimizer.pt")
        assert run_command(raising(full)) == 2
        assert capsys.readouterr().err == (
            "error: checkpoint-10/optimizer.pt could not be written: No space left on device. "
            "Free some space or use another disk.\n"
        )

    def test_memory_that_is_full(self, capsys):
        class OutOfMemoryError(RuntimeError):
            """As torch names it."""

        text = "CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation."
        assert run_command(raising(OutOfMemoryError(text))) == 2
        assert run_command(raising(MemoryError())) == 2
        assert capsys.readouterr().err == (
            "error: CUDA out of memory. Tried to allocate 2 GiB. Take a smaller batch size, "
            "--max_length or model.\n"
            "error: no memory is left. Take a smaller batch size, --max_length or model.\n"
        )

    @pytest.mark.parametrize(
        "error", [RuntimeError("a bug"), OSError(errno.EACCES, "denied"), KeyError("x")]
    )
    def test_a_bug_keeps_its_traceback(self, error):
        with pytest.raises(type(error)):
            run_command(raising(error))

    def test_a_reader_that_left(self, capsys):
        assert run_command(raising(BrokenPipeError())) == 141

    def test_a_reader_that_leaves_early_sees_no_traceback(self):
        command = f"{sys.executable} -m hidden_context --help | head -1"
        result = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert result.stdout.startswith("usage: hidden-context VERB")
        assert result.stderr == ""

    def test_our_warnings_are_one_line_and_others_as_ever(self, capsys):
        def command(argv):
            warnings.warn("mind this", HiddenContextWarning, stacklevel=1)
            warnings.warn("another library's", UserWarning, stacklevel=1)
            return 0

        shown_before = warnings.showwarning
        with pytest.warns(UserWarning, match="another library's"):
            assert run_command(command) == 0
        assert capsys.readouterr().err == "warning: mind this\n"
        assert warnings.showwarning is shown_before


class TestWithoutANetwork:
    @pytest.fixture
    def environment(self, monkeypatch):
        for name in offline._OWN_ARRANGEMENTS:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that it is put back
        monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
        return monkeypatch

    def look_up(self, environment, answer):
        asked = []

        def getaddrinfo(host, port):
            asked.append(host)
            return answer()

        environment.setattr(offline.socket, "getaddrinfo", getaddrinfo)
        offline.use_cache_without_network(seconds=0.2)
        return asked, os.environ["HF_HUB_OFFLINE"]

    def test_the_cache_is_used_where_the_hub_s_name_does_not_resolve(self, environment):
        def unknown():
            raise OSError(-2, "Name or service not known")

        assert self.look_up(environment, unknown) == (["huggingface.co"], "1")

    def test_nothing_changes_where_it_does(self, environment):
        assert self.look_up(environment, list) == (["huggingface.co"], "")

    def test_a_look_up_that_hangs_is_given_up(self, environment):
        import threading

        released = threading.Event()
        assert self.look_up(environment, released.wait)[1] == "1"
        released.set()

    @pytest.mark.parametrize("name", ["HF_ENDPOINT", "https_proxy", "TRANSFORMERS_OFFLINE"])
    def test_other_arrangements_are_left_alone(self, environment, name):
        environment.setenv(name, "http://mirror")
        assert self.look_up(environment, list) == ([], "")

    def test_once_the_hub_s_client_is_imported_it_is_too_late(self, environment):
        environment.setitem(sys.modules, "huggingface_hub", sys)
        assert self.look_up(environment, list) == ([], "")
