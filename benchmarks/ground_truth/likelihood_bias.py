"""How far the paper's logistic likelihood biases r², and that the exact probit does not.

Draws sets of 24 normally distributed alternatives, computes their exact pairwise probabilities,
fits a mean-and-variance head to them by maximum likelihood under both likelihoods, and compares r²
with the truth. Prints a table and writes the figure of docs/concepts/likelihoods.md.

    python benchmarks/ground_truth/likelihood_bias.py --figure docs/figures/likelihoods.svg
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ground_truth.fits import fit_tabular
from kit import plotting, script_parser

from hidden_context import heads
from hidden_context.distributions import LIKELIHOODS, log_comparison
from hidden_context.statistics.evaluation.judgement_metrics import explained_variance


def draw(seed: int, alternatives: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(alternatives, generator=generator).double()
    return mean, 0.2 + 1.2 * torch.rand(alternatives, generator=generator).double()


def fitted_r2(likelihood: str, mean: torch.Tensor, stddev: torch.Tensor) -> float:
    z = (mean[:, None] - mean) / torch.hypot(stddev[:, None], stddev.expand(len(mean), -1))
    head = heads.make("mean_and_variance", likelihood=likelihood)
    rewards = head.distribution(fit_tabular(head, torch.special.ndtr(z)))
    return explained_variance(rewards.mean, rewards.variance)


def plot(rows: list[dict[str, float]], path: str) -> None:
    figure, (left, right) = plotting().subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    z = torch.linspace(-3, 3, 301, dtype=torch.float64)
    right.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="truth")
    truth = [row["truth"] for row in rows]
    for name, colour, marker in (("probit", "#0072B2", "o"), ("logistic", "#D55E00", "s")):
        look = {"color": colour, "label": name}
        left.plot(z, log_comparison(z, name).exp(), **look)
        right.scatter(truth, [row[name] for row in rows], marker=marker, **look)
    left.set(xlabel="standardised distance z", ylabel="P(a preferred to b)", title="Two readings")
    right.set(xlabel="true r²", ylabel="r² of the fit", title="Maximum-likelihood fits")
    right.set(xlim=(0.3, 0.9), ylim=(0.1, 0.9))
    for axes in (left, right):
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--figure", help="file to write, such as likelihoods.svg")
    options = parser.parse_args()
    rows = []
    for mean, stddev in map(draw, range(12)):
        truth = {"truth": explained_variance(mean, stddev.square())}
        rows.append(truth | {name: fitted_r2(name, mean, stddev) for name in LIKELIHOODS})
    print(f"{'draw':>4} {'truth':>8} {'probit':>8} {'logistic':>9}")
    for seed, row in enumerate(rows):
        print(f"{seed:>4} {row['truth']:8.4f} {row['probit']:8.4f} {row['logistic']:9.4f}")
    for name in LIKELIHOODS:
        off = [row[name] - row["truth"] for row in rows]
        bias, worst = statistics.median(off), max(map(abs, off))
        print(f"{name}: median bias {bias:+.4f}, largest error {worst:.4f}")
    if options.figure:
        plot(rows, options.figure)


if __name__ == "__main__":
    main()
