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
    # A path to an image or a video, raw bytes, an image, an (H, W, 3) uint8 array, or the frames of a video.
    Media = str | Path | bytes | Frame | Sequence[Frame]
else:
    Media = Any


@dataclass(frozen=True, slots=True)
class MediaSpec:
    """How images and videos are opened: the same in training and in scoring, and stored in every checkpoint.

    Raises:
        ValueError: for numbers out of range.
    """

    max_pixels: int | None = None  # pixels of one frame; larger frames are scaled down; None: no limit
    fps: float = 1.0  # frames sampled per second of a video (the paper: 1); 0 spreads max_frames over the whole video
    max_frames: int = 16  # frames of a video at most, spread evenly
    clip: int = 1  # consecutive frames per sampling position
    tiles: int = 0  # extra crops at native resolution of images with at least 2 x max_pixels; 0: none
    pool: str = "model"  # how the frames of a video become one score: "model" sees them together; "mean", "min", "p10"
    # pool scores of single frames

    def __post_init__(self) -> None:
        least = {"max_pixels": 1, "fps": 0, "max_frames": 1, "clip": 1, "tiles": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise ValueError(f"media.{name} must be {low} or more, got {value}")


class Item(NamedTuple):
    """One image or video to score.

    Attributes:
        id: names its row in the output.
        media: a path, bytes, an image, an array, or a list of frames.
        task: of this item; None: the task of the call.
        question: asked about this item in place of the task's own.
    """

    id: str
    media: Media
    task: str | None = None
    question: str | None = None


@dataclass(slots=True)
class Sample:
    """One rated image or video.

    Attributes:
        media: What is rated; usually a path.
        task: "iqa", "iaa", "vqa", or another task (see `q_align.tasks`).
        source: Name of the data set that it comes from; ratings are comparable within one source only.
        mos: Mean opinion score on the level scale, 1 (worst) to 5 (best) for the default five levels.
        std: Standard deviation of the ratings on the same scale, or None where it is unknown.
        id: Unique name within the source; the path where nothing better is given.
        raw_mos: The value as the labels file holds it (its own range and direction).
        question: The question that the labels file gives for this item, or None.
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
        answer: The text that completes the stem when training, written by the readout; None when scoring.
        video: Whether the frames belong to one video.
    """

    frames: list[Image.Image]
    question: str
    stem: str
    answer: str | None = None
    video: bool = False


@dataclass(slots=True)
class Score:
    """The score of one image or video, or the reason why there is none.

    Attributes:
        id: The path, or the position of the item where it has no name.
        value: Expected level, sum_k p_k v_k: 1 (bad) to 5 (excellent) for the default levels; higher is better.
        level: The most probable level word; for a regression head the level of `value`.
        probs: Probability of each level, best first; sums to 1. None for a regression head.
        std: Standard deviation of the level distribution, on the scale of `value`. None for a regression head.
        mass: Probability that the full vocabulary gives to the level words, 0..1; where it is low the model would
            answer something else, and the score deserves less trust. None for a regression head.
        error: None, or one line with the reason why this item has no score.
        task: What was rated, such as "iqa"; None where the file could not be opened to find out.
        warning: One line about an item that was read in part, such as a damaged video.
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
