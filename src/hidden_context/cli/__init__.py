"""Command line: parse, call, print. One file per verb."""
