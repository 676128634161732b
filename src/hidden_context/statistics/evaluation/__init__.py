"""Comparisons of a model with votes: predictions, losses, disagreement, and new annotators."""
