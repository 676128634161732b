"""The synthetic experiments: preference learning where the hidden context is known exactly."""
