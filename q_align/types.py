"""The few records that travel between the parts of q_align.

Plain data: no torch, no file access, no defaults that depend on a model. Every other module may import this one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from PIL import Image

    Frame = Image.Image | np.ndarray
    # A path to an image or a video, raw bytes, a picture, an (H, W, 3) uint8 array, or the frames of a video.
    Media = str | Path | bytes | Frame | Sequence[Frame]
else:
    Media = Any


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """How media are looked at: the same in training and in scoring, and stored in every checkpoint.

    Raises:
        ValueError: for numbers that make no sense.
    """

    max_pixels: int | None = None  # pixels of one frame before the encoder, larger ones are scaled down; None: all
    fps: float = 1.0  # points per second of a video (the paper: 1), at least one; 0: max_frames over the whole
    max_frames: int = 16  # at most so many frames of a video, evenly spread
    clip: int = 1  # frames taken one after another at each point
    tiles: int = 0  # of an image beyond twice max_pixels, also so many crops at native scale, each of max_pixels
    pool: str = "model"  # score of a video: "model" sees its frames together; "mean", "min", "p10" pool frame scores

    def __post_init__(self) -> None:
        least = {"max_pixels": 1, "fps": 0, "max_frames": 1, "clip": 1, "tiles": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise ValueError(f"media.{name} must be {low} or more, got {value}")


class Item(NamedTuple):
    """One medium to score: `id` names its row in the output."""

    id: str
    media: Media
    task: str | None = None
    question: str | None = None


@dataclass(slots=True)
class Sample:
    """One rated medium.

    Attributes:
        media: What is rated; usually a path.
        task: "iqa", "iaa" or "vqa" (see `q_align.tasks`).
        source: Name of the data set that it comes from; opinions are comparable within one source only.
        mos: Mean opinion score on the level scale, 1 (worst) to 5 (best) for the default five levels.
        std: Standard deviation of the opinions on the same scale, or None where it is unknown.
        id: Unique name within the source; the media path where nothing better is given.
        raw_mos: The value as the labels file holds it (its own range and direction).
        question: The question to ask, where the labels file fixes one; else one is drawn from the task's pool.
        votes: Share of raters per level, best level first (sums to 1), where the labels hold a histogram.
        extra: Other columns of the labels file, kept as they are.
    """

    media: Media
    task: str
    source: str
    mos: float
    std: float | None = None
    id: str = ""
    raw_mos: float | None = None
    question: str | None = None
    votes: tuple[float, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Turn:
    """What an `Encoder` sees: frames, a question, and how the answer begins.

    Attributes:
        frames: PIL images in RGB; one for an image, several for a video.
        question: The rater's question, without any placeholder for the frames.
        stem: The opening of the answer up to the level word: "The quality of the image is".
        level: The word that completes the stem when training; None when scoring.
        video: Whether the frames belong to one video.
    """

    frames: list[Image.Image]
    question: str
    stem: str
    level: str | None = None
    video: bool = False


@dataclass(slots=True)
class Score:
    """The rating of one medium, or the reason why there is none.

    Attributes:
        id: The path, or the position of the item where it has no name.
        value: Expected level, sum_k p_k v_k: 1 (bad) to 5 (excellent) for the default levels; higher is better.
        level: The most probable level word.
        probs: Probability of each level, in the order of the scheme (best first); sums to 1.
        std: Standard deviation of the level distribution, on the scale of `value`.
        mass: Probability that the full vocabulary gives to the level words, 0..1; a low one says that the model
            would rather say something else, and that the score deserves less trust.
        error: None, or one line that says why this medium has no score.
        task: What was rated: "iqa", "iaa" or "vqa"; None where the medium could not be opened to find out.
        warning: One line about a medium that was rated in part, such as a damaged video.
        frames: The value of each frame of a video by itself, where asked for; None where the model gives no number.
    """

    id: str
    value: float | None = None
    level: str | None = None
    probs: tuple[float, ...] | None = None
    std: float | None = None
    mass: float | None = None
    error: str | None = None
    task: str | None = None
    warning: str | None = None
    frames: tuple[float | None, ...] | None = None

    def row(self) -> dict[str, Any]:
        """The record as a flat dictionary, for JSONL, CSV and Parquet."""
        return asdict(self)
