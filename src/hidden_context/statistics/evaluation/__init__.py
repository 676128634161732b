"""A model compared with votes: predictions, losses, disagreement, and new annotators."""
