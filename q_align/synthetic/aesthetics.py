"""Images with an aesthetic score by construction: place of the subject, harmony of colours, background, contrast.

The rule is simple: a subject near a third of the frame, a calm background, neighbouring or opposite hues, full tones.
It gives the aesthetics question a meaning of its own, and is no person's taste.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from q_align.synthetic.scene_parts import random_field
from q_align.synthetic.scenes import scene

Array = np.ndarray
BACKGROUNDS = ("leaves", "marble", "landscape", "strands", "town")
SUBJECTS = ("cells", "marble", "graphic", "leaves")


def background_and_subject(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """A background and a subject's material, both (size, size, 3) float32 in 0..1."""
    back, front = (scene(rng, size, str(rng.choice(kinds))) for kinds in (BACKGROUNDS, SUBJECTS))
    return back.astype(np.float32) / 255, front.astype(np.float32) / 255


def compose(back: Array, front: Array, worth: float, seed: int) -> Array:
    """One image (size, size, 3) uint8 whose aesthetic is `worth`, 0..1; the loss is shared by four faults.

    Args:
        back, front: of `background_and_subject`.
        worth: 0 (every fault in full) .. 1 (none).
        seed: of the places, the hues and the shares.
    """
    rng = np.random.default_rng(seed)
    size = back.shape[0]
    share = rng.dirichlet(np.full(4, 2.0)) * 4
    place, clash, busy, light = np.clip((1 - worth) * (0.35 + 0.65 * share), 0, 1)
    soft = (1 - busy) * size * 0.03
    back = gaussian_filter(back, (soft, soft, 0))
    inside = subject_mask(rng, size, place)[..., None]
    hue = rng.random()
    other = hue + rng.choice([0.08, 0.5]) * (1 - clash) + clash * rng.uniform(0.2, 0.35)
    image = tint_towards(front, other, 0.5 + 0.5 * clash) * inside + tint_towards(back, hue, 0.4 + 0.6 * clash) * (
        1 - inside
    )
    flat = image.mean() + (image - image.mean()) * (1 - 0.75 * light)
    return (np.clip(flat, 0, 1) * 255 + 0.5).astype(np.uint8)


def subject_mask(rng: np.random.Generator, size: int, fault: float) -> Array:
    """Soft mask (size, size) of one shape: at a third of the frame, or moved out of it as the fault grows."""
    third = rng.choice([-1, 1], 2) / 6 + rng.normal(0, 0.02, 2)
    centre = 0.5 + third * (1 - fault) + fault * rng.choice([-1, 1], 2) * rng.uniform(0.42, 0.55, 2)
    y, x = np.mgrid[0:size, 0:size] / size
    radius = rng.uniform(0.14, 0.2) * (0.8 + 0.4 * random_field(rng, size, 2.2))
    far = np.hypot(y - centre[0], x - centre[1])
    return np.clip((radius - far) * size / 3, 0, 1).astype(np.float32)


def tint_towards(x: Array, hue: float, strength: float) -> Array:
    """Moves a image's colours towards one hue, keeping its light."""
    turn = (hue * 6 + np.array([5.0, 3.0, 1.0])) % 6
    colour = 1 - np.clip(np.minimum(turn, 4 - turn), 0, 1)
    grey = x.mean(-1, keepdims=True)
    target = np.clip(grey * (0.5 + colour), 0, 1)
    return (x * (1 - strength) + target * strength).astype(np.float32)
