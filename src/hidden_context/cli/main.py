"""The command ``hidden-context``: finds the verb, runs it, turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

VERBS = {
    "quickstart": "the whole story on a generated world, offline, in minutes",
    "check": "do the people behind a data set disagree, where, about what, and who?",
    "next": "which items, and which annotators, to ask next",
    "train": "train a reward model on preference pairs",
    "evaluate": "score a preference data set and report accuracy, loss and r²",
    "score": "score texts, responses or pairs, streaming and resumable",
    "export": "a reward model as a folder that Transformers, PEFT, vLLM and SGLang load",
    "reference": "percentiles of the texts of a model's data, which guards compare with",
    "serve": "reward models over HTTP, by the contracts that trainers know",
    "analyze": "numbers with intervals, tests and comparisons from evaluations",
    "report": "one HTML file to look at: distributions, calibration, clusters, every comparison",
    "benchmark": "RewardBench 2, RM-Bench and JudgeBench, scored with a risk measure by name",
    "figure": "figures for papers from an analysis: svg, pdf, png",
    "synthetic": "the synthetic experiments (Figure 1)",
    "data": "download, inspect and split preference data",
    "relabel": "preference labels by a language model, at an endpoint or on this machine",
}


def safe(command: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Make a command that turns known errors into exit codes; see ``run_safely``."""
    return functools.partial(run_safely, command)


def run_safely(
    command: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None
) -> int:
    """Run a command; a known error becomes one paragraph on stderr and exit code 2.

    Args:
        command: Takes the arguments and returns an exit code.
        argv: The arguments after the command's name; None for ``sys.argv``.

    Returns:
        The exit code: 0, 1 for a negative result, 2 for bad input, 130 when interrupted.
    """
    from hidden_context.errors import HiddenContextError

    for stream in (sys.stdout, sys.stderr):  # a terminal without Greek letters shows ? for them
        if isinstance(stream, io.TextIOWrapper) and "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="replace")
    with warnings.catch_warnings():
        _tidy_warnings()
        try:
            return command(argv)
        except HiddenContextError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(
                "interrupted; finished work is kept (run score or evaluate again to resume)",
                file=sys.stderr,
            )
            return 130
        except BrokenPipeError:
            # the reader has gone: discard the rest, unless output is captured and has no such file
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (OSError, MemoryError, RuntimeError) as error:
            advice = _resource_advice(error)
            if advice is None:
                raise
            print(f"error: {advice}", file=sys.stderr)
            return 2


def _resource_advice(error: Exception) -> str | None:
    """Explain other libraries' errors that mean a full disk or memory; None for any other error."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        file = f"{error.filename} could" if error.filename else "a file could"
        return f"{file} not be written: {error.strerror}. Free some space or use another disk."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        reason = str(error).split("\n")[0].rstrip(".") or "no memory is left"
        return f"{reason}. Take a smaller batch size, --max_length or model."
    return None


def _tidy_warnings() -> None:
    """Show this package's warnings as one line; hide other libraries' FutureWarnings."""
    from hidden_context.errors import HiddenContextWarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, HiddenContextWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            shown_before(message, category, *place)

    shown_before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]
    for library in ("transformers", "peft", "torch", "accelerate"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=rf"{library}\.")


def usage(prog: str, verbs: Mapping[str, str], about: str = "", more: str = "") -> str:
    """List the verbs of a command with what they do."""
    width = max(map(len, verbs))
    lines = "".join(f"  {verb:<{width}}  {text}\n" for verb, text in verbs.items())
    return (
        f"usage: {prog} VERB [options]\n\n{about}verbs:\n{lines}\n"
        f"{prog} VERB --help lists a verb's options{more}."
    )


def code_without_verb(
    arguments: Sequence[str], verbs: Container[str], text: str, of: str = ""
) -> int | None:
    """Print the usage unless the arguments begin with a verb.

    Args:
        arguments: The arguments.
        verbs: The verbs.
        text: The usage.
        of: The words after "is not a verb".

    Returns:
        The exit code, or None where there is a verb.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(text, flush=True)
        return 0 if arguments else 2
    if arguments[0] not in verbs:
        print(f"error: {arguments[0]!r} is not a verb{of}.\n\n{text}", file=sys.stderr)
        return 2
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hidden-context VERB …`` and return its exit code."""
    return run_safely(_dispatch, list(sys.argv[1:] if argv is None else argv))


def _dispatch(argv: Sequence[str] | None) -> int:
    arguments = list(argv or ())
    if arguments[:1] in (["-V"], ["--version"]):
        from importlib.metadata import version

        print(f"hidden-context {version('hidden-context')}")
        return 0
    about = "Reward models for preference data whose labellers disagree.\n\n"
    text = usage("hidden-context", VERBS, about, "; --version prints the version")
    exit_code = code_without_verb(arguments, VERBS, text)
    if exit_code is None:
        module = importlib.import_module(f"hidden_context.cli.{arguments[0]}")
        exit_code = int(module.main(arguments[1:]))
        sys.stdout.flush()  # a reader that has gone away is noticed here, not at exit
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
