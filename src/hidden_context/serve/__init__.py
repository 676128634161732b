"""A server of reward distributions that trainers reach over HTTP, by the contracts they know."""
