"""Short clips of known quality: a camera moves over an image, with one fault.

Coding between frames, noise, blur, flicker, shaking, low bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from q_align.synthetic import codecs
from q_align.synthetic.distort import distort
from q_align.synthetic.pixels import CRF, share_strength, steps, to_float, to_uint8

Array = np.ndarray
FPS, FRAMES = 4, 12
Fault = Callable[[list[Array], float, np.random.Generator], list[Array]]


def pan_camera(image: Array, size: int, rng: np.random.Generator) -> list[Array]:
    """A window of size x size that moves over a larger image."""
    room = min(image.shape[:2]) - size
    start, end = rng.uniform(0, room, 2), rng.uniform(0, room, 2)
    path = [start + (end - start) * i / (FRAMES - 1) for i in range(FRAMES)]
    return [crop_window(image, at, size) for at in path]


def crop_window(image: Array, at: Array, size: int) -> Array:
    y, x = (int(np.clip(v, 0, side - size)) for v, side in zip(at, image.shape[:2]))
    return image[y : y + size, x : x + size]


def on_every_frame(name: str) -> Fault:
    """A distortion of single images on every frame, with a seed for each."""

    def fault(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
        seeds = rng.integers(2**32, size=len(frames))
        return [distort(frame, name, s, int(seed)) for frame, seed in zip(frames, seeds, strict=True)]

    return fault


def flicker(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    gains = np.exp(rng.normal(0, 0.9 * s, len(frames)))
    return [to_uint8(to_float(frame) * gain) for frame, gain in zip(frames, gains)]


def shake(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    """Sudden displacements, each blurred along its path."""
    moves = rng.normal(0, 14 * s, (len(frames), 2))
    moved = [np.roll(frame, tuple(int(v) for v in move), (0, 1)) for frame, move in zip(frames, moves)]
    return on_every_frame("motion_blur")(moved, 0.8 * s, rng)


def unchanged(frames: list[Array], s: float, rng: np.random.Generator) -> list[Array]:
    return frames


# name -> what happens to the frames, and the share of the strength that coding takes
FAULTS: dict[str, tuple[Fault, float]] = {
    "coding": (unchanged, 1.0),
    "thin_line": (on_every_frame("rescale"), 0.4),
    "sensor_noise": (on_every_frame("grain"), 0.1),
    "out_of_focus": (on_every_frame("lens_blur"), 0.1),
    "flicker": (flicker, 0.1),
    "shake": (shake, 0.1),
}


def make_clip(image: Array, name: str, strength: float, seed: int, *, size: int) -> bytes:
    """An MP4 file of FRAMES frames; the same for the same arguments.

    Args:
        image: larger than size x size, (H, W, 3) uint8.
        name: of FAULTS.
        strength: 0 (flawless) .. 1 (ruined).
        seed: of the camera's path and of the fault.
        size: side of a frame, even.
    """
    rng = np.random.default_rng(seed)
    frames = pan_camera(image, size, rng)
    fault, share = FAULTS[name]
    worse, coding = share_strength(strength, [1 - share, share])
    if share < 1:
        frames = fault(frames, worse, rng)
    return codecs.encode_mp4(frames, "libx264", steps(CRF, coding), fps=FPS, keyframes=8)
