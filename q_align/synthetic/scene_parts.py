"""What procedural scenes are made of: random fields, palettes, gradients, textures; and the tones of a good photo."""

from __future__ import annotations

import numpy as np
from PIL import Image

Array = np.ndarray


def random_field(rng: np.random.Generator, size: int, slope: float) -> Array:
    """Random field (size, size) in 0..1 whose amplitude falls as frequency ** -slope; 1 is what photographs have."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * frequency**-slope
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(size, size))
    low, high = np.percentile(field, (0.5, 99.5))
    return np.clip((field - low) / (high - low + 1e-9), 0, 1).astype(np.float32)


def palette(rng: np.random.Generator, count: int) -> Array:
    """(count, 3) colours 0..1: a few related hues, full tonal range; mostly those of earth, sky and plants."""
    main = rng.normal((0.08, 0.58, 0.28)[rng.choice(3, p=(0.5, 0.3, 0.2))], 0.04)
    hue = (rng.random() if rng.random() < 0.15 else main) + rng.normal(0, rng.uniform(0.02, 0.15), count)
    # and their opposites, in places
    hue += 0.5 * (rng.random(count) < rng.uniform(0, 0.4))
    saturation = np.clip(rng.uniform(0.03, 0.5) + rng.normal(0, 0.12, count), 0, 0.8)
    value = np.clip(rng.uniform(0.35, 0.7) + rng.normal(0, 0.25, count), 0.03, 1)
    turn = (hue[:, None] * 6 + np.array([5.0, 3.0, 1.0])) % 6  # HSV to RGB in closed form
    share = np.clip(np.minimum(turn, 4 - turn), 0, 1)
    return (value[:, None] * (1 - saturation[:, None] * share)).astype(np.float32)


def color_map(field: Array, colours: Array) -> Array:
    """Maps a field 0..1 to a smooth run through the colours: (h, w) -> (h, w, 3)."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(field, stops, colours[:, c]) for c in range(3)], -1).astype(np.float32)


def linear_gradient(rng: np.random.Generator, size: int) -> Array:
    """Linear gradient 0..1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    return (np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle)) * 0.9, 0, 1)).astype(np.float32)


def textured(rng: np.random.Generator, size: int, base: Image.Image, marks: Image.Image) -> Array:
    """Gives flat drawn areas their own texture and shading; `marks` holds an area number per pixel."""
    colour = np.asarray(base, np.float32) / 255
    area = np.asarray(marks)
    kinds = 6
    amount = np.concatenate([[0.0], rng.uniform(0.05, 0.7, kinds - 1)]).astype(np.float32)[area % kinds]
    fields = np.stack([random_field(rng, size, rng.uniform(0.3, 1.6)) for _ in range(3)])
    texture = np.take_along_axis(fields, (area % 3)[None], 0)[0]
    shade = 0.75 + 0.5 * random_field(rng, size, 2.0)
    return colour * (1 + amount * (texture - 0.5) * 2)[..., None] * shade[..., None]


def luma(x: Array) -> Array:
    """Luma of (h, w, 3), with a last axis of one."""
    return (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def colourfulness(x: Array) -> float:
    """Mean distance of (h, w, 3) from its luma: 0 for grey, 0.01 to 0.2 for most photographs."""
    return float(np.abs(x - luma(x)).mean() * 1.5)


def well_exposed(rng: np.random.Generator, image: Array) -> Array:
    """Gives a uint8 image the tones and colours of a well exposed photo, so that wrong ones can be distinguished."""
    x = image.astype(np.float32) / 255
    low, high = np.percentile(x, (1, 99))
    black, white = rng.uniform(0.0, 0.1), rng.uniform(0.86, 1.0)
    x = np.clip(black + (x - low) * (white - black) / max(high - low, 0.2), 1e-3, 1)
    # a power that brings the mean to a middle tone
    power = np.log(rng.uniform(0.38, 0.58)) / np.log(np.clip(x.mean(), 0.05, 0.95))
    x = x ** np.clip(power, 0.55, 1.8)
    most = rng.uniform(0.08, 0.2)
    light = luma(x)
    x = light + (x - light) * min(1.0, most / max(colourfulness(x), 1e-3))
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)
