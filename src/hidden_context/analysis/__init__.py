"""Analysis of score files: numbers with intervals, tests and comparisons."""
