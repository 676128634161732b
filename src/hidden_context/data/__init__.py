"""Data: preferences from any source in one schema, split by prompt, turned into token ids.

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Annotation": "annotations",
    "Preference": "preferences",
    "PreferenceData": "sources",
    "ReadReport": "report",
    "ScoringRow": "responses",
    "Splits": "held_out",
    "TokenCache": "token_cache",
    "TokenTree": "trees",
    "TokenizedPreferences": "tokenize",
    "TokenizedTexts": "tokenize",
    "annotations_of": "annotations",
    "assistant_text": "dialogue",
    "atomic_write": "files",
    "available_splits": "sources",
    "encode": "chat",
    "expand_ranking": "rankings",
    "fill_batches": "trees",
    "folds": "splits",
    "group_by_prefix": "trees",
    "install_chat_template": "chat",
    "iter_jsonl": "files",
    "join": "dialogue",
    "last_turns": "dialogue",
    "lay_out": "trees",
    "load_evaluation": "held_out",
    "load_preferences": "sources",
    "load_splits": "held_out",
    "pad_batch": "tokenize",
    "parse_preference": "preferences",
    "parse_preferences": "rankings",
    "prompt_fraction": "splits",
    "read_scoring_rows": "responses",
    "sorted_windows": "tokenize",
    "split_by_prompt": "splits",
    "tokenize_preferences": "tokenize",
    "tokenize_texts": "tokenize",
    "tree_of": "trees",
    "write_json": "files",
    "write_jsonl": "files",
    "write_yaml_config": "files",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
