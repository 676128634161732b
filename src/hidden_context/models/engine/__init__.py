"""How texts go through a network: token budgets, shared prompts, and which way is taken."""
