"""Distortions of tone and colour. See `q_align.synthetic.distort`."""

from __future__ import annotations

import numpy as np

from q_align.synthetic.pixels import Array, between
from q_align.synthetic.scene_parts import colourfulness, luma, random_field


def quantise(x: Array, s: float, rng: np.random.Generator) -> Array:
    top = between(48, 2.3, s) - 1
    return np.round(x * top) / top


def contrast(x: Array, s: float, rng: np.random.Generator) -> Array:
    if rng.random() < 0.6:
        return x.mean() + (x - x.mean()) * (1 - 0.93 * s)
    return 0.5 + (x - 0.5) * (1 + 7 * s * s)


def exposure(x: Array, s: float, rng: np.random.Generator) -> Array:
    # towards one end whatever the image's own light: the mean far above white, or near black
    mean = max(float(x.mean()), 0.02)
    end = max(1.35 / mean, 2.0) if rng.random() < 0.5 else min(0.095 / mean, 0.5)
    return np.clip(x * end**s, 0, 1)


def saturation(x: Array, s: float, rng: np.random.Generator) -> Array:
    # towards one end whatever the image's own colours; a grey one has nothing to amplify
    own = colourfulness(x)
    gain = 1 + s * max(0.4 - own, 0.1) / max(own, 0.03)
    return luma(x) + (x - luma(x)) * gain


def haze(x: Array, s: float, rng: np.random.Generator) -> Array:
    light = rng.uniform(0.7, 0.95)
    depth = 0.6 + 0.8 * random_field(rng, x.shape[0], 2.2)[: x.shape[0], : x.shape[1]]
    through = np.exp(-2.0 * s * depth)[..., None]
    return x * through + light * (1 - through)
