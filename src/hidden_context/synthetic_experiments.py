"""The paper's command ``python -m hidden_context.synthetic_experiments``."""

from __future__ import annotations

import sys

from hidden_context.cli.arguments import command
from hidden_context.cli.main import safe
from hidden_context.cli.synthetic import DESCRIPTION, run_experiment
from hidden_context.synthetic.config import PaperConfig

main = safe(
    command(
        PaperConfig, "python -m hidden_context.synthetic_experiments", DESCRIPTION, uses_hub=False
    )(run_experiment)
)


if __name__ == "__main__":
    sys.exit(main())
