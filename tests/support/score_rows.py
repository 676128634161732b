"""Rows of score files."""

import gzip
import json
import math


def write(path, rows):
    """Write JSON Lines, gzip where the name says so; texts stand for whole lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def pair(chosen, rejected, /, **columns):
    """A pair's row with its two raw outputs."""
    return {"reward_output_chosen": chosen, "reward_output_rejected": rejected, **columns}


def softplus_inverse(sigma):
    return math.log(math.expm1(sigma))


def normal(mean, sigma):
    """The raw output of a mean_and_variance head."""
    return [float(mean), softplus_inverse(sigma)]
