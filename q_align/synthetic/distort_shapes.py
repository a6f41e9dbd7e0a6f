"""Distortions of detail: blur, shrinking, sharpening, displaced rows and ringing. See `q_align.synthetic.distort`."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter, map_coordinates

from q_align.synthetic.pixels import KERNELS, Array, between, resize


def blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    sigma = between(0.4, 6.5, s)
    return gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def lens_blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    r = between(0.7, 12.0, s)
    n = int(np.ceil(r))
    y, z = np.mgrid[-n : n + 1, -n : n + 1]
    return convolve(x, np.clip(r + 0.5 - np.hypot(y, z), 0, 1))


def motion_blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    length = between(1.4, 34.0, s)
    angle = rng.uniform(0, np.pi)
    n = int(np.ceil(length / 2)) + 1
    y, z = np.mgrid[-n : n + 1, -n : n + 1]
    along, across = y * np.sin(angle) + z * np.cos(angle), y * np.cos(angle) - z * np.sin(angle)
    line = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return convolve(x, line)


def convolve(x: Array, kernel: Array) -> Array:
    """Convolution with an odd square kernel of sum 1 (after scaling), edges repeated."""
    from scipy.signal import fftconvolve

    n = kernel.shape[0] // 2
    padded = np.pad(x, ((n, n), (n, n), (0, 0)), mode="edge")
    weights = (kernel / kernel.sum()).astype(np.float32)[..., None]
    return fftconvolve(padded, weights, mode="valid", axes=(0, 1)).astype(np.float32)


def rescale(x: Array, s: float, rng: np.random.Generator) -> Array:
    factor = between(1.12, 10.0, s)  # changes gradients about as much as a blur of that strength
    down, up = KERNELS[rng.integers(3)], KERNELS[rng.integers(3)]
    height, width = x.shape[:2]
    small = resize(x, round(width / factor), round(height / factor), down)
    return resize(small, width, height, up)


def pixelate(x: Array, s: float, rng: np.random.Generator) -> Array:
    factor = between(1.15, 10.0, s)
    height, width = x.shape[:2]
    # blocks of less than two pixels come out uneven, and look worse than larger ones: those of two, the fainter
    block = max(factor, 2.0)
    small = resize(x, round(width / block), round(height / block), Image.Resampling.BOX)
    return x + (resize(small, width, height, Image.Resampling.NEAREST) - x) * min(1.0, factor - 1)


def oversharpen(x: Array, s: float, rng: np.random.Generator) -> Array:
    sigma = rng.uniform(0.8, 2.0)
    detail = x - gaussian_filter(x, (sigma, sigma, 0))
    # half by the amount, half by what it adds: smooth images tolerate more
    ease = np.sqrt(0.03 / max(float(detail.std()), 0.004))
    return x + detail * between(0.3, 10.0, s) * ease


def interlace(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Every other row displaced: combing of moving video."""
    shift = between(0.5, 14.0, s)
    at = [*np.mgrid[0 : x.shape[0], 0 : x.shape[1]].astype(np.float32)]
    at[1] = at[1] + np.where(at[0] % 2 == 0, shift / 2, -shift / 2)
    return np.stack([map_coordinates(x[..., c], at, order=1, mode="nearest") for c in range(3)], -1)


def ringing(x: Array, s: float, rng: np.random.Generator) -> Array:
    """A sharp low-pass filter: echoes beside every edge."""
    cutoff = between(0.85, 0.08, s)
    n = np.arange(-24, 25)
    taps = np.sinc(cutoff * n) * cutoff
    taps = (taps / taps.sum()).astype(np.float32)
    return convolve1d(convolve1d(x, taps, axis=0, mode="nearest"), taps, axis=1, mode="nearest")
