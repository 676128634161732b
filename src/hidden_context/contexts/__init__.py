"""Contexts: the prompts that carry hidden variance, and what else the variance may follow."""

from hidden_context.contexts.confounds import Confound, context_beyond_length, length_confounds
from hidden_context.contexts.find import Context, Contexts, Topic, find_contexts

__all__ = [
    "Confound",
    "Context",
    "Contexts",
    "Topic",
    "context_beyond_length",
    "find_contexts",
    "length_confounds",
]
