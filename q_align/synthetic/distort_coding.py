"""Distortions by lossy coding. See `q_align.synthetic.distort`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from q_align.synthetic import codecs
from q_align.synthetic.pixels import CRF, KERNELS, Array, between, resize, share_strength, steps, to_float, to_uint8


def jpeg(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to_float(codecs.jpeg_coded(to_uint8(x), steps((95, 50, 22, 11, 4), s), colour=rng.random() < 0.3))


def webp(x: Array, s: float, rng: np.random.Generator) -> Array:
    # WebP cannot go as low as JPEG: the strongest ones are coded smaller
    factor = steps((1, 1, 1, 1.4, 4), s)
    height, width = x.shape[:2]
    small = resize(x, round(width / factor), round(height / factor), Image.Resampling.BOX) if factor > 1 else x
    coded = to_float(codecs.webp_coded(to_uint8(small), steps((95, 50, 14, 3, 3), s)))
    return resize(coded, width, height, Image.Resampling.BICUBIC) if factor > 1 else coded


def jpeg2000(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to_float(codecs.jpeg2000_coded(to_uint8(x), between(4, 250, s)))


def h264(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to_float(codecs.intra_coded(to_uint8(x), "libx264", steps(CRF, s)))


def h265(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to_float(codecs.intra_coded(to_uint8(x), "libx265", steps(CRF, s)))


def stream(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Shrunk, coded with H.265, enlarged again: how films reach a screen over a thin line."""
    shrinking, coding = share_strength(s, [a := rng.uniform(0.15, 1.0), 1 - a])
    factor = between(1.15, 14.0, shrinking)
    height, width = x.shape[:2]
    small = resize(x, round(width / factor), round(height / factor), Image.Resampling.BICUBIC)
    coded = codecs.intra_coded(to_uint8(small), "libx265", steps(CRF, coding))
    return resize(to_float(coded), width, height, KERNELS[rng.integers(1, 3)])
