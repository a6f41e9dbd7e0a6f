"""What can go wrong with a picture, by name and by strength, at native resolution.

Each distortion is a function `(picture float32 0..1, strength 0..1, rng) -> picture`. Strength 0 is just below what
people see and 1 is ruined; equal steps look about equal (most scales are geometric; the ends were set by eye and by the
levels of KADID-10k), and so equal strengths of two distortions look about equally bad. The generator fixes everything
else (an angle, a kernel, a colour): the same seed at rising strength makes a ladder. Knows nothing of raters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter, map_coordinates

from q_align.synthetic import codecs
from q_align.synthetic.scenes import colourfulness, grey
from q_align.synthetic.scenes import noise as field

Array = np.ndarray
Distortion = Callable[[Array, float, np.random.Generator], Array]
# Constant rate factor of H.264 and H.265, see `steps`.
CRF = (17, 28, 35, 42, 51)
KERNELS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def between(low: float, high: float, strength: float) -> float:
    """Geometric scale: equal steps of strength are equal ratios."""
    return low * (high / low) ** strength


def steps(values: Sequence[float], strength: float) -> float:
    """Straight lines through values at strength 0, 1/4, 1/2, 3/4, 1."""
    return float(np.interp(strength, (0, 0.25, 0.5, 0.75, 1), values))


def split(strength: float, shares: Sequence[float]) -> list[float]:
    """Strengths of several distortions that together are as bad as one: what they leave multiplies to 1 - strength."""
    left = max(1 - strength, 1e-3)
    return [1 - left**share for share in shares]


def to8(x: Array) -> Array:
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


def to1(x: Array) -> Array:
    return x.astype(np.float32) / 255


def resize(x: Array, width: int, height: int, kernel: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(to8(x)).resize((max(1, width), max(1, height)), kernel), np.float32) / 255


def blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    sigma = between(0.4, 6.5, s)
    return gaussian_filter(x, (sigma, sigma, 0), mode="nearest")


def lens_blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    r = between(0.7, 12.0, s)
    n = int(np.ceil(r))
    y, z = np.mgrid[-n : n + 1, -n : n + 1]
    return smear(x, np.clip(r + 0.5 - np.hypot(y, z), 0, 1))


def motion_blur(x: Array, s: float, rng: np.random.Generator) -> Array:
    length = between(1.4, 34.0, s)
    angle = rng.uniform(0, np.pi)
    n = int(np.ceil(length / 2)) + 1
    y, z = np.mgrid[-n : n + 1, -n : n + 1]
    along, across = y * np.sin(angle) + z * np.cos(angle), y * np.cos(angle) - z * np.sin(angle)
    line = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return smear(x, line)


def smear(x: Array, kernel: Array) -> Array:
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


def jpeg(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to1(codecs.jpeg(to8(x), steps((95, 50, 22, 11, 4), s), colour=rng.random() < 0.3))


def webp(x: Array, s: float, rng: np.random.Generator) -> Array:
    # WebP cannot go as low as JPEG: the strongest ones are coded smaller
    factor = steps((1, 1, 1, 1.4, 4), s)
    height, width = x.shape[:2]
    small = resize(x, round(width / factor), round(height / factor), Image.Resampling.BOX) if factor > 1 else x
    coded = to1(codecs.webp(to8(small), steps((95, 50, 14, 3, 3), s)))
    return resize(coded, width, height, Image.Resampling.BICUBIC) if factor > 1 else coded


def jpeg2000(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to1(codecs.jpeg2000(to8(x), between(4, 250, s)))


def h264(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to1(codecs.intra(to8(x), "libx264", steps(CRF, s)))


def h265(x: Array, s: float, rng: np.random.Generator) -> Array:
    return to1(codecs.intra(to8(x), "libx265", steps(CRF, s)))


def stream(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Shrunk, coded with H.265, enlarged again: how films reach a screen over a thin line."""
    shrinking, coding = split(s, [a := rng.uniform(0.15, 1.0), 1 - a])
    factor = between(1.15, 14.0, shrinking)
    height, width = x.shape[:2]
    small = resize(x, round(width / factor), round(height / factor), Image.Resampling.BICUBIC)
    coded = codecs.intra(to8(small), "libx265", steps(CRF, coding))
    return resize(to1(coded), width, height, KERNELS[rng.integers(1, 3)])


def quantise(x: Array, s: float, rng: np.random.Generator) -> Array:
    top = between(48, 2.3, s) - 1
    return np.round(x * top) / top


def contrast(x: Array, s: float, rng: np.random.Generator) -> Array:
    if rng.random() < 0.6:
        return x.mean() + (x - x.mean()) * (1 - 0.93 * s)
    return 0.5 + (x - 0.5) * (1 + 7 * s * s)


def exposure(x: Array, s: float, rng: np.random.Generator) -> Array:
    # towards one end whatever the picture's own light: the mean far above white, or near black
    mean = max(float(x.mean()), 0.02)
    end = max(1.35 / mean, 2.0) if rng.random() < 0.5 else min(0.095 / mean, 0.5)
    return np.clip(x * end**s, 0, 1)


def saturation(x: Array, s: float, rng: np.random.Generator) -> Array:
    # towards one end whatever the picture's own colours; a grey one has nothing to amplify
    own = colourfulness(x)
    gain = 1 + s * max(0.4 - own, 0.1) / max(own, 0.03)
    return grey(x) + (x - grey(x)) * gain


def haze(x: Array, s: float, rng: np.random.Generator) -> Array:
    light = rng.uniform(0.7, 0.95)
    depth = 0.6 + 0.8 * field(rng, x.shape[0], 2.2)[: x.shape[0], : x.shape[1]]
    through = np.exp(-2.0 * s * depth)[..., None]
    return x * through + light * (1 - through)


def oversharpen(x: Array, s: float, rng: np.random.Generator) -> Array:
    sigma = rng.uniform(0.8, 2.0)
    detail = x - gaussian_filter(x, (sigma, sigma, 0))
    # half by the amount, half by what it adds: smooth pictures bear more
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
    cut = between(0.85, 0.08, s)
    n = np.arange(-24, 25)
    taps = np.sinc(cut * n) * cut
    taps = (taps / taps.sum()).astype(np.float32)
    return convolve1d(convolve1d(x, taps, axis=0, mode="nearest"), taps, axis=1, mode="nearest")


DISTORTIONS: dict[str, Distortion] = {
    f.__name__: f
    for f in (
        blur, lens_blur, motion_blur, rescale, pixelate, noise, grain, shot_noise, impulse, chroma_noise, jpeg, webp,
        jpeg2000, h264, h265, stream, quantise, contrast, exposure, saturation, haze, oversharpen, interlace, ringing,
    )
}  # fmt: skip
# Where several meet, they come in this order: optics, sensor, processing, coding.
ORDER = (
    ("lens_blur", "motion_blur", "haze", "blur"),
    ("exposure", "shot_noise", "grain", "noise"),
    ("contrast", "saturation", "oversharpen", "rescale"),
    ("jpeg", "h264", "h265", "stream", "webp"),
)


def recipe(s: float, rng: np.random.Generator) -> list[tuple[str, float, int]]:
    """Two to four distortions that share the strength, in their order: name, strength and seed of each."""
    stages = sorted(rng.permutation(len(ORDER))[: rng.integers(2, len(ORDER) + 1)])
    names = [str(rng.choice(ORDER[stage])) for stage in stages]
    seeds = [int(seed) for seed in rng.integers(2**32, size=len(names))]
    return list(zip(names, split(s, rng.dirichlet(np.full(len(names), 1.5)).tolist()), seeds, strict=True))


def mixture(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Several distortions one after the other."""
    for name, part, seed in recipe(s, rng):
        x = np.clip(DISTORTIONS[name](x, part, np.random.default_rng(seed)), 0, 1)
    return x


def distort(picture: Array, name: str, strength: float, seed: int) -> Array:
    """One distorted copy of a picture.

    Args:
        picture: (h, w, 3) uint8.
        name: of DISTORTIONS, "mixture", or "none".
        strength: 0..1; 0 is the picture itself.
        seed: of everything but the strength.
    """
    if name == "none" or strength <= 0:
        return picture
    function = mixture if name == "mixture" else DISTORTIONS[name]
    return to8(function(to1(picture), strength, np.random.default_rng(seed)))
