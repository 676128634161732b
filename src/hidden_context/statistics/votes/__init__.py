"""Votes of several people on items, and what they say about items and people."""
