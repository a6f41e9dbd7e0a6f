"""How bad a distorted picture is meant to look, 0 (flawless) .. 1 (ruined): what the simulated raters are told.

A single distortion is as bad as its strength. Of a mixture that cannot be said beforehand, as one hides or undoes what
another did (shrinking takes noise away, two blurs are hardly worse than the stronger one); so it is measured on the
picture: how strong would each of the distortions alone have to be to change as much? Knows pictures; no votes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import prewitt

from q_align.data.generate.distort import Array, distort, recipe, to1

# Strength 1 of these is bad, but not ruin: people forgive tones sooner than lost detail.
DEPTH = {"contrast": 0.85, "exposure": 0.95, "saturation": 0.65, "haze": 0.85}
# Strengths at which a distortion alone is tried; between them straight lines.
TRIED = (0.15, 0.4, 0.7, 1.0)


def damage(picture: Array, changed: Array, name: str, strength: float, seed: int) -> float:
    """What `changed = distort(picture, name, strength, seed)` lost, 0 (nothing) .. 1 (everything).

    Args:
        picture: (h, w, 3) uint8.
        changed: (h, w, 3) uint8, the distorted copy.
        name, strength, seed: what it was made with.
    """
    if name == "mixture" and strength > 0:
        return together(picture, changed, recipe(strength, np.random.default_rng(seed)))
    return strength * DEPTH.get(name, 1.0)


def together(picture: Array, changed: Array, parts: Sequence[tuple[str, float, int]]) -> float:
    """What the parts (name, strength, seed) have done to a picture, by what each would have to be to do it alone."""
    plain = gradient(picture)
    seen = difference(plain, gradient(changed))
    lost, weights = [], []
    for name, part, seed in parts:
        alone = [0.0, *(difference(plain, gradient(distort(picture, name, s, seed))) for s in TRIED)]
        strength = float(np.interp(seen, np.maximum.accumulate(alone), (0.0, *TRIED)))
        lost.append(strength * DEPTH.get(name, 1.0))
        # one that can never do as much (colour on a grey picture) says nothing, unless none can
        weights.append(part if alone[-1] >= seen else part * 1e-6)
    return float(np.average(lost, weights=weights))


def difference(a: Array, b: Array) -> float:
    """One minus the mean similarity of two pictures' gradients, 0 (the same) .. 1.

    Xue, Zhang, Mou, Bovik: Gradient magnitude similarity deviation, IEEE TIP 2014, section II (GMSM), of each channel.
    """
    # the paper's 170 for pictures of 0..255
    return float(1 - ((2 * a * b + 0.0026) / (a * a + b * b + 0.0026)).mean())


def gradient(picture: Array) -> Array:
    """Prewitt's gradient magnitude of each channel of a picture (h, w, 3) shrunk to half: (3, h // 2, w // 2)."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    half = to1(picture)[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean((1, 3))
    # the filter's three rows are summed, the paper takes their mean
    return np.stack([np.hypot(prewitt(half[..., c], 0), prewitt(half[..., c], 1)) / 3 for c in range(3)])
