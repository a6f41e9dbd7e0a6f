"""Helpers of the distortions: number formats, scales of strength, and the resizing and smoothing that several share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

Array = np.ndarray
# Constant rate factor of H.264 and H.265, see `steps`.
CRF = (17, 28, 35, 42, 51)
KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def between(low: float, high: float, strength: float) -> float:
    """Geometric scale: equal steps of strength are equal ratios."""
    return low * (high / low) ** strength


def steps(values: Sequence[float], strength: float) -> float:
    """Straight lines through values at strength 0, 1/4, 1/2, 3/4, 1."""
    return float(np.interp(strength, (0, 0.25, 0.5, 0.75, 1), values))


def share_strength(strength: float, shares: Sequence[float]) -> list[float]:
    """Strengths of several distortions that together are as bad as one: what they leave multiplies to 1 - strength."""
    left = max(1 - strength, 1e-3)
    return [1 - left**share for share in shares]


def to_uint8(x: Array) -> Array:
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_float(x: Array) -> Array:
    return x.astype(np.float32) / 255


def resize(x: Array, width: int, height: int, kernel: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(to_uint8(x)).resize((max(1, width), max(1, height)), kernel), np.float32) / 255
