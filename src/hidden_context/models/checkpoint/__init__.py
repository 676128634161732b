"""Checkpoints: what a folder holds, and the files beside the network's weights."""
