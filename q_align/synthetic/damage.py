"""How bad a distorted image is, 0 (flawless) .. 1 (ruined): the latent quality that simulated raters judge.

A single distortion is as bad as its strength. Where its visibility depends on the image (grey has no colour to amplify,
gravel hides grain), a third is measured: the strength that changes a usual image as much. The parts of a mixture hide
or undo each other (shrinking removes noise, two blurs are hardly worse than the stronger one), so half is measured:
how strong would each of the distortions alone have to be to change the image as much?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import prewitt

from q_align.synthetic.distort import distort, recipe
from q_align.synthetic.pixels import Array, to_float

# Strength 1 of these is bad, but not ruined: people tolerate wrong tones more than lost detail.
DEPTH = {"contrast": 0.8, "exposure": 0.85, "saturation": 0.6, "haze": 0.8}
# Strengths at which a distortion alone is tried; between them straight lines.
TRIED = (0.15, 0.4, 0.7, 1.0)
# Median `gradient_difference` of these by strength, over 200 scenes and photographs of 224 pixels.
STRENGTHS = (0.08, 0.15, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
USUAL: dict[str, tuple[float, ...]] = {
    "contrast": (0.001, 0.006, 0.023, 0.066, 0.136, 0.221, 0.290, 0.345),
    "exposure": (0.004, 0.012, 0.033, 0.076, 0.130, 0.183, 0.232, 0.272),
    "grain": (0.014, 0.021, 0.038, 0.082, 0.153, 0.250, 0.360, 0.466),
    "haze": (0.007, 0.024, 0.059, 0.123, 0.188, 0.245, 0.291, 0.328),
    "jpeg2000": (0.006, 0.011, 0.020, 0.042, 0.067, 0.100, 0.144, 0.195),
    "quantise": (0.005, 0.009, 0.016, 0.037, 0.073, 0.129, 0.210, 0.306),
    "saturation": (0.004, 0.013, 0.028, 0.051, 0.077, 0.103, 0.121, 0.141),
}
# Shares that are measured on the image.
OF_ONE, OF_MANY = 1 / 3, 1 / 2


def damage(image: Array, changed: Array, name: str, strength: float, seed: int) -> float:
    """What `changed = distort(image, name, strength, seed)` lost, 0 (nothing) .. 1 (everything).

    Args:
        image: (h, w, 3) uint8.
        changed: (h, w, 3) uint8, the distorted copy.
        name, strength, seed: what it was made with.
    """
    if strength <= 0:
        return 0.0
    if name == "mixture":
        parts = recipe(strength, np.random.default_rng(seed))
        strongest = max(part * DEPTH.get(kind, 1.0) for kind, part, _ in parts)
        return OF_MANY * mixture_strength(image, changed, parts) + (1 - OF_MANY) * strongest
    if name in USUAL:
        found = gradient_difference(gradient_magnitudes(image), gradient_magnitudes(changed))
        seen = float(np.interp(found, (0.0, *USUAL[name]), (0.0, *STRENGTHS)))
        strength = OF_ONE * seen + (1 - OF_ONE) * strength
    return strength * DEPTH.get(name, 1.0)


def mixture_strength(image: Array, changed: Array, parts: Sequence[tuple[str, float, int]]) -> float:
    """What the parts (name, strength, seed) have done to a image, by what each would have to be to do it alone."""
    plain = gradient_magnitudes(image)
    seen = gradient_difference(plain, gradient_magnitudes(changed))
    lost, weights = [], []
    for name, part, seed in parts:
        alone = [
            0.0,
            *(gradient_difference(plain, gradient_magnitudes(distort(image, name, s, seed))) for s in TRIED),
        ]
        strength = float(np.interp(seen, np.maximum.accumulate(alone), (0.0, *TRIED)))
        lost.append(strength * DEPTH.get(name, 1.0))
        # one that can never do as much (colour on a grey image) does not count, unless none can
        weights.append(part if alone[-1] >= seen else part * 1e-6)
    return float(np.average(lost, weights=weights))


def gradient_difference(a: Sequence[Array], b: Sequence[Array]) -> float:
    """One minus the mean similarity of two images' gradients, 0 (the same) .. 1; the mean over the scales.

    Xue, Zhang, Mou, Bovik: Gradient magnitude similarity deviation, IEEE TIP 2014, section II (GMSM), of each channel.
    """
    # the paper's 170 for images of 0..255
    return float(
        np.mean([1 - ((2 * x * y + 0.0026) / (x * x + y * y + 0.0026)).mean() for x, y in zip(a, b, strict=True)])
    )


def gradient_magnitudes(image: Array) -> list[Array]:
    """Prewitt's gradient magnitude of each channel of a image (h, w, 3), whole, halved and quartered: (3, h', w')."""
    found = []
    for scale in (1, 2, 4):
        height, width = image.shape[0] // scale, image.shape[1] // scale
        kept = to_float(image)[: scale * height, : scale * width]
        small = kept.reshape(height, scale, width, scale, 3).mean((1, 3)) if scale > 1 else kept
        # the filter's three rows are summed, the paper takes their mean
        found.append(np.stack([np.hypot(prewitt(small[..., c], 0), prewitt(small[..., c], 1)) / 3 for c in range(3)]))
    return found
