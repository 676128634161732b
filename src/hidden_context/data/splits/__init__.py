"""Splits: which examples are held out, by prompt or by the value of a column."""
