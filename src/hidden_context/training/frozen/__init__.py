"""Probes on a frozen backbone: features once, then seconds of training."""
