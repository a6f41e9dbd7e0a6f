"""Short clips of known quality: a camera moves over a picture, and something goes wrong on the way.

Coding between frames, noise that changes, flicker, shaking, thin lines. Knows pictures and coders; no raters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q_align.synthetic import codecs
from q_align.synthetic.distort import CRF, distort, split, steps, to1, to8

Array = np.ndarray
FPS, FRAMES = 4, 12
Fault = Callable[[list[Array], float, np.random.Generator], list[Array]]


def pan(picture: Array, size: int, rng: np.random.Generator) -> list[Array]:
    """A window of size x size that moves over a larger picture."""
    room = min(picture.shape[:2]) - size
    start, end = rng.uniform(0, room, 2), rng.uniform(0, room, 2)
    path = [start + (end - start) * i / (FRAMES - 1) for i in range(FRAMES)]
    return [cut(picture, at, size) for at in path]


def cut(picture: Array, at: Array, size: int) -> Array:
    y, x = (int(np.clip(v, 0, side - size)) for v, side in zip(at, picture.shape[:2]))
    return picture[y : y + size, x : x + size]


def each(name: str) -> Fault:
    """A still distortion on every frame, drawn anew for each."""

    def fault(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
        seeds = rng.integers(2**32, size=len(frames))
        return [distort(frame, name, s, int(seed)) for frame, seed in zip(frames, seeds, strict=True)]

    return fault


def flicker(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    gains = np.exp(rng.normal(0, 0.9 * s, len(frames)))
    return [to8(to1(frame) * gain) for frame, gain in zip(frames, gains)]


def shake(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    """Sudden displacements, each smeared along its way."""
    moves = rng.normal(0, 14 * s, (len(frames), 2))
    moved = [np.roll(frame, tuple(int(v) for v in move), (0, 1)) for frame, move in zip(frames, moves)]
    return each("motion_blur")(moved, 0.8 * s, rng)


def same(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    return frames


# name -> what happens to the frames, and how much of the strength is left to the coder
FAULTS: dict[str, tuple[Fault, float]] = {
    "coding": (same, 1.0),
    "thin_line": (each("rescale"), 0.4),
    "sensor_noise": (each("grain"), 0.1),
    "out_of_focus": (each("lens_blur"), 0.1),
    "flicker": (flicker, 0.1),
    "shake": (shake, 0.1),
}


def clip(picture: Array, name: str, strength: float, seed: int, *, size: int) -> bytes:
    """An MP4 file of FRAMES frames; the same for the same arguments.

    Args:
        picture: larger than size x size, (H, W, 3) uint8.
        name: of FAULTS.
        strength: 0 (flawless) .. 1 (ruined).
        seed: of the camera's way and of the fault.
        size: side of a frame, even.
    """
    rng = np.random.default_rng(seed)
    frames = pan(picture, size, rng)
    fault, share = FAULTS[name]
    worse, coding = split(strength, [1 - share, share])
    if share < 1:
        frames = fault(frames, worse, rng)
    return codecs.encode(frames, "libx264", steps(CRF, coding), fps=FPS, keyframes=8)
