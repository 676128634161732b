"""Score files: columns, rows and heads."""
