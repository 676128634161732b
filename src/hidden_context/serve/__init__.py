"""A server of reward distributions for trainers, which speaks the HTTP contracts they know."""
