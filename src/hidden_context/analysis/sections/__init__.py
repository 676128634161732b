"""Accuracy by section of public benchmarks."""
