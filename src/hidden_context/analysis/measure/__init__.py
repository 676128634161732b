"""The numbers of pairs and responses, and their tests."""
