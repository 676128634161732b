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


SCRIPT = os.path.join(os.path.dirname(sys.executable), "hidden-context")
VERSION = f"hidden-context {version('hidden-context')}\n"


def started(*line, **options):
    """What a process prints, and its exit code."""
    options = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run(line, **options)


@pytest.mark.parametrize(
    "line",
    [
        [sys.executable, "-m", "hidden_context"],
        [sys.executable, "-m", "hidden_context.cli.main"],
        [SCRIPT],
    ],
    ids=["package", "module", "script"],
)
def test_each_way_to_start_it_passes_arguments_and_exit_codes_on(line):
    if not os.path.exists(line[0]):
        pytest.skip("the package's script is not installed beside this Python")
    done = started(*line, "-V")
    assert (done.returncode, done.stdout, done.stderr) == (0, VERSION, "")
    done = started(*line, "wash")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 'wash' is not a verb.")


@pytest.mark.parametrize(("arguments", "code"), [("--help", 0), ("-h", 0), ("help", 0), ("", 2)])
def test_help_lists_every_verb(arguments, code, capsys):
    assert cli.main(arguments.split()) == code
    assert cli.main(["wash"]) == 2
    for printed in capsys.readouterr():
        assert "usage: hidden-context VERB" in printed
        assert [verb for verb in cli.VERBS if f"  {verb} " not in printed] == []


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_a_terminal_without_greek_letters_still_gets_its_help(arguments):
    encoding = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = started(sys.executable, "-m", "hidden_context", *arguments, text=False, env=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("cli.main", "cli.main train", "cli.main evaluate", "cli.main score", "cli.main analyze"),
        *("cli.main check", "cli.main next", "cli.main synthetic", "cli.main data"),
        *("synthetic_experiments", "summarize_results"),
    ],
)
def test_help_answers_at_once_and_imports_nothing_heavy(command):
    module, *verb = command.split()
    code = (
        "import sys\n"
        f"from hidden_context.{module} import main\n"
        f"try:\n    code = main({[*verb, '--help']!r})\n"
        "except SystemExit as stopped:\n    code = stopped.code\n"
        f"found = [name for name in {(*HEAVY, 'yaml')!r} if name in sys.modules]\n"
        "sys.exit(', '.join(found) or code)"
    )
    before = os.times()
    done = started(sys.executable, "-c", code)
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
ADVICE = "Take a smaller batch size, --max_length or model."


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
        (OutOfMemoryError(f"{MEMORY}.\nSee the manual."), 2, f"error: {MEMORY}. {ADVICE}\n"),
        (MemoryError(), 2, f"error: no memory is left. {ADVICE}\n"),
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
    result = started(f"{sys.executable} -m hidden_context --help | head -1", shell=True)
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
