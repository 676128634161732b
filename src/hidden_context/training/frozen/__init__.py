"""Probes on a frozen backbone: features are computed once, and training takes seconds."""
