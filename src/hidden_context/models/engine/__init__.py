"""Running texts through a network: token budgets, shared prompts, and the choice of engine."""
