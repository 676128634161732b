"""Tests of hidden context and of differences between models."""
