"""The paper's command ``python -m hidden_context.synthetic_experiments``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hidden_context.cli.main import run_safely
from hidden_context.cli.synthetic import run_command
from hidden_context.synthetic.config import PaperConfig


def _command(argv: Sequence[str] | None) -> int:
    return run_command(PaperConfig, argv, prog="python -m hidden_context.synthetic_experiments")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment with the paper's flags and the likelihood of the paper's code."""
    return run_safely(_command, argv)


if __name__ == "__main__":
    sys.exit(main())
