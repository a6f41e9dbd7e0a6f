"""Distortions by name and strength, at native resolution.

Each is a function `(image float32 0..1, strength 0..1, rng) -> image`. Strength 0 is just below what people notice and
1 is ruined; equal steps look about equal (most scales are geometric; the ends were set by eye and by the levels of
KADID-10k), and so equal strengths of two distortions look about equally bad. The generator fixes everything else (an
angle, a kernel, a colour): the same seed at rising strength makes a ladder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q_align.synthetic import distort_coding as coding
from q_align.synthetic import distort_noise as noises
from q_align.synthetic import distort_shapes as shapes
from q_align.synthetic import distort_tones as tones
from q_align.synthetic.pixels import Array, share_strength, to_float, to_uint8

Distortion = Callable[[Array, float, np.random.Generator], Array]
# The order is part of every generated set: types are permuted by seed.
DISTORTIONS: dict[str, Distortion] = {
    f.__name__: f
    for f in (
        *(shapes.blur, shapes.lens_blur, shapes.motion_blur, shapes.rescale, shapes.pixelate),
        *(noises.noise, noises.grain, noises.shot_noise, noises.impulse, noises.chroma_noise),
        *(coding.jpeg, coding.webp, coding.jpeg2000, coding.h264, coding.h265, coding.stream),
        *(tones.quantise, tones.contrast, tones.exposure, tones.saturation, tones.haze),
        *(shapes.oversharpen, shapes.interlace, shapes.ringing),
    )
}
# Several distortions of one image are applied in this order: optics, sensor, processing, coding.
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
    return list(zip(names, share_strength(s, rng.dirichlet(np.full(len(names), 1.5)).tolist()), seeds, strict=True))


def mixture(x: Array, s: float, rng: np.random.Generator) -> Array:
    """Several distortions one after the other."""
    for name, part, seed in recipe(s, rng):
        x = np.clip(DISTORTIONS[name](x, part, np.random.default_rng(seed)), 0, 1)
    return x


def distort(image: Array, name: str, strength: float, seed: int) -> Array:
    """One distorted copy of a image.

    Args:
        image: (h, w, 3) uint8.
        name: of DISTORTIONS, "mixture", or "none".
        strength: 0..1; 0 is the image itself.
        seed: of everything but the strength.
    """
    if name == "none" or strength <= 0:
        return image
    function = mixture if name == "mixture" else DISTORTIONS[name]
    return to_uint8(function(to_float(image), strength, np.random.default_rng(seed)))
