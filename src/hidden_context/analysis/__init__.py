"""What score files say: numbers with intervals, tests and comparisons."""
