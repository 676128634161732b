"""Statistics of reward distributions and comparisons; pure functions of arrays and tensors."""
