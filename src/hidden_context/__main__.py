"""The command ``hidden-context``, run as ``python -m hidden_context``."""

import sys

from hidden_context.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
