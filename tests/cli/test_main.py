import errno
import os
import subprocess
import sys
import threading
import warnings
from importlib.metadata import version

import pytest

from hidden_context.cli import main as cli
from hidden_context.cli import offline
from hidden_context.errors import ConfigError, HiddenContextWarning
from hidden_context.relabel.endpoint import EndpointError

HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas", "rich", "peft", "numpy")


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

    @pytest.mark.parametrize(
        ("arguments", "code"), [(["--help"], 0), (["-h"], 0), (["help"], 0), ([], 2), (["wash"], 2)]
    )
    def test_help_lists_every_verb(self, arguments, code, capsys):
        assert cli.main(arguments) == code
        printed, error = capsys.readouterr()
        if arguments == ["wash"]:
            assert error.startswith("error: 'wash' is not a verb.")
            printed = error
        assert "usage: hidden-context VERB" in printed
        assert [verb for verb in cli.VERBS if f"  {verb} " not in printed] == []

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


@pytest.mark.parametrize(
    "command",
    [
        *("cli.main", "cli.main train", "cli.main evaluate", "cli.main score", "cli.main analyze"),
        *("cli.main check", "cli.main next", "cli.main synthetic", "cli.main data"),
        "synthetic_experiments",
    ],
)
def test_help_answers_at_once_and_imports_nothing_heavy(command):
    module, *verb = command.split()
    code = (
        "import sys\n"
        f"from hidden_context.{module} import main\n"
        f"try:\n    code = main({[*verb, '--help']!r})\n"
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


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


FULL = OSError(errno.ENOSPC, "No space left on device", "checkpoint-10/optimizer.pt")
MEMORY = "CUDA out of memory. Tried to allocate 2 GiB"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        *(
            (kind("this cannot work."), 2, "error: this cannot work.\n")
            for kind in (ConfigError, EndpointError)  # the second is an OSError too
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted; finished work is kept (run score or evaluate again to resume)\n",
        ),
        (
            FULL,
            2,
            "error: checkpoint-10/optimizer.pt could not be written: No space left on device. "
            "Free some space or use another disk.\n",
        ),
        (
            OutOfMemoryError(f"{MEMORY}.\nSee the documentation."),
            2,
            f"error: {MEMORY}. Take a smaller batch size, --max_length or model.\n",
        ),
        (
            MemoryError(),
            2,
            "error: no memory is left. Take a smaller batch size, --max_length or model.\n",
        ),
        (BrokenPipeError(), 141, ""),  # the reader left
        # bugs keep their tracebacks
        (RuntimeError("a bug"), None, ""),
        (OSError(errno.EACCES, "denied"), None, ""),
        (KeyError("x"), None, ""),
    ],
)
def test_a_known_error_is_one_paragraph_and_a_code(error, code, said, capsys):
    def command(argv):
        raise error

    if code is None:
        with pytest.raises(type(error)):
            cli.run_safely(command, [])
    else:
        assert cli.run_safely(command, []) == code
    assert capsys.readouterr() == ("", said)


def test_a_reader_that_leaves_early_sees_no_traceback():
    command = f"{sys.executable} -m hidden_context --help | head -1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: hidden-context VERB")
    assert result.stderr == ""


def test_our_warnings_are_one_line_and_others_as_ever(capsys):
    def command(argv):
        warnings.warn("mind this", HiddenContextWarning, stacklevel=1)
        warnings.warn("another library's", UserWarning, stacklevel=1)
        return 1

    shown_before = warnings.showwarning
    with pytest.warns(UserWarning, match="another library's"):
        assert cli.run_safely(command, []) == 1
    assert capsys.readouterr().err == "warning: mind this\n"
    assert warnings.showwarning is shown_before


def unknown_host():
    raise OSError(-2, "Name or service not known")


ASKED = ["huggingface.co"]


@pytest.mark.parametrize(
    ("answer", "arranged", "expected"),
    [
        (unknown_host, None, (ASKED, "1")),
        (threading.Event().wait, None, (ASKED, "1")),  # a look-up that hangs is given up
        (list, None, (ASKED, "")),
        # other arrangements are left alone
        *(
            (list, name, ([], ""))
            for name in ("HF_ENDPOINT", "https_proxy", "TRANSFORMERS_OFFLINE")
        ),
        (list, "imported", ([], "")),  # once the hub's client is imported it is too late
    ],
)
def test_the_cache_is_used_where_the_hub_s_name_does_not_resolve(
    monkeypatch, answer, arranged, expected
):
    asked = []
    for name in offline._OWN_ARRANGEMENTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that it is put back
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    if arranged == "imported":
        monkeypatch.setitem(sys.modules, "huggingface_hub", sys)
    elif arranged:
        monkeypatch.setenv(arranged, "http://mirror")

    def getaddrinfo(host, port):
        asked.append(host)
        return answer()

    monkeypatch.setattr(offline.socket, "getaddrinfo", getaddrinfo)
    offline.use_cache_without_network(seconds=0.2)
    assert (asked, os.environ["HF_HUB_OFFLINE"]) == expected
