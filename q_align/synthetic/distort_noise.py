"""Distortions by noise of sensors, films and transmission. See `q_align.synthetic.distort`."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from q_align.synthetic.pixels import Array, between


def noise(x: Array, s: float, rng: np.random.Generator) -> Array:
    return x + rng.standard_normal(x.shape, np.float32) * between(0.008, 0.35, s)


def grain(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Coarse grey noise, stronger in the dark, as films and small sensors give."""
    spread = rng.uniform(0.5, 1.2)
    grey = gaussian_filter(rng.standard_normal(x.shape[:2]).astype(np.float32), spread)
    weight = 1.2 - 0.7 * x.mean(-1)
    return x + (grey / grey.std() * weight * between(0.01, 0.3, s))[..., None]


def shot_noise(x: Array, s: float, rng: np.random.Generator) -> Array:
    photons = between(6000.0, 6.0, s)
    return (rng.poisson(np.clip(x, 0, 1) * photons) / photons).astype(np.float32)


def impulse(x: Array, s: float, rng: np.random.Generator) -> Array:
    hit = rng.random(x.shape[:2]) < between(0.0005, 0.3, s)
    value = (rng.random((*x.shape[:2], 1)) < 0.5).astype(np.float32)
    return np.where(hit[..., None], value, x)


def chroma_noise(x: Array, s: float, rng: np.random.Generator) -> Array:
    coarse = gaussian_filter(rng.standard_normal(x.shape).astype(np.float32), (1.5, 1.5, 0))
    coarse -= coarse.mean(-1, keepdims=True)
    return x + coarse / coarse.std() * between(0.015, 0.35, s)
