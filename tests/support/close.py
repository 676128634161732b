"""Outputs of the same weights by other ways, whose rounding differs between processors.

In float32 tiny models agree to 1e-6 of their outputs with AVX-512, and to 1.2e-6 with AVX2 alone.
"""

from __future__ import annotations

from torch import Tensor


def close(found: Tensor, expected: Tensor, share: float = 2e-6) -> None:
    """Assert that outputs differ by no more than a share of the greatest of them, or of 1."""
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    greatest = float((found - expected).abs().max())
    assert greatest <= share * scale, f"{greatest:.2e} of {scale:.2f}"
