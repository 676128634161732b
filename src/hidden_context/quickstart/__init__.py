"""The quickstart: a generated world whose hidden context is known, and the models trained on it."""
