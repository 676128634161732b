"""The numbers of pairs and responses, and the tests that go with them."""
