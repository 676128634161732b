"""The paper's tables from evaluated checkpoints."""
