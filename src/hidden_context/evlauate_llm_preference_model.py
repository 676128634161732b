"""Misspelt alias of ``evaluate_llm_preference_model``, as the paper's README once has it."""

import sys

from hidden_context.evaluate_llm_preference_model import main

if __name__ == "__main__":
    print("note: this module's name is evaluate_llm_preference_model", file=sys.stderr)
    sys.exit(main())
