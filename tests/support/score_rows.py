"""Rows of score files."""

import math

from support.paper_layout import write_rows

write = write_rows


def pair(chosen, rejected, /, **columns):
    """A pair's row with its two raw outputs."""
    return {"reward_output_chosen": chosen, "reward_output_rejected": rejected, **columns}


def softplus_inverse(sigma):
    return math.log(math.expm1(sigma))


def normal(mean, sigma):
    """The raw output of a mean_and_variance head."""
    return [float(mean), softplus_inverse(sigma)]
