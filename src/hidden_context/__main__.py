"""``python -m hidden_context`` is the command ``hidden-context``."""

import sys

from hidden_context.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
