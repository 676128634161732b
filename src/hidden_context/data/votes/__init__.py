"""Votes: what people said of each item, how often they split, and how annotators differ."""
