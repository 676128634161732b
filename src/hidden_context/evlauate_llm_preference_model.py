"""Forwards to ``evaluate_llm_preference_model``: the paper's README spells it this way once."""

import sys

from hidden_context.evaluate_llm_preference_model import main

if __name__ == "__main__":
    print("note: this module's name is evaluate_llm_preference_model", file=sys.stderr)
    sys.exit(main())
