"""The quickstart: models trained on a generated world whose hidden context is known."""
