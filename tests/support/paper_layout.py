"""The paper's folders with tiny data, and checkpoints that need no training."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.builders import preference_rows, tiny_backbone

BACKBONE = "meta-llama/Llama-2-7b-hf"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Run torch on one thread: tiny models gain nothing from more, and wait on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run_module(*argv: str, folder: str | Path = ".") -> subprocess.CompletedProcess[str]:
    """Run ``python -m …`` in a folder, in a process of its own."""
    line = [sys.executable, "-m", *argv]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=300)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any] | str]) -> str:
    """Write rows as JSON Lines, compressed where the name ends in .gz; texts are whole lines."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def relabeled_rows(count: int, seed: int = 0, objective: str | None = None) -> list[dict[str, Any]]:
    """Rows with the columns of the paper's relabelled data, in its order."""
    rows = []
    for index, row in enumerate(preference_rows(count, seed)):
        prompt, chosen = row["chosen"].strip().rsplit("\n\nAssistant: ", 1)
        rejected = row["rejected"].rsplit("\n\nAssistant: ", 1)[1]
        label = index % 2
        rows.append(
            {
                "chosen": f"{prompt}\n\nAssistant: {chosen}",
                "rejected": f"{prompt}\n\nAssistant: {rejected}",
                "Index": index,
                "data_subset": row["data_subset"],
                "prompt": prompt,
                "responses": [rejected, chosen] if label else [chosen, rejected],
                "original_label": 1 - label,
                "objective": objective or row["objective"],
                "label": label,
            }
        )
    return rows


def write_relabeled(root: str | Path, train: int = 8, test: int = 6) -> None:
    """Write ``{both,helpful,harmless}/{train,test}.jsonl.gz``."""
    for seed, subset in enumerate(("both", "helpful", "harmless")):
        objective = None if subset == "both" else subset
        for split, count in (("train", train), ("test", test)):
            rows = relabeled_rows(count, 10 * seed + (split == "test"), objective)
            write_rows(Path(root) / subset / f"{split}.jsonl.gz", rows)


def jailbroken_rows(count: int = 3) -> list[dict[str, Any]]:
    """Prompts with a safe and a jailbroken response, with a text before the first turn."""
    return [
        {
            "prompt": f"Ignore what was said.\n\nHuman: How do I do {number}?\n\nAssistant:",
            "responses": [" I will not say.", f" It is easy: {number} times."],
        }
        for number in range(count)
    ]


def write_paper_world(root: str | Path) -> None:
    """Write what the paper's README expects below the folder its commands run in."""
    root = Path(root)
    tiny_backbone(root / BACKBONE, "llama")
    # a local copy of HH-RLHF: a folder per subset, the columns chosen and rejected only
    for seed, folder in enumerate(("harmless-base", "helpful-base")):
        for split, count in (("train", 4), ("test", 3)):
            rows = preference_rows(count, 40 + 2 * seed + (split == "test"))
            bare = [{side: row[side] for side in ("chosen", "rejected")} for row in rows]
            write_rows(root / "Anthropic" / "hh-rlhf" / folder / f"{split}.jsonl.gz", bare)
    write_relabeled(root / "data" / "relabeled_hh_rlhf")
    write_rows(root / "data" / "jailbroken_responses.jsonl", jailbroken_rows())


def reward_checkpoint(
    folder: str | Path, head: str = "mean_and_variance", *, seed: int = 0, **options: Any
) -> str:
    """Save an untrained reward model with spread-out rewards; return the folder's name.

    Args:
        folder: Where to.
        head: Type of the head.
        seed: Of the weights.
        **options: Of the head; ``tokenizer`` and ``max_length`` go to the model.
    """
    from hidden_context import heads
    from hidden_context.models.checkpoint.head_file import HeadFile

    tokenizer, max_length = options.pop("tokenizer", None), options.pop("max_length", None)
    made = heads.make(head, **options)
    tiny_backbone(folder, "gpt2", num_labels=made.num_outputs, tokenizer=tokenizer, seed=seed)
    HeadFile(made, max_length=max_length).save(folder)
    return str(folder)
