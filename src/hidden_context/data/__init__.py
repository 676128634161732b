"""Data: examples from any source in one schema, split by prompt, turned into token ids.

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Abstention": "example",
    "Comparison": "example",
    "Example": "example",
    "ExampleData": "sources",
    "Judgement": "example",
    "Ranking": "example",
    "Rating": "example",
    "ReadReport": "report",
    "ScoringRow": "responses",
    "Splits": "held_out",
    "TokenCache": "token_cache",
    "TokenTree": "trees",
    "TokenizedExamples": "tokenize",
    "TokenizedTexts": "tokenize",
    "annotator_names": "labels",
    "assistant_text": "dialogue",
    "atomic_write": "files",
    "available_splits": "sources",
    "encode": "chat",
    "expand_pairs": "expand",
    "fill_batches": "trees",
    "folds": "splits",
    "group_by_prefix": "trees",
    "install_chat_template": "chat",
    "iter_jsonl": "files",
    "join": "dialogue",
    "labels_of": "labels",
    "last_turns": "dialogue",
    "lay_out": "trees",
    "limit_examples": "sources",
    "load_evaluation": "held_out",
    "load_examples": "sources",
    "load_splits": "held_out",
    "merge_prompts": "merge",
    "pad_batch": "tokenize",
    "prompt_fraction": "splits",
    "read_row": "importers",
    "read_scoring_rows": "responses",
    "sorted_windows": "tokenize",
    "split_by_prompt": "splits",
    "tokenize_examples": "tokenize",
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
